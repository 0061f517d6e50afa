//go:build unix

package waldump

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal/record"
)

// compareXLOG compares what a record of RMXLOG says with its description.
func compareXLOG(t testing.TB, rec *record.Record, d *record.Decoded, desc string) {
	t.Helper()
	got, err := xlog(rec, d.Main)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(unread.ReplaceAllString(desc, ""), got); diff != "" {
		t.Fatalf("%s at %v: pg_waldump's -, ours +\n%s", rec.Name(), rec.LSN, diff)
	}
}

// unread are the parts of a description that the decoder has no field for.
var unread = regexp.MustCompile(` in DB \d+|oldest/newest commit timestamp xid: \d+/\d+; |logical decoding \w+; `)

// xlog describes a record of RMXLOG as xlogdesc.c does.
func xlog(rec *record.Record, main []byte) (string, error) {
	switch rec.Op() {
	case record.XLOGCheckpointShutdown, record.XLOGCheckpointOnline:
		c, err := record.DecodeCheckpoint(rec.Major, main)
		return checkpoint(rec, &c), err
	case record.XLOGNextOID:
		oid, err := record.DecodeNextOID(main)
		return fmt.Sprint(oid), err
	case record.XLOGBackupEnd:
		redo, err := record.DecodeBackupEnd(main)
		return lsnText(rec.Major, redo), err
	case record.XLOGParameterChange:
		p, err := record.DecodeParameterChange(main)
		return fmt.Sprintf("max_connections=%d max_worker_processes=%d max_wal_senders=%d max_prepared_xacts=%d max_locks_per_xact=%d "+
			"wal_level=%s wal_log_hints=%s track_commit_timestamp=%s", p.MaxConnections, p.MaxWorkerProcesses, p.MaxWALSenders,
			p.MaxPreparedTransactions, p.MaxLocksPerTransaction, level(p.WALLevel), onOff(p.WALLogHints), onOff(p.TrackCommitTimestamp)), err
	case record.XLOGRestorePoint:
		p, err := record.DecodeRestorePoint(main)
		return p.Name, err
	case record.XLOGFPWChange:
		on, err := record.DecodeFPWChange(main)
		return fmt.Sprint(on), err
	case record.XLOGEndOfRecovery:
		e, err := record.DecodeEndOfRecovery(rec.Major, main)
		s := fmt.Sprintf("tli %s; prev tli %s; time %s", e.Timeline, e.PrevTimeline, timestamp(e.Time))
		if rec.Major >= 17 {
			s += "; wal_level " + level(e.WALLevel)
		}
		return s, err
	case record.XLOGOverwriteContrecord:
		o, err := record.DecodeOverwriteContrecord(main)
		return fmt.Sprintf("lsn %s; time %s", lsnText(rec.Major, o.LSN), timestamp(o.Time)), err
	case record.XLOGCheckpointRedo:
		v, err := record.DecodeCheckpointRedo(main)
		return "wal_level " + level(v), err
	}
	return "", nil
}

func checkpoint(rec *record.Record, c *record.Checkpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "redo %s; tli %s; prev tli %s; fpw %v; ", lsnText(rec.Major, c.Redo), c.Timeline, c.PrevTimeline, c.FullPageWrites)
	if rec.Major >= 17 {
		fmt.Fprintf(&b, "wal_level %s; ", level(c.WALLevel))
	}
	fmt.Fprintf(&b, "xid %d:%d; oid %d; multi %d; offset %d; oldest xid %d; oldest multi %d; oldest running xid %d; ",
		c.NextXID>>32, uint32(c.NextXID), c.NextOID, c.NextMulti, c.NextMultiOffset, c.OldestXID, c.OldestMulti, c.OldestActiveXID)
	if rec.Op() == record.XLOGCheckpointOnline {
		return b.String() + "online"
	}
	return b.String() + "shutdown"
}

func level(v int32) string {
	if names := [...]string{"minimal", "replica", "logical"}; v >= 0 && int(v) < len(names) {
		return names[v]
	}
	return "?"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
