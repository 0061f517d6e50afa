package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// maxConsequences bounds the findings whose consequences are worked out in moments: each
// can cost some requests.
const maxConsequences = 300

// conclude says of each finding what follows from it.
func (c *checker) conclude(ctx context.Context, snap *catalog.Snapshot) error {
	if len(c.findings) == 0 {
		return nil
	}
	w := &thought{c: c, parents: map[wal.TimelineID]wal.History{}, read: map[wal.Segment]*index.Index{}}
	if err := w.prepare(ctx, snap); err != nil {
		return err
	}
	for i, f := range c.findings {
		switch {
		case f.effect.all != "":
		case i >= maxConsequences:
			f.Consequence = fmt.Sprintf("not worked out: there are more than %d findings", maxConsequences)
		default:
			if err := w.without(ctx, f); err != nil {
				return fmt.Errorf("work out what cannot be restored without %s: %w", f.Object, err)
			}
		}
	}
	return nil
}

// thought compares what could be restored if nothing were wrong with what can be
// without one thing.
type thought struct {
	c       *checker
	sound   catalog.Snapshot
	paths   []catalog.Path
	windows map[wal.TimelineID][]catalog.Window
	// parents are histories as other files tell them.
	parents map[wal.TimelineID]wal.History
	// read are the indexes that have been read.
	read map[wal.Segment]*index.Index
}

// prepare takes all findings back.
func (w *thought) prepare(ctx context.Context, snap *catalog.Snapshot) error {
	w.sound = *snap
	w.sound.Details = catalog.Details{}
	w.sound.Timelines = make([]catalog.Timeline, len(snap.Timelines))
	for i, t := range snap.Timelines {
		// Without what was listed: else the catalogue would go by that.
		w.sound.Timelines[i] = catalog.Timeline{
			ID: t.ID, HistoryState: t.HistoryState, History: t.History, Parent: t.Parent, Switch: t.Switch, Reason: t.Reason,
			Ranges: t.Ranges, Live: t.Live, Partials: t.Partials,
		}
	}
	w.learnHistories()
	for i := range w.sound.Timelines {
		t := &w.sound.Timelines[i]
		for _, f := range w.c.findings {
			for _, x := range w.c.cutsOf(f.effect) {
				if x.timeline == t.ID {
					t.Ranges = join(append(slices.Clone(t.Ranges), rangeOf(x, snap.SegmentSize)))
				}
			}
		}
		if h, ok := w.parents[t.ID]; ok && (t.HistoryState == catalog.HistoryMissing || t.HistoryState == catalog.HistoryDamaged) {
			t.HistoryState, t.History = catalog.HistoryPresent, h
		}
	}
	w.sound.Backups = slices.Clone(snap.Backups)
	for _, f := range w.c.findings {
		for _, id := range f.effect.backups {
			_, there := w.sound.Backup(id)
			if b, ok := w.c.known(id); ok && !there {
				w.sound.Backups = append(w.sound.Backups, b)
			}
		}
	}
	slices.SortFunc(w.sound.Backups, func(a, b catalog.Backup) int { return strings.Compare(a.ID, b.ID) })
	if err := w.fill(ctx, &w.sound, nil); err != nil {
		return err
	}
	w.windows = map[wal.TimelineID][]catalog.Window{}
	for _, t := range w.sound.Timelines {
		if p, err := w.sound.Path(t.ID); err == nil {
			w.paths = append(w.paths, p)
			w.windows[t.ID] = w.sound.WindowsOn(p)
		}
	}
	return nil
}

// learnHistories gathers histories from the last record and from those of later timelines,
// which repeat the ones of their ancestors.
func (w *thought) learnHistories() {
	learn := func(h wal.History) {
		if _, known := w.parents[h.Timeline]; !known && len(h.Entries) > 0 {
			w.parents[h.Timeline] = h
		}
	}
	if w.c.old != nil {
		for _, r := range w.c.old.Histories {
			if h, err := wal.ParseHistory(r.Timeline, []byte(r.Content)); err == nil {
				learn(h)
			}
		}
	}
	for tli, content := range w.c.histories {
		h, err := wal.ParseHistory(tli, []byte(content))
		if err != nil {
			continue
		}
		for i, e := range h.Entries {
			learn(wal.History{Timeline: e.Timeline, Entries: h.Entries[:i]})
		}
	}
}

// fill gets what the ends of windows and their times need. What cannot be read for that is no
// news here: findings are taken back one by one. Of WAL that was found wanting, but for what
// own is about, the index tells nothing of how it was.
func (w *thought) fill(ctx context.Context, s *catalog.Snapshot, own *Finding) error {
	s.Details = catalog.Details{Indexes: maps.Clone(w.read)}
	if err := w.c.reader.Satisfy(ctx, s, func() (catalog.Needs, error) { return s.WindowNeeds(), nil }); err != nil {
		return err
	}
	maps.Copy(w.read, s.Details.Indexes)
	s.Details.Unreadable, s.Details.Links = nil, nil
	for _, f := range w.c.findings {
		if f == own {
			continue
		}
		for _, x := range w.c.cutsOf(f.effect) {
			maps.DeleteFunc(s.Details.Indexes, func(seg wal.Segment, _ *index.Index) bool {
				return seg.Timeline == x.timeline && seg.Start() < x.to && x.from < seg.End()
			})
		}
	}
	return nil
}

// without works out a finding's consequence.
func (w *thought) without(ctx context.Context, f *Finding) error {
	s := w.sound
	s.Timelines = slices.Clone(w.sound.Timelines)
	for i := range s.Timelines {
		t := &s.Timelines[i]
		for _, x := range w.c.cutsOf(f.effect) {
			if x.timeline == t.ID {
				t.Ranges = take(t.Ranges, x, s.SegmentSize)
			}
		}
		if f.effect.history == t.ID {
			t.HistoryState, t.History = catalog.HistoryDamaged, wal.History{}
		}
	}
	s.Backups = slices.DeleteFunc(slices.Clone(w.sound.Backups), func(b catalog.Backup) bool { return slices.Contains(f.effect.backups, b.ID) })
	if err := w.fill(ctx, &s, f); err != nil {
		return err
	}
	left := map[string]bool{}
	windows := map[wal.TimelineID][]catalog.Window{}
	for _, t := range s.Timelines {
		p, err := s.Path(t.ID)
		if err != nil {
			continue
		}
		windows[t.ID] = s.WindowsOn(p)
		for _, v := range windows[t.ID] {
			for _, id := range v.Backups {
				left[id] = true
			}
		}
	}
	f.Lost, f.Backups = nil, nil
	for _, p := range w.paths {
		for _, v := range w.windows[p.Timeline] {
			f.Lost = append(f.Lost, w.lost(p, v, windows)...)
			for _, id := range v.Backups {
				if !left[id] && !slices.Contains(f.Backups, id) {
					f.Backups = append(f.Backups, id)
				}
			}
		}
	}
	f.Lost = w.distinct(f.Lost)
	for i := range f.Lost {
		for _, m := range []*catalog.Moment{&f.Lost[i].From, &f.Lost[i].To} {
			if m.Time != nil && m.Time.IsZero() { // of a backup of which only the positions are known
				m.Time = nil
			}
		}
	}
	for _, id := range f.effect.backups {
		if !slices.Contains(f.Backups, id) {
			f.Backups = append(f.Backups, id)
		}
	}
	slices.Sort(f.Backups)
	if f.effect.history != 0 && len(f.Lost) == 0 {
		f.Lost = w.ownWAL(f.effect.history)
	}
	unknown := false
	for _, id := range f.effect.backups {
		_, known := w.sound.Backup(id)
		unknown = unknown || !known
	}
	f.Consequence, f.Harmless = consequence(f, unknown)
	return nil
}

// ownWAL is all WAL of a timeline whose ancestry nothing tells of any more.
func (w *thought) ownWAL(tli wal.TimelineID) []Lost {
	t, ok := w.sound.Timeline(tli)
	if _, known := w.parents[tli]; !ok || known || len(t.Ranges) == 0 {
		return nil
	}
	return []Lost{{tli, catalog.Moment{LSN: t.Ranges[0].Start}, catalog.Moment{LSN: t.Ranges[len(t.Ranges)-1].End}}}
}

// lost is what of a window on a path no window reaches any more, on whatever timeline.
func (w *thought) lost(p catalog.Path, v catalog.Window, windows map[wal.TimelineID][]catalog.Window) []Lost {
	var reach []catalog.Window
	for tli, list := range windows {
		limit, err := w.common(p, tli)
		if err != nil {
			continue
		}
		for _, x := range list {
			if x.From.LSN >= limit {
				continue
			}
			if x.To.LSN > limit {
				x.To = catalog.Moment{LSN: limit}
			}
			reach = append(reach, x)
		}
	}
	slices.SortFunc(reach, func(a, b catalog.Window) int { return compareLSN(a.From.LSN, b.From.LSN) })
	var list []Lost
	at := v.From
	for _, x := range reach {
		if x.From.LSN > at.LSN && at.LSN < v.To.LSN {
			list = append(list, Lost{p.Timeline, at, earlier(x.From, v.To)})
		}
		if x.To.LSN > at.LSN || x.To.LSN == at.LSN && x.To.Time != nil {
			at = x.To
		}
	}
	if at.LSN < v.To.LSN {
		list = append(list, Lost{p.Timeline, at, v.To})
	}
	return list
}

// common is the position up to which the way to a timeline is that of the path.
func (w *thought) common(p catalog.Path, tli wal.TimelineID) (wal.LSN, error) {
	q, err := w.sound.Path(tli)
	if err != nil {
		return 0, err
	}
	if limit, ok := p.Divergence(q); ok {
		return limit, nil
	}
	return ^wal.LSN(0), nil
}

// distinct leaves each moment to the first of the timelines it is told for.
func (w *thought) distinct(list []Lost) []Lost {
	var out []Lost
	for _, l := range list {
		for _, o := range out {
			p, err := w.sound.Path(o.Timeline)
			if err != nil || o.Timeline == l.Timeline {
				continue
			}
			limit, err := w.common(p, l.Timeline)
			if end := min(limit, o.To.LSN); err == nil && o.From.LSN <= l.From.LSN && end > l.From.LSN {
				l.From = catalog.Moment{LSN: end}
			}
		}
		if l.From.LSN < l.To.LSN {
			out = append(out, l)
		}
	}
	return out
}

func earlier(a, b catalog.Moment) catalog.Moment {
	if b.LSN < a.LSN {
		return b
	}
	return a
}

func compareLSN(a, b wal.LSN) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// consequence puts into words what a finding takes. unknown: of a backup that cannot be restored
// nothing tells which moments it reached.
func consequence(f *Finding, unknown bool) (text string, harmless bool) {
	var parts []string
	for _, l := range f.Lost {
		parts = append(parts, fmt.Sprintf("moments after %s up to %s on timeline %s can no longer be restored", momentText(l.From), momentText(l.To), l.Timeline))
	}
	switch n := len(f.Backups); {
	case n == 1:
		parts = append(parts, "backup "+f.Backups[0]+" cannot be restored")
	case n > 1:
		parts = append(parts, fmt.Sprintf("%d backups cannot be restored: %s", n, strings.Join(f.Backups, ", ")))
	}
	switch {
	case len(parts) == 0 && f.effect.unless != "":
		return "no moment is lost: " + f.effect.unless, true
	case len(parts) == 0:
		return "no moment is lost that could be restored without it", true
	case unknown:
		parts = append(parts, "nothing tells any more which moments could be restored from it; those that other backups reach are not lost (`walden list`)")
	case len(f.Lost) == 0:
		parts = append(parts, "as far as is known no moment is lost, for others serve in its place")
	}
	return strings.Join(parts, "; "), false
}

func momentText(m catalog.Moment) string {
	if m.Time == nil {
		return m.LSN.String()
	}
	return fmt.Sprintf("%s (%s)", m.Time.UTC().Format("2006-01-02 15:04:05.999999Z07:00"), m.LSN)
}

// cutsOf are the stretches of WAL that an effect takes.
func (c *checker) cutsOf(e effect) []cut {
	switch {
	case e.partial != nil:
		return c.partialCut(e.partial.file.Segment)
	case e.fragment == nil:
		return e.cuts
	}
	l := c.live[e.fragment.fragment.Segment]
	if l == nil {
		return nil
	}
	all, without := archive.LiveSegment{Segment: l.Segment}, archive.LiveSegment{Segment: l.Segment}
	for _, f := range l.Fragments {
		all.Fragments = append(all.Fragments, f)
		if f.Fragment != e.fragment.fragment {
			without.Fragments = append(without.Fragments, f)
		}
	}
	all, without = ordered(all), ordered(without)
	if without.Covered() >= all.Covered() || c.sealed(l.Segment) {
		return nil
	}
	from := without.End()
	if without.Covered() < archive.MinCovered {
		from = l.Segment.Start()
	}
	return []cut{{l.Segment.Timeline, from, all.End()}}
}

// partialCut is the WAL that only a partial segment has: it stands for the end of its timeline where
// nothing better is archived.
func (c *checker) partialCut(seg wal.Segment) []cut {
	if last, any := c.wal.last[seg.Timeline]; any && last >= seg.Number {
		return nil
	}
	for live := range c.live {
		if live.Timeline == seg.Timeline && live.Number >= seg.Number {
			return nil
		}
	}
	end, known := c.partials[seg]
	if !known && c.old != nil {
		for _, r := range c.old.Partials {
			if r.Segment == seg.Name() {
				end, known = r.End, true
			}
		}
	}
	if !known {
		end = seg.End() // it may have been less
	}
	if end <= seg.Start() {
		return nil
	}
	return []cut{{seg.Timeline, seg.Start(), end}}
}

// sealed reports whether the segment itself is there: it outranks its fragments.
func (c *checker) sealed(seg wal.Segment) bool {
	_, ok := c.found.find(strings.TrimPrefix(archive.SegmentKey(c.inc, seg), c.inc.Prefix()))
	return ok
}

// validated is what the record says of backups.
func (c *checker) validated(snap *catalog.Snapshot) []recordedBackup {
	problems := map[string]string{}
	for _, f := range c.findings {
		for _, id := range f.Backups {
			if problems[id] == "" {
				problems[id] = f.Object + ": " + f.Problem
			}
		}
	}
	read := map[string]int64{}
	least := func(id string, t int64) {
		if old, ok := read[id]; !ok || t < old {
			read[id] = t
		}
	}
	for key, n := range c.backups.needed {
		t, _ := c.found.find(strings.TrimPrefix(key, c.inc.Prefix()))
		for _, id := range n.by {
			least(id, t)
		}
	}
	all := slices.Clone(snap.Backups)
	for _, id := range slices.Sorted(maps.Keys(problems)) {
		_, there := snap.Backup(id)
		if b, ok := c.known(id); ok && !there {
			all = append(all, b) // its manifest is damaged or has gone
		}
	}
	slices.SortFunc(all, func(a, b catalog.Backup) int { return strings.Compare(a.ID, b.ID) })
	var list []recordedBackup
	for _, b := range all {
		least(b.ID, c.readWAL(snap, b))
		v := Validation{Incarnation: c.inc.Number, Backup: b.ID, State: Checked, Checked: &c.began, Read: moment(read[b.ID]), Problem: problems[b.ID]}
		_, read := c.backups.manifests[b.ID]
		switch {
		case v.Problem != "":
			v.State = Damaged
		case !read: // it was published while objects were looked at
			v.State, v.Checked, v.Read = Unverified, nil, nil
		case v.Read != nil:
			v.State = Sound
		}
		list = append(list, recordedBackup{Backup: b, Validation: v})
		c.report.Backups = append(c.report.Backups, v)
	}
	return list
}

// readWAL is since when all WAL that the backup needs to become consistent has been read
// whole; 0: not all has been, or some of it is not sealed yet.
func (c *checker) readWAL(snap *catalog.Snapshot, b catalog.Backup) int64 {
	p, err := snap.Path(b.StopTimeline)
	if err != nil {
		return 0
	}
	since := int64(0)
	for n := c.inc.SegmentSize.Number(b.StartLSN); n <= c.inc.SegmentSize.PrevNumber(b.StopLSN); n++ {
		t, ok := c.found.find(strings.TrimPrefix(archive.SegmentKey(c.inc, p.Segment(n)), c.inc.Prefix()))
		if !ok || t == 0 {
			return 0
		}
		if since == 0 || t < since {
			since = t
		}
	}
	return since
}
