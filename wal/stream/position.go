package stream

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// lookBack is how many segments before the end of the archived WAL are
// searched for holes. Complete segments are uploaded in parallel, so that a
// receiver that was killed can leave holes, but none further back than its journal reached.
const lookBack = 128

// inventory is what the archive holds of the timelines on the way to a
// server's current one.
type inventory struct {
	size wal.SegmentSize
	path []wal.Span
	// covered are the unbroken stretches that recovery on the path could read,
	// in order: of each timeline what no younger one has to provide.
	covered []archive.Extent
	// live are the segments that have fragments and are not sealed.
	live map[wal.Segment]archive.LiveSegment
	// sealed are the unbroken runs of segments that were listed.
	sealed map[wal.TimelineID][]archive.Range
}

// takeInventory lists the archive. near is the server's position: only the
// segments about it are listed, unless there are none.
func takeInventory(ctx context.Context, a *archive.Archive, h wal.History, near wal.LSN) (*inventory, error) {
	v := &inventory{
		size: a.Incarnation().SegmentSize, path: h.Path(),
		live: map[wal.Segment]archive.LiveSegment{}, sealed: map[wal.TimelineID][]archive.Range{},
	}
	if err := v.list(ctx, a, near); err != nil {
		return nil, err
	}
	for _, runs := range v.sealed {
		if len(runs) > 0 {
			return v, nil
		}
	}
	// What there is of segments lies far back, if anywhere.
	return v, v.list(ctx, a, 0)
}

// list takes in the segments near a position; 0: all.
func (v *inventory) list(ctx context.Context, a *archive.Archive, near wal.LSN) error {
	first, last := uint64(0), uint64(archive.LastSegment)
	if near != 0 {
		per := v.size.SegmentsPerLog()
		at := v.size.Number(near)
		first, last = at-min(at, 4*per), at+per
	}
	v.covered = nil
	for i, span := range v.path {
		// Fragments first: one that is replaced by its segment meanwhile is then
		// seen twice rather than not at all.
		live, err := a.Live(ctx, span.Timeline)
		if err != nil {
			return err
		}
		entries, err := a.Segments(ctx, span.Timeline, first, last)
		if err != nil {
			return err
		}
		runs := archive.Runs(entries)
		v.sealed[span.Timeline] = runs
		for _, l := range live {
			if !v.isSealed(l.Segment) {
				v.live[l.Segment] = l
			}
		}
		v.cover(i, archive.Extents(span.Timeline, v.size, runs, live))
	}
	return nil
}

// cover adds the extents of the i-th timeline of the path, as far as its own
// files are read there: the segment that holds a switch is the younger timeline's.
func (v *inventory) cover(i int, extents []archive.Extent) {
	begin, end := v.fileRange(i)
	for _, e := range extents {
		e.Begin, e.End = max(e.Begin, begin), min(e.End, end)
		if e.Begin >= e.End {
			continue
		}
		if n := len(v.covered); n > 0 && v.covered[n-1].End == e.Begin {
			// Joined across timelines too: what matters is the hole behind it.
			v.covered[n-1].End, v.covered[n-1].Timeline = e.End, e.Timeline
			continue
		}
		v.covered = append(v.covered, e)
	}
	slices.SortFunc(v.covered, func(x, y archive.Extent) int { return cmp.Compare(x.Begin, y.Begin) })
}

// fileRange are the positions that are read from the files of the i-th
// timeline of the path.
func (v *inventory) fileRange(i int) (begin, end wal.LSN) {
	end = math.MaxUint64
	if i > 0 {
		begin = v.segmentStart(v.path[i].Begin)
	}
	if i+1 < len(v.path) {
		end = v.segmentStart(v.path[i+1].Begin)
	}
	return begin, end
}

func (v *inventory) segmentStart(l wal.LSN) wal.LSN { return segmentStart(v.size, l) }

// segmentStart is where the segment begins that holds the byte at l, on any timeline.
func segmentStart(size wal.SegmentSize, l wal.LSN) wal.LSN { return l &^ (wal.LSN(size) - 1) }

// timelineAt is the timeline whose file holds the segment that begins at l.
func (v *inventory) timelineAt(l wal.LSN) wal.TimelineID {
	for i := len(v.path) - 1; i > 0; i-- {
		if begin, _ := v.fileRange(i); l >= begin {
			return v.path[i].Timeline
		}
	}
	return v.path[0].Timeline
}

// timelineOf is timelineAt on a history's path, for an inventory that may be nil.
func timelineOf(size wal.SegmentSize, h wal.History, l wal.LSN) wal.TimelineID {
	return (&inventory{size: size, path: h.Path()}).timelineAt(l)
}

// start is a place where receiving can go on.
type start struct {
	timeline wal.TimelineID
	// at is where to begin: a segment's start, or where the journal ends.
	at wal.LSN
	// missing is the first byte that is not archived, and next the first that
	// is there again; 0: nothing is.
	missing, next wal.LSN
}

// starts lists where receiving can go on: at the holes near the end of what is
// archived, oldest first, then at its end. None: nothing is archived.
func (v *inventory) starts() []start {
	n := len(v.covered)
	if n == 0 {
		return nil
	}
	floor := v.covered[n-1].End - min(v.covered[n-1].End, wal.LSN(lookBack*uint64(v.size)))
	var list []start
	for i, e := range v.covered {
		if i < n-1 && e.End < floor {
			continue
		}
		s := start{at: v.segmentStart(e.End), missing: e.End}
		if i < n-1 {
			s.next = v.covered[i+1].Begin
		}
		s.timeline = v.timelineAt(s.at)
		if again, ok := v.before(s); ok {
			list = append(list, again)
		}
		list = append(list, s)
	}
	return list
}

// before is the start of the segment before s, if that is sealed: where nothing
// of a segment is archived yet, receiving the one before it again shows whether the
// server's WAL is that of the archive. A server that has removed it need not send it.
func (v *inventory) before(s start) (start, bool) {
	if s.at != s.missing || s.at < wal.LSN(v.size) {
		return start{}, false
	}
	at := s.at - wal.LSN(v.size)
	seg := wal.SegmentAt(s.timeline, at, v.size)
	if v.timelineAt(at) != s.timeline || !v.isSealed(seg) {
		return start{}, false
	}
	return start{timeline: s.timeline, at: at, missing: s.missing, next: s.missing}, true
}

// isSealed reports whether a segment is archived as one, as far as was listed.
func (v *inventory) isSealed(seg wal.Segment) bool {
	return slices.ContainsFunc(v.sealed[seg.Timeline], func(r archive.Range) bool {
		return seg.Number >= r.First && seg.Number <= r.Last
	})
}

// describe tells a segment that is being begun what the archive has of it.
func (v *inventory) describe(s *openSegment) {
	if v == nil {
		return
	}
	s.presealed = v.isSealed(s.seg)
	if !s.presealed {
		s.existing = usable(v.live[s.seg])
	}
}

// usable are the fragments that cover a segment's beginning without a hole.
func usable(l archive.LiveSegment) []archive.StoredFragment {
	covered := l.Covered()
	var list []archive.StoredFragment
	for _, f := range l.Fragments {
		if f.From <= covered {
			list = append(list, f)
		}
	}
	return list
}
