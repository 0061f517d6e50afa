//go:build unix

package index_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

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
	ix, err := index.Build(bytes.NewReader(waldump.Content(t, c, seg)), seg, index.Options{SystemID: c.SystemID(), Complete: true})
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
func compareTransactions(t *testing.T, g gathered, want []waldump.Record) {
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
		if d.RMGR != "Transaction" || d.Kind == "ASSIGNMENT" || d.Kind == "INVALIDATION" {
			continue
		}
		b := brief{d.LSN, d.XID, d.Kind, dumpTime.FindString(d.Desc)}
		if m := dumpXID.FindStringSubmatch(d.Desc); m != nil { // the prepared transaction's
			v, _ := strconv.ParseUint(m[1], 10, 32)
			b.XID = uint32(v)
		}
		if d.Kind == "PREPARE" {
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
func compareLandmarks(t *testing.T, g gathered, want []waldump.Record) {
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
		if d.RMGR == "XLOG" && known[d.Kind] {
			expected = append(expected, fmt.Sprint(d.LSN, " ", d.Kind, " ", dumpText(d)))
		} else if kind := storageLandmark(d); kind != "" {
			expected = append(expected, fmt.Sprint(d.LSN, " ", kind, " "))
		}
	}
	if d := cmp.Diff(expected, got); d != "" {
		t.Error(d)
	}
}

// storageLandmark is the kind of landmark a record of another resource manager is.
func storageLandmark(d waldump.Record) string {
	switch {
	case d.RMGR == "Database" && strings.HasPrefix(d.Kind, "CREATE"):
		return index.DatabaseCreate.String()
	case d.RMGR == "Database" && d.Kind == "DROP":
		return index.DatabaseDrop.String()
	case d.RMGR == "Tablespace" && d.Kind == "DROP":
		return index.TablespaceDrop.String()
	case d.RMGR == "Heap" && d.Kind == "TRUNCATE":
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
func dumpText(d waldump.Record) string {
	lsn, _ := wal.ParseLSN(dumpLSN.FindString(d.Desc))
	switch d.Kind {
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
