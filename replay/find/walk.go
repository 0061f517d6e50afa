package find

import (
	"context"
	"fmt"
	"maps"
	"sort"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// walk goes over the segments of a stretch in order.
type walk struct {
	*run
	st   *stretch
	scan *scan

	joiner *index.Joiner
	prev   *index.Index // the segment before, if it was read
	number uint64       // of the last segment, read or not
	any    bool
	late   bool
}

// resume begins with what was open on the parent timeline.
func (w *walk) resume(b *branch) {
	w.scan.pending, w.scan.kept = b.pending, b.kept
	w.scan.names.aliases, w.scan.names.renames = b.aliases, b.renames
	if b.before != nil {
		w.joiner = &index.Joiner{}
		if _, err := w.joiner.Add(b.before); err != nil {
			w.joiner = nil
			return
		}
		w.prev, w.number, w.any = b.before, b.before.Segment.Number, true
	}
}

// segment takes the next segment's index, or why there is none.
func (w *walk) segment(seg wal.Segment, ix *index.Index, unreadable error) error {
	w.sum.Segments++
	if w.any && seg.Number != w.number+1 {
		w.missing(catalog.NewGap(wal.Segment{Timeline: seg.Timeline, Number: w.number + 1, Size: seg.Size}, seg.Number-1, ""))
	}
	w.branchOff(seg.Number)
	first := !w.any
	w.number, w.any = seg.Number, true
	if unreadable != nil {
		w.missing(catalog.NewGap(seg, seg.Number, unreadable.Error()))
		return nil
	}
	joined, err := w.join(ix)
	if err != nil {
		return err
	}
	if first && ix.FirstPrev == 0 && ix.FirstRecord != 0 && joined == nil {
		w.scan.pending.known = true // the very beginning of the cluster's WAL
	}
	w.prev = ix
	w.sum.Omitted += ix.Omitted.Effects
	w.sum.LargestOmitted = max(w.sum.LargestOmitted, ix.Omitted.Largest)
	w.scan.begin = w.begin(seg)
	if err := w.scan.segment(ix, joined); err != nil {
		return err
	}
	if to := w.o.To; !to.IsZero() && !ix.MinTime.IsZero() && ix.MinTime.After(to.Add(disorder)) {
		w.late = true
		return errLate
	}
	return nil
}

// begin is the first position whose events are told. In the segment in which the
// timeline branched off, its parent's part is told with the parent, if that one's
// file is there.
func (w *walk) begin(seg wal.Segment) wal.LSN {
	parent := wal.Segment{Timeline: w.st.timeline.Parent, Number: seg.Number, Size: seg.Size}
	if w.st.begin > seg.Start() && w.st.begin < seg.End() && !w.Snapshot.Has(parent) {
		return seg.Start()
	}
	return w.st.begin
}

// join joins the segment to the one before; nil: there is none, or it does not fit.
func (w *walk) join(ix *index.Index) (*index.Joined, error) {
	if w.joiner != nil {
		joined, err := w.joiner.Add(ix)
		if err == nil {
			return joined, nil
		}
		w.missing(catalog.NewGap(ix.Segment, ix.Segment.Number, err.Error()))
	}
	w.joiner = &index.Joiner{}
	if _, err := w.joiner.Add(ix); err != nil {
		return nil, fmt.Errorf("segment %s: %w", ix.Segment.Name(), err) // it had nothing to disagree with
	}
	return nil, nil
}

// missing takes note of WAL that cannot be looked at.
func (w *walk) missing(g catalog.Gap) {
	w.gap(g)
	w.joiner, w.prev = nil, nil
	w.scan.gap()
}

// branchOff remembers what is open for the timelines that leave this one in the segment
// with a number, or with 0 in the one after the last.
func (w *walk) branchOff(number uint64) {
	if number == 0 {
		number = w.number + 1
	}
	for _, st := range w.list {
		t := st.timeline
		if t.Parent != w.st.timeline.ID || w.branches[t.ID] != nil || w.Snapshot.SegmentSize.Number(t.Switch) != number {
			continue
		}
		if w.prev == nil || w.prev.Segment.Number+1 != number {
			continue
		}
		known := w.scan.names
		w.branches[t.ID] = &branch{
			pending: w.scan.pending.clone(), kept: w.scan.kept, before: w.prev, aliases: maps.Clone(known.aliases),
			renames: renames{last: maps.Clone(known.renames.last), since: known.renames.since},
		}
	}
}

// firstAt is the place in the list of the first segment with a time at or after t: by
// bisection, as times ascend but for small disorder.
func (r *run) firstAt(ctx context.Context, segs segmentList, t time.Time) (int, error) {
	var failed error
	i := sort.Search(segs.len(), func(i int) bool {
		if failed != nil {
			return true
		}
		at, err := r.timeNear(ctx, segs, i)
		if err != nil {
			failed = err
		}
		// Where nothing tells, it may be as late as wanted.
		return at.IsZero() || !at.Before(t)
	})
	return i, failed
}

// timeNear is the latest time that a segment tells, or if it tells none, one of the next.
func (r *run) timeNear(ctx context.Context, segs segmentList, i int) (time.Time, error) {
	const near = 16
	var latest time.Time
	var list []wal.Segment
	for ; i < segs.len() && len(list) < near; i++ {
		list = append(list, segs.at(i))
		if len(list) > 1 && len(list) < near && i+1 < segs.len() {
			continue // one alone, then the others at once
		}
		err := r.Read(ctx, list, func(_ wal.Segment, ix *index.Index, err error) error {
			if err == nil && latest.IsZero() {
				latest = latestTime(ix)
			}
			return nil
		})
		if err != nil || !latest.IsZero() {
			return latest, err
		}
	}
	return latest, nil
}

// latestTime is the latest that a segment's records tell.
func latestTime(ix *index.Index) time.Time {
	t := ix.MaxTime
	for _, l := range ix.Landmarks {
		if l.Time.After(t) {
			t = l.Time
		}
	}
	return t
}
