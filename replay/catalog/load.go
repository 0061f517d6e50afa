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
)

// Reader takes Snapshots of one incarnation and fills in their details.
// It is safe for concurrent use; a Snapshot is not.
type Reader struct {
	repo     *repository.Repository
	archive  *archive.Archive
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
		repo: repo, archive: a, inc: a.Incarnation(), parallel: parallel,
		assembling: make(chan struct{}, 2),
	}
}

// Load takes the overview, without reading a segment. What is damaged or missing
// is told in Snapshot.Problems; an error means that the store could not be asked.
func (r *Reader) Load(ctx context.Context) (*Snapshot, error) {
	s := &Snapshot{
		Cluster: r.inc.Cluster, Incarnation: r.inc.Number, SystemID: r.inc.SystemID,
		SegmentSize: r.inc.SegmentSize, Major: r.inc.Major, Taken: time.Now().UTC(),
		Backups: []Backup{}, Incomplete: []Incomplete{}, Timelines: []Timeline{}, Problems: []Problem{},
	}
	// Backups are listed first and WAL after them: a manifest is published when
	// its WAL is archived, so that what it needs is never missed by being listed
	// too early.
	listing, err := basebackup.List(ctx, r.repo, r.inc)
	if err != nil {
		return nil, err
	}
	s.addBackups(listing, r.inc)
	if err := r.loadTimelines(ctx, s); err != nil {
		return nil, err
	}
	s.addBackupTimelines()
	s.markStranded()
	s.Problems = append(s.Problems, s.unrestorable()...)
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
			Warnings: m.Warnings, MaxPrepared: maxPrepared(m), Objects: 1 + len(m.Packs) + len(m.Shards),
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
			found[i], problems[i], err = r.loadTimeline(ctx, id)
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

// loadTimeline lists one timeline and reads its history.
func (r *Reader) loadTimeline(ctx context.Context, id wal.TimelineID) (Timeline, []Problem, error) {
	t := Timeline{ID: id}
	// What is listed in several steps can change in between: a hole is believed
	// when it is there again and again.
	for range attempts {
		if err := r.loadWAL(ctx, &t); err != nil {
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

// loadWAL lists a timeline's segments and fragments.
func (r *Reader) loadWAL(ctx context.Context, t *Timeline) error {
	t.Ranges, t.Partials = []Range{}, nil
	// Fragments first: one that is replaced by its segment meanwhile is then seen twice
	// rather than not at all.
	live, err := r.archive.Live(ctx, t.ID)
	if err != nil {
		return err
	}
	runs, err := r.archive.Ranges(ctx, t.ID)
	if err != nil {
		return err
	}
	for _, run := range runs {
		t.Ranges = append(t.Ranges, NewRange(t.ID, run.First, run.Last, r.inc.SegmentSize, run.Bytes))
	}
	partials, err := r.archive.Partials(ctx, t.ID, 0, archive.LastSegment)
	if err != nil {
		return err
	}
	for _, p := range partials {
		t.Partials = append(t.Partials, wal.File{Kind: wal.FilePartial, Segment: p.Segment, Timeline: t.ID}.Name())
	}
	t.SetLive(live)
	return nil
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
	case err != nil && isStoreFault(err):
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

// isStoreFault tells what is wrong with the store, with the way to it or with this
// machine from what is wrong with an object.
func isStoreFault(err error) bool {
	var local *archive.ScratchError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &local) {
		return true
	}
	var e *storage.Error
	return errors.As(err, &e) && !errors.Is(err, storage.ErrNotExist)
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
