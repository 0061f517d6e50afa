package catalog

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/walden-pg/walden/wal"
)

// RunEnd is the last segment number of the unbroken run of archived WAL along
// the path that begins at number from; ok is false if that one is missing
// itself. A segment that is open (IsOpen) ends the run. To find it takes a
// listing of the whole run: see RunWithin.
func (s *Snapshot) RunEnd(p Path, from uint64) (last uint64, ok bool) {
	return s.RunWithin(p, from, math.MaxUint64)
}

// RunWithin is RunEnd, or limit where the run goes beyond it.
func (s *Snapshot) RunWithin(p Path, from, limit uint64) (last uint64, ok bool) {
	for n := from; n <= limit; n = last + 1 {
		seg := p.Segment(n)
		r, have := s.rangeOf(seg)
		if !have {
			return last, ok
		}
		last, ok = min(r.Last, limit), true
		for i, sp := range p.Spans {
			if sp.Timeline != seg.Timeline {
				continue
			}
			if _, end := p.files(i); last >= end {
				last = end - 1
			}
		}
		s.ask(seg.Timeline, n, last)
		if last == math.MaxUint64 || s.IsOpen(p.Segment(last)) {
			return last, true
		}
	}
	return last, ok
}

// LastOn is the highest number of a segment along the path of which anything is
// archived, whatever is missing before it.
func (s *Snapshot) LastOn(p Path) (number uint64, ok bool) {
	for i := len(p.Spans) - 1; i >= 0; i-- {
		s.eachOn(p, i, func(_, last uint64) { number, ok = max(number, last), true })
		if ok {
			s.ask(p.Spans[i].Timeline, number, number)
			return number, true
		}
	}
	return 0, false
}

// firstOn is the lowest such number.
func (s *Snapshot) firstOn(p Path) (number uint64, ok bool) {
	for i := range p.Spans {
		s.eachOn(p, i, func(first, _ uint64) {
			if !ok || first < number {
				number, ok = first, true
			}
		})
		if ok {
			s.ask(p.Spans[i].Timeline, number, number)
			return number, true
		}
	}
	return 0, false
}

// eachOn calls do with the runs of segments, of which anything is there, that are
// read from the files of span i's timeline.
func (s *Snapshot) eachOn(p Path, i int, do func(first, last uint64)) {
	t, ok := s.Timeline(p.Spans[i].Timeline)
	if !ok {
		return
	}
	begin, end := p.files(i)
	run := func(first, last uint64) {
		if first < end && last >= begin {
			do(max(first, begin), min(last, end-1))
		}
	}
	for _, r := range t.Ranges {
		run(r.First, r.Last)
	}
	for _, l := range t.Live {
		if l.Broken != "" {
			run(l.Number, l.Number)
		}
	}
}

// Gap is a stretch of WAL that is not archived, before WAL that is.
type Gap struct {
	// Timeline is that of the files that are missing.
	Timeline wal.TimelineID `json:"timeline"`
	// First and Last are the names of the first and the last segment of which
	// something is missing.
	First string `json:"first"`
	Last  string `json:"last"`
	// Start is the first position that is missing, End the first that is there again. Start
	// lies inside the first segment where its beginning is there in fragments.
	Start    wal.LSN `json:"start_lsn"`
	End      wal.LSN `json:"end_lsn"`
	Segments uint64  `json:"segments"`
	// Damaged, if not empty, says that the segments are there but cannot be used, and why.
	Damaged string `json:"damaged,omitempty"`

	inside bool // Start lies inside the first segment
}

// NewGap is the gap of the segments numbered first to last.
func NewGap(first wal.Segment, last uint64, damaged string) Gap {
	end := wal.Segment{Timeline: first.Timeline, Number: last, Size: first.Size}
	return Gap{
		Timeline: first.Timeline, First: first.Name(), Last: end.Name(),
		Start: first.Start(), End: end.End(), Segments: last - first.Number + 1, Damaged: damaged,
	}
}

// String says which segments are missing, as part of a sentence.
func (g Gap) String() string {
	from := ""
	if g.inside {
		from = fmt.Sprintf(" from %s on", g.Start)
	}
	what, verb := "WAL segment "+g.First+from, "is"
	if g.Segments > 1 {
		what, verb = fmt.Sprintf("WAL segments %s%s to %s (%d)", g.First, from, g.Last, g.Segments), "are"
	}
	if g.Damaged != "" {
		return fmt.Sprintf("%s cannot be used: %s", what, g.Damaged)
	}
	return fmt.Sprintf("%s %s missing from the archive", what, verb)
}

// DescribeGaps puts gaps into a part of a sentence.
func DescribeGaps(gaps []Gap) string {
	parts := make([]string, len(gaps))
	for i, g := range gaps {
		parts[i] = g.String()
	}
	return strings.Join(parts, "; ")
}

// gap is the gap of the segments numbered from first's to last, of the first of
// which the beginning may be there.
func (s *Snapshot) gap(first wal.Segment, last uint64) Gap {
	g := NewGap(first, last, "")
	if l, ok := s.LiveSegment(first); ok && l.End > l.Start {
		g.Start, g.inside = l.End, true
	}
	return g
}

// Holes are the gaps along the path among the segments numbered from to to. The
// end of the one numbered to may be missing: that is no gap.
func (s *Snapshot) Holes(p Path, from, to uint64) []Gap {
	var gaps []Gap
	for n := from; n <= to; {
		g, next, ok := s.nextHole(p, n, to)
		if ok {
			gaps = append(gaps, g)
		}
		n = next
	}
	return gaps
}

// FirstHole is the first of Holes; ok is false if there is none. What lies behind it
// is not looked at.
func (s *Snapshot) FirstHole(p Path, from, to uint64) (g Gap, ok bool) {
	for n := from; n <= to && !ok; {
		g, n, ok = s.nextHole(p, n, to)
	}
	return g, ok
}

// nextHole is the hole behind the run that begins at n, if any, and the number to
// go on at.
func (s *Snapshot) nextHole(p Path, n, to uint64) (g Gap, next uint64, ok bool) {
	first := n
	if last, ok := s.RunWithin(p, n, to); ok {
		first, n = last, last+1
		if n > to || !s.IsOpen(p.Segment(last)) {
			return Gap{}, n, false
		}
	}
	// What is missing begins in the segment numbered first, and n is the one that may be missing whole.
	if seg := p.Segment(n); seg.Timeline == p.Segment(first).Timeline && !s.Has(seg) {
		n = s.nextPresent(p, n, to)
	}
	return s.gap(p.Segment(first), n-1), n, true
}

// Missing are the gaps in what recovery along the path reads from a position
// to another, down to the byte.
func (s *Snapshot) Missing(p Path, from, to wal.LSN) []Gap {
	last := s.SegmentSize.PrevNumber(to)
	gaps := s.Holes(p, s.SegmentSize.Number(from), last)
	if seg := p.Segment(last); s.Has(seg) && s.EndOf(seg) < to {
		gaps = append(gaps, s.gap(seg, last))
	}
	return gaps
}

// Gaps are the holes in the WAL on the way to all timelines, each told once.
func (s *Snapshot) Gaps() []Gap {
	var gaps []Gap
	for _, t := range s.Timelines {
		p, err := s.Path(t.ID)
		if err != nil { // its history cannot be read
			p = Path{Timeline: t.ID, Spans: []wal.Span{{Timeline: t.ID}}, size: s.SegmentSize}
		}
		first, ok := s.firstOn(p)
		if !ok {
			continue
		}
		last, _ := s.LastOn(p)
		for _, g := range s.Holes(p, first, last) {
			if !slices.ContainsFunc(gaps, g.within) {
				gaps = append(slices.DeleteFunc(gaps, func(o Gap) bool { return o.within(g) }), g)
			}
		}
	}
	return gaps
}

// within reports whether all that is missing in g is missing in o as well.
func (g Gap) within(o Gap) bool {
	return g.Timeline == o.Timeline && o.Start <= g.Start && g.End <= o.End
}

// nextPresent is the number after the missing run of one timeline that begins
// at n: of the next archived segment, of the first that another timeline's
// file holds, or to+1.
func (s *Snapshot) nextPresent(p Path, n, to uint64) uint64 {
	seg := p.Segment(n)
	next := to + 1
	for i, sp := range p.Spans {
		if _, end := p.files(i); sp.Timeline == seg.Timeline {
			next = min(next, end)
		}
	}
	if t, ok := s.Timeline(seg.Timeline); ok {
		for _, r := range t.Ranges {
			if r.First > n {
				if r.First < next {
					next = r.First
					s.ask(t.ID, next, next)
				}
				break
			}
		}
	}
	return next
}
