package plan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// unfinished is the simple scene, and in a segment that goes on: a commit at 12:21,
// a restore point, and a commit at 12:22.
func unfinished() (c *cluster, b *branch, first, point, last logged) {
	c, b = simple()
	first = c.commitAt(b, 21)
	c.note(b, restorePoint)(b.RestorePoint("in fragments", at(21)))
	point = *b.last()
	last = c.commitAt(b, 22)
	c.tail = c.toTheEnd
	return c, b, first, point, last
}

func TestTargetsInFragments(t *testing.T) {
	c, b, first, point, last := unfinished()
	c.archive(t, everything)
	for name, want := range map[string]struct {
		target plan.Target
		lsn    wal.LSN
		before bool
		kept   uint32
	}{
		"latest":          {plan.Target{Kind: plan.Latest}, 0, false, last.xid},
		"time":            {plan.Target{Kind: plan.Time, Time: at(21)}, last.lsn, true, first.xid},
		"time, exclusive": {plan.Target{Kind: plan.Time, Time: at(21), Exclusive: true}, first.lsn, true, first.xid - 1},
		"xid":             {plan.Target{Kind: plan.XID, XID: last.xid}, last.lsn, false, last.xid},
		"xid, exclusive":  {plan.Target{Kind: plan.XID, XID: last.xid, Exclusive: true}, last.lsn, true, first.xid},
		"lsn":             {plan.Target{Kind: plan.LSN, LSN: last.lsn}, last.lsn, false, last.xid},
		"lsn, exclusive":  {plan.Target{Kind: plan.LSN, LSN: last.lsn, Exclusive: true}, last.lsn, true, first.xid},
		"name":            {plan.Target{Kind: plan.Name, Name: "in fragments"}, point.lsn, false, first.xid},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.mustPlan(t, want.target)
			if p.Stop.LSN != want.lsn || p.Stop.Before != want.before || p.Stop.LastKept == nil || p.Stop.LastKept.XID != want.kept {
				t.Errorf("stops %+v and keeps %+v", p.Stop, p.Stop.LastKept)
			}
			if p.LastSegment != "000000010000000000000003" || p.Segments != 3 || p.Fragments == 0 || p.StoredBytes == 0 {
				t.Errorf("needs %d segments to %s, %d fragments, %d bytes", p.Segments, p.LastSegment, p.Fragments, p.StoredBytes)
			}
		})
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Stop.End != b.Position() || p.Path[0].End != b.Position() {
		t.Errorf("the end of the WAL: %+v, path %+v", p.Stop, p.Path)
	}
	// In between, where the index tells of no record.
	if p := c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: first.lsn + 8}); p.Stop.LSN <= first.lsn || p.Path[0].End != p.Stop.End {
		t.Errorf("an LSN in between: %+v, path %+v", p.Stop, p.Path)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Time, Time: at(22)}, "12:22:00", "--latest")
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.LSN, LSN: last.end}, "ends at "+last.end.String())
}

// A record that is cut off where the fragments end is the end of the WAL.
func TestFragmentsThatCutARecord(t *testing.T) {
	c, _, _, point, last := unfinished()
	c.tail = func(_ *branch, seg wal.Segment) archive.LiveSegment {
		return c.pieces(seg, int64(last.lsn-seg.Start())+30)
	}
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Stop.End != point.end {
		t.Errorf("ends %+v, want at %s", p.Stop, point.end)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: last.xid}, "no commit or rollback of it")
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.LSN, LSN: last.lsn}, "ends at "+point.end.String())
}

// Bytes are missing of which later ones are there: wal-get does not give out the
// segment, so that nothing in it can be reached.
func TestHolesAmongFragments(t *testing.T) {
	c, b, first, _, last := unfinished()
	seg := wal.SegmentAt(1, b.Position(), segment)
	offset := func(l wal.LSN) int64 { return int64(l - seg.Start()) }
	refused := func() {
		t.Helper()
		for _, target := range []plan.Target{
			{Kind: plan.Latest}, {Kind: plan.Time, Time: at(21)}, {Kind: plan.LSN, LSN: first.lsn},
		} {
			e := refusal[*plan.GapError](t, c, target, seg.Name()+" from "+first.end.String()+" on is missing")
			if e.Before == nil || c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: e.Before.LSN}).Stop.LastKept.XID != first.xid-1 {
				t.Errorf("%s: before %+v", target, e.Before)
			}
		}
		refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: first.xid}, "holes", seg.Name()+" from")
		c.mustPlan(t, plan.Target{Kind: plan.XID, XID: first.xid - 1})
		if gaps := c.snapshot.Gaps(); len(gaps) != 1 || gaps[0].Start != first.end || gaps[0].End != seg.End() {
			t.Errorf("gaps %+v", gaps)
		}
	}
	// Between fragments.
	c.tail = func(*branch, wal.Segment) archive.LiveSegment {
		return archive.LiveSegment{Segment: seg, Fragments: []archive.StoredFragment{
			piece(seg, 0, offset(first.end)), piece(seg, offset(last.lsn), offset(last.end)),
		}}
	}
	c.archive(t, everything)
	refused()
	// Before later segments.
	c.endSegment(b)
	c.commitAt(b, 23)
	c.endSegment(b)
	c.tail = nil
	c.archive(t, lose(seg.Name()))
	c.snapshot.Timelines[0] = timeline(b.History(), []uint64{1, 2, 4}, c.pieces(seg, offset(first.end)))
	refused()
}

// The old timeline is archived only in part before the new one begins in the next
// segment: what is there can be reached, and what comes after cannot.
func TestNewTimelineAfterUnfinishedSegment(t *testing.T) {
	c, b := simple()
	first := c.commitAt(b, 21)
	c.commitAt(b, 22)
	c.endSegment(b)
	child := c.forkAt(b, 23)
	last := c.commitAt(child, 24)
	c.tail = c.toTheEnd
	c.archive(t, lose("000000010000000000000003"))
	seg := c.snapshot.Segment(1, 3)
	n := int64(first.end - seg.Start())
	c.snapshot.Timelines[0] = timeline(b.History(), []uint64{1, 2}, c.pieces(seg, n))
	c.part(t, b, seg, n)

	p := c.mustPlan(t, plan.Target{Kind: plan.XID, XID: first.xid})
	if p.Timeline != 2 || p.LastSegment != seg.Name() {
		t.Errorf("plan %+v", p)
	}
	if p = c.mustPlan(t, plan.Target{Kind: plan.Latest, Timeline: "1"}); p.Stop.End != first.end {
		t.Errorf("the end of the old timeline: %+v", p.Stop)
	}
	missing := seg.Name() + " from " + first.end.String() + " on is missing"
	for _, target := range []plan.Target{{Kind: plan.Latest}, {Kind: plan.XID, XID: last.xid}, {Kind: plan.Time, Time: at(21)}} {
		refusal[*plan.GapError](t, c, target, missing)
	}
	gaps := c.snapshot.Gaps()
	if len(gaps) != 1 || gaps[0].Start != first.end || gaps[0].End != 4<<20 || gaps[0].Timeline != 1 || !strings.Contains(gaps[0].String(), missing) {
		t.Errorf("gaps %+v", gaps)
	}
}

// Of the new timeline's first segment, next to nothing is there. Recovery is given it
// rather than the old timeline's, and ends before it.
func TestNewTimelineHardlyBegun(t *testing.T) {
	c, b := simple()
	child := c.forkAt(b, 12)
	c.commitAt(child, 13)
	c.commitAt(b, 14)
	c.tail = func(x *branch, seg wal.Segment) archive.LiveSegment {
		if x == child {
			return c.pieces(seg, 1)
		}
		return c.toTheEnd(x, seg)
	}
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Timeline != 2 || p.Stop.End != 3<<20 {
		t.Errorf("plan %+v", p)
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest, Timeline: "1"}); p.Stop.End != b.Position() {
		t.Errorf("on the old timeline: %+v", p.Stop)
	}
}

// The new timeline's history is archived, and nothing else of it: its parent's fragments
// are not taken for it, but they can be asked for.
func TestNewTimelineNotBegun(t *testing.T) {
	c, b := simple()
	last := c.commitAt(b, 12)
	c.forkAt(b, 13)
	c.tail = func(x *branch, seg wal.Segment) archive.LiveSegment {
		if x != b {
			return archive.LiveSegment{}
		}
		return c.toTheEnd(x, seg)
	}
	c.archive(t, everything)
	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Latest}, "000000020000000000000003 is missing", "ask for --timeline 1")
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest, Timeline: "1"}); p.Stop.End != last.end {
		t.Errorf("on the old timeline: %+v", p.Stop)
	}
}

func TestDamageInFragments(t *testing.T) {
	c, b, first, _, _ := unfinished()
	c.archive(t, everything)
	delete(c.indexes, wal.SegmentAt(1, b.Position(), segment))
	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Latest}, "000000010000000000000003 cannot be used")
	c.mustPlan(t, plan.Target{Kind: plan.XID, XID: first.xid - 1})
}

// A backup's end lies in the segment that goes on: it can be restored once the fragments
// reach that far.
func TestBackupEndsInFragments(t *testing.T) {
	c, b := newScene()
	k := c.backupAt(b, 0)
	after := c.commitAt(b, 1)
	for n, want := range map[wal.LSN]bool{k.StopLSN - 8: false, k.StopLSN: true, after.end: true} {
		c.tail = func(_ *branch, seg wal.Segment) archive.LiveSegment { return c.pieces(seg, int64(n-seg.Start())) }
		c.archive(t, everything)
		for _, kind := range []plan.Kind{plan.Immediate, plan.Latest} {
			if want {
				if p := c.mustPlan(t, plan.Target{Kind: kind}); kind == plan.Latest && p.Stop.End != n {
					t.Errorf("fragments to %s: %+v", n, p.Stop)
				}
				continue
			}
			_, err := c.make(t, plan.Target{Kind: kind})
			var none *plan.NoBackupError
			if !errors.As(err, &none) || !strings.Contains(err.Error(), "from "+n.String()+" on is missing") {
				t.Errorf("fragments to %s: %v", n, err)
			}
			if w := c.snapshot.Windows(); len(w) != 0 {
				t.Errorf("fragments to %s: windows %+v", n, w)
			}
		}
	}
}
