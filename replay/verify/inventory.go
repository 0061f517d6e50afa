package verify

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// run is a number of objects of one directory whose names count up, or a single one, that
// were last read whole at the same time.
type run struct {
	first, last string
	read        int64 // milliseconds since 1970; 0: never
}

// names yields the names of a run.
func (r run) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := r.first; yield(name) && name != r.last; {
			if name = successor(name); name == "" {
				return
			}
		}
	}
}

// counts reports whether a run's names count up from the first to the last: what is
// read from a record must.
func (r run) counts() bool {
	if r.first == r.last {
		return true
	}
	a, base, ok := counter(r.first)
	b, other, ok2 := counter(r.last)
	n := len(r.first) - digits(base)
	return ok && ok2 && base == other && len(r.first) == len(r.last) && a < b && r.first[:n] == r.last[:n]
}

// counter is the number that the name of a segment (24 hexadecimal digits, of
// which the last 8 count) or of a pack or table (6 decimal digits) ends in.
func counter(name string) (n uint64, base int, ok bool) {
	switch len(name) {
	case 24:
		base = 16
	case 6:
		base = 10
	default:
		return 0, 0, false
	}
	n, err := strconv.ParseUint(name[len(name)-digits(base):], base, 32)
	return n, base, err == nil
}

func digits(base int) int {
	if base == 16 {
		return 8
	}
	return 6
}

// successor is the name that counts one further; "": there is none.
func successor(name string) string {
	n, base, ok := counter(name)
	if !ok {
		return ""
	}
	if base == 10 {
		if n == 999999 {
			return ""
		}
		return fmt.Sprintf("%06d", n+1)
	}
	if n == 1<<32-1 {
		return ""
	}
	return fmt.Sprintf("%s%08X", name[:16], n+1)
}

// appendRun adds a name that comes after all others.
func appendRun(runs []run, name string, read int64) []run {
	if n := len(runs); n > 0 && runs[n-1].read == read && successor(runs[n-1].last) == name {
		runs[n-1].last = name
		return runs
	}
	return append(runs, run{first: name, last: name, read: read})
}

// inventory is which objects there are, and when each was last read whole. What it
// takes grows with the number of unbroken runs, not of objects.
type inventory struct {
	dirs  map[string][]run // by directory, which ends in a slash and is relative to the incarnation
	order []string         // the directories as they were added
}

func newInventory() *inventory { return &inventory{dirs: map[string][]run{}} }

// split cuts a key below the incarnation's prefix into directory and name.
func split(rest string) (dir, name string) {
	i := strings.LastIndexByte(rest, '/') + 1
	return rest[:i], rest[i:]
}

// add takes an object; within a directory in the order of names.
func (v *inventory) add(rest string, read int64) {
	dir, name := split(rest)
	runs, known := v.dirs[dir]
	if !known {
		v.order = append(v.order, dir)
	}
	v.dirs[dir] = appendRun(runs, name, read)
}

// find reports whether an object is in the inventory, and when it was read.
func (v *inventory) find(rest string) (read int64, ok bool) {
	dir, name := split(rest)
	runs := v.dirs[dir]
	i, exact := slices.BinarySearchFunc(runs, name, func(r run, name string) int { return cmp.Compare(r.first, name) })
	if exact {
		return runs[i].read, true
	}
	if i == 0 {
		return 0, false
	}
	r := runs[i-1]
	if len(name) != len(r.last) || name > r.last || !(run{first: r.first, last: name}).counts() {
		return 0, false
	}
	return r.read, true
}

// all yields every object's key below the incarnation's prefix, and when it was read.
func (v *inventory) all() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, dir := range v.order {
			for _, r := range v.dirs[dir] {
				for name := range r.names() {
					if !yield(dir+name, r.read) {
						return
					}
				}
			}
		}
	}
}

// times are the distinct times of reading before limit, ascending.
func (v *inventory) times(limit int64) []int64 {
	seen := map[int64]bool{}
	for _, runs := range v.dirs {
		for _, r := range runs {
			if r.read < limit {
				seen[r.read] = true
			}
		}
	}
	var list []int64
	for t := range seen {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}

// moment is a time of reading; nil: never.
func moment(read int64) *time.Time {
	if read == 0 {
		return nil
	}
	t := time.UnixMilli(read).UTC()
	return &t
}
