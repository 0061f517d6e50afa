package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// Needs is what Make lacks in a Snapshot.
type Needs = catalog.Needs

// Need tells what must be loaded into the Snapshot (catalog.Reader.Fill) for
// Make to decide. What is needed can depend on what was loaded before: call it
// again until it is Empty (catalog.Reader.Satisfy does). The error is that of
// Target.Validate.
func Need(s *catalog.Snapshot, t Target) (Needs, error) {
	if err := t.Validate(); err != nil {
		return Needs{}, err
	}
	_, needs, _ := decide(s, t)
	return needs, nil
}

// Make decides how to restore to the target. The error is a *GapError,
// *UnreachableError, *AmbiguousError or *NoBackupError where the target cannot be
// reached, a plain error where it makes no sense (Target.Validate) or where
// Need is not met.
func Make(s *catalog.Snapshot, t Target) (*Plan, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	p, needs, err := decide(s, t)
	if !needs.Empty() {
		return nil, errNeeds
	}
	return p, err
}

// decision is one attempt to decide. It ends early, with errNeeds, where it
// lacks something; what it lacks is in needs.
type decision struct {
	s     *catalog.Snapshot
	t     Target
	needs Needs
	// warnings are for the plan, whatever it becomes.
	warnings []string
	// otherEpoch is where a transaction ended that has the target's number and not
	// its epoch; nil: none was seen. otherXID is its id; 0: the epoch cannot be told.
	otherEpoch *wal.LSN
	otherXID   uint64
	// cut are the records that were looked at for a transaction, and of which the index
	// does not know all subtransactions, or not which transaction they are of.
	cut []wal.LSN
}

func decide(s *catalog.Snapshot, t Target) (*Plan, Needs, error) {
	t.Time = t.Time.UTC().Truncate(time.Microsecond)
	d := &decision{s: s, t: t}
	s.Unlisted() // those of an earlier decision
	p, err := d.run()
	branches := p != nil && d.mayWarnOfBranches(p)
	// What was decided on WAL that has not been listed was a guess, whatever came of it.
	if lists := s.Unlisted(); len(lists) > 0 {
		return nil, Needs{Lists: lists}, nil
	}
	if errors.Is(err, errNeeds) {
		return nil, d.needs, nil
	}
	// A refusal tells what can be reached, and so does a warning about another
	// timeline: both want to know all windows and the times of their ends.
	if err != nil || branches {
		needs := s.WindowNeeds()
		if lists := s.Unlisted(); len(lists) > 0 {
			return nil, Needs{Lists: lists}, nil
		}
		if !needs.Empty() {
			return nil, needs, nil
		}
	}
	if branches {
		p.Warnings = append(p.Warnings, d.otherBranches(p)...)
	}
	if p != nil {
		for _, bad := range s.Problems {
			p.Warnings = append(p.Warnings, fmt.Sprintf("Object %s: %s. This plan does not rely on it.", bad.Object, bad.Problem))
		}
	}
	return p, Needs{}, err
}

// base says what is wrong with a backup's packs and tables; "": nothing. The
// error is errNeeds.
func (d *decision) base(id string) (wrong string, err error) {
	wrong, known := d.s.Details.Bases[id]
	if !known {
		d.needs.Bases = append(d.needs.Bases, id)
		return "", errNeeds
	}
	return wrong, nil
}

// group is the backups that lead along one path, newest first.
type group struct {
	path       catalog.Path
	candidates []candidate
	refused    []Refused // newest first
}

func (d *decision) run() (*Plan, error) {
	if len(d.s.Backups) == 0 {
		return nil, d.noBackup(nil)
	}
	groups, err := d.groups()
	if err != nil {
		return nil, err
	}
	var first error
	for _, g := range groups {
		p, err := d.try(g)
		var ambiguous *AmbiguousError
		if err == nil || errors.Is(err, errNeeds) || errors.As(err, &ambiguous) {
			return p, err
		}
		if first == nil {
			first = err
		}
	}
	if err := d.adviseElsewhere(groups[0].path, first); err != nil {
		return nil, err
	}
	return nil, first
}

// wanted are the backups that the target allows, newest first.
func (d *decision) wanted() []catalog.Backup {
	list := slices.Clone(d.s.Backups)
	if d.t.Backup != "" {
		list = slices.DeleteFunc(list, func(b catalog.Backup) bool { return b.ID != d.t.Backup })
	}
	slices.SortStableFunc(list, func(a, b catalog.Backup) int {
		return cmp.Or(cmp.Compare(b.StopLSN, a.StopLSN), cmp.Compare(b.ID, a.ID))
	})
	return list
}

// groups finds the path, or for the backup's own timeline the paths, to try.
func (d *decision) groups() ([]group, error) {
	wanted := d.wanted()
	if len(wanted) == 0 {
		return nil, d.noBackup(nil)
	}
	number, current, _ := d.t.timeline()
	switch {
	case current:
		return d.currentGroups(wanted)
	case number != 0:
		p, err := d.s.Path(number)
		if err != nil {
			return nil, d.unreachable(err.Error(), "`walden list` shows the timelines there are")
		}
		return d.oneGroup(p, wanted)
	}
	// PostgreSQL's "latest" is the highest number it finds, and fails if the
	// backup does not lead there. This is the highest that one leads to.
	for _, t := range slices.Backward(d.s.Timelines) {
		p, err := d.s.Path(t.ID)
		if err != nil {
			d.warnings = append(d.warnings, fmt.Sprintf("Timeline %s was left out of account: %s.", t.ID, err))
			continue
		}
		if g := along(p, wanted); len(g.candidates) > 0 {
			return []group{g}, nil
		}
	}
	var refused []Refused
	for _, b := range wanted {
		refused = append(refused, Refused{b.ID, "no timeline whose history can be read leads on from it"})
	}
	return nil, d.noBackup(refused)
}

// oneGroup are the backups along the path that was asked for.
func (d *decision) oneGroup(p catalog.Path, wanted []catalog.Backup) ([]group, error) {
	g := along(p, wanted)
	if len(g.candidates) == 0 {
		return nil, d.noBackup(g.refused)
	}
	return []group{g}, nil
}

// currentGroups are the backups by their own timelines, the newest backup's first.
func (d *decision) currentGroups(wanted []catalog.Backup) ([]group, error) {
	slices.SortStableFunc(wanted, func(a, b catalog.Backup) int { return cmp.Compare(b.ID, a.ID) })
	var groups []group
	var refused []Refused
	done := map[wal.TimelineID]bool{}
	for _, b := range wanted {
		if done[b.Timeline] {
			continue
		}
		done[b.Timeline] = true
		p, err := d.s.Path(b.Timeline)
		if err != nil {
			refused = append(refused, Refused{b.ID, err.Error()})
			continue
		}
		own := slices.DeleteFunc(slices.Clone(wanted), func(x catalog.Backup) bool { return x.Timeline != b.Timeline })
		g := along(p, own)
		refused = append(refused, g.refused...)
		if len(g.candidates) > 0 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, d.noBackup(refused)
	}
	return groups, nil
}

// along sorts out which backups lead along a path.
func along(p catalog.Path, backups []catalog.Backup) group {
	g := group{path: p}
	for _, b := range backups {
		if why := p.Belongs(b); why != "" {
			g.refused = append(g.refused, Refused{b.ID, why})
			continue
		}
		g.candidates = append(g.candidates, candidate{backup: b, path: p})
	}
	return g
}

// try decides on one path.
func (d *decision) try(g group) (*Plan, error) {
	var fixed *hit
	if d.t.Kind == XID || d.t.Kind == Name {
		h, err := d.locate(g)
		if err != nil {
			return nil, err
		}
		fixed = &h
	}
	var outcomes []outcome
	for _, c := range d.inOrder(g.candidates) {
		o, err := d.evaluate(c, fixed)
		if err != nil {
			return nil, err
		}
		switch o.verdict {
		case found:
			d.passedOver(outcomes)
			return d.build(o)
		case broken:
			return nil, d.gap(g, o)
		case absent:
			return nil, d.tooLate(g, o)
		}
		outcomes = append(outcomes, o)
	}
	return nil, d.tooEarly(g, outcomes)
}

// passedOver warns of newer backups that are damaged: the plan does without
// them, but whoever reads it should know.
func (d *decision) passedOver(outcomes []outcome) {
	for _, o := range outcomes {
		if o.verdict == unusable {
			d.warnings = append(d.warnings, fmt.Sprintf("Backup %s was passed over: %s.", o.backup.ID, o.reason))
		}
	}
}

// clockSlack is how far the clock of the machine that took a backup may differ
// from the server's without costing more than some reading.
const clockSlack = time.Hour

// inOrder puts the candidates into the order in which they are tried: newest
// first. For a time, those that began well after it come last, oldest first:
// they are not expected to serve.
func (d *decision) inOrder(list []candidate) []candidate {
	if d.t.Kind != Time {
		return list
	}
	var likely, unlikely []candidate
	for _, c := range list {
		if c.backup.StartTime.After(d.t.Time.Add(clockSlack)) {
			unlikely = append(unlikely, c)
		} else {
			likely = append(likely, c)
		}
	}
	slices.Reverse(unlikely)
	return append(likely, unlikely...)
}
