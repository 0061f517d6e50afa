package find

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
)

// DefaultMinRows is how many rows of a table a transaction must change to be told
// of, unless a table, a kind, a transaction or another number is asked for.
const DefaultMinRows = 100

// Options say what to look for. The zero value looks for what a person would who does
// not know what happened, everywhere.
type Options struct {
	// Timeline, if not 0, is the one whose way is gone over, ancestors
	// included; 0: the WAL of every timeline, also what was left behind.
	Timeline wal.TimelineID
	// From and To bound the time, both inclusive; zero: they do not.
	From, To time.Time
	// Kinds to tell of; nil: those that matter most, or with Table those that
	// happen to tables, or with XID all.
	Kinds []Kind
	// Table restricts to what was done to relations; the zero Pattern does not.
	Table Pattern
	// Database restricts to a database, by name or OID; "": it does not.
	Database string
	// XID restricts to a transaction, by its own id or that of a subtransaction.
	XID uint32
	// MinRows is the fewest rows a change of rows must have to be told of; 0: 1 where
	// Kinds, Table or XID are given, else DefaultMinRows.
	MinRows uint64
}

// Validate tells what is wrong with the options. Such an error is one of usage.
func (o Options) Validate() error {
	if !o.From.IsZero() && !o.To.IsZero() && o.To.Before(o.From) {
		return errors.New("the time to look up to is before the time to look from")
	}
	if !o.Table.Empty() && len(o.Kinds) > 0 {
		for _, k := range o.Kinds {
			if slices.Contains(tableKinds[:], k) {
				return nil
			}
		}
		return fmt.Errorf("with a table, a kind must be one of those that happen to tables: %s", joinKinds(tableKinds[:]))
	}
	return nil
}

// Rows is the effective MinRows.
func (o Options) Rows() uint64 {
	switch {
	case o.MinRows > 0:
		return o.MinRows
	case o.Kinds != nil || !o.Table.Empty() || o.XID != 0:
		return 1
	}
	return DefaultMinRows
}

// wanted are the kinds to tell of.
func (o Options) wanted() map[Kind]bool {
	list := defaultKinds[:]
	switch {
	case o.Kinds != nil:
		list = o.Kinds
	case !o.Table.Empty():
		list = tableKinds[:]
	case o.XID != 0:
		list = kinds[:]
	}
	set := map[Kind]bool{}
	for _, k := range list {
		set[k] = true
	}
	return set
}

// Pattern is a relation to look for: a name, schema.name, database.schema.name,
// or a number, which may be that of its files or its OID. The zero value fits all.
type Pattern struct {
	database, schema, name string
	number                 uint32
}

// ParsePattern reads a Pattern. Parts can be quoted as in SQL, and must be if they
// contain dots; what is not quoted is folded to lower case.
func ParsePattern(s string) (Pattern, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 0 {
		return Pattern{number: uint32(n)}, nil
	}
	parts, ok := splitIdentifiers(s)
	if !ok || len(parts) > 3 {
		return Pattern{}, fmt.Errorf("%q is not a table: it is written as name, schema.name or database.schema.name, or is a file's number", s)
	}
	p := Pattern{name: parts[len(parts)-1]}
	if len(parts) > 1 {
		p.schema = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		p.database = parts[0]
	}
	return p, nil
}

// splitIdentifiers splits at dots outside quotes; false if a part is empty or a
// quote does not end.
func splitIdentifiers(s string) ([]string, bool) {
	var parts []string
	for {
		var part string
		rest, quoted := strings.CutPrefix(s, `"`)
		if quoted {
			var b strings.Builder
			for {
				before, after, found := strings.Cut(rest, `"`)
				if !found {
					return nil, false
				}
				b.WriteString(before)
				rest = after
				if !strings.HasPrefix(rest, `"`) {
					break
				}
				b.WriteByte('"')
				rest = rest[1:]
			}
			part, s = b.String(), rest
			if s != "" && s[0] != '.' {
				return nil, false
			}
		} else {
			i := strings.IndexByte(s, '.')
			if i < 0 {
				i = len(s)
			}
			part, s = strings.ToLower(s[:i]), s[i:]
			if strings.ContainsRune(part, '"') {
				return nil, false
			}
		}
		if part == "" {
			return nil, false
		}
		parts = append(parts, part)
		if s == "" {
			return parts, true
		}
		s = s[1:]
	}
}

// Empty reports whether the pattern fits all relations.
func (p Pattern) Empty() bool { return p == Pattern{} }

// fits reports whether a relation is meant.
func (p Pattern) fits(r *Relation) bool {
	if p.number != 0 {
		return r.File == p.number || r.OID == p.number
	}
	return r.Known && r.Name == p.name && (p.schema == "" || r.Schema == p.schema) && (p.database == "" || r.Database == p.database)
}
