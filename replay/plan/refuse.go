package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// time is that of the record, if it has one.
func (h hit) time() *time.Time {
	var at time.Time
	switch {
	case h.tx != nil:
		at = h.tx.Time
	case h.landmark != nil:
		at = h.landmark.Time
	}
	if at.IsZero() {
		return nil
	}
	return &at
}

func (d *decision) unreachable(reason, advice string) *UnreachableError {
	return &UnreachableError{Target: d.t.String(), Reason: reason, Advice: advice, Windows: d.s.Windows()}
}

func (d *decision) noBackup(refused []Refused) *NoBackupError {
	e := &NoBackupError{
		Target: d.t.String(), Wanted: d.t.Backup, Refused: refused, Windows: d.s.Windows(),
	}
	for _, p := range d.s.Problems {
		if strings.Contains(p.Object, d.t.Backup) { // of all backups, or of the wanted one
			e.Problems = append(e.Problems, p)
		}
	}
	for _, b := range d.s.Incomplete {
		e.Incomplete = append(e.Incomplete, b.ID)
	}
	return e
}

// ambiguous refuses a name that was used more than once.
func (d *decision) ambiguous(list []sighting) error {
	e := &AmbiguousError{Target: d.t.String(), Windows: d.s.Windows()}
	for _, x := range list {
		p := Point{
			LSN: x.lsn, Time: x.time(), Timeline: x.timeline,
			What: d.t.String(), Flags: d.flags(LSN, x.lsn.String()),
		}
		if p.Time != nil {
			p.TimeFlags = d.flags(Time, "'"+FormatTime(*p.Time)+"'")
		}
		e.Points = append(e.Points, p)
	}
	return e
}

// flags are the command line's for a target of another kind on the same terms.
func (d *decision) flags(k Kind, value string) string {
	s := "--" + string(k)
	if value != "" {
		s += " " + value
	}
	if d.t.Timeline != "" {
		s += " --timeline " + d.t.Timeline
	}
	return s
}

// gap refuses a target before which the WAL breaks off.
func (d *decision) gap(g group, o outcome) error {
	before, err := d.lastMoment(o)
	if err != nil {
		return err
	}
	after, err := d.firstMoment(g, o.hole.End)
	if err != nil {
		return err
	}
	return &GapError{
		Target: d.t.String(), Gaps: []catalog.Gap{*o.hole}, Backup: o.backup.ID, Advice: fillAdvice(o, after),
		Before: before, After: after, Windows: d.s.Windows(),
	}
}

// fillAdvice says what would close a hole.
func fillAdvice(o outcome, after *Point) string {
	var advice string
	switch {
	case o.minimal:
		advice = "What the server did from there on cannot be replayed by anyone"
	case o.hole.Damaged != "":
		advice = "It can be reached again when the objects of that WAL have been brought back from a copy of the repository"
	default:
		advice = "It can be reached again when that WAL is archived: whoever still has it (the server's pg_wal, a standby, another archive) can " +
			"`walden wal-push` it"
	}
	if after == nil {
		advice += "; a backup taken now begins a new stretch that can be restored"
	}
	return advice
}

// adviseElsewhere adds to a refusal that a plan can be made on the way to
// another timeline than the one chosen by default. Ids and names were looked for
// there before. The error is errNeeds.
func (d *decision) adviseElsewhere(chosen catalog.Path, refused error) error {
	number, current, _ := d.t.timeline()
	if number != 0 || current || d.t.Kind == XID || d.t.Kind == Name || d.t.Kind == Immediate {
		return nil
	}
	for _, t := range slices.Backward(d.s.Timelines) {
		if t.ID == chosen.Timeline {
			continue
		}
		other := &decision{s: d.s, t: d.t}
		other.t.Timeline = t.ID.String()
		p, err := other.run()
		if errors.Is(err, errNeeds) {
			d.needs = other.needs
			return errNeeds
		}
		if err != nil {
			continue
		}
		advice := fmt.Sprintf("The way to timeline %s leads past it: if that one will do, ask for --timeline %s", t.ID, t.ID)
		if d.t.Kind == Latest {
			advice = fmt.Sprintf("The way to timeline %s is whole up to %s: if that will do, ask for --timeline %s", t.ID, p.Stop.End, t.ID)
		}
		var (
			beyond *UnreachableError
			gap    *GapError
			none   *NoBackupError
		)
		switch {
		case errors.As(refused, &beyond):
			beyond.Advice = advice
		case errors.As(refused, &gap):
			gap.Advice += ". " + advice
		case errors.As(refused, &none):
			none.Advice = advice
		}
		return nil
	}
	return nil
}

// tooLate refuses a target that the archived WAL ends before.
func (d *decision) tooLate(g group, o outcome) error {
	end := d.endOf(o)
	last, err := d.lastTransaction(o.path, d.s.SegmentSize.Number(o.backup.StartLSN), o.lastNumber, end)
	if err != nil {
		return err
	}
	reason := fmt.Sprintf("the archived WAL on the way to timeline %s ends at %s", o.path.Timeline, end)
	if d.t.Kind == Time {
		reason += ", and no record in it shows that this time has passed"
		if at := d.latestTime(o); !at.IsZero() {
			reason += fmt.Sprintf(": the latest time in it is %s", FormatTime(at))
		}
	}
	e := d.unreachable(reason, "It can be reached when more WAL has been archived")
	if e.Before, err = d.end(g); err != nil {
		return err
	}
	if e.Before == nil {
		return e // its end cannot be reached either
	}
	e.Advice = "--latest restores everything that is archived; what comes after can be reached when more WAL has been archived"
	if last != nil {
		e.Before.Time = &last.Time
		e.Before.What = "the end of the archived WAL, last transaction included,"
	}
	return e
}

// latestTime is the latest time that a record carries in the segments that an
// outcome has walked over; zero: none does.
func (d *decision) latestTime(o outcome) time.Time {
	var at time.Time
	for n := d.s.SegmentSize.Number(o.backup.StartLSN); n <= o.lastNumber; n++ {
		ix := d.s.Details.Indexes[o.path.Segment(n)]
		if ix == nil {
			continue
		}
		for _, t := range append(landmarkTimes(ix), ix.MaxTime) {
			if t.After(at) {
				at = t
			}
		}
	}
	return at
}

func landmarkTimes(ix *index.Index) []time.Time {
	times := make([]time.Time, 0, len(ix.Landmarks)+1)
	for _, l := range ix.Landmarks {
		times = append(times, l.Time)
	}
	return times
}

// tooEarly refuses a target that no backup comes before.
func (d *decision) tooEarly(g group, outcomes []outcome) error {
	refused := slices.Clone(g.refused)
	anyEarly := false
	for _, o := range outcomes {
		refused = append(refused, Refused{o.backup.ID, o.reason})
		anyEarly = anyEarly || o.verdict == early
	}
	if !anyEarly {
		return d.noBackup(refused)
	}
	after, err := d.firstMoment(g, 0)
	if err != nil {
		return err
	}
	e := d.unreachable("it lies before the first moment that can be restored",
		"An older backup would be needed, and there is none: a backup reaches only what happened after its end")
	if d.t.Backup != "" {
		e.Reason = fmt.Sprintf("backup %s cannot serve: %s", d.t.Backup, refused[len(refused)-1].Reason)
		e.Advice = "Leave out --backup to let Walden choose one that ended earlier, if there is one"
	}
	e.After = after
	return e
}

// firstMoment is the earliest moment at from or later that a backup of the group
// can be restored to: its own end. nil: there is none. The error is errNeeds.
func (d *decision) firstMoment(g group, from wal.LSN) (*Point, error) {
	other := &decision{s: d.s, t: Target{Kind: Immediate}}
	for _, c := range slices.Backward(g.candidates) {
		if c.backup.StopLSN <= from || c.backup.StartLSN < from {
			continue
		}
		o, err := other.evaluate(c, nil)
		if err != nil {
			d.needs = other.needs
			return nil, err
		}
		if o.verdict != found {
			continue
		}
		at := c.backup.StopTime
		return &Point{
			LSN: c.backup.StopLSN, Time: &at, Timeline: c.backup.StopTimeline,
			What: "the end of backup " + c.backup.ID, Flags: "--immediate --backup " + c.backup.ID,
		}, nil
	}
	return nil, nil
}

// end is the last moment that can be reached on the group's path: a plan for
// Latest from its newest backup, if there is one.
func (d *decision) end(g group) (*Point, error) {
	other := &decision{s: d.s, t: Target{Kind: Latest, Timeline: d.t.Timeline, Backup: d.t.Backup}}
	for _, c := range g.candidates {
		o, err := other.evaluate(c, nil)
		if err != nil {
			d.needs = other.needs
			return nil, err
		}
		if o.verdict == found {
			return &Point{
				LSN: o.hit.end, Timeline: c.path.TimelineAt(o.hit.end - 1),
				What: "the end of the archived WAL", Flags: d.flags(Latest, ""),
			}, nil
		}
	}
	return nil, nil
}

// lastMoment is the last known moment that a candidate leads to before the hole
// that stopped it: the last transaction, or the backup's own end. The error is errNeeds.
func (d *decision) lastMoment(o outcome) (*Point, error) {
	last, err := d.lastTransaction(o.path, d.s.SegmentSize.Number(o.backup.StartLSN), o.lastNumber, min(d.endOf(o), o.hole.Start))
	if err != nil {
		return nil, err
	}
	if last == nil || last.LSN < o.backup.StopLSN {
		at := o.backup.StopTime
		return &Point{
			LSN: o.backup.StopLSN, Time: &at, Timeline: o.backup.StopTimeline,
			What: "the end of backup " + o.backup.ID, Flags: "--immediate --backup " + o.backup.ID,
		}, nil
	}
	return &Point{
		LSN: last.LSN, Time: &last.Time, Timeline: o.path.TimelineAt(last.LSN),
		What: "the last transaction before it", Flags: d.flags(LSN, last.LSN.String()),
	}, nil
}

// endOf is the end of the WAL that an outcome has walked over.
func (d *decision) endOf(o outcome) wal.LSN {
	return d.s.EndOfWAL(o.path, d.s.SegmentSize.Number(o.backup.StartLSN), o.lastNumber)
}
