package catalog

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
)

// Stretch is a run of segment numbers of a timeline, both inclusive.
type Stretch struct {
	Timeline    wal.TimelineID
	First, Last uint64
}

// listing is what is known of a timeline's segments. It is listed log by log, as
// the need arises (Snapshot.Unlisted): an archive can hold millions.
type listing struct {
	unit     uint64             // how many segments are listed at least: those of a log
	unlisted []Stretch          // whole units, ascending
	sealed   []Range            // runs of what is listed, ascending
	partials []archive.Entry    // those that are listed, ascending
	ends     map[uint64]wal.LSN // where the WAL in partial segments ends, as far as was asked; 0: it cannot be read
	live     []archive.LiveSegment
	// prints are the fingerprints of the sealed segments that are listed, by their
	// place in the log; 0: there is none.
	prints map[uint32][]uint64
}

// Unlisted returns, and forgets, the stretches of WAL that were asked about since it
// was called last and that have not been listed. Where there are any, what was answered is
// a guess: that all of it is there. Nobody may rely on it; list them (Needs.Lists) and ask again.
func (s *Snapshot) Unlisted() []Stretch {
	asked := s.asked
	s.asked = nil
	slices.SortFunc(asked, func(a, b Stretch) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var list []Stretch
	for _, a := range asked {
		if n := len(list); n > 0 && list[n-1].Timeline == a.Timeline && a.First <= list[n-1].Last+1 {
			list[n-1].Last = max(list[n-1].Last, a.Last)
			continue
		}
		list = append(list, a)
	}
	return list
}

// ask notes that an answer depends on which segments of a stretch there are.
func (s *Snapshot) ask(tli wal.TimelineID, first, last uint64) {
	i, ok := s.timelineIndex(tli)
	if !ok || s.Timelines[i].listing == nil {
		return
	}
	unit := s.Timelines[i].listing.unit
	for _, u := range s.Timelines[i].listing.unlisted {
		from, to := max(first, u.First), min(last, u.Last)
		if from > to {
			continue
		}
		a := Stretch{Timeline: tli, First: from / unit * unit, Last: to/unit*unit + unit - 1}
		if n := len(s.asked); n == 0 || s.asked[n-1] != a {
			s.asked = append(s.asked, a)
		}
	}
}

// listAhead is how many segments are listed at least where some are: about as
// many as a store tells of at once.
const listAhead = 1024

// list lists what has not been listed of stretches of timelines, and a little beyond.
func (r *Reader) list(ctx context.Context, timelines []*Timeline, stretches []Stretch) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listsAtOnce)
	var mu sync.Mutex // of the timelines
	for _, t := range timelines {
		var missing []Stretch
		for _, x := range stretches {
			x.Last = max(x.Last, x.First+listAhead-1)
			missing = append(missing, t.still(x)...)
		}
		for _, x := range r.blocks(missing) {
			g.Go(func() error {
				segments, partials, err := r.archive.Files(gctx, x.Timeline, x.First, x.Last)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				t.add(x, segments, partials)
				return nil
			})
		}
	}
	err := g.Wait()
	for _, t := range timelines {
		if t.listing != nil {
			if err := r.findPartialEnd(ctx, t); err != nil {
				return err
			}
			t.settle(r.inc.SegmentSize)
		}
	}
	return err
}

const (
	// blockKeys is about how many segments are listed by one call: what is held of them
	// until it returns is some hundred bytes each.
	blockKeys = 8 << 10
	// listsAtOnce is how many such calls there are at a time; each makes many requests.
	listsAtOnce = 8
)

// blocks cuts stretches of whole logs.
func (r *Reader) blocks(stretches []Stretch) []Stretch {
	per := r.inc.SegmentSize.SegmentsPerLog()
	size := max(blockKeys/per, 1) * per
	var list []Stretch
	for _, x := range stretches {
		for ; x.First <= x.Last; x.First += size {
			list = append(list, Stretch{Timeline: x.Timeline, First: x.First, Last: min(x.Last, x.First+size-1)})
		}
	}
	return list
}

// still is what of a stretch has not been listed.
func (t *Timeline) still(x Stretch) []Stretch {
	if t.listing == nil || x.Timeline != t.ID {
		return nil
	}
	var list []Stretch
	for _, u := range t.listing.unlisted {
		if from, to := max(u.First, x.First), min(u.Last, x.Last); from <= to {
			list = append(list, Stretch{Timeline: t.ID, First: from, Last: to})
		}
	}
	return list
}

// listAll lists stretches of a snapshot's timelines.
func (r *Reader) listAll(ctx context.Context, s *Snapshot, stretches []Stretch) error {
	var timelines []*Timeline
	for i := range s.Timelines {
		timelines = append(timelines, &s.Timelines[i])
	}
	err := r.list(ctx, timelines, stretches)
	s.markStranded()
	return err
}

// sketch begins a listing in units of so many segments: of the units that hold anything
// only the first and the last are known. All else is taken for present.
func (t *Timeline) sketch(first, last, unit uint64, live []archive.LiveSegment) {
	t.listing = &listing{
		unit:     unit,
		unlisted: []Stretch{{Timeline: t.ID, First: first, Last: last}},
		live:     live, prints: map[uint32][]uint64{},
	}
}

// add takes over what was listed of a stretch: whole logs.
func (t *Timeline) add(x Stretch, segments, partials []archive.Entry) {
	l := t.listing
	var left []Stretch
	for _, u := range l.unlisted {
		if u.Last < x.First || x.Last < u.First {
			left = append(left, u)
			continue
		}
		if u.First < x.First {
			left = append(left, Stretch{Timeline: t.ID, First: u.First, Last: x.First - 1})
		}
		if x.Last < u.Last {
			left = append(left, Stretch{Timeline: t.ID, First: x.Last + 1, Last: u.Last})
		}
	}
	l.unlisted = left
	for _, run := range archive.Runs(segments) {
		l.sealed = append(l.sealed, NewRange(t.ID, run.First, run.Last, segments[0].Segment.Size, run.Bytes))
	}
	for _, e := range segments {
		l.note(e)
	}
	l.partials = append(l.partials, partials...)
	slices.SortFunc(l.sealed, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	slices.SortFunc(l.partials, func(a, b archive.Entry) int { return cmp.Compare(a.Segment.Number, b.Segment.Number) })
}

// note keeps the fingerprint of a segment.
func (l *listing) note(e archive.Entry) {
	log, per := e.Segment.Log(), e.Segment.Size.SegmentsPerLog()
	if l.prints[log] == nil {
		l.prints[log] = make([]uint64, per)
	}
	l.prints[log][e.Segment.Number%per] = rollup.Fingerprint(e)
}

// fingerprint is that of a sealed segment, if it has been listed.
func (s *Snapshot) fingerprint(seg wal.Segment) (print uint64, ok bool) {
	i, ok := s.timelineIndex(seg.Timeline)
	if !ok || s.Timelines[i].listing == nil {
		return 0, false
	}
	log := s.Timelines[i].listing.prints[seg.Log()]
	if log == nil {
		return 0, false
	}
	print = log[seg.Number%seg.Size.SegmentsPerLog()]
	return print, print != 0
}

// settle makes Ranges, Partials and Live of what has been listed so far.
func (t *Timeline) settle(size wal.SegmentSize) {
	l := t.listing
	t.Ranges, t.Partials = slices.Clone(l.sealed), nil
	for _, u := range l.unlisted {
		r := NewRange(t.ID, u.First, u.Last, size, 0)
		r.assumed = true
		t.Ranges = append(t.Ranges, r)
	}
	if t.Ranges == nil {
		t.Ranges = []Range{}
	}
	for _, p := range l.partials {
		t.Partials = append(t.Partials, partialName(p.Segment))
	}
	t.SetLive(l.live)
	t.addPartial()
}
