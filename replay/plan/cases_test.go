package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/waltest"
)

func TestTooEarly(t *testing.T) {
	c, b := newScene()
	first := c.commitAt(b, -5)
	b.RestorePoint("before", at(-4))
	k := c.backupAt(b, 0)
	c.commitAt(b, 1)
	c.endSegment(b)
	c.archive(t, everything)
	for _, target := range []plan.Target{
		{Kind: plan.Time, Time: at(-1)},
		{Kind: plan.Time, Time: at(-5), Exclusive: true},
		{Kind: plan.LSN, LSN: first.lsn},
		{Kind: plan.LSN, LSN: k.CheckpointLSN},
		{Kind: plan.XID, XID: first.xid},
		{Kind: plan.Name, Name: "before"},
		{Kind: plan.Time, Time: at(-1), Backup: "B1"},
	} {
		e := refusal[*plan.UnreachableError](t, c, target, "--immediate --backup B1")
		if e.After == nil || e.After.LSN != k.StopLSN || len(e.Reachable()) != 1 {
			t.Errorf("%s: after %+v, windows %+v", target, e.After, e.Reachable())
		}
	}
	// From the record that ends the backup on, positions are reached.
	c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: k.StopLSN - 40})
	c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: k.StopLSN, Exclusive: true})
	c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: k.StopLSN - 8, Exclusive: true})
}

// The checkpoint record tells its time in whole seconds: a commit of the same
// second, before the redo point, is in the backup.
func TestCommitInTheSecondOfTheCheckpoint(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.endSegment(b)
	c.xid++
	start, _ := b.Commit(c.xid, at(10).Add(300*time.Millisecond))
	c.backupAt(b, 10)
	c.commitAt(b, 11)
	c.endSegment(b)
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(10).Add(200 * time.Millisecond)}); p.Backup.ID != "B1" || p.Stop.LSN != start {
		t.Errorf("chose %s and stops at %+v", p.Backup.ID, p.Stop)
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(10).Add(400 * time.Millisecond)}); p.Backup.ID != "B2" {
		t.Errorf("chose %s", p.Backup.ID)
	}
}

func TestSettingsOnTheWay(t *testing.T) {
	c, b := simple()
	b.ParameterChange(300, 1)
	c.commitAt(b, 12)
	minimal, _ := b.ParameterChange(100, 0)
	after := c.commitAt(b, 13)
	c.endSegment(b)
	c.archive(t, everything)
	p := c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: minimal, Exclusive: true})
	if setting(p, "max_connections") != "300" {
		t.Errorf("minimums %v", p.Minimums)
	}
	e := refusal[*plan.GapError](t, c, plan.Target{Kind: plan.XID, XID: after.xid}, "wal_level=minimal", minimal.String())
	if e.Before == nil || e.Before.LSN >= minimal {
		t.Errorf("before %+v", e.Before)
	}
}

// Since 15 PostgreSQL reads ahead of replay. Where it would run into a hole, and
// be told to stop, before it has reached the target, it must not.
func TestNoReadingAheadIntoAHole(t *testing.T) {
	c, b := simple()
	c.commitAt(b, 21)
	c.endSegment(b)
	c.commitAt(b, 31)
	c.endSegment(b)
	segs := b.Complete()
	target := plan.Target{Kind: plan.XID, XID: c.xid - 3} // in the first segment
	for name, test := range map[string]struct {
		fate  func(wal.Segment) fate
		major int
		want  string
	}{
		"whole":           {everything, 17, ""},
		"next is lost":    {lose(segs[1].Name()), 17, "off"},
		"a later one":     {lose(segs[2].Name()), 17, "off"},
		"the end":         {lose(segs[3].Name()), 17, ""},
		"before 15":       {lose(segs[1].Name()), 14, ""},
		"next is damaged": {spoil(segs[1].Name()), 17, "off"},
		"all that comes":  {lose(segs[1].Name(), segs[2].Name(), segs[3].Name()), 17, ""},
	} {
		c.archive(t, test.fate)
		c.snapshot.Major = test.major
		if got := setting(c.mustPlan(t, target), "recovery_prefetch"); got != test.want {
			t.Errorf("%s: recovery_prefetch %q, want %q", name, got, test.want)
		}
	}
}

// The segment behind the stop is looked at for this alone, wherever the way to the stop has ended.
func TestNoReadingAheadIntoDamage(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	var commits []logged
	for i := range 70 {
		commits = append(commits, c.commitAt(b, 1+i))
		c.endSegment(b)
	}
	segs := b.Complete()
	for stop := 60; stop < 68; stop++ { // around the end of the first portion of indexes
		target := plan.Target{Kind: plan.LSN, LSN: commits[stop].lsn, Exclusive: true}
		for want, becomes := range map[string]func(wal.Segment) fate{"": everything, "off": spoil(segs[stop+1].Name())} {
			c.archive(t, becomes)
			p := c.mustPlan(t, target)
			if got := setting(p, "recovery_prefetch"); got != want {
				t.Errorf("%s is the last that is needed: recovery_prefetch %q, want %q", p.LastSegment, got, want)
			}
		}
	}
}

func TestUnsoundBackups(t *testing.T) {
	c, b := simple()
	last := c.commitAt(b, 20)
	c.backupAt(b, 21)
	c.endSegment(b)
	c.archive(t, everything)
	good := c.snapshot.Backups[1]
	for name, c2 := range map[string]struct {
		spoil func(*catalog.Backup)
		want  string
	}{
		"no checkpoint record": {func(k *catalog.Backup) { k.CheckpointLSN += 8 }, "the checkpoint record it begins with"},
		"no end record":        {func(k *catalog.Backup) { k.StopLSN -= 8 }, "the record that ends it"},
		"ends after the WAL":   {func(k *catalog.Backup) { k.StopLSN = 9 << 20 }, "it needs WAL that is missing"},
		"lacks an object":      {func(*catalog.Backup) { c.wrong["B2"] = "object x is missing" }, "object x is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c2.spoil(&bad)
			defer func() { c.snapshot.Backups[1] = good; delete(c.wrong, "B2") }()
			c.snapshot.Backups[1] = bad
			refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.Immediate, Backup: "B2"}, "B2: ", c2.want)
			if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Backup.ID != "B1" || p.Stop.LastKept.XID != last.xid {
				t.Errorf("the older backup was not taken: %+v", p)
			}
		})
	}
}

func TestOnlyPrepared(t *testing.T) {
	c, b := simple()
	b.Prepare(900, 5, "later", at(12))
	c.endSegment(b)
	c.archive(t, everything)
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: 900}, "no commit or rollback of it", "COMMIT PREPARED", "--latest")
}

// TestCutRecord: where the subtransactions of a record are not all known, it is not said
// that a transaction never ended.
func TestCutRecord(t *testing.T) {
	c, b := simple()
	subs := make([]uint32, 20000)
	for i := range subs {
		subs[i] = 10000 + uint32(i)
	}
	size := wal.LSN(segment)
	b.FillTo((b.Position()/size+1)*size - 96)
	start, _ := b.CommitWith(9000, at(12), waltest.Transaction{Subxacts: subs})
	c.endSegment(b)
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.XID, XID: subs[100]}); p.Stop.LastKept.XID != 9000 {
		t.Errorf("%+v", p.Stop)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: subs[19999]},
		"as far as it is known; but the record at "+start.String()+" is so long", "walden find --kind commit,abort")
}

func TestNames(t *testing.T) {
	c, b := simple()
	b.RestorePoint("x", at(12))
	again, _ := b.RestorePoint("x", at(13))
	b.RestorePoint("other", at(14))
	c.backupAt(b, 15)
	c.commitAt(b, 16)
	c.endSegment(b)
	c.archive(t, everything)
	e := refusal[*plan.AmbiguousError](t, c, plan.Target{Kind: plan.Name, Name: "x"},
		`restore point "x" is not one moment: the name was used 2 times`, "--lsn "+again.String())
	if len(e.Points) != 2 || e.Points[1].LSN != again || !e.Points[1].Time.Equal(at(13)) {
		t.Errorf("points %+v", e.Points)
	}
	if p := c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: again}); p.Stop.LSN != again || p.Stop.Before || p.Stop.Name != "x" {
		t.Errorf("by its position: %+v", p.Stop)
	}
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Name, Name: "y"}, `There are restore points named "x", "other"`)
	// From the newer backup, neither is left.
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Name, Name: "other", Backup: "B2"}, "before every backup")
}

func TestHoles(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	before := c.commitAt(b, 1)
	c.endSegment(b)
	inside := c.commitAt(b, 11)
	c.endSegment(b)
	c.commitAt(b, 21)
	c.backupAt(b, 22)
	after := c.commitAt(b, 23)
	c.endSegment(b)
	for name, becomes := range map[string]func(wal.Segment) fate{
		"lost": lose("000000010000000000000002"),
		"damaged": func(seg wal.Segment) fate {
			if seg.Number == 2 {
				return damaged
			}
			return stored
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.indexes = map[wal.Segment]*index.Index{}
			c.archive(t, becomes)
			if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Backup.ID != "B2" {
				t.Errorf("the end is reached from the backup after the hole, not from %s", p.Backup.ID)
			}
			if p := c.mustPlan(t, plan.Target{Kind: plan.XID, XID: before.xid}); p.Backup.ID != "B1" || p.Segments != 1 {
				t.Errorf("before the hole: %+v", p)
			}
			for _, target := range []plan.Target{
				{Kind: plan.Time, Time: at(12)}, {Kind: plan.LSN, LSN: inside.lsn}, {Kind: plan.Latest, Backup: "B1"},
				{Kind: plan.XID, XID: after.xid, Backup: "B1"},
			} {
				e := refusal[*plan.GapError](t, c, target, "WAL segment 000000010000000000000002", "from backup B1")
				if e.Before == nil || e.Before.LSN != before.lsn || len(e.Gaps) != 1 {
					t.Errorf("%s: before %+v, gaps %+v", target, e.Before, e.Gaps)
				}
				if target.Backup == "" && (e.After == nil || e.After.LSN != c.backups[1].StopLSN) {
					t.Errorf("%s: after %+v", target, e.After)
				}
				// What the hint offers is reached, and is what it says.
				p := c.mustPlan(t, plan.Target{Kind: plan.LSN, LSN: e.Before.LSN})
				if p.Stop.LastKept == nil || p.Stop.LastKept.XID != before.xid {
					t.Errorf("%s: the hint leads to %+v", target, p.Stop)
				}
			}
			refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.XID, XID: 5000}, "no commit or rollback of it")
		})
	}
}

func TestTooLate(t *testing.T) {
	c, _ := simple()
	c.archive(t, everything)
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Time, Time: at(30)},
		"ends at 0/300000", "the latest time in it is 2026-11-22 12:11:00+00", "--latest")
	// The very last commit can only be kept by --latest, by its id or position.
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.Time, Time: at(11)}, "12:11:00")
	c.mustPlan(t, plan.Target{Kind: plan.Time, Time: at(11), Exclusive: true})
	refusal[*plan.UnreachableError](t, c, plan.Target{Kind: plan.LSN, LSN: 1 << 30}, "ends at 0/300000")

	idle, b := newScene()
	idle.backupAt(b, 0)
	idle.endSegment(b)
	idle.archive(t, everything)
	refusal[*plan.UnreachableError](t, idle, plan.Target{Kind: plan.Time, Time: at(30)}, "the latest time in it is 2026-11-22 12:00:00+00")
}

func TestNoWAL(t *testing.T) {
	c, _ := simple()
	c.archive(t, func(wal.Segment) fate { return lost })
	for _, k := range []plan.Kind{plan.Latest, plan.Immediate} {
		e := refusal[*plan.NoBackupError](t, c, plan.Target{Kind: k}, "B1: it needs WAL that is missing: WAL segment 000000010000000000000001 is missing")
		if e.Absent() {
			t.Error("the backup is there")
		}
	}
	refusal[*plan.NoBackupError](t, c, plan.Target{Kind: plan.LSN, LSN: 3 << 20}, "B1: ")
}

// A long way takes few rounds of loading.
func TestLongWay(t *testing.T) {
	c, b := newScene()
	c.backupAt(b, 0)
	for n := range 300 {
		c.commitAt(b, n)
		c.endSegment(b)
	}
	c.archive(t, everything)
	for _, target := range []plan.Target{
		{Kind: plan.Latest}, {Kind: plan.Time, Time: at(290)}, {Kind: plan.XID, XID: 990}, {Kind: plan.LSN, LSN: 290 << 20}, {Kind: plan.Time, Time: at(999)},
	} {
		p, err := c.make(t, target)
		if err == nil && p.Segments < 280 {
			t.Errorf("%s: %d segments", target, p.Segments)
		}
		if c.rounds > 12 {
			t.Errorf("%s: %d rounds", target, c.rounds)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, target := range []plan.Target{
		{}, {Kind: "never"}, {Kind: plan.Time}, {Kind: plan.LSN}, {Kind: plan.XID, XID: 2}, {Kind: plan.Name},
		{Kind: plan.Name, Name: strings.Repeat("x", 64)}, {Kind: plan.Name, Name: "a\x00b"},
		{Kind: plan.Latest, Exclusive: true}, {Kind: plan.Name, Name: "x", Exclusive: true},
		{Kind: plan.Latest, Timeline: "x"}, {Kind: plan.Latest, Timeline: "0"}, {Kind: plan.Latest, Timeline: "0x2"},
	} {
		if err := target.Validate(); err == nil {
			t.Errorf("%+v is accepted", target)
		}
		if _, err := plan.Make(&catalog.Snapshot{SegmentSize: segment}, target); err == nil {
			t.Errorf("%+v is planned", target)
		}
	}
	// Make does not decide on what was not loaded.
	c, _ := simple()
	c.archive(t, everything)
	if p, err := plan.Make(c.snapshot, plan.Target{Kind: plan.Latest}); err == nil {
		t.Errorf("without indexes: %+v", p)
	}
}
