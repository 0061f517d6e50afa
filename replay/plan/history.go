package plan

import (
	"fmt"
	"slices"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// historyFault says why recovery would be stopped where it asks for the
// history file of a timeline: it cannot be read, or it is missing although the
// timeline's beginning is archived, which is a hole and not an absence
// (archive.Fetch). "": it gets an answer. The error is errNeeds.
func (d *decision) historyFault(t catalog.Timeline) (string, error) {
	switch {
	case t.HistoryState == catalog.HistoryDamaged:
		return fmt.Sprintf("the history file of timeline %s cannot be read", t.ID), nil
	case t.HistoryState != catalog.HistoryMissing || len(t.Ranges) == 0:
		return "", nil
	}
	first := d.s.Segment(t.ID, t.Ranges[0].First)
	d.s.Has(first) // so that it is listed: where it is only assumed the timeline may begin later
	missing := fmt.Sprintf("the history file of timeline %s is missing from the archive, and the timeline's beginning is not", t.ID)
	if d.s.Details.Unreadable[first] != "" {
		return missing, nil // nor can it be proved then that there is none
	}
	ix := d.s.Details.Indexes[first]
	if ix == nil {
		d.needs.Segments = append(d.needs.Segments, first)
		return "", errNeeds
	}
	began := ix.PageTimelineFirst < t.ID
	for _, l := range ix.Landmarks {
		began = began || l.Timeline == t.ID && l.PrevTimeline != 0 && l.PrevTimeline != t.ID
	}
	if began {
		return missing, nil
	}
	return "", nil
}

// askedFor says why recovery from the backup would not begin: the server asks
// for the history files of the target's timeline and of all from the backup's
// on, whether they are on its way or not (restoreTimeLineHistoryFiles). "": it
// would. The error is errNeeds.
func (e *evaluation) askedFor() (string, error) {
	for _, t := range e.d.s.Timelines {
		if t.ID == 1 || t.ID < e.backup.Timeline || t.ID > e.path.Timeline {
			continue
		}
		why, err := e.d.historyFault(t)
		if err != nil {
			return "", err
		}
		if why != "" {
			return "PostgreSQL asks for the history of each timeline from the backup's to the target's, and " + why, nil
		}
	}
	return "", nil
}

// promotion says why recovery to a timeline could not end with a new one: for its
// number the server tries the history files of those that follow, to the
// first that does not exist (findNewestTimeLine). "": it could. The error is errNeeds.
func (d *decision) promotion(tli wal.TimelineID) (string, error) {
	for {
		tli++
		t, ok := d.s.Timeline(tli)
		if !ok {
			return "", nil
		}
		why, err := d.historyFault(t)
		if err != nil || why != "" {
			return why, err
		}
		if t.HistoryState != catalog.HistoryPresent {
			return "", nil
		}
	}
}

// histories says what stands in the way of the candidate among history files;
// what stands in the way of a promotion alone is a warning, unless it is part
// of the target. The error is errNeeds.
func (e *evaluation) histories() (string, error) {
	if why, err := e.askedFor(); err != nil || why != "" {
		return why, err
	}
	why, err := e.d.promotion(e.path.Timeline)
	if err != nil || why == "" {
		return "", err
	}
	why = "a promotion looks for a free timeline number, and " + why
	if e.d.t.Kind == Latest {
		return why, nil
	}
	if w := fmt.Sprintf("Recovery to the target will do, but the restored cluster cannot be promoted: %s.", why); !slices.Contains(e.d.warnings, w) {
		e.d.warnings = append(e.d.warnings, w)
	}
	return "", nil
}
