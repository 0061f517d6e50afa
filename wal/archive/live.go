package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

// StoredFragment is a fragment that is there.
type StoredFragment struct {
	Fragment
	// Size is that of the stored object in bytes, ModTime when it was stored.
	Size    int64
	ModTime time.Time
}

// LiveSegment is a segment of which fragments are there. It may be sealed
// already: then its object outranks them, and they are to be removed.
type LiveSegment struct {
	Segment wal.Segment
	// Fragments are in the order of their beginnings, the longer of two that
	// begin at one place first. They may overlap.
	Fragments []StoredFragment
}

// Covered is how many bytes of the segment are there without a hole, from its start on.
func (l LiveSegment) Covered() int64 {
	covered := int64(0)
	for _, f := range l.Fragments {
		if f.From > covered {
			break
		}
		covered = max(covered, f.To)
	}
	return covered
}

// End is the position up to which the segment's WAL is there without a hole.
func (l LiveSegment) End() wal.LSN { return l.Segment.Start() + wal.LSN(l.Covered()) }

// Complete reports whether the fragments cover the whole segment.
func (l LiveSegment) Complete() bool { return l.Covered() == l.Segment.Size.Bytes() }

// HasHole reports whether there are fragments behind a hole, which nobody can use.
func (l LiveSegment) HasHole() bool {
	n := len(l.Fragments)
	return n > 0 && l.Fragments[n-1].From > l.Covered()
}

// StoredBytes is what the fragments occupy.
func (l LiveSegment) StoredBytes() int64 {
	n := int64(0)
	for _, f := range l.Fragments {
		n += f.Size
	}
	return n
}

// order sorts the fragments as LiveSegment wants them.
func (l *LiveSegment) order() {
	slices.SortFunc(l.Fragments, func(x, y StoredFragment) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(y.To, x.To))
	})
}

// Live lists the segments of a timeline that have fragments, in order. They are
// few: what is sealed loses its fragments.
func (a *Archive) Live(ctx context.Context, tli wal.TimelineID) ([]LiveSegment, error) {
	return a.listLive(ctx, liveTimelinePrefix(a.inc, tli), "")
}

// LiveSegment lists the fragments of one segment; none is no error.
func (a *Archive) LiveSegment(ctx context.Context, seg wal.Segment) (LiveSegment, error) {
	list, err := a.listLive(ctx, liveSegmentPrefix(a.inc, seg), "")
	if err != nil || len(list) == 0 {
		return LiveSegment{Segment: seg}, err
	}
	return list[0], nil
}

func (a *Archive) listLive(ctx context.Context, prefix, after string) ([]LiveSegment, error) {
	var list []LiveSegment
	for info, err := range a.repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list fragments: %w", err)
		}
		f, ok := a.FragmentOf(info.Key)
		if !ok {
			continue
		}
		n := len(list)
		if n == 0 || list[n-1].Segment != f.Segment {
			list = append(list, LiveSegment{Segment: f.Segment})
			n++
		}
		s := &list[n-1]
		s.Fragments = append(s.Fragments, StoredFragment{Fragment: f, Size: info.Size, ModTime: info.ModTime})
	}
	for i := range list {
		list[i].order()
	}
	return list, nil
}

// liveTimelines lists the timelines that have fragments.
func (a *Archive) liveTimelines(ctx context.Context) ([]wal.TimelineID, error) {
	var tlis []wal.TimelineID
	for e, err := range storage.Directories(ctx, a.repo.Store(), livePrefix(a.inc)) {
		if err != nil {
			return nil, fmt.Errorf("list timelines: %w", err)
		}
		if n, ok := parseHex8(e.Name); ok && e.IsDir && n != 0 {
			tlis = append(tlis, wal.TimelineID(n))
		}
	}
	return tlis, nil
}

// Extent is an unbroken stretch of WAL that is archived, in segments or fragments.
type Extent struct {
	Timeline   wal.TimelineID
	Begin, End wal.LSN
}

// Extents are the unbroken stretches of a timeline's WAL, in order: its
// segments, and what fragments add to them down to the byte. live is what Live
// returned, ranges what Ranges did.
func Extents(tli wal.TimelineID, size wal.SegmentSize, ranges []Range, live []LiveSegment) []Extent {
	var all []Extent
	for _, r := range ranges {
		first := wal.Segment{Timeline: tli, Number: r.First, Size: size}
		last := wal.Segment{Timeline: tli, Number: r.Last, Size: size}
		all = append(all, Extent{Timeline: tli, Begin: first.Start(), End: last.End()})
	}
	for _, l := range live {
		if l.Covered() > 0 {
			all = append(all, Extent{Timeline: tli, Begin: l.Segment.Start(), End: l.End()})
		}
	}
	slices.SortFunc(all, func(x, y Extent) int { return cmp.Or(cmp.Compare(x.Begin, y.Begin), cmp.Compare(x.End, y.End)) })
	var joined []Extent
	for _, e := range all {
		if n := len(joined); n > 0 && e.Begin <= joined[n-1].End {
			joined[n-1].End = max(joined[n-1].End, e.End)
			continue
		}
		joined = append(joined, e)
	}
	return joined
}

// Extents lists a timeline and joins what it finds: see the function Extents.
func (a *Archive) Extents(ctx context.Context, tli wal.TimelineID) ([]Extent, error) {
	// Fragments first: one that is replaced by its segment meanwhile is then seen twice
	// rather than not at all.
	live, err := a.Live(ctx, tli)
	if err != nil {
		return nil, err
	}
	ranges, err := a.Ranges(ctx, tli)
	if err != nil {
		return nil, err
	}
	return Extents(tli, a.inc.SegmentSize, ranges, live), nil
}
