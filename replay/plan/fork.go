package plan

import (
	"errors"
	"fmt"

	"github.com/walden-pg/walden/replay/catalog"
)

// besideFork adds to the refusal of what lies on another branch the nearest moments on
// this one: the last that both have in common, and the first transaction after it.
func (d *decision) besideFork(g group, other catalog.Path, e *UnreachableError) error {
	fork, ok := g.path.Divergence(other)
	if !ok {
		return e
	}
	o, err := d.reach(g, Target{Kind: LSN, LSN: fork, Exclusive: true})
	if err != nil {
		return err
	}
	if o == nil {
		e.After, err = d.firstMoment(g, fork)
		return errOr(err, e)
	}
	size := d.s.SegmentSize
	first := size.Number(o.backup.StartLSN)
	tx, err := d.lastTransaction(g.path, first, o.lastNumber, fork)
	if err != nil {
		return err
	}
	e.Before = &Point{
		LSN: fork, Timeline: g.path.TimelineAt(fork - 1), What: "the end of what the timelines have in common",
		Flags: d.flags(LSN, fork.String()+" --exclusive"),
	}
	if tx != nil {
		e.Before.Time = &tx.Time
	}
	w := d.newWalk(g.path, max(first, size.Number(fork)), o.lastNumber)
	w.bound = o.lastNumber + besides
	if tx, err = d.seek(w, w.bound, fork); err != nil || tx == nil {
		return errOr(err, e)
	}
	e.After = &Point{
		LSN: tx.LSN, Time: &tx.Time, Timeline: g.path.TimelineAt(tx.LSN),
		What: fmt.Sprintf("the first transaction on timeline %s", g.path.TimelineAt(tx.LSN)), Flags: d.flags(LSN, tx.LSN.String()),
	}
	return e
}

// errOr is the error, or the refusal if there is none.
func errOr(err error, refusal *UnreachableError) error {
	if err != nil {
		return err
	}
	return refusal
}

// reach tries the backups of a group for another target; nil: none leads there. The
// error is errNeeds.
func (d *decision) reach(g group, t Target) (*outcome, error) {
	other := &decision{s: d.s, t: t}
	for _, c := range g.candidates {
		o, err := other.evaluate(c, nil)
		if errors.Is(err, errNeeds) {
			d.needs = other.needs
		}
		if err != nil {
			return nil, err
		}
		if o.verdict == found {
			return &o, nil
		}
	}
	return nil, nil
}
