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
	ranges := d.searched(g)
	d.otherEpoch = nil
	var seen []sighting
	// Newest WAL first: a transaction is looked for in older WAL only if it is
	// not in newer, or its id can have come round since. A name must be looked for everywhere, since it may not be unique.
	for i, r := range ranges {
		ahead := ranges[i:]
		if d.t.Kind == XID {
			ahead = ahead[:min(len(ahead), i+firstSearch)]
		}
		list, err := d.sightings(g.path, ahead)
		if err != nil {
			return hit{}, err
		}
		list = slices.DeleteFunc(list, func(x sighting) bool { return x.lsn < r.start })
		if d.t.Kind == XID {
			if list, err = d.ofEpoch(g, r.candidate, list); err != nil {
				return hit{}, err
			}
		}
		seen = unique(append(list, seen...))
		if len(seen) > 0 && d.t.Kind == XID {
			older, err := d.mayRecur(g, r.candidate)
			if err != nil {
				return hit{}, err
			}
			if !older {
				break
			}
		}
	}
	switch len(seen) {
	case 1:
		return seen[0].hit, nil
	case 0:
		if d.otherEpoch != nil {
			return hit{}, d.ofOtherEpoch(*d.otherEpoch, d.otherXID)
		}
		return hit{}, d.notLocated(g)
	}
	return hit{}, d.ambiguous(seen)
}

// firstSearch is how many ranges are looked through at once at first. It grows with
// those that were looked through in vain.
const firstSearch = 4

// searchRange is WAL to look through: the segments numbered from to to, for what
// lies at start or later, the start of the candidate of this number.
type searchRange struct {
	from, to  uint64
	start     wal.LSN
	candidate int
}

// searched is the WAL from each backup to the next, newest first.
func (d *decision) searched(g group) []searchRange {
	to, _ := d.s.LastOn(g.path)
	var list []searchRange
	for i, c := range g.candidates {
		from := d.s.SegmentSize.Number(c.backup.StartLSN)
		if from > to {
			continue
		}
		list = append(list, searchRange{from, to, c.backup.StartLSN, i})
		to = from // once more: a record that crosses into it is seen from before
	}
	return list
}

// unique puts sightings in order and drops those seen twice.
func unique(list []sighting) []sighting {
	slices.SortStableFunc(list, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.timeline, b.timeline))
	})
	return slices.CompactFunc(list, func(a, b sighting) bool { return a.lsn == b.lsn && a.timeline == b.timeline })
}

// sightings looks through the first of the ranges along a path, over
// holes and damaged segments. What is lacking is asked for of all of them. The error is errNeeds.
func (d *decision) sightings(p catalog.Path, ranges []searchRange) ([]sighting, error) {
	places, known := d.s.Details.Scans[d.scanKey(p, ranges[0])]
	if !known {
		for _, r := range ranges {
			d.s.Holes(p, r.from, r.to) // so that it is listed
			if key := d.scanKey(p, r); !d.scanned(key) {
				d.needs.Scans = append(d.needs.Scans, catalog.Scan{ScanKey: key, Path: p, May: d.mayBeIn})
			}
		}
		return nil, errNeeds
	}
	var list []sighting
	for _, place := range places {
		w := d.newWalk(p, place.First, place.Last)
		for w.next <= place.Last {
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
	}
	return list, nil
}

func (d *decision) scanKey(p catalog.Path, r searchRange) catalog.ScanKey {
	return catalog.ScanKey{Timeline: p.Timeline, From: r.from, To: r.to, What: d.t.String()}
}

func (d *decision) scanned(key catalog.ScanKey) bool {
	_, known := d.s.Details.Scans[key]
	return known
}

// mayBeIn tells whether what the target names can be in a segment, or in the record
// that crosses into it: match looks closer.
func (d *decision) mayBeIn(ix *index.Index, crossing *index.Joined) bool {
	if d.t.Kind == Name { // all of them: a refusal tells the names there are
		named := func(l index.Landmark) bool { return l.Kind == index.RestorePoint }
		return slices.ContainsFunc(ix.Landmarks, named) || crossing != nil && crossing.Landmark != nil && named(*crossing.Landmark)
	}
	return d.inRange(ix) || crossing != nil && crossing.Transaction != nil && (d.isTarget(*crossing.Transaction) || isCut(crossing.Transaction))
}

// isCut tells whether a record may end a transaction that its index does not know of.
func isCut(t *index.Transaction) bool {
	return t.Kind.Ends() && (t.XID == 0 || t.Detail != nil && t.Detail.Truncated)
}

// inRange tells whether the target's transaction can have ended in a segment.
func (d *decision) inRange(ix *index.Index) bool {
	return ix.Commits+ix.Aborts > 0 && ix.MinXID <= d.t.XID && d.t.XID <= ix.MaxXID
}

// isTarget tells whether the record ended the target's transaction, or the one that it
// is a subtransaction of.
func (d *decision) isTarget(t index.Transaction) bool { return t.Is(d.t.XID) }

// match finds what the target names in the walk's current segment.
func (d *decision) match(w *walk) ([]sighting, error) {
	var list []sighting
	add := func(h hit) {
		h.before = d.t.Exclusive
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
	tx, err := w.firstTransaction(d.inRange, func(t index.Transaction) bool {
		if d.isTarget(t) {
			return true
		}
		if isCut(&t) && !slices.Contains(d.cut, t.LSN) {
			d.cut = append(d.cut, t.LSN)
		}
		return false
	})
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
		list, err := d.sightings(p, []searchRange{{from: t.Ranges[0].First, to: t.Ranges[len(t.Ranges)-1].Last}})
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
		e := d.unreachable(
			fmt.Sprintf("%s on timeline %s, which is not on the way to timeline %s (%s)", where, x.timeline, g.path.Timeline, g.path),
			fmt.Sprintf("Ask for --timeline %s", p.Timeline))
		return d.besideFork(g, p, e)
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
	e := d.unreachable(where+", before every backup that leads there",
		"An older backup would be needed: a backup reaches only what happened after its end")
	e.After = after
	return e
}

// nowhere refuses a target that is in no WAL that can be read.
func (d *decision) nowhere(g group) error {
	reason, advice := "", ""
	if d.t.Kind == XID {
		reason = "no commit or rollback of it is in the archived WAL"
		advice = "A transaction that only read has none; one that was still running, or prepared, where the WAL ends has none yet: " +
			"a prepared transaction counts from its COMMIT PREPARED or ROLLBACK PREPARED"
		if n := len(d.cut); n > 0 {
			reason += fmt.Sprintf(" as far as it is known; but the record at %s", d.cut[0])
			if n > 1 {
				reason += fmt.Sprintf(" (and %d others)", n-1)
			}
			reason += " is so long that only its beginning is, and it may be one of the subtransactions behind that"
			advice = "`walden find --kind commit,abort` tells when the transactions ended: ask for the position or the time of the one it belongs to"
		}
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
