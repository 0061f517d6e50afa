package plan_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// left is a timeline that was left in its second segment, at 12:04 after commits at
// 12:02 and 12:03, and the one that was begun there.
func left(t *testing.T) (w *world, b, child *waltest.Builder, seg wal.Segment) {
	w = emptyWorld(t)
	b = waltest.NewBuilder(17, systemID, 1, segment)
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	_, w.stop = b.BackupEnd(redo)
	w.commit(b, 10, at(1))
	b.Switch()
	w.commit(b, 11, at(2))
	w.commit(b, 12, at(3))
	child = b.Fork(2, "no recovery target specified")
	w.end = b.Position()
	seg = wal.SegmentAt(1, b.Position(), segment)
	for _, s := range b.Complete() {
		_, err := w.arch.PutSegment(t.Context(), s, bytes.NewReader(b.Bytes(s)))
		w.ok(err)
	}
	w.backup(redo, checkpoint)
	_, err := w.arch.PutHistory(t.Context(), 2, []byte("1\t"+w.end.String()+"\tno recovery target specified\n"))
	w.ok(err)
	return w, b, child, seg
}

// pushPartial archives a partial segment as a server does that was promoted.
func (w *world) pushPartial(seg wal.Segment, content []byte) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), seg.Name()+".partial")
	w.ok(os.WriteFile(path, content, 0o600))
	_, err := w.arch.Push(w.t.Context(), path, archive.PushOptions{})
	w.ok(err)
}

// Of the end of a timeline that was left, the sealed segment outranks its fragments,
// and they a partial segment, which is better than nothing.
func TestEndOfAnAbandonedTimeline(t *testing.T) {
	w, b, _, seg := left(t)
	want := func(when string, target plan.Target, partial bool, fragments int) {
		t.Helper()
		target.Timeline = "1"
		p, err := w.plan(target)
		if err != nil {
			t.Errorf("%s, %s: %v", when, target, err)
			return
		}
		if p.LastSegment != seg.Name() || (p.Partial != "") != partial || p.Fragments != fragments {
			t.Errorf("%s, %s: needs %s, partial %q, %d fragments", when, target, p.LastSegment, p.Partial, p.Fragments)
		}
		if target.Kind == plan.Latest && p.Stop.End != w.end {
			t.Errorf("%s: ends at %s, want %s", when, p.Stop.End, w.end)
		}
	}
	if _, err := w.plan(plan.Target{Kind: plan.XID, XID: 12, Timeline: "1"}); err == nil {
		t.Error("without the segment, a transaction in it is reached")
	}
	w.pushPartial(seg, b.Bytes(seg))
	want("partial", plan.Target{Kind: plan.Latest}, true, 0)
	want("partial", plan.Target{Kind: plan.XID, XID: 11}, true, 0)
	want("partial", plan.Target{Kind: plan.LSN, LSN: w.start[11] + 8}, true, 0)
	// On the way to the younger timeline it is not to be read.
	if p, err := w.plan(plan.Target{Kind: plan.Latest}); err != nil || p.Partial != "" || p.Stop.End != seg.Start() {
		t.Errorf("latest on timeline 2: %+v, %v", p, err)
	}
	n := int64(w.end - seg.Start())
	_, err := w.arch.PutFragment(t.Context(), archive.Fragment{Segment: seg, From: 0, To: n}, bytes.NewReader(b.Bytes(seg)[:n]))
	w.ok(err)
	want("fragments", plan.Target{Kind: plan.Latest}, false, 1)
	w.commit(b, 13, at(9))
	b.Switch()
	w.end = b.Position()
	_, err = w.arch.PutSegment(t.Context(), seg, bytes.NewReader(b.Bytes(seg)))
	w.ok(err)
	want("sealed", plan.Target{Kind: plan.Latest}, false, 0)
	want("sealed", plan.Target{Kind: plan.XID, XID: 13}, false, 0)
}

// A partial segment that is not the end of its timeline stands for nothing.
func TestPartialSegmentInTheMidst(t *testing.T) {
	w, b, _, seg := left(t)
	w.pushPartial(seg, b.Bytes(seg))
	b.Switch()
	w.commit(b, 14, at(12))
	b.Switch()
	last := b.Complete()[len(b.Complete())-1]
	_, err := w.arch.PutSegment(t.Context(), last, bytes.NewReader(b.Bytes(last)))
	w.ok(err)
	p, err := w.plan(plan.Target{Kind: plan.XID, XID: 12, Timeline: "1"})
	if err == nil {
		t.Errorf("a transaction in a segment that is missing is reached: %+v", p)
	}
}
