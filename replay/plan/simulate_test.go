package plan_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
)

// end is how a simulated recovery ended.
type end struct {
	err    string // PostgreSQL's FATAL; "": it stopped as asked, or at the end of WAL
	lsn    wal.LSN
	before bool
	// replayed is the end of the last record that was applied.
	replayed wal.LSN
	kept     *logged // the last transaction that was replayed
	lost     *logged // the first that was not, on the whole branch
	reads    uint64  // the last segment that was read
	stray    bool    // it read a segment of a timeline it should have left
}

// recover is PostgreSQL: the loop of PerformWalRecovery over the records of a
// timeline's branch, from a backup, with the files that have returns true for, as
// far as it tells; zeros follow in the file then.
func (c *cluster) recover(k catalog.Backup, b *branch, target plan.Target, have func(wal.Segment) (wal.LSN, bool)) end {
	h := b.History()
	if !h.Contains(k.Timeline, k.CheckpointLSN) || !h.Contains(k.StopTimeline, k.StopLSN-1) {
		return end{err: "requested timeline is not a child of this server's history"}
	}
	e := end{}
	var readable wal.LSN
	readable, e.stray = endOfFiles(h, k.StartLSN, have)
	consistent, ended := false, k.FromStandby
	isStop := func(l logged) bool {
		switch target.Kind {
		case plan.Time:
			if target.Exclusive {
				return l.kind == endOfTransaction && !l.time.Before(target.Time)
			}
			return l.kind == endOfTransaction && l.time.After(target.Time)
		case plan.XID:
			return l.kind == endOfTransaction && l.xid == target.XID
		case plan.LSN:
			return l.lsn >= target.LSN
		case plan.Name:
			return l.kind == restorePoint && l.name == target.Name
		case plan.Immediate:
			return consistent
		}
		return false
	}
	stop := func(i int, before bool) end {
		if !consistent {
			e.err = "requested recovery stop point is before consistent recovery point"
			return e
		}
		e.lsn, e.before = b.log[i].lsn, before
		from := i
		if !before {
			from++
		}
		e.replayed = b.log[from-1].end
		for j := from; j < len(b.log) && e.lost == nil; j++ {
			if b.log[j].kind == endOfTransaction {
				e.lost = &b.log[j]
			}
		}
		return e
	}
	stopsBefore := target.Kind == plan.Time || (target.Exclusive && (target.Kind == plan.XID || target.Kind == plan.LSN))
	for i, l := range b.log {
		if l.lsn < k.StartLSN {
			continue
		}
		if l.end > readable {
			break
		}
		e.reads = segment.PrevNumber(l.end)
		if stopsBefore && isStop(l) {
			return stop(i, true)
		}
		if l.kind == backupEnd && l.redo == k.StartLSN {
			ended = true
		}
		consistent = ended && l.end >= k.StopLSN
		if l.kind == endOfTransaction {
			e.kept = &b.log[i]
		}
		if !stopsBefore && isStop(l) {
			return stop(i, false)
		}
		e.lsn, e.replayed = l.end, l.end
	}
	switch {
	case !consistent:
		e.err = "WAL ends before end of online backup"
	case target.Kind != plan.Latest:
		e.err = "recovery ended before configured recovery target was reached"
	}
	return e
}

// endOfFiles is where the WAL ends that recovery finds on the way to a timeline
// (XLogFileReadAnyTLI): the newest timeline's file that is there, no older than
// the one before. stray: one of them is of a timeline that was left before.
func endOfFiles(h wal.History, from wal.LSN, have func(wal.Segment) (wal.LSN, bool)) (end wal.LSN, stray bool) {
	spans := h.Path()
	current := wal.TimelineID(0)
	for n := segment.Number(from); ; n++ {
		found, right, until := false, wal.TimelineID(0), wal.LSN(0)
		for i := len(spans) - 1; i >= 0 && !found; i-- {
			if segment.Number(spans[i].Begin) > n || spans[i].Timeline < current {
				continue
			}
			if right == 0 {
				right = spans[i].Timeline
			}
			if until, found = have(wal.Segment{Timeline: spans[i].Timeline, Number: n, Size: segment}); found {
				current = spans[i].Timeline
			}
		}
		if !found || current != right {
			return wal.LSN(n) * wal.LSN(segment), found
		}
		if until != wal.LSN(n+1)*wal.LSN(segment) {
			return until, false
		}
	}
}

// target picks a random target, mostly one that means something.
func (c *cluster) target() plan.Target {
	b := c.branches[c.r.IntN(len(c.branches))]
	l := b.log[c.r.IntN(len(b.log))]
	t := plan.Target{Exclusive: c.r.IntN(2) == 0}
	switch c.r.IntN(12) {
	case 0:
		t = plan.Target{Kind: plan.Latest}
	case 1:
		t = plan.Target{Kind: plan.Immediate}
	case 2, 3, 4:
		t.Kind, t.Time = plan.Time, noon.Add(time.Duration(c.r.Int64N(int64(c.clock.Sub(noon))+int64(time.Minute)))-30*time.Second)
		if l.kind == endOfTransaction && c.r.IntN(2) == 0 {
			t.Time = l.time
		}
		if last := b.log[len(b.log)-1-c.r.IntN(min(4, len(b.log)))]; c.r.IntN(4) == 0 && !last.stamp.IsZero() {
			t.Time = last.stamp.Add(time.Duration(c.r.IntN(3)-2) * time.Second)
		}
	case 5, 6, 7:
		t.Kind, t.XID = plan.XID, 690+uint32(c.r.IntN(int(c.xid)-680))
		if l.kind == endOfTransaction && c.r.IntN(2) == 0 {
			t.XID = l.xid
		}
	case 8, 9, 10:
		t.Kind, t.LSN = plan.LSN, l.lsn+wal.LSN(8*c.r.IntN(3))
	default:
		t = plan.Target{Kind: plan.Name, Name: fmt.Sprintf("point %d", c.r.IntN(13))}
		if c.r.IntN(4) == 0 {
			t.Name = "point on the edge"
		}
	}
	switch c.r.IntN(5) {
	case 0:
		t.Timeline = plan.CurrentTimeline
	case 1, 2:
		t.Timeline = b.Timeline().String()
	}
	if len(c.backups) > 0 && c.r.IntN(5) == 0 {
		t.Backup = c.backups[c.r.IntN(len(c.backups))].ID
	}
	return t
}

// tally counts what came of targets.
type tally struct {
	reached map[plan.Kind]int
	refused map[string]int
	targets int
	inside  int // of a segment of which not all is archived, recovery stopped
	passed  int // times later than all transactions that were reached
	subs    int // subtransactions that were resolved
}

func newTally() *tally {
	return &tally{reached: map[plan.Kind]int{}, refused: map[string]int{}}
}

// disagree lets plans and a simulation of PostgreSQL's recovery look for a
// disagreement over one random cluster with several timelines, holes, damage, records
// across segments and times out of order.
func disagree(t *testing.T, seed uint64, targets int, n *tally) {
	t.Helper()
	c := newCluster(t, seed)
	for range targets {
		target := c.target()
		p, err := c.make(t, target)
		if n.targets++; n.targets%3 == 0 {
			c.sketched(t, target, p, err)
		}
		context := fmt.Sprintf("seed %d, %s exclusive=%v timeline=%q backup=%q", seed, target, target.Exclusive, target.Timeline, target.Backup)
		if err == nil {
			n.reached[target.Kind]++
			if last, _ := wal.ParseSegment(p.LastSegment, segment); c.ends[last] != 0 {
				n.inside++
			}
			if p.Stop.Subtransaction != 0 {
				n.subs++
			}
			if p.Stop.Evidence != nil {
				n.passed++
			}
			c.checkPlan(t, context, target, p)
		} else {
			n.refused[fmt.Sprintf("%T", err)]++
			c.checkRefusal(t, context, target, err)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// sketched holds a plan, or a refusal, against what comes of listing only what is asked for.
func (c *cluster) sketched(t *testing.T, target plan.Target, want *plan.Plan, refused error) {
	t.Helper()
	s := c.snapshot.Sketched(1 + c.r.Uint64N(4))
	got, err := c.makeOn(t, s, target)
	if fmt.Sprint(err) != fmt.Sprint(refused) || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(reachable(err), reachable(refused)) {
		t.Errorf("%+v: of a snapshot that is listed as need be comes\n%+v, %v\nof a whole one\n%+v, %v", target, got, err, want, refused)
	}
}

func reachable(err error) []catalog.Window {
	var refused interface{ Reachable() []catalog.Window }
	if errors.As(err, &refused) {
		return refused.Reachable()
	}
	return nil
}

func TestSimulation(t *testing.T) {
	clusters := 60
	if testing.Short() {
		clusters = 15
	}
	n := newTally()
	for seed := range uint64(clusters) {
		disagree(t, seed, 60, n)
	}
	t.Logf("reached %v, %d in unfinished segments, %d later than all transactions, %d subtransactions, refused %v", n.reached, n.inside, n.passed, n.subs, n.refused)
	if n.inside == 0 || n.passed == 0 || n.subs == 0 {
		t.Error("no plan ended in an unfinished segment, or behind all transactions, or with a subtransaction: the test tests nothing")
	}
	for _, k := range []plan.Kind{plan.Latest, plan.Time, plan.LSN, plan.XID, plan.Name, plan.Immediate} {
		if n.reached[k] == 0 {
			t.Errorf("no target of kind %s was ever reached: the test tests nothing", k)
		}
	}
	for _, e := range []string{"*plan.GapError", "*plan.UnreachableError", "*plan.AmbiguousError", "*plan.NoBackupError"} {
		if n.refused[e] == 0 {
			t.Errorf("%s was never returned: the test tests nothing", e)
		}
	}
}

// TestSoakSimulation is TestSimulation for as long as WALDEN_SOAK says, from the seed
// WALDEN_SEED on.
func TestSoakSimulation(t *testing.T) {
	text := os.Getenv("WALDEN_SOAK")
	if text == "" {
		t.Skip("WALDEN_SOAK gives no duration: make soak runs this")
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := strconv.ParseUint(os.Getenv("WALDEN_SEED"), 10, 64)
	n := newTally()
	first := seed
	for until := time.Now().Add(duration); time.Now().Before(until); seed++ {
		disagree(t, seed, 60, n)
	}
	t.Logf("seeds %d to %d: reached %v, refused %v", first, seed-1, n.reached, n.refused)
}
