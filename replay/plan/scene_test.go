package plan_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/waltest"
)

// newScene is a cluster whose life the test writes itself.
func newScene() (*cluster, *branch) {
	c := &cluster{
		r: rand.New(rand.NewPCG(1, 1)), clock: noon, xid: 700,
		indexes: map[wal.Segment]*index.Index{}, wrong: map[string]string{},
	}
	c.branches = []*branch{{Builder: waltest.NewBuilder(17, systemID, 1, segment)}}
	return c, c.branches[0]
}

func everything(wal.Segment) fate { return stored }

// lose loses the segments of these names.
func lose(names ...string) func(wal.Segment) fate {
	return func(seg wal.Segment) fate {
		if slices.Contains(names, seg.Name()) {
			return lost
		}
		return stored
	}
}

// commitAt writes a commit that ended some minutes after noon, and returns it.
func (c *cluster) commitAt(b *branch, minutes int) logged {
	c.clock = at(minutes)
	c.xid++
	c.note(b, endOfTransaction)(b.Commit(c.xid, c.clock))
	b.last().xid, b.last().time = c.xid, c.clock
	return *b.last()
}

// backupAt takes a backup of a primary some minutes after noon.
func (c *cluster) backupAt(b *branch, minutes int) catalog.Backup {
	c.clock = at(minutes)
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, c.clock)
	_, stop := b.BackupEnd(redo)
	k := catalog.Backup{
		ID: fmt.Sprintf("B%d", len(c.backups)+1), Timeline: b.Timeline(), StopTimeline: b.Timeline(),
		StartLSN: redo, CheckpointLSN: checkpoint, StopLSN: stop, StartTime: c.clock, StopTime: c.clock,
	}
	c.backups = append(c.backups, k)
	return k
}

func (c *cluster) forkAt(b *branch, minutes int) *branch {
	c.clock = at(minutes)
	c.fork(b)
	return c.branches[len(c.branches)-1]
}

// simple is a backup, a commit at 12:01, and a commit at 12:11 in the next segment.
func simple() (*cluster, *branch) {
	c, b := newScene()
	c.backupAt(b, 0)
	c.commitAt(b, 1)
	c.endSegment(b)
	c.commitAt(b, 11)
	c.endSegment(b)
	return c, b
}

func setting(p *plan.Plan, name string) string {
	for _, s := range slices.Concat(p.Settings, p.Minimums) {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

func (c *cluster) mustPlan(t *testing.T, target plan.Target) *plan.Plan {
	t.Helper()
	p, err := c.make(t, target)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return p
}

// refusal plans and expects an error of type E whose text and hint contain want.
func refusal[E interface {
	error
	Hint() string
	Choices() []plan.Choice
	Reachable() []catalog.Window
}](t *testing.T, c *cluster, target plan.Target, want ...string) E {
	t.Helper()
	p, err := c.make(t, target)
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("%s: plan %+v, error %T %v, want %T", target, p, err, err, e)
	}
	text := e.Error() + "\n" + e.Hint()
	for _, c := range e.Choices() {
		text += fmt.Sprintf("\n%s: %s: %s", c.Label, c.Point, c.Flags)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s: says\n%s\nwithout %q", target, text, w)
		}
	}
	return e
}
