package catalog

import (
	"fmt"
	"math"
	"strings"

	"github.com/walden-pg/walden/wal"
)

// Path is the way recovery takes to a timeline: which timeline's WAL holds
// which positions, oldest stretch first. The stretches meet, the first begins
// at 0 and the last is open (End 0).
type Path struct {
	Timeline wal.TimelineID
	Spans    []wal.Span
	// KnownByName says that the timeline can be named to PostgreSQL: it is 1, or
	// its history file is archived.
	KnownByName bool
	size        wal.SegmentSize
}

// Path is the way to a timeline. A timeline whose history file is not archived
// is taken to have no parents, as PostgreSQL does. It is an error if nothing is
// known of the timeline, or if its history file cannot be read.
func (s *Snapshot) Path(tli wal.TimelineID) (Path, error) {
	t, ok := s.Timeline(tli)
	if !ok {
		return Path{}, fmt.Errorf("nothing of timeline %s is archived", tli)
	}
	if t.HistoryState == HistoryDamaged {
		return Path{}, fmt.Errorf("the history file of timeline %s cannot be read", tli)
	}
	h := t.History
	h.Timeline = tli
	return Path{
		Timeline: tli, Spans: h.Path(), size: s.SegmentSize,
		KnownByName: t.HistoryState == HistoryNone || t.HistoryState == HistoryPresent,
	}, nil
}

// TimelineAt is the timeline whose WAL holds the byte at l.
func (p Path) TimelineAt(l wal.LSN) wal.TimelineID {
	for i := len(p.Spans) - 1; i > 0; i-- {
		if l >= p.Spans[i].Begin {
			return p.Spans[i].Timeline
		}
	}
	return p.Spans[0].Timeline
}

// Segment is the file that recovery on this path reads the positions of a
// segment number from: that of the newest timeline that has begun by the
// segment's end (XLogFileReadAnyTLI in access/transam/xlogrecovery.c). In the
// segment that holds a switch position it is the younger timeline's copy.
func (p Path) Segment(number uint64) wal.Segment {
	tli := p.Spans[0].Timeline
	for i := len(p.Spans) - 1; i > 0; i-- {
		if p.size.Number(p.Spans[i].Begin) <= number {
			tli = p.Spans[i].Timeline
			break
		}
	}
	return wal.Segment{Timeline: tli, Number: number, Size: p.size}
}

// files is the stretch [first, end) of segment numbers that are read from span
// i's timeline. It can be empty.
func (p Path) files(i int) (first, end uint64) {
	if i > 0 {
		first = p.size.Number(p.Spans[i].Begin)
	}
	if i+1 < len(p.Spans) {
		return first, p.size.Number(p.Spans[i+1].Begin)
	}
	return first, math.MaxUint64
}

// Overlap is how many of the segments numbered first to last are read from
// a timeline's files.
func (p Path) Overlap(tli wal.TimelineID, first, last uint64) uint64 {
	for i, sp := range p.Spans {
		if sp.Timeline != tli {
			continue
		}
		from, end := p.files(i)
		from, end = max(from, first), min(end, last+1)
		if from < end {
			return end - from
		}
	}
	return 0
}

// Divergence is the first position whose WAL differs between two paths; ok is
// false if they are the same path.
func (p Path) Divergence(q Path) (l wal.LSN, ok bool) {
	for i := 0; i < len(p.Spans) && i < len(q.Spans); i++ {
		a, b := p.Spans[i], q.Spans[i]
		switch {
		case a == b:
			continue
		case a.Timeline != b.Timeline || a.Begin != b.Begin:
			return min(a.Begin, b.Begin), true
		case a.End == 0:
			return b.End, true
		case b.End == 0:
			return a.End, true
		}
		return min(a.End, b.End), true
	}
	return 0, false
}

// String lists the timelines and where one left the other: "1 → 2 at 0/5000060".
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p.Spans {
		if i > 0 {
			fmt.Fprintf(&b, " → %s at %s", s.Timeline, s.Begin)
		} else {
			b.WriteString(s.Timeline.String())
		}
	}
	return b.String()
}

// Belongs says why a backup cannot be recovered along the path; "": it can. The
// rules are InitWalRecovery's (access/transam/xlogrecovery.c): the checkpoint
// and the end of the backup must lie on the path, on the timelines they were written on.
func (p Path) Belongs(b Backup) string {
	if at := p.TimelineAt(b.CheckpointLSN); at != b.Timeline {
		return fmt.Sprintf("it was taken on timeline %s at %s, which is not on the way to timeline %s (%s)",
			b.Timeline, b.StartLSN, p.Timeline, p)
	}
	if at := p.TimelineAt(b.StopLSN - 1); at != b.StopTimeline {
		return fmt.Sprintf("it ended on timeline %s at %s, after the way to timeline %s had left it (%s)",
			b.StopTimeline, b.StopLSN, p.Timeline, p)
	}
	return ""
}
