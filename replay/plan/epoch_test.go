package plan_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/walden-pg/walden/replay/plan"
)

// Transaction ids come round: one that was used twice in the archived WAL is told apart by its epoch, and refused
// without. One that can have been used only once needs none.
func TestTransactionsOfTwoEpochs(t *testing.T) {
	c, b := newScene()
	commit := func(xid uint32, minutes int) logged {
		c.xid = xid - 1
		return c.commitAt(b, minutes)
	}
	b.NextXID = 4<<32 | 10
	c.backupAt(b, 0)
	last := commit(math.MaxUint32-5, 1) // still of epoch 3
	first := commit(742, 2)
	alone := commit(800, 3)
	c.endSegment(b)
	b.NextXID = 4<<32 | 3<<30
	c.backupAt(b, 4)
	middle := commit(3<<30+5, 5)
	c.endSegment(b)
	b.NextXID = 5<<32 | 700
	c.backupAt(b, 6)
	second := commit(742, 7)
	young := commit(900, 8)
	c.endSegment(b)
	c.archive(t, everything)

	target := func(epoch uint64, xid uint32) plan.Target {
		return plan.Target{Kind: plan.XID, XID: xid, FullXID: epoch<<32 | uint64(xid)}
	}
	for _, test := range []struct {
		target plan.Target
		want   logged
		backup string
	}{
		{target(3, last.xid), last, "B1"}, {target(4, 742), first, "B1"}, {target(4, middle.xid), middle, "B2"},
		{target(5, 742), second, "B3"}, {target(5, 900), young, "B3"},
		{plan.Target{Kind: plan.XID, XID: 900}, young, "B3"},
		{plan.Target{Kind: plan.XID, XID: 800}, alone, "B1"},
		{plan.Target{Kind: plan.XID, XID: middle.xid}, middle, "B2"},
		{plan.Target{Kind: plan.XID, XID: 742, Backup: "B3"}, second, "B3"},
	} {
		p := c.mustPlan(t, test.target)
		if p.Stop.LSN != test.want.lsn || p.Backup.ID != test.backup {
			t.Errorf("%s: stops at %s from %s, want %s from %s", test.target, p.Stop.LSN, p.Backup.ID, test.want.lsn, test.backup)
		}
		c.sketched(t, test.target, p, nil)
	}
	e := refusal[*plan.AmbiguousError](t, c, plan.Target{Kind: plan.XID, XID: 742, Exclusive: true},
		"the id was used 2 times", "--lsn "+first.lsn.String()+" --exclusive", "--lsn "+second.lsn.String()+" --exclusive", "epoch")
	if len(e.Points) != 2 {
		t.Errorf("points %+v", e.Points)
	}
	for _, epoch := range []uint64{3, 6} {
		refusal[*plan.UnreachableError](t, c, target(epoch, 742), fmt.Sprintf("and not %d", epoch), "--xid "+fmt.Sprint(uint64(4)<<32|742))
	}
	refusal[*plan.UnreachableError](t, c, target(4, 900), "of epoch 5 and not 4")
}
