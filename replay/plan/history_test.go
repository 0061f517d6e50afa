package plan_test

import (
	"testing"

	"github.com/walden-pg/walden/replay/plan"
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
