package stream

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

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

// sweepers bounds the deletions under way at once.
const sweepers = 4

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
		g := errgroup.Group{}
		g.SetLimit(sweepers)
		for _, f := range s.take() {
			g.Go(func() error {
				s.remove(ctx, f)
				return nil
			})
		}
		_ = g.Wait() // none of them returns an error
	}
}

// remove deletes one fragment. Who may not delete leaves that to prune.
func (s *sweeper) remove(ctx context.Context, f archive.Fragment) {
	s.mu.Lock()
	keep := s.keep
	s.mu.Unlock()
	if keep || ctx.Err() != nil {
		return
	}
	err := s.archive.DeleteFragments(ctx, f)
	if err == nil || ctx.Err() != nil || storage.Retryable(err) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if !errors.Is(err, fs.ErrPermission) {
		// That says nothing of the others.
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
