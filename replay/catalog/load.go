package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
)

// Reader takes Snapshots of one incarnation and fills in their details.
// It is safe for concurrent use; a Snapshot is not.
type Reader struct {
	repo     *repository.Repository
	archive  *archive.Archive
	rollups  *rollup.Store
	inc      archive.Incarnation
	parallel int
	// assembling bounds how many segments are put together from fragments at a
	// time: each takes up to a segment of memory.
	assembling chan struct{}
}

// defaultParallel is the number of requests under way at once: they are small,
// and what counts is how long the store takes to answer each.
const defaultParallel = 32

// NewReader returns a Reader that makes at most parallel requests at a time
// (0: 32).
func NewReader(repo *repository.Repository, a *archive.Archive, parallel int) *Reader {
	if parallel <= 0 {
		parallel = defaultParallel
	}
	return &Reader{
		repo: repo, archive: a, rollups: rollup.NewStore(repo, a.Incarnation()), inc: a.Incarnation(), parallel: parallel,
		assembling: make(chan struct{}, 2),
	}
}

// Load takes the overview, without reading a segment. All WAL is listed. What is damaged or missing
// is told in Snapshot.Problems; an error means that the store could not be asked.
func (r *Reader) Load(ctx context.Context) (*Snapshot, error) {
	s, err := r.Sketch(ctx)
	if err != nil {
		return nil, err
	}
	var all []Stretch
	for _, t := range s.Timelines {
		if t.listing != nil {
			all = append(all, t.listing.unlisted...)
		}
	}
	if err := r.listAll(ctx, s, all); err != nil {
		return nil, err
	}
	s.Problems = append(s.Problems, s.unrestorable()...)
	return s, nil
}

// Sketch is Load without the listing of WAL, but for its end: what a plan needs of it is
// listed on request (Snapshot.Unlisted, Needs.Lists). Problems does not tell of backups whose
// WAL is missing.
func (r *Reader) Sketch(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{
		Cluster: r.inc.Cluster, Incarnation: r.inc.Number, SystemID: r.inc.SystemID,
		SegmentSize: r.inc.SegmentSize, Major: r.inc.Major, Taken: time.Now().UTC(),
		Backups: []Backup{}, Incomplete: []Incomplete{}, Timelines: []Timeline{}, Problems: []Problem{},
	}
	// Backups are listed first and WAL after them: a manifest is published when
	// its WAL is archived, so that what it needs is never missed by being listed
	// too early.
	listing, err := basebackup.Overview(ctx, r.repo, r.inc)
	if err != nil {
		return nil, err
	}
	s.addBackups(listing, r.inc)
	if err := r.loadTimelines(ctx, s); err != nil {
		return nil, err
	}
	s.addBackupTimelines()
	s.markStranded()
	return s, nil
}

// addBackups takes over what was listed of backups.
func (s *Snapshot) addBackups(l *basebackup.Listing, inc archive.Incarnation) {
	for _, m := range l.Backups {
		s.Backups = append(s.Backups, Backup{
			ID: m.ID, Parent: m.Parent, Label: m.Label,
			Timeline: m.Timeline, StartLSN: m.StartLSN, CheckpointLSN: m.CheckpointLSN,
			StopLSN: m.StopLSN, StopTimeline: m.StopTimeline,
			StartTime: m.StartTime, StopTime: m.StopTime, FromStandby: m.FromStandby,
			ServerVersion: m.ServerVersion, Files: m.Files, Bytes: m.Bytes, StoredBytes: m.StoredBytes,
			Warnings: m.Warnings, MaxPrepared: maxPrepared(m), Objects: m.Objects,
		})
	}
	for _, c := range l.Incomplete {
		s.Incomplete = append(s.Incomplete, Incomplete{ID: c.ID, Parent: c.Parent, Host: c.Host, PID: c.PID, Start: c.Start})
	}
	for _, u := range l.Unreadable {
		s.Problems = append(s.Problems, Problem{Object: basebackup.ManifestKey(inc, u.ID), Problem: u.Err.Error()})
	}
}

// loadTimelines lists all timelines and reads their histories.
func (r *Reader) loadTimelines(ctx context.Context, s *Snapshot) error {
	ids, err := r.archive.Timelines(ctx)
	if err != nil {
		return err
	}
	found := make([]Timeline, len(ids))
	problems := make([][]Problem, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // each lists its logs in parallel
	for i, id := range ids {
		g.Go(func() error {
			var err error
			found[i], problems[i], err = r.loadTimeline(ctx, id, s.lastBackupOn(id))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.Timelines = append(s.Timelines, found...)
	s.Problems = append(s.Problems, slices.Concat(problems...)...)
	return nil
}

// lastBackupOn is the log in which the newest backup of a timeline ended; 0: there
// is none.
func (s *Snapshot) lastBackupOn(tli wal.TimelineID) (log uint32) {
	for _, b := range s.Backups {
		if b.StopTimeline == tli {
			log = max(log, uint32(b.StopLSN>>32))
		}
	}
	return log
}

// loadTimeline lists one timeline and reads its history.
func (r *Reader) loadTimeline(ctx context.Context, id wal.TimelineID, near uint32) (Timeline, []Problem, error) {
	t := Timeline{ID: id}
	// What is listed in several steps can change in between: a hole is believed
	// when it is there again and again.
	for range attempts {
		if err := r.loadWAL(ctx, &t, near); err != nil {
			return t, nil, err
		}
		if !t.broken() {
			break
		}
	}
	problems, err := r.loadHistory(ctx, &t)
	return t, append(t.liveProblems(r.inc), problems...), err
}

// attempts bounds how often something is looked for that can be replaced meanwhile.
const attempts = 4

// loadWAL finds where a timeline's segments begin and end, and lists its fragments
// and the logs that they and the last segment lie in.
// near is a log that the last one may be close to.
func (r *Reader) loadWAL(ctx context.Context, t *Timeline, near uint32) error {
	// Fragments first: one that is replaced by its segment meanwhile is then seen twice
	// rather than not at all.
	live, err := r.archive.Live(ctx, t.ID)
	if err != nil {
		return err
	}
	first, last, any, err := r.archive.Bounds(ctx, t.ID, near)
	if err != nil {
		return err
	}
	per := r.inc.SegmentSize.SegmentsPerLog()
	ends := []uint64{uint64(last)}
	for _, l := range live {
		ends = append(ends, l.Segment.Number/per)
	}
	var stretches []Stretch
	t.sketch(uint64(first)*per, uint64(last)*per+per-1, per, live)
	if !any {
		t.listing.unlisted, ends = nil, nil
	}
	slices.Sort(ends)
	for _, log := range slices.Compact(ends) {
		x := Stretch{Timeline: t.ID, First: log * per, Last: log*per + per - 1}
		if n := len(stretches); n > 0 && stretches[n-1].Last+1 == x.First {
			stretches[n-1].Last = x.Last
			continue
		}
		stretches = append(stretches, x)
	}
	return r.list(ctx, []*Timeline{t}, stretches)
}

// loadHistory reads a timeline's history file.
func (r *Reader) loadHistory(ctx context.Context, t *Timeline) ([]Problem, error) {
	if t.ID == 1 {
		t.HistoryState = HistoryNone
		return nil, nil
	}
	key := archive.HistoryKey(r.inc, t.ID)
	content, err := r.archive.HistoryContent(ctx, t.ID)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		t.HistoryState = HistoryMissing
		return []Problem{{Object: key, Problem: fmt.Sprintf("timeline %s is archived, but its history file is not", t.ID)}}, nil
	case err != nil && archive.IsStoreFault(err):
		return nil, err
	}
	var h wal.History
	if err == nil {
		h, err = wal.ParseHistory(t.ID, content)
	}
	if err != nil {
		t.HistoryState = HistoryDamaged
		return []Problem{{Object: key, Problem: err.Error()}}, nil
	}
	t.setHistory(h)
	return nil, nil
}

// setHistory takes over what a history file says.
func (t *Timeline) setHistory(h wal.History) {
	t.HistoryState, t.History = HistoryPresent, h
	if p, ok := h.Parent(); ok {
		t.Parent, t.Switch, t.Reason = p.Timeline, p.End, p.Reason
	}
}

// addBackupTimelines adds the timelines of backups of which nothing is archived.
func (s *Snapshot) addBackupTimelines() {
	for _, b := range s.Backups {
		for _, tli := range []wal.TimelineID{b.Timeline, b.StopTimeline} {
			if _, ok := s.Timeline(tli); ok {
				continue
			}
			state := HistoryMissing
			if tli == 1 {
				state = HistoryNone
			}
			s.Timelines = append(s.Timelines, Timeline{ID: tli, HistoryState: state, Ranges: []Range{}})
			slices.SortFunc(s.Timelines, func(a, b Timeline) int { return compare(a.ID, b.ID) })
		}
	}
}

// unrestorable finds the backups that no timeline leads away from, because WAL
// between their redo point and their end is missing.
func (s *Snapshot) unrestorable() []Problem {
	var problems []Problem
	for _, b := range s.Backups {
		p, err := s.Path(b.StopTimeline)
		if err != nil {
			continue // the damaged history is a problem of its own
		}
		object := "backup " + b.ID
		if why := p.Belongs(b); why != "" {
			problems = append(problems, Problem{Object: object, Problem: why})
			continue
		}
		missing := s.Missing(p, b.StartLSN, b.StopLSN)
		if len(missing) > 0 && !s.restorableElsewhere(b) {
			problems = append(problems, Problem{Object: object, Problem: "it cannot be restored: " + DescribeGaps(missing)})
		}
	}
	return problems
}

// restorableElsewhere reports whether all WAL the backup needs lies on the way
// to some other timeline: the segment of a switch can be archived on the
// younger timeline alone.
func (s *Snapshot) restorableElsewhere(b Backup) bool {
	return slices.ContainsFunc(s.Timelines, func(t Timeline) bool {
		p, err := s.Path(t.ID)
		return err == nil && p.Belongs(b) == "" && len(s.Missing(p, b.StartLSN, b.StopLSN)) == 0
	})
}
