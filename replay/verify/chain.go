package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/rollup"
)

// segmentPiece is what is known of a segment for joining it to its neighbours.
type segmentPiece struct {
	ix *index.Index
	// step is how it continues the one before, where a roll-up that holds for both tells.
	step   *index.Joined
	rolled bool
}

// lookAtSegment reads a segment's footer, and its index unless a roll-up holds for it.
func (c *checker) lookAtSegment(ctx context.Context, s *seen) error {
	seg := s.file.Segment
	entry, ok, err := c.wal.entry(ctx, c, seg, rollup.Fingerprint(archive.Entry{
		Segment: seg, Size: s.info.Size, ModTime: s.info.ModTime, Version: s.info.Version,
	}))
	if err != nil {
		return err
	}
	if !ok {
		s.footer, s.segment.ix, err = c.indexed(ctx, s.place, true)
		return err
	}
	if s.footer, err = c.footer(ctx, s.place); err != nil {
		return err
	}
	if err := checkLength(s.footer, seg); err != nil {
		return err
	}
	s.segment.rolled = true
	if s.segment.ix, err = entry.Index(); err != nil {
		return err
	}
	step, ok, err := entry.Step()
	if ok {
		s.segment.step = step
	}
	return err
}

func checkLength(f frame.Footer, seg wal.Segment) error {
	if f.RawLength != seg.Size.Bytes() {
		return fmt.Errorf("it holds %d bytes, a segment has %d", f.RawLength, seg.Size.Bytes())
	}
	return nil
}

// indexed reads the footer and the index of a segment or a partial segment.
func (c *checker) indexed(ctx context.Context, p place, complete bool) (frame.Footer, *index.Index, error) {
	obj, err := c.repo.Open(ctx, p.key, p.kind.container())
	if err != nil {
		return frame.Footer{}, nil, err
	}
	ix, err := c.indexOf(obj, p.file.Segment, complete)
	return obj.Footer(), ix, err
}

// indexOf decodes the index of an open object, which must be that of a segment.
func (c *checker) indexOf(obj *frame.Object, seg wal.Segment, complete bool) (*index.Index, error) {
	if err := checkLength(obj.Footer(), seg); err != nil {
		return nil, err
	}
	ix, err := index.Decode(obj.Section)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its index: %w", err)
	case ix.Segment != seg || ix.SystemID != c.inc.SystemID:
		return nil, fmt.Errorf("its index describes segment %s of system identifier %d", ix.Segment.Name(), ix.SystemID)
	case complete && ix.EndOfRecords != seg.End():
		return nil, fmt.Errorf("its index ends at %s, inside the segment", ix.EndOfRecords)
	}
	return ix, nil
}

func (c *checker) lookAtPartial(ctx context.Context, s *seen) error {
	footer, ix, err := c.indexed(ctx, s.place, false)
	if s.footer = footer; err == nil {
		s.end = ix.EndOfRecords
	}
	return err
}

// walState joins the segments of a timeline, in order.
type walState struct {
	chain    *catalog.Chain // nil: the next segment begins one
	details  *catalog.Details
	previous wal.Segment
	last     map[wal.TimelineID]uint64 // the last number that was seen, of each timeline
	rolled   bool                      // the previous one was taken from its log's roll-up

	mu      sync.Mutex
	rollups map[rollup.Log]*loadedRollup
}

// loadedRollup is read once.
type loadedRollup struct {
	once sync.Once
	r    *rollup.Rollup // nil: none that can be used
	err  error
}

// heldRollups bounds the roll-ups that are held at a time.
const heldRollups = 16

// entry is what a roll-up tells of the segment, if it holds for the object that is there.
func (w *walState) entry(ctx context.Context, c *checker, seg wal.Segment, print uint64) (rollup.Entry, bool, error) {
	l := rollup.LogOf(seg)
	w.mu.Lock()
	held := w.rollups[l]
	if held == nil {
		if len(w.rollups) >= heldRollups || w.rollups == nil {
			w.rollups = map[rollup.Log]*loadedRollup{}
		}
		held = &loadedRollup{}
		w.rollups[l] = held
	}
	w.mu.Unlock()
	held.once.Do(func() { held.r, held.err = loadRollup(ctx, c.rollups, l) })
	if held.r == nil || held.err != nil {
		return rollup.Entry{}, false, held.err
	}
	e, ok := held.r.Lookup(seg.Number, print)
	return e, ok, nil
}

// loadRollup reads the roll-up of a log. One that is damaged is none here: it is looked at as
// an object of its own.
func loadRollup(ctx context.Context, s *rollup.Store, l rollup.Log) (*rollup.Rollup, error) {
	refs, err := s.List(ctx, l.Timeline, l.Number, l.Number)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	r, err := s.Load(ctx, refs[0])
	if err != nil && (rollup.IsDamage(err) || errors.Is(err, storage.ErrNotExist)) {
		return nil, nil
	}
	return r, err
}

func rollupRef(p place) rollup.Ref { return rollup.Ref{Log: p.log, Generation: p.generation} }

func (w *walState) restart() { w.chain, w.previous = nil, wal.Segment{} }

// begin starts a chain.
func (w *walState) begin(ctx context.Context, c *checker) {
	w.details = &catalog.Details{}
	w.chain = w.details.NewChain()
	w.chain.SetWhole(func(seg wal.Segment) (*index.Index, error) { return c.archive.Index(ctx, seg) })
}

// settle joins the next segment, in the order of timelines and numbers.
func (w *walState) settle(ctx context.Context, c *checker, s seen) error {
	seg := s.file.Segment
	if w.last == nil {
		w.last = map[wal.TimelineID]uint64{}
	}
	w.last[seg.Timeline] = seg.Number
	if s.damage != nil {
		w.restart()
		return nil
	}
	if w.chain == nil || w.previous.Timeline != seg.Timeline || w.previous.Number+1 != seg.Number {
		fresh := w.previous.Timeline != seg.Timeline
		w.begin(ctx, c)
		if fresh {
			if err := w.parent(ctx, c, seg); err != nil {
				return err
			}
		}
		w.rolled = false
	}
	var err error
	if s.segment.step != nil && w.rolled && s.segment.rolled && rollup.LogOf(w.previous) == rollup.LogOf(seg) {
		err = w.chain.AddStep(seg, s.segment.ix, s.segment.step)
	} else {
		err = w.chain.Add(seg, s.segment.ix, nil)
	}
	if err != nil {
		if isFault(err) {
			return err
		}
		c.find(s.place, err.Error(), c.effectOf(s.place))
		w.restart()
		return nil
	}
	w.previous, w.rolled = seg, s.segment.rolled
	for link, state := range w.details.Links {
		if state.Broken != "" {
			c.find(s.place, fmt.Sprintf("it does not continue segment %s: %s", link.From.Name(), state.Broken), c.effectOf(s.place))
		}
	}
	for bad, why := range w.details.Unreadable {
		p := place{key: archive.SegmentKey(c.inc, bad), kind: KindSegment, file: wal.File{Kind: wal.FileSegment, Segment: bad, Timeline: bad.Timeline}}
		c.find(p, why, c.effectOf(p))
	}
	// What was joined is not needed any more: memory does not grow with the archive.
	w.details.Indexes, w.details.Links, w.details.Unreadable = nil, nil, nil
	return nil
}

// parent begins a timeline's chain with the segment before, on the timeline that it
// split off from.
func (w *walState) parent(ctx context.Context, c *checker, seg wal.Segment) error {
	content, ok := c.histories[seg.Timeline]
	if !ok || seg.Number == 0 {
		return nil
	}
	h, err := wal.ParseHistory(seg.Timeline, []byte(content))
	if err != nil {
		return nil // it was looked at
	}
	before := segmentOn(h, seg.Number-1, seg.Size)
	if before.Timeline == seg.Timeline {
		return nil // its first segments are missing: a gap
	}
	ix, err := c.archive.Index(ctx, before)
	if err != nil {
		if isFault(err) {
			return err
		}
		return nil // it is told of in its own place
	}
	return w.chain.Add(before, ix, nil)
}

// segmentOn is the file that recovery on the way to a timeline reads a segment from.
func segmentOn(h wal.History, number uint64, size wal.SegmentSize) wal.Segment {
	tli := h.Timeline
	for _, span := range h.Path() {
		if span.Begin == 0 || size.Number(span.Begin) <= number {
			tli = span.Timeline
		}
	}
	return wal.Segment{Timeline: tli, Number: number, Size: size}
}
