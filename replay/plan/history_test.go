package plan_test

import (
	"reflect"
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
)

// A cluster was promoted, and of its timeline the history file alone is archived
// yet, while the server it came from has gone on.
func TestOnlyTheHistoryIsArchived(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.endSegment(b)
	before := c.commitAt(b, 1)
	c.forkAt(b, 2)
	after := c.commitAt(b, 3)
	c.endSegment(b)
	c.commitAt(b, 11)
	c.endSegment(b)
	c.archive(t, lose("000000020000000000000002"))

	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Latest}, "000000020000000000000002 is missing", "ask for --timeline 1")
	for _, target := range []plan.Target{
		{Kind: plan.Time, Time: at(2)}, {Kind: plan.Time, Time: at(4)},
		{Kind: plan.LSN, LSN: before.lsn}, {Kind: plan.LSN, LSN: after.lsn},
		{Kind: plan.XID, XID: before.xid}, {Kind: plan.XID, XID: after.xid},
	} {
		e := refusal[*plan.UnreachableError](t, c, target, "sk for --timeline 1")
		if e.Before != nil {
			t.Errorf("%s: %s is called the nearest moment, and cannot be reached", target, e.Before)
		}
		target.Timeline = "1"
		c.mustPlan(t, target)
	}
}

// Where the history file of a timeline is missing its first segment decides. That is the first which is archived,
// and not the first that a snapshot assumes of which not all is listed.
func TestWhereATimelineBeginsIsListed(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.endSegment(b)
	before := c.commitAt(b, 1)
	other := c.forkAt(b, 2)
	c.endSegment(b)
	for i := range 12 {
		c.commitAt(other, 3+i)
		c.endSegment(other)
	}
	c.archive(t, func(seg wal.Segment) fate {
		if seg.Timeline == 2 && seg.Number < 7 {
			return lost
		}
		return stored
	})
	c.snapshot.Timelines[1].HistoryState = catalog.HistoryMissing
	target := plan.Target{Kind: plan.LSN, LSN: before.lsn, Timeline: "1"}
	want := c.mustPlan(t, target)
	got, err := c.makeOn(t, c.snapshot.Sketched(4), target)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of a snapshot that is listed as need be comes\n%+v, %v\nof a whole one\n%+v", got, err, want)
	}
}
