package plan

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// build writes down what was found. The error is errNeeds.
func (d *decision) build(o outcome) (*Plan, error) {
	size := d.s.SegmentSize
	first, last := size.Number(o.backup.StartLSN), d.lastNeeded(o)
	stop, err := d.stop(o, first)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster: d.s.Cluster, Incarnation: d.s.Incarnation, SystemID: d.s.SystemID,
		Target: d.t.String(), TargetKind: d.t.Kind, Exclusive: d.t.Exclusive,
		Backup: o.backup, Timeline: o.path.Timeline,
		FirstSegment: o.path.Segment(first).Name(), LastSegment: o.path.Segment(last).Name(),
		Segments: last - first + 1,
		Settings: d.settings(o.path, stop, last), Follow: d.follow(o.path), Minimums: minimums(o.minimums), Stop: stop, NextXID: o.nextXID,
	}
	if p.Prepared, err = d.prepared(o, stop); err != nil {
		return nil, err
	}
	p.Path = stretches(o.path, o.backup.StartLSN, max(stop.End, o.backup.StopLSN), first, last)
	p.Copies = d.copies(o, last)
	var live uint64
	p.StoredBytes, p.Fragments, live = d.stored(o.path, first, last)
	if l, ok := d.s.LiveSegment(o.path.Segment(last)); ok && l.Partial {
		p.Partial = l.Segment + ".partial"
	}
	p.Objects = int64(o.backup.Objects+p.Fragments) + int64(p.Segments-live)
	p.DownloadBytes = o.backup.StoredBytes + p.StoredBytes
	p.Warnings = slices.Concat(d.warnings, d.caveats(o))
	return p, nil
}

// lastNeeded is the last segment that recovery reads before it stops.
func (d *decision) lastNeeded(o outcome) uint64 {
	size := d.s.SegmentSize
	last := o.lastNumber
	if d.t.Kind != Latest {
		last = size.PrevNumber(o.hit.end)
	}
	return max(last, size.PrevNumber(o.backup.StopLSN))
}

// stop predicts where recovery stops.
func (d *decision) stop(o outcome, first uint64) (Stop, error) {
	h := o.hit
	s := Stop{Before: h.before, LSN: h.lsn, End: h.end, Time: h.time(), Evidence: h.evidence}
	if s.Before {
		s.End = d.endBefore(h)
	}
	kept := h.lsn + 1 // transactions that start before it are replayed
	switch {
	case d.t.Kind == Latest:
		s.LSN, kept = 0, math.MaxUint64
	case h.lsn == 0:
		kept = h.end
	case s.Before:
		kept = h.lsn
	}
	switch {
	case h.tx != nil:
		s.XID = h.tx.XID
		if d.t.Kind == XID && d.t.XID != s.XID {
			s.Subtransaction = d.t.XID
		}
	case h.landmark != nil:
		s.Name = h.landmark.Name
	}
	s.Timeline = o.path.TimelineAt(max(s.End, 1) - 1)
	if err := d.neighbours(o, first, kept, &s); err != nil {
		return Stop{}, err
	}
	return s, nil
}

// endBefore is where the record ends that is replayed last if recovery stops before a hit.
func (d *decision) endBefore(h hit) wal.LSN {
	if l := h.landmark; l != nil && l.Kind == index.OverwriteContrecord {
		// It follows a record that was never finished, which began here.
		return catalog.EndBefore(l.Redo, d.s.SegmentSize)
	}
	return catalog.EndBefore(h.lsn, d.s.SegmentSize)
}

func transaction(t *index.Transaction) *Transaction {
	if t == nil {
		return nil
	}
	return &Transaction{
		XID: t.XID, LSN: t.LSN, End: t.End, Time: t.Time,
		Aborted:  t.Kind == index.Abort || t.Kind == index.AbortPrepared,
		Prepared: t.Kind == index.CommitPrepared || t.Kind == index.AbortPrepared,
	}
}

// settings make PostgreSQL stop where the plan says: at one record, whatever kind of
// target it stands for. All kinds of targets are set, those not meant to nothing: a
// restored postgresql.auto.conf may still hold one from an earlier restore, and
// PostgreSQL refuses two. last is the last segment needed.
func (d *decision) settings(p catalog.Path, stop Stop, last uint64) []Setting {
	values := map[Kind]string{}
	switch {
	case stop.LSN != 0:
		values[LSN] = stop.LSN.String()
	case d.t.Kind == Immediate:
		values[Immediate] = "immediate"
	}
	targets := []Setting{
		{"recovery_target", values[Immediate]},
		{"recovery_target_name", ""},
		{"recovery_target_time", ""},
		{"recovery_target_xid", ""},
		{"recovery_target_lsn", values[LSN]},
	}
	// PostgreSQL applies the lines in their order, and complains of a second
	// target even when it reads an empty one behind the one that is set
	// (assign_recovery_target_lsn and its like): the empty ones come first.
	slices.SortStableFunc(targets, func(a, b Setting) int { return len(a.Value) - len(b.Value) })
	list := slices.Concat(targets, []Setting{
		{"recovery_target_inclusive", strconv.FormatBool(!stop.Before)},
		{"recovery_target_timeline", timelineSetting(p)},
	})
	if d.s.Major >= prefetchSince && d.breaksAfter(p, last) {
		list = append(list, Setting{"recovery_prefetch", "off"})
	}
	return list
}

// prefetchSince is the first major that reads WAL ahead of replay
// (access/transam/xlogprefetcher.c).
const prefetchSince = 15

// readAhead bounds how far PostgreSQL can read ahead, in bytes: the largest
// wal_decode_buffer_size there is, and the largest record.
const readAhead = 2 << 30

// breaksAfter tells whether there is a segment that recovery cannot have close behind
// the last one it needs. PostgreSQL reading ahead would ask for it before it
// has come to the target, be refused, and give up.
func (d *decision) breaksAfter(p catalog.Path, last uint64) bool {
	end, any := d.s.LastOn(p)
	if !any || end <= last {
		return false
	}
	end = min(end, last+1+uint64(readAhead/d.s.SegmentSize.Bytes()))
	for seg := range d.s.Details.Unreadable {
		if seg.Number > last && seg.Number <= end && p.Segment(seg.Number) == seg {
			return true
		}
	}
	return len(d.s.Holes(p, last+1, end)) > 0
}

// timelineSetting names the end of a path to PostgreSQL.
func timelineSetting(p catalog.Path) string {
	if p.KnownByName {
		return p.Timeline.String()
	}
	return CurrentTimeline
}

// follow decides on Plan.Follow. PostgreSQL's "latest" is the newest timeline
// whose history file it finds, and it must lead on from the backup.
func (d *decision) follow(p catalog.Path) string {
	number, current, _ := d.t.timeline()
	newest := d.s.Timelines[len(d.s.Timelines)-1].ID
	if number != 0 || current || !p.KnownByName || p.Timeline != newest {
		return timelineSetting(p)
	}
	return LatestTimeline
}

// minimums are the settings of a hot standby that the WAL demands.
func minimums(m index.Settings) []Setting {
	var list []Setting
	for _, s := range []struct {
		name  string
		value int32
	}{
		{"max_connections", m.MaxConnections},
		{"max_worker_processes", m.MaxWorkerProcesses},
		{"max_wal_senders", m.MaxWALSenders},
		{"max_prepared_transactions", m.MaxPreparedTransactions},
		{"max_locks_per_transaction", m.MaxLocksPerTransaction},
	} {
		if s.value > 0 {
			list = append(list, Setting{s.name, strconv.Itoa(int(s.value))})
		}
	}
	return list
}

// stretches cuts the WAL of a plan by timeline.
func stretches(p catalog.Path, from, to wal.LSN, first, last uint64) []Stretch {
	var list []Stretch
	for _, sp := range p.Spans {
		begin, end := max(sp.Begin, from), to
		if sp.End != 0 {
			end = min(sp.End, to)
		}
		if begin >= end {
			continue
		}
		list = append(list, Stretch{Timeline: sp.Timeline, Begin: begin, End: end})
	}
	for n := first; n <= last; n++ {
		seg := p.Segment(n)
		for i := range list {
			if list[i].Timeline != seg.Timeline {
				continue
			}
			if list[i].Segments == 0 {
				list[i].First = seg.Name()
			}
			list[i].Last = seg.Name()
			list[i].Segments++
		}
	}
	return list
}

// stored is what the segments occupy: of the sealed ones of each run the share
// that is needed, an estimate; and how many fragments stand for the others, which are live.
func (d *decision) stored(p catalog.Path, first, last uint64) (bytes int64, fragments int, live uint64) {
	for _, t := range d.s.Timelines {
		for _, r := range t.Ranges {
			sealed, sum := r.Segments, r.StoredBytes
			needed := p.Overlap(t.ID, max(first, r.First), min(last, r.Last))
			for _, l := range t.Live {
				if l.Number < r.First || l.Number > r.Last {
					continue
				}
				sealed, sum = sealed-1, sum-l.StoredBytes
				if p.Overlap(t.ID, max(first, l.Number), min(last, l.Number)) > 0 {
					needed, live = needed-1, live+1
					bytes, fragments = bytes+l.StoredBytes, fragments+l.Fragments
				}
			}
			hi, lo := bits.Mul64(uint64(sum), needed)
			if needed > 0 && hi < sealed {
				q, _ := bits.Div64(hi, lo, sealed)
				bytes += int64(q)
			}
		}
	}
	return bytes, fragments, live
}

// caveats are what a person may not expect of the plan.
func (d *decision) caveats(o outcome) []string {
	var list []string
	if !o.path.KnownByName {
		list = append(list, fmt.Sprintf("The history file of timeline %s is not archived: recovery is told to stay on the backup's own timeline.", o.path.Timeline))
	}
	tip := o.path.Spans[len(o.path.Spans)-1]
	if d.t.Kind == Latest && len(o.path.Spans) > 1 && o.hit.end < tip.Begin {
		list = append(list, fmt.Sprintf(
			"Timeline %s began at %s, but none of its WAL is archived yet: what happened between %s and there will be missing.",
			tip.Timeline, tip.Begin, o.hit.end))
	}
	return list
}

// otherBranches warns of a time that also lies on a timeline that was left: the
// way chosen may have nothing between the fork and a much later commit.
func (d *decision) otherBranches(p *Plan) []string {
	if newestByDefault(d.t) {
		return d.laterBranches(p)
	}
	if d.t.Kind != Time {
		return nil
	}
	path, err := d.s.Path(p.Timeline)
	if err != nil {
		return nil
	}
	var list []string
	for _, w := range d.s.Windows() {
		other, err := d.s.Path(w.Timeline)
		if err != nil || w.To.Time == nil || w.Timeline == p.Timeline || !d.t.Time.Before(*w.To.Time) {
			continue
		}
		fork, ok := path.Divergence(other)
		if !ok || fork >= w.To.LSN || p.Stop.LSN < fork {
			continue // the stop lies on what they share
		}
		if p.Stop.LastKept == nil || p.Stop.LastKept.LSN < fork {
			list = append(list, fmt.Sprintf(
				"On the way to timeline %s nothing was committed between the fork at %s and that time. "+
					"Timeline %s, which was left there, has transactions up to %s: if those are meant, ask for --timeline %s.",
				p.Timeline, fork, w.Timeline, FormatTime(*w.To.Time), w.Timeline))
		}
	}
	return list
}

// mayWarnOfBranches tells whether otherBranches can have anything to say: a timeline
// that was left has WAL of after the fork, and for a time target the way chosen has nothing
// between the fork and the stop. To look closer takes a listing of all WAL.
func (d *decision) mayWarnOfBranches(p *Plan) bool {
	mine, err := d.s.Path(p.Timeline)
	if err != nil || d.t.Kind != Time && !newestByDefault(d.t) {
		return false
	}
	return slices.ContainsFunc(d.s.Timelines, func(t catalog.Timeline) bool {
		other, err := d.s.Path(t.ID)
		if err != nil {
			return false
		}
		fork, ok := mine.Divergence(other)
		last, any := d.s.LastOn(other)
		switch {
		case !ok || !any || d.s.EndOf(other.Segment(last)) <= fork:
			return false
		case d.t.Kind == Time:
			return p.Stop.LSN >= fork && (p.Stop.LastKept == nil || p.Stop.LastKept.LSN < fork)
		}
		return true
	})
}

// newestByDefault tells whether the timeline decides what the target is, and
// nobody has named it.
func newestByDefault(t Target) bool {
	tli, current, err := t.timeline()
	return (t.Kind == Latest || t.Kind == Immediate) && tli == 0 && !current && err == nil
}

// laterBranches warns where the newest timeline is not where life went on: a copy
// of the cluster that was promoted for a look, and archived, begins one too.
func (d *decision) laterBranches(p *Plan) []string {
	mine, err := d.s.Path(p.Timeline)
	if err != nil {
		return nil
	}
	var end *time.Time
	windows := d.s.Windows()
	for _, w := range windows {
		if w.Timeline == p.Timeline && w.To.Time != nil && (end == nil || w.To.Time.After(*end)) {
			end = w.To.Time
		}
	}
	var list []string
	for _, w := range windows {
		other, err := d.s.Path(w.Timeline)
		if err != nil || end == nil || w.To.Time == nil || w.Timeline == p.Timeline || !w.To.Time.After(*end) {
			continue
		}
		if fork, ok := mine.Divergence(other); ok && fork < w.To.LSN {
			list = append(list, fmt.Sprintf(
				"Timeline %s, the newest, has transactions up to %s. Timeline %s, which it left at %s, has later ones, up to %s: if those are meant, ask for --timeline %s.",
				p.Timeline, FormatTime(*end), w.Timeline, fork, FormatTime(*w.To.Time), w.Timeline))
		}
	}
	return list
}
