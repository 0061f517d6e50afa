//go:build unix

package waldump

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// Record is what pg_waldump says of a record.
type Record struct {
	RMGR   string
	Kind   string // the name of the kind, as HOT_UPDATE or UNKNOWN (30)
	Length uint32 // without full-page images
	Total  uint32
	XID    uint32
	LSN    wal.LSN
	Prev   wal.LSN
	Desc   string   // what follows the name
	Blocks []string // the lines of its block references
}

// String begins as pg_waldump's own line does.
func (r Record) String() string {
	return fmt.Sprintf("rmgr: %s len (rec/tot): %d/%d, tx: %d, lsn: %s, prev %s, desc: %s %s %q",
		r.RMGR, r.Length, r.Total, r.XID, r.LSN, r.Prev, r.Kind, r.Desc, r.Blocks)
}

// Run returns what the server's own pg_waldump reads in [from, to).
func Run(t testing.TB, c *pgtest.Cluster, tli wal.TimelineID, from, to wal.LSN) []Record {
	t.Helper()
	out := c.Run("env", "TZ=UTC", "PGTZ=UTC", c.Bin("pg_waldump"), "-p", dir(c), "--bkp-details",
		"-t", tli.String(), "-s", from.String(), "-e", to.String())
	return Parse(t, out)
}

// Parse reads what pg_waldump --bkp-details has written, in UTC.
func Parse(t testing.TB, out string) []Record {
	t.Helper()
	var list []Record
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "rmgr: ") {
			r, err := parse(line)
			if err != nil {
				t.Fatalf("%v in pg_waldump's line %q", err, line)
			}
			list = append(list, r)
			continue
		}
		if reference, ok := strings.CutPrefix(line, "\tblkref "); ok {
			last := &list[len(list)-1]
			last.Blocks = append(last.Blocks, reference)
		} else if line != "" {
			t.Fatalf("pg_waldump's line %q is not understood", line)
		}
	}
	return list
}

// parse takes a line apart:
//
//	rmgr: Heap        len (rec/tot):     54/   150, tx:        734, lsn: 0/01D5D5A8, prev 0/01D5D570, desc: INSERT off: 2
func parse(line string) (r Record, err error) {
	rest := line
	field := func(before, after string) string {
		text, ok := strings.CutPrefix(rest, before)
		value, next, found := strings.Cut(text, after)
		if (!ok || !found) && err == nil {
			err = fmt.Errorf("no %q or %q", before, after)
		}
		rest = next
		return strings.TrimSpace(value)
	}
	number := func(text string) uint32 {
		n, e := strconv.ParseUint(text, 10, 32)
		if e != nil && err == nil {
			err = e
		}
		return uint32(n)
	}
	lsn := func(text string) wal.LSN {
		l, e := wal.ParseLSN(text)
		if e != nil && err == nil {
			err = e
		}
		return l
	}
	r.RMGR = field("rmgr: ", " ")
	rest = strings.TrimLeft(rest, " ")
	r.Length = number(field("len (rec/tot): ", "/"))
	r.Total = number(field("", ", "))
	r.XID = number(field("tx: ", ", "))
	r.LSN = lsn(field("lsn: ", ", "))
	r.Prev = lsn(field("prev ", ", "))
	text, ok := strings.CutPrefix(rest, "desc: ")
	if !ok && err == nil {
		err = fmt.Errorf("no description")
	}
	r.Kind, r.Desc, _ = strings.Cut(text, " ")
	if r.Kind == "UNKNOWN" {
		code, desc, _ := strings.Cut(r.Desc, ")")
		r.Kind, r.Desc = "UNKNOWN "+code+")", desc
	}
	r.Desc = strings.TrimSpace(r.Desc)
	return r, err
}

func dir(c *pgtest.Cluster) string { return filepath.Join(c.DataDir(), "pg_wal") }

// Segments are the segments of a timeline in pg_wal that end at or before end,
// in order. There must be some, and none may be missing.
func Segments(t testing.TB, c *pgtest.Cluster, tli wal.TimelineID, size wal.SegmentSize, end wal.LSN) []wal.Segment {
	t.Helper()
	entries, err := os.ReadDir(dir(c))
	if err != nil {
		t.Fatal(err)
	}
	var list []wal.Segment
	for _, e := range entries {
		seg, err := wal.ParseSegment(e.Name(), size)
		if err == nil && seg.Timeline == tli && seg.End() <= end {
			list = append(list, seg)
		}
	}
	slices.SortFunc(list, func(a, b wal.Segment) int { return int(a.Number) - int(b.Number) })
	if len(list) == 0 || list[len(list)-1].Number-list[0].Number != uint64(len(list)-1) {
		t.Fatalf("the complete segments before %v: %v", end, list)
	}
	return list
}

// Content is a segment of pg_wal.
func Content(t testing.TB, c *pgtest.Cluster, seg wal.Segment) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir(c), seg.Name()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
