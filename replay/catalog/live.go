package catalog

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// Live is a segment that is not sealed, and of which there are fragments or, at the
// end of a timeline that was left, a partial segment.
type Live struct {
	// Segment is its file name, Number its number.
	Segment string `json:"segment"`
	Number  uint64 `json:"-"`
	// Start is its first position. End is the one up to which its bytes are there
	// without a hole.
	Start wal.LSN `json:"start_lsn"`
	End   wal.LSN `json:"end_lsn"`
	// Complete: the fragments hold all of it.
	Complete bool `json:"complete"`
	// Fragments is how many there are, StoredBytes what they occupy. Those that
	// overlap are counted each.
	Fragments   int   `json:"fragments"`
	StoredBytes int64 `json:"stored_bytes"`
	// Stranded: a timeline that is known branched off in or before this segment, so
	// that it is on the way to its own timeline alone.
	Stranded bool `json:"stranded"`
	// Broken says why recovery cannot be given the segment; "": it can. Bytes are missing
	// of which later ones are there.
	Broken string `json:"broken,omitempty"`
	// Partial: there are no fragments of it, but a .partial file: it ends a timeline that
	// was left, and nothing better of it is there.
	Partial bool `json:"partial,omitempty"`

	listed archive.LiveSegment
}

// newLive describes a segment as it was listed.
func newLive(l archive.LiveSegment) Live {
	x := Live{
		Segment: l.Segment.Name(), Number: l.Segment.Number, Start: l.Segment.Start(), End: l.End(),
		Complete: l.Complete(), Fragments: len(l.Fragments), StoredBytes: l.StoredBytes(), listed: l,
	}
	if next, ok := behindHole(l); ok {
		x.Broken = fmt.Sprintf("bytes %d to %d of segment %s are missing between its fragments", l.Covered(), next.From, x.Segment)
	}
	return x
}

// behindHole is the first fragment that begins behind a hole.
func behindHole(l archive.LiveSegment) (f archive.StoredFragment, ok bool) {
	i := slices.IndexFunc(l.Fragments, func(f archive.StoredFragment) bool { return f.From > l.Covered() })
	if i < 0 {
		return f, false
	}
	return l.Fragments[i], true
}

// usable reports whether recovery is given the segment, and can read something of it.
func (l Live) usable() bool {
	return l.Broken == "" && l.End-l.Start >= archive.MinCovered
}

// SetLive takes over the segments of which there are fragments, in order.
// Ranges and Partials must have been set: fragments of a segment that is sealed as
// well are outranked and not told of. What recovery can read of the others
// joins the Ranges.
func (t *Timeline) SetLive(list []archive.LiveSegment) {
	t.Live = nil
	last, any := t.lastNumber(list)
	for _, l := range list {
		if slices.ContainsFunc(t.Ranges, func(r Range) bool { return r.First <= l.Segment.Number && l.Segment.Number <= r.Last }) {
			continue
		}
		x := newLive(l)
		if any && x.Broken == "" && !x.Complete && x.Number < last {
			x.Broken = fmt.Sprintf("bytes %d to %d of segment %s are missing, and later segments are there", l.Covered(), l.Segment.Size, x.Segment)
		}
		t.Live = append(t.Live, x)
	}
	t.joinLive()
}

// lastNumber is that of the last segment of which anything is there, whole or not.
func (t *Timeline) lastNumber(list []archive.LiveSegment) (n uint64, any bool) {
	note := func(number uint64) { n, any = max(n, number), true }
	for _, r := range t.Ranges {
		note(r.Last)
	}
	for _, l := range list {
		note(l.Segment.Number)
		for _, name := range t.Partials {
			if f, err := wal.ParseFile(name, l.Segment.Size); err == nil {
				note(f.Segment.Number)
			}
		}
	}
	return n, any
}

// joinLive makes unbroken runs of the sealed segments and those in fragments.
func (t *Timeline) joinLive() {
	all := slices.Clone(t.Ranges)
	for _, l := range t.Live {
		if l.usable() {
			r := NewRange(t.ID, l.Number, l.Number, l.listed.Segment.Size, l.StoredBytes)
			r.End = l.End
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	t.Ranges = all[:0]
	for _, r := range all {
		if n := len(t.Ranges); n > 0 && t.Ranges[n-1].End == r.Start && t.Ranges[n-1].assumed == r.assumed {
			t.Ranges[n-1].extend(r)
			continue
		}
		t.Ranges = append(t.Ranges, r)
	}
}

// extend appends the run that follows without a hole.
func (r *Range) extend(next Range) {
	r.Last, r.LastName, r.End = next.Last, next.LastName, next.End
	r.Segments += next.Segments
	r.StoredBytes += next.StoredBytes
}

// broken reports whether a segment's fragments cannot be given to recovery.
func (t *Timeline) broken() bool {
	return slices.ContainsFunc(t.Live, func(l Live) bool { return l.Broken != "" })
}

// liveProblems are the holes among fragments. One is never left by a crash: something
// that was there has gone. That a segment is missing before others is a gap like any other.
func (t *Timeline) liveProblems(inc archive.Incarnation) []Problem {
	var list []Problem
	for _, l := range t.Live {
		if next, ok := behindHole(l.listed); ok {
			list = append(list, Problem{Object: archive.FragmentKey(inc, next.Fragment), Problem: "what comes before it has gone: " + l.Broken})
		}
	}
	return list
}

// markStranded finds the segments in fragments that no younger timeline's way leads over.
func (s *Snapshot) markStranded() {
	for _, t := range s.Timelines {
		p, err := s.Path(t.ID)
		if err != nil {
			continue
		}
		for i, sp := range p.Spans[:len(p.Spans)-1] {
			_, end := p.files(i)
			k, ok := s.timelineIndex(sp.Timeline)
			if !ok {
				continue
			}
			for j := range s.Timelines[k].Live {
				if l := &s.Timelines[k].Live[j]; l.Number >= end {
					l.Stranded = true
				}
			}
		}
	}
}

// LiveSegment is what is known of a segment that is not sealed and has
// fragments; ok is false for all others.
func (s *Snapshot) LiveSegment(seg wal.Segment) (l Live, ok bool) {
	t, ok := s.Timeline(seg.Timeline)
	if !ok {
		return Live{}, false
	}
	i := slices.IndexFunc(t.Live, func(l Live) bool { return l.Number == seg.Number })
	if i < 0 {
		return Live{}, false
	}
	return t.Live[i], true
}

// EndOf is where the archived bytes of a segment end that recovery is given
// (Has): its end, or for one in fragments perhaps a position before it.
func (s *Snapshot) EndOf(seg wal.Segment) wal.LSN {
	s.ask(seg.Timeline, seg.Number, seg.Number)
	if r, ok := s.rangeOf(seg); ok && r.Last == seg.Number {
		return r.End
	}
	return seg.End()
}

// IsOpen reports whether of a segment that recovery is given the end is missing.
func (s *Snapshot) IsOpen(seg wal.Segment) bool { return s.EndOf(seg) != seg.End() }
