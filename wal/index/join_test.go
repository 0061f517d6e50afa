package index_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// TestJoinEverySplit lets a commit record cross the segment's end at every place it can.
func TestJoinEverySplit(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	boundary := wal.LSN(2 * size)
	for before := wal.LSN(8); before < 104; before += 8 {
		b := waltest.NewBuilder(18, system, 1, size)
		b.FillTo(boundary - before)
		start, end := b.CommitWith(731, noon, waltest.Transaction{Database: 5, Subxacts: []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}})
		b.Abort(732, noon)
		b.FillSegment()
		list := buildAll(t, b)
		a, c := roundTrip(t, list[0]), roundTrip(t, list[1])
		if end <= boundary {
			t.Fatalf("%d before: the record ends at %v", before, end)
		}
		got, err := index.Join(a, c)
		if err != nil {
			t.Fatalf("%d before: %v", before, err)
		}
		want := &index.Joined{LSN: start, End: end, Length: got.Length, Verified: true,
			Transaction: &index.Transaction{LSN: start, End: end, XID: 731, Time: noon, Kind: index.Commit, Database: 5,
				Detail: &index.Detail{Subxacts: []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d before: %s", before, d)
		}
		if a.LastRecord != start || a.LastComplete >= start || a.Tail.LSN != start || c.NumTransactions() != 1 {
			t.Errorf("%d before: the tail is at %v, the last record at %v", before, a.Tail.LSN, a.LastRecord)
		}
		// Any byte of the record in the second segment.
		content := b.Bytes(c.Segment)
		for i := range int(c.Head.Length) {
			content[40+i] ^= 1
			bad, err := index.Build(bytes.NewReader(content), c.Segment, complete)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := index.Join(a, bad); err == nil {
				t.Errorf("%d before: byte %d of the continuation was changed and nobody saw", before, i)
			}
			content[40+i] ^= 1
		}
	}
}

func TestJoinLongRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	b := waltest.NewBuilder(17, system, 1, size)
	b.Commit(700, noon)
	message, messageEnd := b.Message(3 << 20)
	sub := make([]uint32, 600000)
	commit, commitEnd := b.CommitWith(701, noon, waltest.Transaction{Database: 5, Subxacts: sub})
	prepared, preparedEnd := b.CommitWith(0, noon, waltest.Transaction{Prepared: 702, Subxacts: sub})
	point, pointEnd := b.RestorePoint("p", noon)
	b.FillSegment()
	list := buildAll(t, b)
	var j index.Joiner
	ends := map[wal.LSN]*index.Joined{}
	for i, ix := range list {
		got, err := j.Add(roundTrip(t, ix))
		if err != nil {
			t.Fatal(err)
		}
		if (got == nil) != (i == 0) {
			t.Fatalf("segment %d: %+v", i, got)
		}
		if got != nil && got.LSN != 0 && !got.Continues {
			ends[got.LSN] = got
		}
	}
	if got := ends[message]; got == nil || got.End != messageEnd || !got.Verified || got.Transaction != nil {
		t.Errorf("message: %+v", got)
	}
	if got := ends[commit]; got == nil || got.End != commitEnd || got.Transaction == nil || got.Transaction.XID != 701 || got.Transaction.Database != 5 || !got.Transaction.Time.Equal(noon) {
		t.Errorf("commit: %+v", got)
	} else if d := got.Transaction.Detail; d == nil || len(d.Subxacts) < 16000 || !d.Truncated {
		t.Errorf("commit: %+v", d)
	}
	// Its xid lies behind the subtransactions, which no index keeps.
	if got := ends[prepared]; got == nil || got.End != preparedEnd || got.Transaction == nil || got.Transaction.XID != 0 || !got.Verified {
		t.Errorf("commit prepared: %+v", got)
	}
	if len(ends) != 3 {
		t.Errorf("%d records cross", len(ends))
	}
	last := list[len(list)-1]
	if l := last.Landmarks; len(l) != 1 || l[0].LSN != point || l[0].End != pointEnd {
		t.Errorf("landmarks %+v", l)
	}
	// A cold start in the midst of the message: its end is found, nothing is claimed.
	var cold index.Joiner
	for i, ix := range list[1:4] {
		got, err := cold.Add(ix)
		if err != nil || i > 0 && (got.LSN != 0 || got.Verified) {
			t.Errorf("cold: %+v, %v", got, err)
		}
	}
	// A middle segment with another byte in it fails the whole record.
	content := b.Bytes(list[1].Segment)
	content[500000] ^= 1
	bad, err := index.Build(bytes.NewReader(content), list[1].Segment, complete)
	if err != nil {
		t.Fatal(err)
	}
	var again index.Joiner
	for _, ix := range []*index.Index{list[0], bad, list[2], list[3]} {
		if _, err = again.Add(ix); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a changed middle: %v", err)
	}
}

func TestJoinLandmark(t *testing.T) {
	b := waltest.NewBuilder(15, system, 1, size)
	b.FillTo(wal.LSN(2*size) - 40)
	start, end := b.RestorePoint("p", noon)
	b.FillSegment()
	list := buildAll(t, b)
	got, err := index.Join(list[0], list[1])
	if err != nil || got.Landmark == nil || got.Landmark.Name != "p" || got.Landmark.LSN != start || got.Landmark.End != end {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestJoinSwitch(t *testing.T) {
	for _, before := range []wal.LSN{8, 16, 24, 600} {
		b := waltest.NewBuilder(17, system, 1, size)
		b.FillTo(wal.LSN(2*size) - before)
		start, end := b.Switch()
		b.Commit(700, noon)
		b.FillSegment()
		list := buildAll(t, b)
		var j index.Joiner
		var landmarks []index.Landmark
		for _, ix := range list {
			landmarks = append(landmarks, roundTrip(t, ix).Landmarks...)
			got, err := j.Add(ix)
			if err != nil {
				t.Fatalf("%d before: %v", before, err)
			}
			if got != nil && got.Landmark != nil {
				landmarks = append(landmarks, *got.Landmark)
			}
		}
		want := []index.Landmark{{LSN: start, End: end, Kind: index.Switch}}
		if d := cmp.Diff(want, landmarks); d != "" {
			t.Errorf("%d before: %s", before, d)
		}
	}
	// What looks like the end of a switch and is none: the zeros after it are unexplained.
	b := waltest.NewBuilder(17, system, 1, size)
	b.FillTo(wal.LSN(2*size) - 48)
	b.Record(waltest.Record{RMGR: record.RMHeap, Main: append(make([]byte, 38-8), 0x40, 0, 0, 0, 1, 2, 3, 4)})
	b.Record(waltest.Record{RMGR: record.RMHeap})
	second := b.Segments()[1]
	content := b.Bytes(second)
	clear(content[40+16:])
	fake, err := index.Build(bytes.NewReader(content), second, complete)
	if err != nil {
		t.Fatal(err) // the segment alone does not tell
	}
	if _, err := index.Join(build(t, b, b.Segments()[0]), fake); !isKind(err, record.ZeroPadded) {
		t.Errorf("a false switch: %v", err)
	}
}

func isKind(err error, k record.Kind) bool {
	var e *record.Error
	return errors.As(err, &e) && e.Kind == k
}

func TestJoinOverwritten(t *testing.T) {
	for _, major := range []int{15, 19} {
		b := waltest.NewBuilder(major, system, 1, size)
		b.Commit(700, noon)
		b.FillTo(wal.LSN(2*size) - 8192 - 400)
		lost, overwrite := b.Overwritten(30000, 1, noon) // the rest would begin segment 2
		b.FillTo(wal.LSN(3*size) - 400)
		lost2, overwrite2 := b.Overwritten(30000, 2, noon) // the rest is lost in the midst of segment 3
		b.FillSegment()
		list := buildAll(t, b)
		for i, want := range [][2]wal.LSN{{lost, overwrite}, {lost2, overwrite2}} {
			a, c := list[i], roundTrip(t, list[i+1])
			if !c.Head.Overwritten || a.Tail.LSN != want[0] {
				t.Fatalf("%d: step %d: head %+v, tail at %v", major, i, c.Head, a.Tail.LSN)
			}
			got, err := index.Join(a, c)
			if err != nil || !got.Overwritten || got.LSN != want[0] || c.Landmarks[0].Redo != want[0] || c.Landmarks[0].LSN != want[1] {
				t.Errorf("%d: step %d: %+v, %v", major, i, got, err)
			}
		}
		var j index.Joiner
		for _, ix := range list {
			if _, err := j.Add(ix); err != nil {
				t.Errorf("%d: %v", major, err)
			}
		}
		// The same head after a segment that leaves nothing unfinished.
		full := waltest.NewBuilder(major, system, 1, size)
		full.Commit(700, noon)
		full.FillSegment()
		if _, err := index.Join(build(t, full, full.Segments()[0]), list[1]); !isKind(err, record.Disconnected) {
			t.Errorf("%d: nothing to overwrite: %v", major, err)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	three := func(major int, id uint64, tli wal.TimelineID, xid uint32) []*index.Index {
		b := waltest.NewBuilder(major, id, tli, size)
		for range 3 {
			b.Commit(xid, noon)
			if xid == 9 {
				b.Commit(xid, noon)
			}
			b.Message(int(size))
		}
		b.FillSegment()
		var list []*index.Index
		for _, seg := range b.Segments() {
			ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, index.Options{Complete: true})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, ix)
		}
		return list
	}
	good := three(17, system, 2, 1)
	other := three(17, system, 2, 9) // another history of the same cluster
	b := waltest.NewBuilder(17, system, 2, size)
	b.Commit(1, noon)
	partial, err := index.Build(bytes.NewReader(b.Bytes(b.Segments()[0])), b.Segments()[0], index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	whole := waltest.NewBuilder(17, system, 2, size)
	whole.Commit(1, noon)
	whole.Switch()
	whole.Commit(2, noon)
	whole.Switch()
	shifted := waltest.NewBuilder(17, system, 2, size)
	shifted.Seek(2, wal.LSN(size)+40+8)
	shifted.Commit(2, noon)
	shifted.Switch()
	for name, c := range map[string]struct {
		a, b   *index.Index
		reason string
	}{
		"not the next":      {good[0], good[2], "does not follow"},
		"itself":            {good[0], good[0], "does not follow"},
		"another cluster":   {good[0], three(17, 5, 2, 1)[1], "system identifier"},
		"another version":   {good[0], three(16, system, 2, 1)[1], "magic"},
		"an older timeline": {good[0], three(17, system, 1, 1)[1], "timeline"},
		"another history":   {good[0], other[1], "leaves"},
		"its partial":       {partial, good[1], "not complete"},
		"no continuation":   {good[0], build(t, whole, whole.Segments()[1]), "does not continue"},
		"continuation":      {build(t, whole, whole.Segments()[0]), good[1], "ends with a complete one"},
		"broken chain":      {build(t, whole, whole.Segments()[0]), build(t, shifted, shifted.Segments()[0]), "links back"},
	} {
		_, err := index.Join(c.a, c.b)
		var e *record.Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := index.Join(good[0], good[1]); err != nil {
		t.Error(err)
	}
	if _, err := index.Join(build(t, whole, whole.Segments()[0]), build(t, whole, whole.Segments()[1])); err != nil {
		t.Error(err)
	}
}

// TestJoinAt follows a promotion inside a segment, at its end, and one that
// does not fit.
func TestJoinAt(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Commit(1, noon)
	b.Message(int(size)) // crosses into segment 2
	f := b.Fork(2, "x")
	at := b.Position()
	b.Commit(2, noon)
	b.FillSegment()
	f.EndOfRecovery(1, noon)
	f.FillSegment()
	old, fresh := buildAll(t, b), buildAll(t, f)
	if got, err := index.JoinAt(old[0], fresh[0], at); err != nil || !got.Verified {
		t.Errorf("into the copy: %+v, %v", got, err)
	}
	if _, err := index.JoinAt(old[1], fresh[0], at); err != nil {
		t.Errorf("the copy against its original: %v", err)
	}
	f.Commit(3, noon)
	f.Switch()
	fresh = buildAll(t, f)
	if _, err := index.JoinAt(old[1], fresh[1], at); !isKind(err, record.Disconnected) {
		t.Errorf("past the copy: %v", err)
	}
	g := waltest.NewBuilder(17, system, 2, size)
	g.Commit(5, noon)
	g.Message(int(size) + 100)
	g.FillSegment()
	if _, err := index.JoinAt(old[1], buildAll(t, g)[1], at); !isKind(err, record.Disconnected) {
		t.Errorf("a copy of something else: %v", err)
	}
	// Exactly at a segment's end.
	h := b.Fork(3, "y")
	h.EndOfRecovery(1, noon)
	h.Switch()
	if _, err := index.JoinAt(old[1], buildAll(t, h)[0], b.Position()); err != nil {
		t.Errorf("at a segment's end: %v", err)
	}
	if _, err := index.JoinAt(old[0], fresh[0], old[0].Segment.End()); !isKind(err, record.Disconnected) {
		t.Errorf("in the midst of a record: %v", err)
	}
}
