package plan_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
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
	subs     []uint32 // its subtransactions
	time     time.Time
	stamp    time.Time // of a record that ends no transaction
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
	// tail says which fragments of a branch's unfinished segment there are; nil: none.
	tail func(*branch, wal.Segment) archive.LiveSegment
	// ends is where what is archived of a segment ends, if that is not its end.
	ends map[wal.Segment]wal.LSN
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
		if c.r.IntN(3) == 0 {
			c.endSegment(b)
		}
		for range c.r.IntN(6) {
			c.write(b)
		}
	}
	c.tail = c.randomTail
	c.archive(t, c.random)
	return c
}

func (c *cluster) fork(b *branch) {
	tli := wal.TimelineID(len(c.branches) + 1)
	child := &branch{Builder: b.Fork(tli, "no recovery target specified"), log: slices.Clone(b.log)}
	c.tick(2)
	c.note(child, otherRecord)(child.EndOfRecovery(b.Timeline(), c.clock))
	child.last().stamp = c.clock.Truncate(time.Microsecond)
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
		b.last().name, b.last().stamp = name, c.clock.Truncate(time.Microsecond)
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
		b.last().name, b.last().stamp = name, c.clock.Truncate(time.Microsecond)
		return
	}
	c.transaction(b)
}

// transaction ends a transaction in one of the ways there are. Its time lies up
// to two seconds before that of the record, so times are not in order.
func (c *cluster) transaction(b *branch) {
	c.xid++
	xid, when := c.xid, c.clock.Add(-time.Duration(c.r.IntN(2000))*time.Millisecond)
	x := waltest.Transaction{Subxacts: c.subtransactions()}
	if c.r.IntN(4) == 0 {
		gid := fmt.Sprintf("g%d", xid)
		c.note(b, otherRecord)(b.Prepare(xid, 5, gid, when))
		b.last().stamp = when.Truncate(time.Microsecond)
		x.Prepared, x.GID = xid, gid
	}
	if c.r.IntN(3) == 0 {
		c.note(b, endOfTransaction)(b.AbortWith(xid, when, x))
	} else {
		c.note(b, endOfTransaction)(b.CommitWith(xid, when, x))
	}
	b.last().xid, b.last().subs, b.last().time = xid, x.Subxacts, when.Truncate(time.Microsecond)
}

// subtransactions gets ids for the subtransactions of the current one: none, a few or many.
func (c *cluster) subtransactions() []uint32 {
	subs := make([]uint32, []int{0, 0, 0, c.r.IntN(4), c.r.IntN(200)}[c.r.IntN(5)])
	for i := range subs {
		c.xid++
		subs[i] = c.xid
	}
	return subs
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
		b.last().stamp = began.Truncate(time.Second)
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
	inFragments // all of it
)

// random loses a few segments, and damages others.
func (c *cluster) random(wal.Segment) fate {
	switch n := c.r.IntN(120); {
	case n < 3:
		return lost
	case n < 5:
		return damaged
	case n < 20:
		return inFragments
	}
	return stored
}

// archive takes a snapshot of an archive of what is complete, and of the fragments
// that tail tells of.
func (c *cluster) archive(t *testing.T, becomes func(wal.Segment) fate) {
	t.Helper()
	c.snapshot = &catalog.Snapshot{Cluster: "main", SystemID: systemID, SegmentSize: segment, Major: 17, Backups: c.backups}
	c.ends = map[wal.Segment]wal.LSN{}
	for _, b := range c.branches {
		numbers, live := []uint64{}, []archive.LiveSegment{}
		for _, seg := range b.Complete() {
			if seg.Timeline != b.Timeline() {
				continue
			}
			f := becomes(seg)
			if f == lost {
				continue
			}
			if f == inFragments || (f == damaged && seg.Number%2 == 0) {
				live = append(live, c.pieces(seg, seg.Size.Bytes()))
			} else {
				numbers = append(numbers, seg.Number)
			}
			if f == damaged {
				c.damaged = append(c.damaged, seg)
				continue
			}
			c.index(t, seg, b.Bytes(seg), index.Options{SystemID: systemID, Complete: true})
		}
		live = append(live, c.open(t, b)...)
		c.snapshot.Timelines = append(c.snapshot.Timelines, timeline(b.History(), numbers, live...))
	}
}

func (c *cluster) index(t *testing.T, seg wal.Segment, content []byte, o index.Options) {
	t.Helper()
	ix, err := index.Build(bytes.NewReader(content), seg, o)
	if err != nil {
		t.Fatalf("index of %s: %v", seg, err)
	}
	c.indexes[seg] = ix
}

// timeline is the catalogue's entry of a timeline with the segments of these
// numbers, and others in fragments.
func timeline(h wal.History, numbers []uint64, live ...archive.LiveSegment) catalog.Timeline {
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
	x.SetLive(live)
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
	for _, scan := range n.Scans {
		x := s.Details.NewScan(scan)
		for n := scan.From; n <= scan.To; n++ {
			if seg := scan.Path.Segment(n); s.Has(seg) {
				ix, err := read(seg)
				if err := x.Add(seg, ix, err); err != nil {
					return err
				}
			}
		}
		x.End()
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

// find answers what a plan asks of records that are in no index.
func (c *cluster) find(t *testing.T, s *catalog.Snapshot, queries []catalog.RecordQuery) {
	t.Helper()
	for _, q := range queries {
		var found *logged
		for i, l := range c.branch(q.Segment.Timeline).log {
			if !q.Segment.Contains(l.lsn) || q.Before && l.lsn >= q.At || !q.Before && l.lsn < q.At {
				continue
			}
			if found == nil || q.Before {
				found = &c.branch(q.Segment.Timeline).log[i]
			}
		}
		if found == nil || found.end > q.Segment.End() {
			t.Fatalf("asks for a record that no index promises: %+v", q)
		}
		s.Details.AddRecord(q, catalog.RecordSpan{LSN: found.lsn, End: found.end})
	}
}

// make plans with what is in memory. A decision that does not come to an end is an error.
func (c *cluster) make(t *testing.T, target plan.Target) (*plan.Plan, error) {
	t.Helper()
	s := *c.snapshot
	s.Details = catalog.Details{}
	return c.makeOn(t, &s, target)
}

// makeOn plans on a snapshot of which all is listed, or one that is Sketched.
func (c *cluster) makeOn(t *testing.T, s *catalog.Snapshot, target plan.Target) (*plan.Plan, error) {
	t.Helper()
	for c.rounds = range 1000 {
		n, err := plan.Need(s, target)
		if err != nil {
			t.Fatal(err)
		}
		if n.Empty() {
			return plan.Make(s, target)
		}
		s.Reveal(c.snapshot, n.Lists)
		if err := fill(s, n, c.indexes, c.wrong); err != nil {
			t.Fatal(err)
		}
		c.find(t, s, n.Records)
		for _, q := range n.Prepared {
			s.Details.AddPrepared(q, catalog.PreparedState{})
		}
	}
	t.Fatalf("%s: needs without end", target)
	return nil, nil
}
