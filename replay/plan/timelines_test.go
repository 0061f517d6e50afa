package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
)

func TestSwitchOnSegmentBoundary(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.commitAt(b, 1)
	c.endSegment(b)
	child := c.forkAt(b, 2)
	last := c.commitAt(child, 3)
	c.endSegment(child)
	c.commitAt(b, 4)
	c.endSegment(b)
	c.archive(t, everything)

	p := c.mustPlan(t, plan.Target{Kind: plan.XID, XID: last.xid})
	want := []plan.Stretch{
		{Timeline: 1, Begin: c.backups[0].StartLSN, End: 2 << 20, First: "000000010000000000000001", Last: "000000010000000000000001", Segments: 1},
		{Timeline: 2, Begin: 2 << 20, End: last.end, First: "000000020000000000000002", Last: "000000020000000000000002", Segments: 1},
	}
	if !slices.Equal(p.Path, want) || p.Stop.Timeline != 2 {
		t.Errorf("path %+v, want %+v", p.Path, want)
	}
}

// A recovery that stopped before it had reached its target timeline's fork
// writes that timeline as its parent, with an earlier position.
func TestHistoryThatIsNotMonotone(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.commitAt(b, 1)
	fork := b.Position()
	early := &branch{Builder: b.Fork(3, "before 2026-11-22"), log: slices.Clone(b.log)}
	c.commitAt(b, 2)
	c.endSegment(b)
	c.forkAt(b, 3) // timeline 2, further on
	c.branches = append(c.branches, early)
	last := c.commitAt(early, 5)
	c.endSegment(early)
	c.archive(t, everything)
	h := wal.History{Timeline: 3, Entries: []wal.HistoryEntry{
		{Timeline: 1, End: c.branches[1].History().Entries[0].End}, {Timeline: 2, End: fork},
	}}
	c.snapshot.Timelines[2] = timeline(h, []uint64{1})

	p := c.mustPlan(t, plan.Target{Kind: plan.XID, XID: last.xid})
	if p.Timeline != 3 || p.LastSegment != "000000030000000000000001" || len(p.Path) != 2 || p.Path[0].Timeline != 1 || p.Path[1].Begin != fork {
		t.Errorf("plan %+v", p)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: last.xid - 1},
		"on timeline 1, which is not on the way to timeline 3 (1 → 3 at", "--timeline 1")
}

// A timeline of which only the history file has been archived yet.
func TestTimelineWithoutSegments(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.commitAt(b, 1)
	c.endSegment(b)
	c.commitAt(b, 2)
	c.forkAt(b, 3)
	c.archive(t, everything)
	p := c.mustPlan(t, plan.Target{Kind: plan.Latest})
	if p.Timeline != 2 || p.Stop.End != 2<<20 || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "none of its WAL is archived yet") {
		t.Errorf("plan %+v", p)
	}

	// The old timeline goes on, and its copy of the segment is archived: PostgreSQL
	// would take it for the new timeline's.
	c.commitAt(b, 4)
	c.endSegment(b)
	c.archive(t, everything)
	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Latest}, "000000020000000000000002 is missing")
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest, Timeline: "1"}); p.Stop.End != 3<<20 {
		t.Errorf("on the old timeline: %+v", p.Stop)
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(0)}); p.Timeline != 2 {
		t.Errorf("a time before the fork: %+v", p)
	}
}

func TestHistoryMissingOrDamaged(t *testing.T) {
	c, b := simple()
	child := c.forkAt(b, 12)
	c.endSegment(child)
	c.backupAt(child, 13)
	c.endSegment(child)
	c.archive(t, everything)
	whole := c.snapshot.Timelines[1]

	// With the timeline's beginning archived, wal-get calls the missing file a
	// hole, and every server that asks for it stops: PostgreSQL asks for those from
	// the backup's timeline on, and at a promotion for those that follow.
	lone := timeline(wal.History{Timeline: 2}, []uint64{3, 4})
	lone.HistoryState = catalog.HistoryMissing
	c.snapshot.Timelines[1] = lone
	for _, tli := range []string{"", "1", "2", plan.CurrentTimeline} {
		refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Latest, Timeline: tli}, "the history file of timeline 2 is missing")
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(5), Timeline: "1"}); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "cannot be promoted") {
		t.Errorf("a pause on a timeline that cannot be promoted: %+v", p)
	}
	third := whole
	third.ID, third.Parent = 3, 2
	third.History = wal.History{Timeline: 3, Entries: append(slices.Clone(whole.History.Entries), wal.HistoryEntry{Timeline: 2, End: 4 << 20})}
	third.Ranges = []catalog.Range{}
	c.snapshot.Timelines = append(c.snapshot.Timelines, third)
	refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Time, Time: at(5), Timeline: "3"}, "the history file of timeline 2 is missing")
	refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Time, Time: at(5)}, "ask for --timeline 1")
	c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(5), Timeline: "1"})
	c.snapshot.Timelines = c.snapshot.Timelines[:2]

	// Without its beginning nothing proves that there ever was a history file.
	lone = timeline(wal.History{Timeline: 2}, []uint64{4})
	lone.HistoryState = catalog.HistoryMissing
	c.snapshot.Timelines[1] = lone
	for _, tli := range []string{"", "2", plan.CurrentTimeline, plan.LatestTimeline} {
		p := c.mustPlan(t, plan.Target{Kind: plan.Latest, Timeline: tli})
		if p.Backup.ID != "B2" || setting(p, "recovery_target_timeline") != "current" || len(p.Warnings) != 1 {
			t.Errorf("without a history file, timeline %q: %+v", tli, p)
		}
	}
	lone.HistoryState = catalog.HistoryDamaged
	c.snapshot.Timelines[1] = lone
	refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Latest}, "the history file of timeline 2 cannot be read")
	p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(5)})
	if p.Timeline != 1 || len(p.Warnings) != 2 || !strings.Contains(p.Warnings[0], "Timeline 2 was left out of account") {
		t.Errorf("with a damaged history file: %+v", p)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Latest, Timeline: "2"}, "the history file of timeline 2 cannot be read")
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Latest, Timeline: "9"}, "nothing of timeline 9 is archived")
}

func TestBackupOfAnotherBranch(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.endSegment(b)
	child := c.forkAt(b, 1)
	c.commitAt(b, 2)
	c.backupAt(b, 3)
	c.commitAt(b, 4)
	c.endSegment(b)
	c.commitAt(child, 5)
	c.endSegment(child)
	c.archive(t, everything)

	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Backup.ID != "B1" || p.Timeline != 2 {
		t.Errorf("the newest timeline: %+v", p)
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest, Backup: "B2"}); p.Timeline != 1 {
		t.Errorf("the newest timeline that backup B2 leads to: %+v", p)
	}
	e := refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Latest, Backup: "B2", Timeline: "2"},
		"B2: it was taken on timeline 1 at", "not on the way to timeline 2 (1 → 2 at 0/200000)", "Leave out --backup")
	if e.Absent() {
		t.Error("the backup is there")
	}
	// A time between the fork and the first commit after it is on both branches.
	p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(3)})
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "ask for --timeline 1") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// A copy of the cluster was promoted for a look, and archived what it did: its
// timeline is the newest, but production is on the old one.
func TestLifeGoesOnOnTheOldTimeline(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.endSegment(b)
	child := c.forkAt(b, 1)
	c.commitAt(child, 2)
	c.endSegment(child)
	c.commitAt(b, 3)
	c.endSegment(b)
	c.archive(t, everything)

	for _, kind := range []plan.Kind{plan.Latest, plan.Immediate} {
		p := c.mustPlan(t, plan.Target{Kind: kind})
		if p.Timeline != 2 || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "has later ones, up to "+plan.FormatTime(at(3))) {
			t.Errorf("%s: timeline %s, warnings %q", kind, p.Timeline, p.Warnings)
		}
		for _, named := range []string{"1", "2", plan.CurrentTimeline} {
			if p := c.mustPlan(t, plan.Target{Kind: kind, Timeline: named}); len(p.Warnings) != 0 {
				t.Errorf("%s, timeline %s named: %q", kind, named, p.Warnings)
			}
		}
	}
	// Life goes on on the newest: nothing to warn of.
	c.commitAt(child, 5)
	c.endSegment(child)
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); len(p.Warnings) != 0 {
		t.Errorf("after a failover: %q", p.Warnings)
	}
}

func TestBackupThatEndsAfterTheFork(t *testing.T) {
	c, b := newScene()
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	child := c.forkAt(b, 1)
	_, stop := b.BackupEnd(redo)
	c.endSegment(b)
	c.endSegment(child)
	c.backups = append(c.backups, catalog.Backup{
		ID: "B1", Timeline: 1, StopTimeline: 1, StartLSN: redo, CheckpointLSN: checkpoint, StopLSN: stop,
	})
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Timeline != 1 {
		t.Errorf("plan %+v", p)
	}
	refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Latest, Timeline: "2"}, "it ended on timeline 1 at", "had left it")
}

// A segment that does not continue the one before it: of another history under
// the same timeline number.
func TestSegmentOfAnotherHistory(t *testing.T) {
	c, _ := simple()
	c.archive(t, everything)
	foreign, b2 := newScene()
	foreign.backupAt(b2, 0)
	foreign.commitAt(b2, 1)
	b2.Message(100)
	foreign.endSegment(b2)
	foreign.commitAt(b2, 11)
	foreign.endSegment(b2)
	foreign.archive(t, everything)
	seg := c.snapshot.Segment(1, 2)
	c.indexes[seg] = foreign.indexes[seg]
	refusal[*plan.GapError](t, c, plan.Target{Kind: plan.Latest}, "000000010000000000000002 cannot be used", "different histories")
}
