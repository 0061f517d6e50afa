package catalog

import (
	"context"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// When a server is promoted it archives the segment that it was in on the timeline
// it leaves as a .partial file, which recovery never asks for. It can be the only
// copy of that timeline's end. Where nothing else of the segment is archived, sealed
// or in fragments, nor of a later one, recovery to the end of that timeline is given it
// under the segment's name (wal-get --partial).

func partialName(seg wal.Segment) string {
	return wal.File{Kind: wal.FilePartial, Segment: seg, Timeline: seg.Timeline}.Name()
}

// endsIn is the partial segment that a timeline ends in, if there is one.
func (l *listing) endsIn() (archive.Entry, bool) {
	if len(l.partials) == 0 {
		return archive.Entry{}, false
	}
	p := l.partials[len(l.partials)-1]
	n := p.Segment.Number
	for _, r := range l.sealed {
		if r.Last >= n {
			return archive.Entry{}, false
		}
	}
	for _, u := range l.unlisted {
		if u.Last >= n {
			return archive.Entry{}, false
		}
	}
	for _, f := range l.live {
		if f.Segment.Number >= n {
			return archive.Entry{}, false
		}
	}
	return p, true
}

// findPartialEnd reads where the WAL ends in the partial segment that a timeline
// ends in. One that cannot be read is left out of account.
func (r *Reader) findPartialEnd(ctx context.Context, t *Timeline) error {
	l := t.listing
	p, ok := l.endsIn()
	if _, known := l.ends[p.Segment.Number]; !ok || known {
		return nil
	}
	ix, err := r.archive.PartialIndex(ctx, p.Segment)
	if err != nil && archive.IsStoreFault(err) {
		return err
	}
	if l.ends == nil {
		l.ends = map[uint64]wal.LSN{}
	}
	l.ends[p.Segment.Number] = 0
	if err == nil {
		l.ends[p.Segment.Number] = ix.EndOfRecords
	}
	return nil
}

// addPartial appends the partial segment that the timeline ends in to Live and Ranges.
func (t *Timeline) addPartial() {
	p, ok := t.listing.endsIn()
	end := t.listing.ends[p.Segment.Number]
	if !ok || end <= p.Segment.Start() {
		return
	}
	x := Live{
		Segment: p.Segment.Name(), Number: p.Segment.Number, Start: p.Segment.Start(), End: end,
		StoredBytes: p.Size, Partial: true, listed: archive.LiveSegment{Segment: p.Segment},
	}
	t.Live = append(t.Live, x)
	r := NewRange(t.ID, x.Number, x.Number, p.Segment.Size, x.StoredBytes)
	r.End = x.End
	if n := len(t.Ranges); n > 0 && t.Ranges[n-1].End == r.Start && !t.Ranges[n-1].assumed {
		t.Ranges[n-1].extend(r)
		return
	}
	t.Ranges = append(t.Ranges, r)
}
