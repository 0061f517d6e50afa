package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/rollup"
)

// Chain adds consecutive segments of a path to a Snapshot's Details, and joins
// each with the one before.
type Chain struct {
	details *Details
	// whole gets the index of a segment with the bytes of its edges.
	whole func(wal.Segment) (*index.Index, error)
	// joiner has seen all segments of since; nil: it has missed some.
	joiner *index.Joiner
	// since are the segments from the last one on in which a record is complete.
	since    []*index.Index
	previous wal.Segment
}

// NewChain begins a Chain.
func (d *Details) NewChain() *Chain { return &Chain{details: d} }

// Add takes the next segment: its index, or unreadable, which says why there is
// none. What does not fit is recorded in the Details; an error is a bug in an index.
func (c *Chain) Add(seg wal.Segment, ix *index.Index, unreadable error) error {
	return c.add(seg, piece{ix: ix, err: unreadable})
}

// SetWhole says how to get the index of a segment with the bytes of its edges, where
// Add is given compact ones.
func (c *Chain) SetWhole(f func(wal.Segment) (*index.Index, error)) { c.whole = f }

// AddStep is Add where it is known that the segment continues the one before, and how
// (rollup.Entry.Step).
func (c *Chain) AddStep(seg wal.Segment, ix *index.Index, step *index.Joined) error {
	return c.add(seg, piece{ix: ix, step: step})
}

// piece is what is known of a segment: its index, which can be a compact one; and,
// if it is known, the step to it from the segment before.
type piece struct {
	ix   *index.Index
	step *index.Joined
	err  error // the index cannot be read
}

func (c *Chain) add(seg wal.Segment, p piece) error {
	if p.err != nil {
		c.details.AddUnreadable(seg, p.err.Error())
		c.restart(nil)
		return nil
	}
	switch {
	case c.previous == (wal.Segment{}):
		c.restart(p.ix)
	case p.step != nil:
		c.details.AddLink(Link{From: c.previous, To: seg}, LinkState{Joined: p.step})
		c.joiner = nil
		c.remember(p.ix)
	default:
		if err := c.join(seg, &p); err != nil {
			return err
		}
		if p.err != nil {
			return c.add(seg, p)
		}
	}
	c.details.Add(p.ix, false)
	c.previous = seg
	return nil
}

// restart begins anew with a segment; nil: with the next.
func (c *Chain) restart(ix *index.Index) {
	c.joiner, c.since, c.previous = nil, nil, wal.Segment{}
	if ix != nil {
		c.since = []*index.Index{ix}
	}
}

func (c *Chain) remember(ix *index.Index) {
	if ix.LastComplete != 0 {
		c.since = nil
	}
	c.since = append(c.since, ix)
}

// join joins a segment to the one before it, from their indexes. p.err is set if one
// that is needed for that cannot be read.
func (c *Chain) join(seg wal.Segment, p *piece) error {
	if p.ix, p.err = c.edged(p.ix); p.err != nil {
		return storeFault(p.err)
	}
	if c.joiner == nil {
		c.joiner = &index.Joiner{}
		for i, ix := range c.since {
			ix, err := c.edged(ix)
			if err != nil {
				if archive.IsStoreFault(err) {
					return err
				}
				c.details.AddUnreadable(ix.Segment, err.Error())
				c.restart(p.ix)
				return nil
			}
			c.since[i] = ix
			if _, err := c.joiner.Add(ix); err != nil {
				return fmt.Errorf("segment %s: %w", ix.Segment.Name(), err) // it fitted before
			}
		}
	}
	joined, err := c.joiner.Add(p.ix)
	if err != nil {
		c.details.AddLink(Link{From: c.previous, To: seg}, LinkState{Broken: err.Error()})
		c.restart(p.ix)
		return nil
	}
	c.details.AddLink(Link{From: c.previous, To: seg}, LinkState{Joined: joined})
	c.remember(p.ix)
	return nil
}

// storeFault is err if it is one of the store, and nil otherwise.
func storeFault(err error) error {
	if archive.IsStoreFault(err) {
		return err
	}
	return nil
}

// edged is the index with the bytes of its edges. With an error ix is returned.
func (c *Chain) edged(ix *index.Index) (*index.Index, error) {
	if ix.Joinable() || c.whole == nil {
		return ix, nil
	}
	whole, err := c.whole(ix.Segment)
	if err != nil {
		return ix, err
	}
	return whole, nil
}

// rollups are those that a Snapshot has seen.
type rollups struct {
	held map[rollup.Log]*rollup.Rollup // nil: it cannot be used
	// refs are those that exist, as far as they have been listed.
	refs   map[rollup.Log]rollup.Ref
	listed map[rollup.Log]bool
}

const (
	// fewSegments is the number of segments of a log up to which their own indexes
	// are read rather than the log's roll-up.
	fewSegments = 3
	// heldLogs bounds the roll-ups that are held at a time.
	heldLogs = 64
	// logsAhead is how many logs are asked for roll-ups at least: what a store
	// tells of at once.
	logsAhead = 64
)

// fillChain reads the indexes of consecutive segments and joins neighbours.
func (r *Reader) fillChain(ctx context.Context, s *Snapshot, segs []wal.Segment) error {
	c := s.Details.NewChain()
	c.whole = func(seg wal.Segment) (*index.Index, error) { return r.archive.Index(ctx, seg) }
	for len(segs) > 0 {
		n := headOf(segs)
		if err := r.loadRollups(ctx, s, &s.rollups, segs[:n]); err != nil {
			return err
		}
		if err := r.pieces(ctx, s, &s.rollups, segs[:n], c.add); err != nil {
			return err
		}
		segs = segs[n:]
	}
	return nil
}

// headOf is how many of the segments lie in the first few logs.
func headOf(segs []wal.Segment) int {
	logs := 0
	for i, seg := range segs {
		if i == 0 || rollup.LogOf(seg) != rollup.LogOf(segs[i-1]) {
			if logs++; logs > heldLogs/2 {
				return i
			}
		}
	}
	return len(segs)
}

// rolled is what a roll-up tells of a segment; follows: the one before it was taken
// from the same.
func rolled(e rollup.Entry, follows bool) (piece, error) {
	ix, err := e.Index()
	if err != nil {
		return piece{}, err // it was checked when it was read
	}
	p := piece{ix: ix}
	if !follows {
		return p, nil
	}
	step, ok, err := e.Step()
	if ok {
		p.step = step
	}
	return p, err
}

// loadRollups gets the roll-ups of the logs that many of the segments lie in.
func (r *Reader) loadRollups(ctx context.Context, s *Snapshot, x *rollups, segs []wal.Segment) error {
	if len(x.held) > heldLogs {
		x.held = nil
	}
	if x.held == nil {
		x.held = map[rollup.Log]*rollup.Rollup{}
	}
	var refs []rollup.Ref
	for _, l := range s.worthRollup(x, segs) {
		if err := r.listRollups(ctx, x, l); err != nil {
			return err
		}
		if ref, ok := x.refs[l]; ok {
			refs = append(refs, ref)
		}
	}
	found := make([]*rollup.Rollup, len(refs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.parallel)
	for i, ref := range refs {
		g.Go(func() (err error) {
			found[i], err = r.loadRollup(gctx, ref)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, ref := range refs {
		x.held[ref.Log] = found[i]
	}
	return nil
}

// worthRollup are the logs of which many of the segments are needed, and that are
// not held.
func (s *Snapshot) worthRollup(x *rollups, segs []wal.Segment) []rollup.Log {
	count := map[rollup.Log]int{}
	var logs []rollup.Log
	for _, seg := range segs {
		l := rollup.LogOf(seg)
		if _, held := x.held[l]; held {
			continue
		}
		if _, sealed := s.fingerprint(seg); sealed {
			if count[l]++; count[l] == fewSegments+1 {
				logs = append(logs, l)
			}
		}
	}
	return logs
}

// listRollups finds out whether the log has a roll-up, and those after it.
func (r *Reader) listRollups(ctx context.Context, x *rollups, l rollup.Log) error {
	if x.listed[l] {
		return nil
	}
	if x.listed == nil {
		x.listed, x.refs = map[rollup.Log]bool{}, map[rollup.Log]rollup.Ref{}
	}
	last := min(uint64(l.Number)+logsAhead-1, math.MaxUint32)
	list, err := r.rollups.List(ctx, l.Timeline, l.Number, uint32(last))
	if err != nil {
		return err
	}
	for n := uint64(l.Number); n <= last; n++ {
		x.listed[rollup.Log{Timeline: l.Timeline, Number: uint32(n)}] = true
	}
	for _, ref := range list {
		x.refs[ref.Log] = ref
	}
	return nil
}

// loadRollup reads a roll-up. One that is damaged, or has gone, is none: it
// only makes plans faster. `walden index` tells of damage.
func (r *Reader) loadRollup(ctx context.Context, ref rollup.Ref) (*rollup.Rollup, error) {
	for range attempts {
		x, err := r.rollups.Load(ctx, ref)
		switch {
		case err == nil:
			return x, nil
		case rollup.IsDamage(err):
			return nil, nil
		case !errors.Is(err, storage.ErrNotExist):
			return nil, err
		}
		// The next generation has replaced it.
		list, err := r.rollups.List(ctx, ref.Timeline, ref.Number, ref.Number)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, nil
		}
		ref = list[0]
	}
	return nil, nil
}
