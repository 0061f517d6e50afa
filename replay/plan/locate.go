package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// sighting is an occurrence of what the target names, and the timeline whose
// WAL it lies in.
type sighting struct {
	hit
	timeline wal.TimelineID
}

// locate finds the one record on the path that the target names. The error
// refuses the target, or is errNeeds.
func (d *decision) locate(g group) (hit, error) {
	last, _ := d.s.LastOn(g.path)
	to := last
	var seen []sighting
	// Newest WAL first: a transaction is looked for in older WAL only if it is
	// not in newer. A name must be looked for everywhere, since it may not be unique.
	for _, c := range g.candidates {
		from := d.s.SegmentSize.Number(c.backup.StartLSN)
		if from > to {
			continue
		}
		list, err := d.sightings(g.path, from, to)
		if err != nil {
			return hit{}, err
		}
		list = slices.DeleteFunc(list, func(x sighting) bool { return x.lsn < c.backup.StartLSN })
		seen = unique(append(list, seen...))
		if len(seen) > 0 && d.t.Kind == XID {
			return seen[len(seen)-1].hit, nil
		}
		to = from // once more: a record that crosses into it is seen from before
	}
	switch len(seen) {
	case 1:
		return seen[0].hit, nil
	case 0:
		return hit{}, d.notLocated(g)
	}
	return hit{}, d.ambiguous(seen)
}

// unique puts sightings in order and drops those seen twice.
func unique(list []sighting) []sighting {
	slices.SortStableFunc(list, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.timeline, b.timeline))
	})
	return slices.CompactFunc(list, func(a, b sighting) bool { return a.lsn == b.lsn && a.timeline == b.timeline })
}

// sightings looks through the segments numbered from to to along a path, over
// holes and damaged segments. The error is errNeeds.
func (d *decision) sightings(p catalog.Path, from, to uint64) ([]sighting, error) {
	var list []sighting
	for n := from; n <= to; {
		w := d.newWalk(p, n, to)
		for w.next <= to {
			ok, _, err := w.step()
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			found, err := d.match(w)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
		n = d.resume(w, to)
	}
	return list, nil
}

// resume is the number to go on at where a walk has ended before to.
func (d *decision) resume(w *walk, to uint64) uint64 {
	seg := w.path.Segment(w.next)
	switch {
	case w.next > to:
		return w.next
	case !d.s.Has(seg):
		gap, _ := d.s.FirstHole(w.path, w.next, to)
		return d.s.SegmentSize.Number(gap.End)
	case d.s.Details.Unreadable[seg] != "":
		return w.next + 1
	}
	return w.next // it does not continue the one before: a new walk begins here
}

// match finds what the target names in the walk's current segment.
func (d *decision) match(w *walk) ([]sighting, error) {
	var list []sighting
	add := func(h hit) {
		h.exact = true
		list = append(list, sighting{h, w.path.TimelineAt(h.lsn)})
	}
	if d.t.Kind == Name {
		for _, l := range w.landmarks() {
			if l.Kind == index.RestorePoint && l.Name == d.t.Name {
				add(hit{lsn: l.LSN, end: l.End, landmark: &l})
			}
		}
		return list, nil
	}
	x := d.t.XID
	tx, err := w.firstTransaction(
		func(ix *index.Index) bool { return ix.MinXID <= x && x <= ix.MaxXID },
		func(t index.Transaction) bool { return t.XID == x && t.Kind.Ends() })
	if tx != nil {
		add(hit{lsn: tx.LSN, end: tx.End, tx: tx})
	}
	return list, err
}

// notLocated explains where else what the target names is, if anywhere.
func (d *decision) notLocated(g group) error {
	for _, t := range d.s.Timelines {
		p, err := d.s.Path(t.ID)
		if err != nil || len(t.Ranges) == 0 {
			continue
		}
		list, err := d.sightings(p, t.Ranges[0].First, t.Ranges[len(t.Ranges)-1].Last)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return d.locatedElsewhere(g, p, list[len(list)-1])
		}
	}
	return d.nowhere(g)
}

// locatedElsewhere refuses a target that lies beside the path, or before all backups.
func (d *decision) locatedElsewhere(g group, p catalog.Path, x sighting) error {
	where := fmt.Sprintf("it is at %s", x.lsn)
	if at := x.time(); at != nil {
		where += " (" + FormatTime(*at) + ")"
	}
	if g.path.TimelineAt(x.lsn) != x.timeline {
		return d.unreachable(
			fmt.Sprintf("%s on timeline %s, which is not on the way to timeline %s (%s)", where, x.timeline, g.path.Timeline, g.path),
			fmt.Sprintf("Ask for --timeline %s", p.Timeline))
	}
	// The younger copy of the segment that a timeline was left in may be missing.
	if seg := g.path.Segment(d.s.SegmentSize.Number(x.lsn)); !d.s.Has(seg) {
		return d.unreachable(
			fmt.Sprintf("%s, and the way to timeline %s reads that position from WAL segment %s, which is missing from the archive", where, g.path.Timeline, seg.Name()),
			fmt.Sprintf("Ask for --timeline %s", p.Timeline))
	}
	after, err := d.firstMoment(g, 0)
	if err != nil {
		return err
	}
	e := d.unreachable(where+", before every backup that leads there", "")
	e.After = after
	return e
}

// nowhere refuses a target that is in no WAL that can be read.
func (d *decision) nowhere(g group) error {
	reason, advice := "", ""
	if d.t.Kind == XID {
		reason = "no commit or rollback of it is in the archived WAL"
		advice = "Ids of subtransactions, and of transactions that only read, are never found; " +
			"a prepared transaction counts from its COMMIT PREPARED or ROLLBACK PREPARED"
	} else {
		reason = "no restore point of that name is in the archived WAL"
		if names := d.names(); len(names) > 0 {
			advice = "There are restore points named " + strings.Join(names, ", ")
		}
	}
	if gaps := d.s.Gaps(); len(gaps) > 0 {
		reason += "; but the archive has holes in which it may have been: " + catalog.DescribeGaps(gaps)
	}
	e := d.unreachable(reason, advice)
	before, err := d.end(g)
	e.Before = before
	if err != nil {
		return err
	}
	return e
}

// names are those of restore points that are known, the last few.
func (d *decision) names() []string {
	type named struct {
		lsn  wal.LSN
		name string
	}
	var list []named
	for _, ix := range d.s.Details.Indexes {
		for _, l := range ix.Landmarks {
			if l.Kind == index.RestorePoint {
				list = append(list, named{l.LSN, l.Name})
			}
		}
	}
	slices.SortFunc(list, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, n := range slices.Backward(list) {
		if q := strconv.Quote(n.name); !slices.Contains(names, q) && len(names) < 5 {
			names = append(names, q)
		}
	}
	slices.Reverse(names)
	return names
}
