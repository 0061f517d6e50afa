package stream

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal/archive"
)

// sweeper removes fragments that are not needed any more, while nothing waits
// for it. What it does not get round to is left to the next run, or to prune.
type sweeper struct {
	archive *archive.Archive
	o       *Options

	mu   sync.Mutex
	list []archive.Fragment
	more chan struct{} // of capacity 1
	// keep says that this writer may not delete: told once.
	keep    bool
	trouble outage // with single fragments
}

// sweepBatch bounds how many fragments are removed together.
const sweepBatch = 256

func newSweeper(a *archive.Archive, o *Options) *sweeper {
	return &sweeper{archive: a, o: o, more: make(chan struct{}, 1)}
}

// add takes fragments to be removed.
func (s *sweeper) add(list ...archive.Fragment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep || len(list) == 0 {
		return
	}
	s.list = append(s.list, list...)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *sweeper) take() []archive.Fragment {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// run removes what is added until ctx is done.
func (s *sweeper) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.more:
		}
		for list := range slices.Chunk(s.take(), sweepBatch) {
			s.sweep(ctx, list)
		}
	}
}

// sweep deletes fragments together, and those for which that fails one by one: why
// it fails of one says nothing of the others.
func (s *sweeper) sweep(ctx context.Context, list []archive.Fragment) {
	if s.idle(ctx) || s.archive.DeleteFragments(ctx, list...) == nil {
		return
	}
	for _, f := range list {
		s.remove(ctx, f)
	}
}

// idle reports whether nothing is to be removed any more.
func (s *sweeper) idle(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep || ctx.Err() != nil
}

// remove deletes one fragment. Who may not delete leaves that to prune.
func (s *sweeper) remove(ctx context.Context, f archive.Fragment) {
	if s.idle(ctx) {
		return
	}
	err := s.archive.DeleteFragments(ctx, f)
	if err == nil || ctx.Err() != nil || storage.Retryable(err) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if !errors.Is(err, fs.ErrPermission) {
		failures, tell := s.trouble.failed(true, time.Now())
		s.trouble.left()
		if tell {
			s.o.Logger.Warn("a fragment that is not needed any more cannot be removed; it is left to walden prune", "what", f.String(), "failures", failures, "error", err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keep {
		s.o.Logger.Warn("fragments that are not needed any more cannot be removed; they are left to walden prune", "error", err)
	}
	s.keep = true
}
