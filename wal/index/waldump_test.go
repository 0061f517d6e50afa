//go:build unix

package index_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// dumped is one line of pg_waldump.
type dumped struct {
	RMGR   string
	Length uint32
	XID    uint32
	LSN    wal.LSN
	Prev   wal.LSN
	What   string // the first word of the description
	Desc   string
}

var dumpLine = regexp.MustCompile(`^rmgr: (\S+) +len \(rec/tot\): +\d+/ *(\d+), tx: +(\d+), lsn: ([0-9A-F/]+), prev ([0-9A-F/]+), desc: (\S*) ?(.*)$`)

// waldump is what the server's own pg_waldump reads in [from, to).
func waldump(t *testing.T, c *pgtest.Cluster, tli wal.TimelineID, from, to wal.LSN) []dumped {
	t.Helper()
	out := c.Run("env", "TZ=UTC", "PGTZ=UTC", c.Bin("pg_waldump"), "-p", filepath.Join(c.DataDir(), "pg_wal"),
		"-t", tli.String(), "-s", from.String(), "-e", to.String())
	var list []dumped
	for line := range strings.Lines(out) {
		m := dumpLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue // a description of several lines
		}
		length, _ := strconv.ParseUint(m[2], 10, 32)
		xid, _ := strconv.ParseUint(m[3], 10, 32)
		lsn, err1 := wal.ParseLSN(m[4])
		prev, err2 := wal.ParseLSN(m[5])
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %v, %v", line, err1, err2)
		}
		list = append(list, dumped{m[1], uint32(length), uint32(xid), lsn, prev, m[6], m[7]})
	}
	return list
}

// segments are the complete segments of a timeline in pg_wal: those before the one in use.
func segments(t *testing.T, c *pgtest.Cluster, tli wal.TimelineID, size wal.SegmentSize, end wal.LSN) []wal.Segment {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.DataDir(), "pg_wal"))
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
	if len(list) == 0 {
		t.Fatalf("no complete segment before %v", end)
	}
	return list
}

func content(t *testing.T, c *pgtest.Cluster, seg wal.Segment) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.DataDir(), "pg_wal", seg.Name()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compareRecords walks all segments in one go, and compares every record with pg_waldump's.
func compareRecords(t *testing.T, c *pgtest.Cluster, list []wal.Segment, want []dumped) {
	t.Helper()
	var all []byte
	for _, seg := range list {
		all = append(all, content(t, c, seg)...)
	}
	first := list[0]
	r := record.NewReader(bytes.NewReader(all), record.Options{
		Start: first.Start(), SegmentSize: first.Size, Timeline: first.Timeline, SystemID: c.SystemID(), Length: int64(len(all)),
	})
	i := 0
	var d record.Decoded
	for ; r.Next(); i++ {
		rec := r.Record()
		if i >= len(want) {
			t.Fatalf("a record at %v that pg_waldump does not have", rec.LSN)
		}
		w := want[i]
		got := dumped{rec.RMGR.String(), rec.TotalLength, rec.XID, rec.LSN, rec.Prev, w.What, w.Desc}
		if got != w {
			t.Fatalf("record %d: %+v, pg_waldump says %+v", i, got, w)
		}
		if err := rec.Decode(&d); err != nil {
			t.Fatal(err)
		}
		if rec.RMGR == record.RMTransaction && rec.XactOp() != record.XactPrepare && rec.XactOp() <= record.XactAbortPrepared {
			compareParts(t, rec, d.Main, w.Desc)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	// The last one may go on beyond what was read.
	if i != len(want) && (i != len(want)-1 || r.Tail().LSN != want[i].LSN) {
		t.Fatalf("%d records, pg_waldump has %d", i, len(want))
	}
}

// compareParts compares the lists of a commit or abort with their description.
func compareParts(t *testing.T, rec *record.Record, main []byte, desc string) {
	t.Helper()
	var x record.Transaction
	if err := record.DecodeTransaction(rec, main, &x); err != nil {
		t.Fatal(err)
	}
	part := func(name string) []string {
		_, after, _ := strings.Cut(desc, name+": ")
		list, _, _ := strings.Cut(after, ";")
		return strings.Fields(list)
	}
	var subxacts, relations, stats []string
	for _, xid := range x.Subxacts {
		subxacts = append(subxacts, fmt.Sprint(xid))
	}
	for _, r := range x.Relations {
		relations = append(relations, fmt.Sprintf("base/%d/%d", r.Database, r.Number))
	}
	for _, s := range x.DroppedStats {
		stats = append(stats, fmt.Sprintf("%d/%d/%d", s.Kind, s.Database, s.Object))
	}
	for name, got := range map[string][]string{"subxacts": subxacts, "rels": relations, "dropped stats": stats} {
		if want := part(name); !slices.Equal(got, want) {
			t.Fatalf("%s of the record at %v: %v, pg_waldump says %v: %s", name, rec.LSN, got, want, desc)
		}
	}
}

// gathered is what the indexes of consecutive segments know together.
type gathered struct {
	records      uint64
	transactions []index.Transaction
	landmarks    []index.Landmark
	crossing     int
	overwritten  int
}

// gather builds, encodes, decodes and joins the indexes of all segments.
func gather(t *testing.T, c *pgtest.Cluster, list []wal.Segment) gathered {
	t.Helper()
	var g gathered
	var j index.Joiner
	for _, seg := range list {
		ix := buildServer(t, c, seg)
		joined, err := j.Add(ix)
		if err != nil {
			t.Fatal(err)
		}
		if joined != nil {
			g.join(joined)
		}
		g.records += ix.Records
		g.transactions = append(g.transactions, slices.Collect(ix.Transactions())...)
		g.landmarks = append(g.landmarks, ix.Landmarks...)
	}
	return g
}

// buildServer is the index of a server's segment, encoded and decoded.
func buildServer(t *testing.T, c *pgtest.Cluster, seg wal.Segment) *index.Index {
	t.Helper()
	ix, err := index.Build(bytes.NewReader(content(t, c, seg)), seg, index.Options{SystemID: c.SystemID(), Complete: true})
	if err != nil {
		t.Fatal(err)
	}
	return roundTrip(t, ix)
}

func (g *gathered) join(j *index.Joined) {
	switch {
	case j.Overwritten:
		g.overwritten++
		g.records-- // it was counted where it starts
		return
	case j.LSN != 0 && !j.Continues:
		g.crossing++
	}
	if j.Transaction != nil {
		g.transactions = append(g.transactions, *j.Transaction)
	}
	if j.Landmark != nil {
		g.landmarks = append(g.landmarks, *j.Landmark)
	}
}

var (
	dumpTime = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC`)
	dumpXID  = regexp.MustCompile(`^(\d+): `)
)

// compareTransactions compares the indexes' transactions with pg_waldump's
// commits, aborts and prepares: place, kind, xid and time.
func compareTransactions(t *testing.T, g gathered, want []dumped) {
	t.Helper()
	type brief struct {
		LSN  wal.LSN
		XID  uint32
		Kind string
		Time string
	}
	var got, expected []brief
	for _, x := range g.transactions {
		got = append(got, brief{x.LSN, x.XID, x.Kind.String(), x.Time.Format("2006-01-02 15:04:05.000000 MST")})
	}
	for _, d := range want {
		if d.RMGR != "Transaction" || d.What == "ASSIGNMENT" || d.What == "INVALIDATION" {
			continue
		}
		b := brief{d.LSN, d.XID, d.What, dumpTime.FindString(d.Desc)}
		if m := dumpXID.FindStringSubmatch(d.Desc); m != nil { // the prepared transaction's
			v, _ := strconv.ParseUint(m[1], 10, 32)
			b.XID = uint32(v)
		}
		if d.What == "PREPARE" {
			b.Time = got[min(len(expected), len(got)-1)].Time // not printed in full by all versions
		}
		expected = append(expected, b)
	}
	if d := cmp.Diff(expected, got); d != "" {
		t.Error(d)
	}
	if len(got) < 10 {
		t.Errorf("only %d transactions: the workload is too small to prove anything", len(got))
	}
}

// compareLandmarks compares the indexes' landmarks with pg_waldump's records.
func compareLandmarks(t *testing.T, g gathered, want []dumped) {
	t.Helper()
	known := map[string]bool{}
	for k := index.RestorePoint; k <= index.CheckpointRedo; k++ {
		known[k.String()] = true
	}
	var got, expected []string
	for _, l := range g.landmarks {
		if l.Kind != index.DatabaseInvalid { // see TestServerEffects
			got = append(got, fmt.Sprint(l.LSN, " ", l.Kind, " ", landmarkText(l)))
		}
	}
	for _, d := range want {
		if d.RMGR == "XLOG" && known[d.What] {
			expected = append(expected, fmt.Sprint(d.LSN, " ", d.What, " ", dumpText(d)))
		} else if kind := storageLandmark(d); kind != "" {
			expected = append(expected, fmt.Sprint(d.LSN, " ", kind, " "))
		}
	}
	if d := cmp.Diff(expected, got); d != "" {
		t.Error(d)
	}
}

// storageLandmark is the kind of landmark a record of another resource manager is.
func storageLandmark(d dumped) string {
	switch {
	case d.RMGR == "Database" && strings.HasPrefix(d.What, "CREATE"):
		return index.DatabaseCreate.String()
	case d.RMGR == "Database" && d.What == "DROP":
		return index.DatabaseDrop.String()
	case d.RMGR == "Tablespace" && d.What == "DROP":
		return index.TablespaceDrop.String()
	case d.RMGR == "Heap" && d.What == "TRUNCATE":
		return index.HeapTruncate.String()
	}
	return ""
}

// landmarkText says what a landmark says in the words of dumpText.
func landmarkText(l index.Landmark) string {
	switch l.Kind {
	case index.RestorePoint:
		return l.Name
	case index.BackupEnd:
		return l.Redo.String()
	case index.OverwriteContrecord:
		return fmt.Sprintf("%v %s", l.Redo, l.Time.Format("2006-01-02 15:04:05.000000 MST"))
	case index.CheckpointOnline, index.CheckpointShutdown:
		return fmt.Sprintf("redo %v tli %d prev tli %d xid %d:%d", l.Redo, l.Timeline, l.PrevTimeline, l.NextXID>>32, uint32(l.NextXID))
	case index.EndOfRecovery:
		return fmt.Sprintf("tli %d prev tli %d %s", l.Timeline, l.PrevTimeline, l.Time.Format("2006-01-02 15:04:05.000000 MST"))
	case index.ParameterChange:
		s := l.Settings
		return fmt.Sprintf("max_connections=%d max_worker_processes=%d max_wal_senders=%d max_prepared_xacts=%d max_locks_per_xact=%d wal_level=%s",
			s.MaxConnections, s.MaxWorkerProcesses, s.MaxWALSenders, s.MaxPreparedTransactions, s.MaxLocksPerTransaction, l.WALLevel)
	}
	return ""
}

var (
	dumpLSN        = regexp.MustCompile(`[0-9A-F]+/[0-9A-F]+`)
	dumpCheckpoint = regexp.MustCompile(`tli (\d+); prev tli (\d+);.* xid (\d+:\d+);`)
	dumpEnd        = regexp.MustCompile(`tli (\d+); prev tli (\d+);`)
	dumpSettings   = regexp.MustCompile(`^(.* wal_level=\S+) `)
)

// dumpText is what of a description an index has, in one wording for all majors.
func dumpText(d dumped) string {
	lsn, _ := wal.ParseLSN(dumpLSN.FindString(d.Desc))
	switch d.What {
	case "RESTORE_POINT":
		return d.Desc
	case "BACKUP_END":
		return lsn.String()
	case "OVERWRITE_CONTRECORD":
		return fmt.Sprintf("%v %s", lsn, dumpTime.FindString(d.Desc))
	case "CHECKPOINT_ONLINE", "CHECKPOINT_SHUTDOWN":
		if m := dumpCheckpoint.FindStringSubmatch(d.Desc); m != nil {
			return fmt.Sprintf("redo %v tli %s prev tli %s xid %s", lsn, m[1], m[2], m[3])
		}
	case "END_OF_RECOVERY":
		if m := dumpEnd.FindStringSubmatch(d.Desc); m != nil {
			return fmt.Sprintf("tli %s prev tli %s %s", m[1], m[2], dumpTime.FindString(d.Desc))
		}
	case "PARAMETER_CHANGE":
		if m := dumpSettings.FindStringSubmatch(d.Desc); m != nil {
			return m[1]
		}
	default:
		return ""
	}
	return "not understood: " + d.Desc
}
