package plan_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/waltest"
)

// What a record is to recovery.
type recordKind int

const (
	otherRecord recordKind = iota
	endOfTransaction
	restorePoint
	backupEnd
)

// logged is a record as the test wrote it.
type logged struct {
	lsn, end wal.LSN
	kind     recordKind
	xid      uint32
	time     time.Time
	name     string
	redo     wal.LSN // backupEnd
}

// branch is a timeline that is being written, with every record on the way to it.
type branch struct {
	*waltest.Builder
	log  []logged
	open []catalog.Backup // begun on it and not ended
}

// cluster is a random cluster's life: its timelines, backups, and archive.
type cluster struct {
	r        *rand.Rand
	clock    time.Time
	xid      uint32
	branches []*branch
	backups  []catalog.Backup
	indexes  map[wal.Segment]*index.Index
	// damaged are segments that are archived and cannot be read.
	damaged []wal.Segment
	// wrong are backups that lack objects.
	wrong    map[string]string
	rounds   int // of loading that the last plan took
	snapshot *catalog.Snapshot
}

func newCluster(t *testing.T, seed uint64) *cluster {
	t.Helper()
	c := &cluster{
		r: rand.New(rand.NewPCG(seed, 0)), clock: noon, xid: 700,
		indexes: map[wal.Segment]*index.Index{},
	}
	c.branches = []*branch{{Builder: waltest.NewBuilder(17, systemID, 1, segment)}}
	for range 30 + c.r.IntN(60) {
		b := c.branches[c.r.IntN(len(c.branches))]
		if c.r.IntN(25) == 0 && len(c.branches) < 4 && len(b.log) > 0 {
			c.fork(b)
			continue
		}
		c.write(b)
	}
	for _, b := range c.branches {
		c.note(b, otherRecord)(b.Message(10))
		c.endSegment(b)
	}
	c.archive(t, c.random)
	return c
}

func (c *cluster) fork(b *branch) {
	tli := wal.TimelineID(len(c.branches) + 1)
	child := &branch{Builder: b.Fork(tli, "no recovery target specified"), log: slices.Clone(b.log)}
	c.tick(2)
	c.note(child, otherRecord)(child.EndOfRecovery(b.Timeline(), c.clock))
	c.branches = append(c.branches, child)
}

func (c *cluster) tick(least int) {
	c.clock = c.clock.Add(time.Duration(least)*time.Second + time.Duration(c.r.IntN(3000))*time.Millisecond)
}

// note returns a function that logs a record of the kind.
func (c *cluster) note(b *branch, kind recordKind) func(start, end wal.LSN) {
	return func(start, end wal.LSN) {
		if start != 0 { // a switch at a segment's start writes nothing
			b.log = append(b.log, logged{lsn: start, end: end, kind: kind})
		}
	}
}

func (b *branch) last() *logged { return &b.log[len(b.log)-1] }

// write appends something random to a branch.
func (c *cluster) write(b *branch) {
	c.tick(0)
	switch n := c.r.IntN(20); {
	case n < 8:
		c.transaction(b)
	case n < 10:
		name := fmt.Sprintf("point %d", c.r.IntN(12))
		c.note(b, restorePoint)(b.RestorePoint(name, c.clock))
		b.last().name = name
	case n < 12:
		c.endSegment(b)
	case n < 13:
		c.tick(2)
		c.note(b, otherRecord)(b.Message(c.r.IntN(3 << 20)))
	case n < 15:
		c.toBoundary(b)
	case n < 18:
		c.backup(b)
	default:
		c.note(b, otherRecord)(b.Message(c.r.IntN(20000)))
	}
}

// endSegment ends a segment with a switch.
func (c *cluster) endSegment(b *branch) {
	c.tick(2)
	c.note(b, otherRecord)(b.Switch())
}

// toBoundary fills a segment nearly up, and then puts something across its end.
func (c *cluster) toBoundary(b *branch) {
	seg := wal.SegmentAt(b.Timeline(), b.Position(), segment)
	if room := int64(seg.End()-b.Position()) * 8168 / 8192; room > 400 {
		c.tick(2)
		c.note(b, otherRecord)(b.Message(int(room) - 150 - c.r.IntN(100)))
	}
	if c.r.IntN(4) == 0 {
		name := "point on the edge"
		c.note(b, restorePoint)(b.RestorePoint(name, c.clock))
		b.last().name = name
		return
	}
	c.transaction(b)
}

// transaction ends a transaction in one of the ways there are. Its time lies up
// to two seconds before that of the record, so times are not in order.
func (c *cluster) transaction(b *branch) {
	c.xid++
	xid, when := c.xid, c.clock.Add(-time.Duration(c.r.IntN(2000))*time.Millisecond)
	x := waltest.Transaction{Subxacts: make([]uint32, c.r.IntN(200))}
	if c.r.IntN(4) == 0 {
		gid := fmt.Sprintf("g%d", xid)
		c.note(b, otherRecord)(b.Prepare(xid, 5, gid, when))
		x = waltest.Transaction{Prepared: xid, GID: gid}
	}
	if c.r.IntN(3) == 0 {
		c.note(b, endOfTransaction)(b.AbortWith(xid, when, x))
	} else {
		c.note(b, endOfTransaction)(b.CommitWith(xid, when, x))
	}
	b.last().xid, b.last().time = xid, when.Truncate(time.Microsecond)
}

// backup begins a backup on a branch, or ends the one that runs.
func (c *cluster) backup(b *branch) {
	if len(b.open) == 0 {
		redo, end := b.CheckpointRedo()
		c.note(b, otherRecord)(redo, end)
		began := c.clock
		for range c.r.IntN(3) {
			c.transaction(b)
		}
		checkpoint, end := b.OnlineCheckpoint(redo, began)
		c.note(b, otherRecord)(checkpoint, end)
		b.open = append(b.open, catalog.Backup{
			Timeline: b.Timeline(), StartLSN: redo, CheckpointLSN: checkpoint,
			StartTime: began.Add(time.Duration(c.r.IntN(4)-2) * time.Second), FromStandby: c.r.IntN(3) == 0,
		})
		return
	}
	k := b.open[0]
	b.open = nil
	if k.FromStandby {
		k.StopLSN = b.last().end // minRecoveryPoint: the end of some record
	} else {
		start, end := b.BackupEnd(k.StartLSN)
		c.note(b, backupEnd)(start, end)
		b.last().redo, k.StopLSN = k.StartLSN, end
	}
	k.ID = fmt.Sprintf("%s-%04d", c.clock.Format("20060102T150405Z"), len(c.backups))
	k.StopTimeline, k.StopTime = b.Timeline(), c.clock
	c.backups = append(c.backups, k)
}

// fate is what becomes of a segment.
type fate int

const (
	stored fate = iota
	lost
	damaged
)

// random loses a few segments, and damages others.
func (c *cluster) random(wal.Segment) fate {
	switch n := c.r.IntN(120); {
	case n < 3:
		return lost
	case n < 5:
		return damaged
	}
	return stored
}

// archive takes a snapshot of an archive of what is complete.
func (c *cluster) archive(t *testing.T, becomes func(wal.Segment) fate) {
	t.Helper()
	c.snapshot = &catalog.Snapshot{Cluster: "main", SystemID: systemID, SegmentSize: segment, Major: 17, Backups: c.backups}
	for _, b := range c.branches {
		numbers := []uint64{}
		for _, seg := range b.Complete() {
			if seg.Timeline != b.Timeline() {
				continue
			}
			f := becomes(seg)
			if f == lost {
				continue
			}
			numbers = append(numbers, seg.Number)
			if f == damaged {
				c.damaged = append(c.damaged, seg)
				continue
			}
			ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, index.Options{SystemID: systemID, Complete: true})
			if err != nil {
				t.Fatalf("index of %s: %v", seg, err)
			}
			c.indexes[seg] = ix
		}
		c.snapshot.Timelines = append(c.snapshot.Timelines, timeline(b.History(), numbers))
	}
}

// timeline is the catalogue's entry of a timeline with the segments of these numbers.
func timeline(h wal.History, numbers []uint64) catalog.Timeline {
	x := catalog.Timeline{ID: h.Timeline, History: h, HistoryState: catalog.HistoryPresent}
	if h.Timeline == 1 {
		x.HistoryState = catalog.HistoryNone
	}
	if p, ok := h.Parent(); ok {
		x.Parent, x.Switch = p.Timeline, p.End
	}
	for _, n := range numbers {
		if k := len(x.Ranges); k > 0 && x.Ranges[k-1].Last+1 == n {
			x.Ranges[k-1] = catalog.NewRange(h.Timeline, x.Ranges[k-1].First, n, segment, 0)
		} else {
			x.Ranges = append(x.Ranges, catalog.NewRange(h.Timeline, n, n, segment, 0))
		}
	}
	return x
}

// fill gets from memory what a plan needs.
func fill(s *catalog.Snapshot, n plan.Needs, indexes map[wal.Segment]*index.Index, wrong map[string]string) error {
	read := func(seg wal.Segment) (*index.Index, error) {
		if ix := indexes[seg]; ix != nil {
			return ix, nil
		}
		return nil, errors.New("damaged")
	}
	for _, chain := range n.Chains {
		c := s.Details.NewChain()
		for _, seg := range chain {
			ix, err := read(seg)
			if err := c.Add(seg, ix, err); err != nil {
				return err
			}
		}
	}
	for i, list := range [][]wal.Segment{n.Segments, n.Transactions} {
		for _, seg := range list {
			if ix, err := read(seg); err != nil {
				s.Details.AddUnreadable(seg, err.Error())
			} else {
				s.Details.Add(ix, i == 1)
			}
		}
	}
	for _, id := range n.Bases {
		s.Details.AddBase(id, wrong[id])
	}
	return nil
}

// make plans with what is in memory. A decision that does not come to an end is an error.
func (c *cluster) make(t *testing.T, target plan.Target) (*plan.Plan, error) {
	t.Helper()
	s := *c.snapshot
	s.Details = catalog.Details{}
	for c.rounds = range 1000 {
		n, err := plan.Need(&s, target)
		if err != nil {
			t.Fatal(err)
		}
		if n.Empty() {
			return plan.Make(&s, target)
		}
		if err := fill(&s, n, c.indexes, c.wrong); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s: needs without end", target)
	return nil, nil
}

// end is how a simulated recovery ended.
type end struct {
	err    string // PostgreSQL's FATAL; "": it stopped as asked, or at the end of WAL
	lsn    wal.LSN
	before bool
	kept   *logged // the last transaction that was replayed
	lost   *logged // the first that was not, on the whole branch
	reads  uint64  // the last segment that was read
	stray  bool    // it read a segment of a timeline it should have left
}

// recover is PostgreSQL: the loop of PerformWalRecovery over the records of a
// timeline's branch, from a backup, with the files that have returns true for.
func (c *cluster) recover(k catalog.Backup, b *branch, target plan.Target, have func(wal.Segment) bool) end {
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
		e.lsn = l.end
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
func endOfFiles(h wal.History, from wal.LSN, have func(wal.Segment) bool) (end wal.LSN, stray bool) {
	spans := h.Path()
	current := wal.TimelineID(0)
	for n := segment.Number(from); ; n++ {
		found, right := false, wal.TimelineID(0)
		for i := len(spans) - 1; i >= 0 && !found; i-- {
			if segment.Number(spans[i].Begin) > n || spans[i].Timeline < current {
				continue
			}
			if right == 0 {
				right = spans[i].Timeline
			}
			if have(wal.Segment{Timeline: spans[i].Timeline, Number: n, Size: segment}) {
				found, current = true, spans[i].Timeline
			}
		}
		if !found || current != right {
			return wal.LSN(n) * wal.LSN(segment), found
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
	case 5, 6, 7:
		t.Kind, t.XID = plan.XID, 690+uint32(c.r.IntN(int(c.xid)-680))
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
		context := fmt.Sprintf("seed %d, %s exclusive=%v timeline=%q backup=%q", seed, target, target.Exclusive, target.Timeline, target.Backup)
		if err == nil {
			n.reached[target.Kind]++
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

func TestSimulation(t *testing.T) {
	clusters := 60
	if testing.Short() {
		clusters = 15
	}
	n := &tally{map[plan.Kind]int{}, map[string]int{}}
	for seed := range uint64(clusters) {
		disagree(t, seed, 60, n)
	}
	t.Logf("reached %v, refused %v", n.reached, n.refused)
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
	n := &tally{map[plan.Kind]int{}, map[string]int{}}
	first := seed
	for until := time.Now().Add(duration); time.Now().Before(until); seed++ {
		disagree(t, seed, 60, n)
	}
	t.Logf("seeds %d to %d: reached %v, refused %v", first, seed-1, n.reached, n.refused)
}

func (c *cluster) branch(tli wal.TimelineID) *branch { return c.branches[tli-1] }

func (c *cluster) has(seg wal.Segment) bool { return c.indexes[seg] != nil }

// checkPlan lets PostgreSQL follow a plan, with nothing but the segments it names.
func (c *cluster) checkPlan(t *testing.T, context string, target plan.Target, p *plan.Plan) {
	t.Helper()
	first, _ := wal.ParseSegment(p.FirstSegment, segment)
	last, _ := wal.ParseSegment(p.LastSegment, segment)
	b := c.branch(p.Timeline)
	got := c.recover(p.Backup, b, target, func(seg wal.Segment) bool {
		return seg.Number >= first.Number && seg.Number <= last.Number && c.has(seg)
	})
	s := p.Stop
	switch {
	case got.err != "" || got.stray:
		t.Errorf("%s: planned %+v, but PostgreSQL: %+v", context, s, got)
		return
	case target.Kind == plan.Latest && got.lsn != s.End, target.Kind != plan.Latest && s.Before != got.before,
		target.Kind != plan.Latest && target.Kind != plan.Immediate && s.Exact && s.LSN != got.lsn,
		!s.Exact && (got.lsn < s.LSN || target.Kind != plan.LSN):
		t.Errorf("%s: predicted %+v, but PostgreSQL stops at %+v", context, s, got)
	case got.kept != nil && s.Exact && (s.LastKept == nil || s.LastKept.XID != got.kept.xid || s.LastKept.LSN != got.kept.lsn):
		t.Errorf("%s: predicted to keep up to %+v, but it is %+v", context, s.LastKept, got.kept)
	case s.FirstLost != nil && (got.lost == nil || got.lost.lsn != s.FirstLost.LSN || got.lost.xid != s.FirstLost.XID):
		t.Errorf("%s: predicted to lose %+v first, but it is %+v", context, s.FirstLost, got.lost)
	case got.reads != last.Number && s.Exact && target.Kind != plan.Latest:
		t.Errorf("%s: the last segment is %s, but PostgreSQL needs number %d", context, p.LastSegment, got.reads)
	}
	if target.Kind == plan.Time && c.holdsLater(p.Backup, b, target) {
		t.Errorf("%s: backup %+v holds what the target excludes", context, p.Backup)
	}
	c.checkNewest(t, context, target, p)
}

// holdsLater reports whether a backup holds a transaction that is too late for
// a time. PostgreSQL does not look.
func (c *cluster) holdsLater(k catalog.Backup, b *branch, target plan.Target) bool {
	return slices.ContainsFunc(b.log, func(l logged) bool {
		late := l.time.After(target.Time) || (target.Exclusive && l.time.Equal(target.Time))
		return l.kind == endOfTransaction && l.lsn < k.StartLSN && late
	})
}

// serves reports whether PostgreSQL would bring a backup to the target, and
// the plan could know it.
func (c *cluster) serves(k catalog.Backup, b *branch, target plan.Target) bool {
	got := c.recover(k, b, target, c.has)
	if got.err != "" || got.stray {
		return false
	}
	switch target.Kind {
	case plan.Time:
		return !c.holdsLater(k, b, target) && !target.Time.Before(k.StartTime.Add(3*time.Second))
	case plan.LSN:
		return target.LSN >= k.StopLSN // of positions before, the index does not tell
	case plan.Latest:
		path, err := c.snapshot.Path(b.Timeline())
		last, ok := c.snapshot.LastOn(path)
		damaged := slices.ContainsFunc(c.damaged, func(seg wal.Segment) bool {
			return path.Segment(seg.Number) == seg && seg.Number >= segment.Number(k.StartLSN)
		})
		return err == nil && ok && !damaged && len(c.snapshot.Holes(path, segment.Number(k.StartLSN), last)) == 0
	}
	return true
}

// checkNewest: no newer backup would have served.
func (c *cluster) checkNewest(t *testing.T, context string, target plan.Target, p *plan.Plan) {
	t.Helper()
	if target.Backup != "" {
		return
	}
	for _, k := range c.backups {
		if target.Timeline == plan.CurrentTimeline && k.Timeline != p.Timeline {
			continue
		}
		if k.StopLSN > p.Backup.StopLSN && c.serves(k, c.branch(p.Timeline), target) {
			t.Errorf("%s: chose backup %+v, but %+v is newer and serves", context, p.Backup, k)
		}
	}
}

// checkRefusal: no backup that the target allows would have served.
func (c *cluster) checkRefusal(t *testing.T, context string, target plan.Target, err error) {
	t.Helper()
	var ambiguous *plan.AmbiguousError
	if errors.As(err, &ambiguous) {
		if len(ambiguous.Points) < 2 {
			t.Errorf("%s: %v", context, err)
		}
		return
	}
	for _, k := range c.backups {
		if target.Backup != "" && target.Backup != k.ID {
			continue
		}
		tli := k.Timeline
		switch target.Timeline {
		case plan.CurrentTimeline:
		case "":
			tli = c.newest(target)
		default:
			tli, _ = wal.ParseTimelineID(target.Timeline)
		}
		if tli != 0 && c.serves(k, c.branch(tli), target) {
			t.Errorf("%s: refused with %v, but backup %+v serves: %+v", context, err, k, c.recover(k, c.branch(tli), target, c.has))
		}
	}
	c.checkNearest(t, context, err)
}

// newest is the highest timeline that a backup leads to; 0: none.
func (c *cluster) newest(target plan.Target) wal.TimelineID {
	for _, b := range slices.Backward(c.branches) {
		h := b.History()
		for _, k := range c.backups {
			if (target.Backup == "" || target.Backup == k.ID) && h.Contains(k.Timeline, k.CheckpointLSN) && h.Contains(k.StopTimeline, k.StopLSN-1) {
				return b.Timeline()
			}
		}
	}
	return 0
}

// checkNearest: windows of a refusal can be restored from one end to the other.
func (c *cluster) checkNearest(t *testing.T, context string, err error) {
	t.Helper()
	var e interface{ Reachable() []catalog.Window }
	if !errors.As(err, &e) {
		t.Errorf("%s: refused with %v", context, err)
		return
	}
	for _, w := range e.Reachable() {
		i := slices.IndexFunc(c.backups, func(k catalog.Backup) bool { return k.ID == w.Backups[0] })
		b := c.branch(w.Timeline)
		if slices.ContainsFunc(c.damaged, func(seg wal.Segment) bool {
			return seg.Start() < w.To.LSN && seg.End() > c.backups[i].StartLSN
		}) {
			continue // nobody has tried to read it
		}
		for _, l := range b.log {
			if l.kind != endOfTransaction || l.lsn < w.From.LSN || l.end > w.To.LSN {
				continue
			}
			got := c.recover(c.backups[i], b, plan.Target{Kind: plan.XID, XID: l.xid}, c.has)
			if got.err != "" && c.backups[i].StopLSN <= l.lsn {
				t.Errorf("%s: window %+v cannot be restored to %+v: %s", context, w, l, got.err)
				return
			}
		}
	}
}
