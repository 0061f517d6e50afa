//go:build unix

package waldump

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Compare reads consecutive segments in one go and compares every record with
// pg_waldump's list: place, link, lengths, resource manager, kind, transaction
// id, block references with their images, and what records of RMTransaction and
// RMXLOG say. The two must have the same records.
func Compare(t testing.TB, c *pgtest.Cluster, list []wal.Segment, want []Record) {
	t.Helper()
	first := list[0]
	var all []byte
	for _, seg := range list {
		all = append(all, Content(t, c, seg)...)
	}
	CompareBytes(t, all, record.Options{
		Start: first.Start(), SegmentSize: first.Size, Timeline: first.Timeline, SystemID: c.SystemID(), Length: int64(len(all)),
	}, want)
}

// CompareBytes is Compare for a run of WAL in memory.
func CompareBytes(t testing.TB, content []byte, o record.Options, want []Record) {
	t.Helper()
	var r record.Reader
	r.ResetBytes(content, o)
	i := 0
	var d record.Decoded
	for ; r.Next(); i++ {
		rec := r.Record()
		if i >= len(want) {
			t.Fatalf("a %s record at %v that pg_waldump does not have", rec.RMGR, rec.LSN)
		}
		if err := rec.Decode(&d); err != nil {
			t.Fatal(err)
		}
		w := want[i]
		got := describe(rec, &d)
		got.Desc = w.Desc // compared below
		if !got.equal(&w) {
			t.Fatalf("record %d: pg_waldump's -, ours +\n%s", i, cmp.Diff(w, got))
		}
		switch {
		case rec.RMGR == record.RMTransaction && rec.XactOp() <= record.XactAbortPrepared:
			compareTransaction(t, rec, &d, w.Desc)
		case rec.RMGR == record.RMXLOG && rec.Op() <= record.XLOGCheckpointRedo:
			compareXLOG(t, rec, &d, w.Desc)
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

func (r *Record) equal(o *Record) bool {
	return r.RMGR == o.RMGR && r.Kind == o.Kind && r.Length == o.Length && r.Total == o.Total && r.XID == o.XID &&
		r.LSN == o.LSN && r.Prev == o.Prev && r.Desc == o.Desc && slices.Equal(r.Blocks, o.Blocks)
}

// describe says of a record what pg_waldump does.
func describe(rec *record.Record, d *record.Decoded) Record {
	r := Record{
		RMGR: rec.RMGR.String(), Kind: rec.Name(), Length: rec.TotalLength, Total: rec.TotalLength,
		XID: rec.XID, LSN: rec.LSN, Prev: rec.Prev,
	}
	for i := range d.Blocks {
		r.Length -= uint32(d.Blocks[i].ImageLength)
		r.Blocks = append(r.Blocks, reference(&d.Blocks[i]))
	}
	return r
}

// reference is a block reference as pg_waldump writes it.
func reference(b *record.Block) string {
	forks := [...]string{record.ForkMain: "main", record.ForkFSM: "fsm", record.ForkVM: "vm", record.ForkInit: "init"}
	s := fmt.Sprintf("#%d: rel %s fork %s blk %d", b.ID, b.Relation, forks[b.Fork], b.Number)
	if !b.HasImage {
		return s
	}
	use := ""
	if !b.ImageApplied {
		use = " for WAL verification"
	}
	s += fmt.Sprintf(" (FPW%s); hole: offset: %d, length: %d", use, b.HoleOffset, b.HoleLength)
	if b.Compression == record.Uncompressed {
		return s
	}
	saved := 8192 - int(b.HoleLength) - int(b.ImageLength)
	return s + fmt.Sprintf(", compression saved: %d, method: %s", saved, b.Compression)
}
