package find

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// Source is where the WAL's indexes and the names come from.
type Source struct {
	// Snapshot is the overview of what is archived.
	Snapshot *catalog.Snapshot
	// Read reads the indexes of segments, and hands them to use in the order given. An error
	// that use is given is about the object. *catalog.Reader's Read, bound to the Snapshot.
	Read func(ctx context.Context, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error
	// Names gives the names along the way to the timeline of a history.
	Names func(h wal.History) Names
}

// Summary is what there is to say of a search beside the events.
type Summary struct {
	// Segments is how many segments' indexes were looked at.
	Segments int `json:"segments"`
	// Gaps are WAL that is missing or damaged in what was looked at: what happened
	// there is not known.
	Gaps []catalog.Gap `json:"gaps"`
	// Omitted counts what indexes leave out: effects of transactions on a relation,
	// the least of a segment. LargestOmitted is the most rows one of them has.
	Omitted        uint64 `json:"omitted"`
	LargestOmitted uint64 `json:"largest_omitted_rows"`
	// Forgotten counts transactions that were open and of which what they had done until
	// then was given up to bound memory. Where one of them committed later, its event is
	// Incomplete.
	Forgotten int `json:"forgotten"`
}

// ErrStop ends a search without an error, where emit returns it.
var ErrStop = errors.New("enough was found")

const (
	// disorder is how far commits that lie next to each other in the WAL may be apart in
	// time against their order: what is read begins that much before Options.From, and
	// ends that much after To.
	disorder = 10 * time.Minute
	// lookBack is how many segments before that are read, for what transactions did
	// before they committed.
	lookBack = 32
	// portion is how many segments are read in one go.
	portion = 1024
)

// UnknownTimelineError says that a timeline is not in the archive.
type UnknownTimelineError struct {
	Timeline wal.TimelineID
	Err      error
}

// Error says which.
func (e *UnknownTimelineError) Error() string {
	return fmt.Sprintf("timeline %s cannot be followed: %v", e.Timeline, e.Err)
}

// Unwrap returns the cause.
func (e *UnknownTimelineError) Unwrap() error { return e.Err }

// Hint says where to look.
func (e *UnknownTimelineError) Hint() string { return "`walden list` shows the timelines there are" }

// Run looks for what o asks for, and emits it timeline by timeline, in ascending order of
// LSN within each; what is left prepared comes last of its timeline. Memory does not
// grow with the archive.
func Run(ctx context.Context, src Source, o Options, emit func(Event) error) (*Summary, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &run{Source: src, o: o, emit: emit, branches: map[wal.TimelineID]*branch{}, sum: &Summary{Gaps: []catalog.Gap{}}}
	list, err := r.stretches()
	if err != nil {
		return nil, err
	}
	r.list = list
	r.windows = src.Snapshot.Windows()
	for i := range list {
		err := r.stretch(ctx, &list[i])
		if errors.Is(err, ErrStop) {
			return r.sum, nil
		}
		if err != nil {
			return r.sum, err
		}
		r.broken(&list[i])
	}
	r.holes()
	return r.sum, nil
}

// broken tells of segments in fragments that cannot be put together.
func (r *run) broken(st *stretch) {
	for _, l := range st.timeline.Live {
		if l.Broken != "" && l.End > st.begin && (st.end == 0 || l.Start < st.end) {
			r.gap(catalog.NewGap(r.Snapshot.Segment(st.timeline.ID, l.Number), l.Number, l.Broken))
		}
	}
}

// holes tells of WAL that is missing where one timeline left another. Of a search that
// does not begin at the beginning it is not known whether it would have mattered.
func (r *run) holes() {
	if !r.o.From.IsZero() || !r.o.To.IsZero() {
		return
	}
	for _, g := range r.gapsOnTheWay() {
		r.gap(g)
	}
}

// gapsOnTheWay are those that the catalogue knows of.
func (r *run) gapsOnTheWay() []catalog.Gap {
	if r.o.Timeline == 0 {
		return r.Snapshot.Gaps()
	}
	p, err := r.Snapshot.Path(r.o.Timeline)
	if err != nil {
		return nil // stretches has refused it
	}
	for i := range r.list {
		if l := r.segments(&r.list[i]); l.len() > 0 {
			last, _ := r.Snapshot.LastOn(p)
			return r.Snapshot.Holes(p, l.at(0).Number, last)
		}
	}
	return nil
}

// gap takes note of WAL that cannot be looked at, once.
func (r *run) gap(g catalog.Gap) {
	for _, have := range r.sum.Gaps {
		if have.Timeline == g.Timeline && have.Start < g.End && g.Start < have.End {
			return
		}
	}
	r.sum.Gaps = append(r.sum.Gaps, g)
}

// run is one search.
type run struct {
	Source
	o        Options
	emit     func(Event) error
	list     []stretch
	branches map[wal.TimelineID]*branch
	windows  []catalog.Window
	sum      *Summary
}

// stretch is the WAL of one timeline's files: that which is its own, from begin on, to
// end if another takes over there on the way asked for; 0: it does not.
type stretch struct {
	timeline   catalog.Timeline
	history    wal.History
	begin, end wal.LSN
}

// branch is what is known of open transactions at the start of the segment in which
// a timeline branches off, and the segment before that.
type branch struct {
	pending *pending
	kept    wal.LSN // scan.kept
	before  *index.Index
	aliases map[record.Relation]*Relation
	renames renames
}

// stretches are those asked for, each after the one it left.
func (r *run) stretches() ([]stretch, error) {
	var list []stretch
	if r.o.Timeline == 0 {
		for _, t := range r.Snapshot.Timelines {
			list = append(list, stretch{timeline: t, history: historyOf(t), begin: t.Switch})
		}
		return list, nil
	}
	p, err := r.Snapshot.Path(r.o.Timeline)
	if err != nil {
		return nil, &UnknownTimelineError{r.o.Timeline, err}
	}
	for _, sp := range p.Spans {
		t, ok := r.Snapshot.Timeline(sp.Timeline)
		if !ok {
			continue // none of its files: Gaps tell
		}
		list = append(list, stretch{timeline: t, history: historyOf(t), begin: sp.Begin, end: sp.End})
	}
	return list, nil
}

func historyOf(t catalog.Timeline) wal.History {
	h := t.History
	h.Timeline = t.ID
	return h
}

// segments are those of the timeline's files that the stretch is about.
func (r *run) segments(st *stretch) segmentList {
	size := r.Snapshot.SegmentSize
	l := segmentList{timeline: st.timeline.ID, size: size}
	first := size.Number(st.begin)
	for _, rg := range st.timeline.Ranges {
		from, to := max(rg.First, first), rg.Last
		if st.end != 0 {
			to = min(to, size.PrevNumber(st.end))
		}
		if from <= to {
			l.runs = append(l.runs, [2]uint64{from, to})
		}
	}
	return l
}

// segmentList is a list of segments of one timeline as runs of numbers.
type segmentList struct {
	timeline wal.TimelineID
	size     wal.SegmentSize
	runs     [][2]uint64
}

func (l segmentList) len() int {
	n := 0
	for _, r := range l.runs {
		n += int(r[1] - r[0] + 1)
	}
	return n
}

// at is the i-th segment.
func (l segmentList) at(i int) wal.Segment {
	for _, r := range l.runs {
		if n := int(r[1] - r[0] + 1); i >= n {
			i -= n
			continue
		}
		return wal.Segment{Timeline: l.timeline, Number: r[0] + uint64(i), Size: l.size}
	}
	panic("find: no such segment") // callers stay below len
}

// stretch goes over one timeline's WAL.
func (r *run) stretch(ctx context.Context, st *stretch) error {
	segs := r.segments(st)
	total := segs.len()
	from := 0
	if !r.o.From.IsZero() {
		i, err := r.firstAt(ctx, segs, r.o.From.Add(-disorder))
		if err != nil {
			return err
		}
		from = max(0, i-lookBack)
	}
	w := &walk{run: r, st: st, scan: newScan(r.o, st.history, r.Names(st.history), r.emit, r.restorable)}
	w.scan.begin, w.scan.end = st.begin, st.end
	if b := r.branches[st.timeline.ID]; b != nil && from == 0 && total > 0 && segs.at(0).Number == r.Snapshot.SegmentSize.Number(st.begin) {
		w.resume(b)
	}
	for from < total && !w.late {
		var list []wal.Segment
		for ; from < total && len(list) < portion; from++ {
			list = append(list, segs.at(from))
		}
		if err := r.Read(ctx, list, w.segment); err != nil && !errors.Is(err, errLate) {
			return err
		}
	}
	w.branchOff(0)
	r.sum.Forgotten += w.scan.pending.forgotten
	if w.late {
		return nil
	}
	return w.scan.finish()
}

// restorable reports whether a backup and the WAL from it on are there to restore to a
// position on the way to a timeline.
func (r *run) restorable(tli wal.TimelineID, at wal.LSN) bool {
	for _, w := range r.windows {
		if at < w.From.LSN || at > w.To.LSN {
			continue
		}
		if w.Timeline == tli {
			return true
		}
		p, err := r.Snapshot.Path(w.Timeline)
		if err != nil {
			continue
		}
		q, err := r.Snapshot.Path(tli)
		if err != nil {
			continue
		}
		if d, ok := p.Divergence(q); !ok || at <= d {
			return true
		}
	}
	return false
}

// errLate ends the reading of a timeline's WAL where it is past Options.To.
var errLate = errors.New("past the time to look up to")
