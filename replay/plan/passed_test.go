package plan_test

import (
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
)

// idle is a backup, a commit at 12:01, a restore point at 12:07, a transaction
// prepared at 12:10 and a checkpoint that began at 12:20.
func idle() (c *cluster, b *branch, commit, point, prepared, checkpoint logged) {
	c, b = newScene()
	c.backupAt(b, 0)
	commit = c.commitAt(b, 1)
	c.note(b, restorePoint)(b.RestorePoint("quiet", at(7)))
	point = *b.last()
	c.endSegment(b)
	c.note(b, otherRecord)(b.Prepare(900, 5, "waits", at(10)))
	prepared = *b.last()
	c.endSegment(b)
	redo, _ := b.CheckpointRedo()
	c.note(b, otherRecord)(b.OnlineCheckpoint(redo, at(20)))
	checkpoint = *b.last()
	return c, b, commit, point, prepared, checkpoint
}

// A time that is later than all transactions is reached as far as another record
// shows that it has passed, and no further.
func TestTimePassed(t *testing.T) {
	c, b, commit, point, prepared, checkpoint := idle()
	c.endSegment(b)
	c.archive(t, everything)
	for name, x := range map[string]struct {
		minutes   int
		exclusive bool
		stop      logged
		what      string
	}{
		"restore point":            {5, false, point, `restore point "quiet"`},
		"restore point, exclusive": {7, true, point, `restore point "quiet"`},
		"prepared":                 {7, false, prepared, "the preparation of transaction 900"},
		"checkpoint":               {15, false, checkpoint, "a checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(x.minutes), Exclusive: x.exclusive})
			s := p.Stop
			if !s.Before || s.LSN != x.stop.lsn || s.Evidence == nil || s.Evidence.What != x.what || s.Evidence.LSN != x.stop.lsn {
				t.Errorf("stops %+v on evidence %+v, want before %s", s, s.Evidence, x.stop.lsn)
			}
			if s.LastKept == nil || s.LastKept.XID != commit.xid || s.FirstLost != nil {
				t.Errorf("keeps %+v, loses %+v", s.LastKept, s.FirstLost)
			}
			if got := setting(p, "recovery_target_lsn"); got != x.stop.lsn.String() || setting(p, "recovery_target_inclusive") != "false" {
				t.Errorf("tells PostgreSQL %v", p.Settings)
			}
		})
	}
	e := refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Time, Time: at(20)}, "the latest time in it is 2026-11-22 12:20:00+00")
	if e.Before == nil || e.After != nil {
		t.Errorf("nearest moments %+v, %+v", e.Before, e.After)
	}
}

// The evidence may lie in what is missing's shadow: a hole behind it changes nothing.
func TestTimePassedBeforeAHole(t *testing.T) {
	c, b, _, _, _, checkpoint := idle()
	c.endSegment(b)
	c.endSegmentWith(b, 30)
	c.endSegmentWith(b, 40)
	c.archive(t, lose("000000010000000000000004"))
	if p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(15)}); p.Stop.LSN != checkpoint.lsn || p.Stop.Evidence == nil {
		t.Errorf("stops %+v", p.Stop)
	}
	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Time, Time: at(25)}, "000000010000000000000004")
}

// endSegmentWith ends a segment that holds a commit some minutes after noon.
func (c *cluster) endSegmentWith(b *branch, minutes int) {
	c.commitAt(b, minutes)
	c.endSegment(b)
}

// Where the clock went back, a commit may follow the evidence: nothing is lost of it.
func TestTimePassedAndWentBack(t *testing.T) {
	c, b, _, _, _, _ := idle()
	last := c.commitAt(b, 3)
	c.endSegment(b)
	c.archive(t, everything)
	p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(5)})
	if s := p.Stop; s.Before || s.LSN != last.lsn || s.End != last.end || s.Evidence == nil || s.LastKept.XID != last.xid {
		t.Errorf("stops %+v, evidence %+v", s, s.Evidence)
	}
}

// Evidence within the backup is none to stop at, but enough to stop behind it.
func TestTimePassedDuringTheBackup(t *testing.T) {
	c, b := newScene()
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	c.commitAt(b, 1)
	b.RestorePoint("inside", at(9))
	_, stop := b.BackupEnd(redo)
	c.backups = []catalog.Backup{{
		ID: "B1", Timeline: 1, StopTimeline: 1, StartLSN: redo, CheckpointLSN: checkpoint, StopLSN: stop, StartTime: at(0), StopTime: at(10),
	}}
	c.endSegment(b)
	c.archive(t, everything)
	p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(5)})
	if p.Stop.Before || p.Stop.End != stop || p.Stop.Evidence == nil {
		t.Errorf("stops %+v, want the end of the backup %s", p.Stop, stop)
	}
}
