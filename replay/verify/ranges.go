package verify

import (
	"slices"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// rangeOf is a stretch of WAL as a run of segments.
func rangeOf(x cut, size wal.SegmentSize) catalog.Range {
	r := catalog.NewRange(x.timeline, size.Number(x.from), size.PrevNumber(x.to), size, 0)
	r.End = x.to
	return r
}

// join makes unbroken runs of runs that may overlap. Where one ends inside a segment,
// nothing but what overlaps it can go on.
func join(list []catalog.Range) []catalog.Range {
	slices.SortFunc(list, func(a, b catalog.Range) int { return compareLSN(a.Start, b.Start) })
	var out []catalog.Range
	for _, r := range list {
		n := len(out)
		if n == 0 || r.Start > out[n-1].End && r.First > out[n-1].Last {
			out = append(out, r)
			continue
		}
		last := &out[n-1]
		if r.End > last.End {
			last.End, last.Last, last.LastName = r.End, r.Last, r.LastName
			last.Segments = last.Last - last.First + 1
		}
	}
	return out
}

// take removes a stretch of WAL from runs. A segment of which the beginning is left ends
// there; of one of which only the end would be left nothing is.
func take(list []catalog.Range, x cut, size wal.SegmentSize) []catalog.Range {
	var out []catalog.Range
	for _, r := range list {
		if x.to <= r.Start || x.from >= r.End {
			out = append(out, r)
			continue
		}
		if x.from > r.Start {
			out = append(out, rangeOf(cut{r.Timeline, r.Start, x.from}, size))
		}
		next := size.Number(x.to + wal.LSN(size.Bytes()) - 1)
		if x.to < r.End && next <= r.Last {
			out = append(out, rangeOf(cut{r.Timeline, wal.Segment{Timeline: r.Timeline, Number: next, Size: size}.Start(), r.End}, size))
		}
	}
	return out
}
