//go:build unix

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// way is all records that recovery on the way to a timeline can replay, as
// PostgreSQL's own reader prints them.
type way struct {
	history wal.History
	records []walRecord
}

// walRecord is a line of pg_waldump.
type walRecord struct {
	lsn  wal.LSN
	rmgr string
	// end: it ends a transaction, at that time. xid is the one that
	// recovery_target_xid compares, subs are its subtransactions.
	end  bool
	time time.Time
	xid  uint32
	subs []uint32
	name string // of a restore point
}

// ends are the records that end transactions.
func (w *way) ends() []walRecord {
	var list []walRecord
	for _, r := range w.records {
		if r.end {
			list = append(list, r)
		}
	}
	return list
}

// readWay fetches the WAL on the way to a timeline and lets pg_waldump read it.
func (b *busy) readWay(tli wal.TimelineID) *way {
	b.t.Helper()
	w := &way{history: wal.History{Timeline: tli}}
	dir := filepath.Join(pgtest.TempDir(b.t), "way")
	pgtest.MkdirAll(b.t, dir)
	if tli > 1 {
		path := filepath.Join(dir, "history")
		b.run("wal-get", tli.Hex()+".history", path).ok(b.t)
		content, err := os.ReadFile(path)
		check(b.t, err)
		w.history, err = wal.ParseHistory(tli, content)
		check(b.t, err)
	}
	first, last := b.fetchWay(dir, tli, w.history.Path())
	// All of it as one timeline's, so that pg_waldump reads it as recovery would.
	cmd := b.pg.Command(b.t.Context(), "pg_waldump", "-p", dir, first, last)
	cmd.Env = append(cmd.Env, "TZ=UTC")
	out, err := cmd.Output() // it ends with an error where the WAL ends
	if len(out) == 0 {
		b.t.Fatalf("pg_waldump of timeline %s: %v", tli, err)
	}
	for line := range strings.Lines(string(out)) {
		if r, ok := parseRecord(b, line); ok {
			w.records = append(w.records, r)
		}
	}
	return w
}

// segmentSize is that of the clusters.
const segmentSize = wal.SegmentSize(1 << 20)

// fetchWay gets the segments from the newest timeline that has begun by their end.
func (b *busy) fetchWay(dir string, tli wal.TimelineID, spans []wal.Span) (first, last string) {
	b.t.Helper()
	for n := b.firstSegment(); ; n++ {
		from := spans[0].Timeline
		for _, s := range spans {
			if segmentSize.Number(s.Begin) <= n {
				from = s.Timeline
			}
		}
		name := wal.Segment{Timeline: tli, Number: n, Size: segmentSize}.Name()
		got := b.run("wal-get", wal.Segment{Timeline: from, Number: n, Size: segmentSize}.Name(), filepath.Join(dir, name))
		if first == "" {
			first = name
			got.ok(b.t)
		}
		if got.code != 0 {
			got.exits(b.t, 1)
			return first, last
		}
		last = name
	}
}

// firstSegment is the number of the first segment that was archived.
func (b *busy) firstSegment() uint64 {
	b.t.Helper()
	var list struct {
		Timelines []struct {
			Ranges []struct {
				First string `json:"first"`
			} `json:"ranges"`
		} `json:"timelines"`
	}
	b.run("list", "--json").ok(b.t).json(b.t, &list)
	seg, err := wal.ParseSegment(list.Timelines[0].Ranges[0].First, segmentSize)
	check(b.t, err)
	return seg.Number
}

var (
	anyRecord   = regexp.MustCompile(`^rmgr: (\S+) .*tx:\s+(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+ desc: (.*)`)
	endRecord   = regexp.MustCompile(`^(?:COMMIT|ABORT)(?:_PREPARED)? (?:(\d+): )?(\d{4}-\S+ \S+) UTC`)
	subxactList = regexp.MustCompile(`; subxacts: ([0-9 ]+)`)
	pointRecord = regexp.MustCompile(`^RESTORE_POINT (.*)`)
)

func parseRecord(b *busy, line string) (r walRecord, ok bool) {
	b.t.Helper()
	m := anyRecord.FindStringSubmatch(line)
	if m == nil {
		return r, false
	}
	var err error
	r.rmgr = m[1]
	r.lsn, err = wal.ParseLSN(m[3])
	check(b.t, err)
	number := func(s string) uint32 {
		v, err := strconv.ParseUint(s, 10, 32)
		check(b.t, err)
		return uint32(v)
	}
	if p := pointRecord.FindStringSubmatch(m[4]); p != nil && r.rmgr == "XLOG" {
		r.name = strings.TrimSpace(p[1])
	}
	e := endRecord.FindStringSubmatch(m[4])
	if e == nil || r.rmgr != "Transaction" {
		return r, true
	}
	r.end, r.xid = true, number(m[2])
	if e[1] != "" {
		r.xid = number(e[1])
	}
	r.time, err = time.Parse("2006-01-02 15:04:05.999999", e[2])
	check(b.t, err)
	if s := subxactList.FindStringSubmatch(m[4]); s != nil {
		for _, id := range strings.Fields(s[1]) {
			r.subs = append(r.subs, number(id))
		}
	}
	return r, true
}
