package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// lsn makes a distance of a length.
func lsn(n int64) wal.LSN { return wal.LSN(n) }

// shipper makes what is in the journal durable, and seals what is complete.
type shipper struct {
	archive *archive.Archive
	journal *journal
	o       *Options
	state   *state
	sweeper *sweeper
	trouble outage // of the repository, or this machine's disk
	// diskFailed says that the last failure was of this machine's disk.
	diskFailed atomic.Bool
	// ended is closed when run has ended, and hurry when the receiver is to end.
	ended, hurry chan struct{}
	hurrying     sync.Once

	mu     sync.Mutex
	worked chan struct{} // closed at the next success; nil: nobody waits for it
}

func newShipper(o *Options, j *journal, st *state) *shipper {
	st.late = max(lateDelays*o.MaxDelay, lateAfter)
	return &shipper{
		archive: o.Archive, journal: j, o: o, state: st, sweeper: newSweeper(o.Archive, o),
		ended: make(chan struct{}), hurry: make(chan struct{}),
	}
}

// run ships until ctx is done. An error is one that only a person can mend.
func (s *shipper) run(ctx context.Context) error {
	defer close(s.ended)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watchDelay(ctx) })
	finished := make(chan jobKind, 64) // more are never under way
	g.Go(func() error {
		uploads, seals := 0, 0
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		for {
			changed := s.journal.await()
			next, wait := s.choose(s.o.Uploads-uploads, 1-seals)
			if next.kind != noJob {
				if next.kind == housekeepingJob {
					seals++
				} else {
					uploads++
				}
				g.Go(func() error {
					err := s.do(ctx, next)
					finished <- next.kind
					return err
				})
				continue
			}
			if wait == 0 {
				wait = time.Hour
			}
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-timer.C:
			case kind := <-finished:
				if kind == housekeepingJob {
					seals--
				} else {
					uploads--
				}
			}
		}
	})
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// choose asks the journal for the next job.
func (s *shipper) choose(uploads, seals int) (job, time.Duration) {
	p := policy{eager: s.state.eager(), behind: s.state.behind(s.journal.size), delay: s.o.MaxDelay, uploads: uploads, seals: seals}
	s.journal.mu.Lock()
	next, wait := s.journal.next(p, time.Now())
	files := s.journal.popDone()
	s.journal.mu.Unlock()
	s.discard(files)
	return next, wait
}

// do does one job.
func (s *shipper) do(ctx context.Context, next job) error {
	switch next.kind {
	case compareJob:
		return s.compare(ctx, next)
	case fragmentJob:
		return s.fragment(ctx, next)
	default:
		return s.seal(ctx, next)
	}
}

// fragment uploads a fragment, and removes those that it covers.
func (s *shipper) fragment(ctx context.Context, next job) error {
	f := next.fragment.Fragment
	var bad error
	err := s.persist(ctx, f.String(), func() error {
		_, err := s.archive.PutFragment(ctx, f, next.segment.content())
		if damaged(err) {
			bad, err = err, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if bad != nil {
		s.reportDamage(f, bad)
		s.journal.update(func() { next.segment.occupied(f) })
		return nil
	}
	s.state.uploaded(f.To-f.From, time.Since(next.begun))
	var covered []archive.Fragment
	var files []*segmentFile
	s.journal.update(func() {
		covered = next.segment.stored(next)
		files = s.journal.popDone()
	})
	s.discard(files)
	s.sweeper.add(covered...)
	return nil
}

// seal puts the whole segment into the archive and removes its fragments.
func (s *shipper) seal(ctx context.Context, next job) error {
	seg := next.segment
	var refused *archive.RefusedError
	var bad error
	err := s.persist(ctx, "segment "+seg.seg.Name(), func() error {
		res, err := s.archive.PutSegment(ctx, seg.seg, seg.content())
		if err == nil && res == archive.Identical {
			// The end of the object says so: its fragments go only if all of it is there.
			err = s.readThrough(ctx, seg)
		}
		if damaged(err) {
			bad, err = err, nil
		}
		return err
	})
	if errors.As(err, &refused) {
		s.o.Logger.Error("a segment was received that cannot be archived as one; it stays in fragments", "segment", seg.seg.Name(), "error", err)
		s.state.finding()
		s.journal.update(func() { seg.refused, seg.sealing, seg.presealed = true, false, false })
		return nil
	}
	if err != nil {
		return err
	}
	if bad != nil {
		s.reportSealed(seg.seg, bad)
		s.journal.update(seg.unsealable)
		return nil
	}
	s.state.sealed(time.Since(next.begun))
	var files []*segmentFile
	var fragments []archive.Fragment
	s.journal.update(func() {
		for _, f := range seg.fragments {
			fragments = append(fragments, f.Fragment)
		}
		fragments = append(fragments, seg.damaged...) // nobody needs them any more
		seg.sealed, seg.sealing = true, false
		seg.durable, seg.scheduled = seg.have, seg.have
		files = s.journal.popDone()
	})
	s.discard(files)
	s.sweeper.add(fragments...)
	return nil
}

// discard removes the files of segments that are done.
func (s *shipper) discard(files []*segmentFile) {
	for _, f := range files {
		if err := f.discard(); err != nil {
			s.o.Logger.Warn("a file of WAL that is archived cannot be removed", "file", f.Name(), "error", err)
		}
	}
}

// Pauses between attempts to store something.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 15 * time.Second
	// hurriedPause is the longest one while the receiver is to end, and after
	// the repository has taken something else.
	hurriedPause = 500 * time.Millisecond
)

// persist calls f until it succeeds, or fails in a way that trying again
// cannot mend: a conflict, a refusal, the end of ctx.
func (s *shipper) persist(ctx context.Context, what string, f func() error) error {
	pause := firstPause
	for first := true; ; first = false {
		worked := s.awaitSuccess()
		err := f()
		switch {
		case err == nil:
			s.works(!first)
			return nil
		case ctx.Err() != nil:
			err = ctx.Err()
			fallthrough
		case final(err):
			if !first {
				s.trouble.left()
			}
			return err
		}
		s.state.failed(err)
		s.diskFailed.Store(local(err))
		wait := pause/2 + rand.N(pause)
		if failures, tell := s.trouble.failed(first, time.Now()); tell {
			s.tellFailure(err, "what", what, "failures", failures, "wait", wait.Round(time.Millisecond), "error", err)
		}
		s.pause(ctx, wait, worked)
		pause = min(2*pause, maxPause)
	}
}

// tellFailure logs a failure as what failed: this machine, or the repository.
func (s *shipper) tellFailure(err error, args ...any) {
	if !local(err) {
		s.o.Logger.Warn("the repository does not take it; it is tried again and again", args...)
		return
	}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) {
		args = append(args, "hint", hinted.Hint())
	}
	s.o.Logger.Warn("the disk of this machine fails, not the repository; it is tried again and again", args...)
}

// local reports whether this machine's disk failed rather than the repository.
func local(err error) bool {
	var held *LocalError
	var encoded *repository.SpoolError
	return errors.As(err, &held) || errors.As(err, &encoded)
}

// awaitSuccess returns a channel that is closed when the repository takes something next.
func (s *shipper) awaitSuccess() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worked == nil {
		s.worked = make(chan struct{})
	}
	return s.worked
}

// pause waits before the next attempt, not for long where the receiver is to
// end, or the repository has taken something else.
func (s *shipper) pause(ctx context.Context, wait time.Duration, worked <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-s.hurry:
	case <-worked:
	}
	timer.Reset(min(wait, hurriedPause))
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// works notes that the repository took something; failed says that it had not at first.
func (s *shipper) works(failed bool) {
	s.mu.Lock()
	if s.worked != nil {
		close(s.worked)
		s.worked = nil
	}
	s.mu.Unlock()
	away, over, tell := s.trouble.worked(failed, time.Now())
	if over {
		s.state.repositoryWorks()
	}
	if tell && s.diskFailed.Swap(false) {
		s.o.Logger.Info("the disk of this machine works again", "away", away.Round(time.Millisecond))
	} else if tell {
		s.o.Logger.Info("the repository works again", "away", away.Round(time.Millisecond))
	}
}

// final reports whether an error stays what it is however often it is tried.
func final(err error) bool {
	var (
		conflict *archive.ConflictError
		differ   *archive.DisagreementError
		other    *OtherContentError
		refused  *archive.RefusedError
	)
	return errors.As(err, &conflict) || errors.As(err, &differ) || errors.As(err, &other) || errors.As(err, &refused)
}

// drain waits until everything that was received is durable, or nobody ships any more.
func (s *shipper) drain(ctx context.Context) error {
	s.hurrying.Do(func() { close(s.hurry) })
	for {
		changed := s.journal.await()
		s.journal.need()
		if n, _ := s.journal.pending(); n == 0 {
			return nil
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		case <-s.ended:
		}
		n, _ := s.journal.pending()
		if n == 0 {
			return nil
		}
		return &UnshippedError{Bytes: n, Err: s.state.lastFailure()}
	}
}

// UnshippedError says that WAL was received and could not be made durable
// before the receiver ended. The server still has what was not acknowledged.
type UnshippedError struct {
	Bytes int64
	// Err is why the repository did not take it; nil: it was too slow.
	Err error
}

// Error says how much.
func (e *UnshippedError) Error() string {
	s := fmt.Sprintf("%d bytes of WAL were received and did not reach the repository in time", e.Bytes)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the repository's last failure.
func (e *UnshippedError) Unwrap() error { return e.Err }

// Hint says where it still is.
func (e *UnshippedError) Hint() string {
	return "nothing is lost: the replication slot keeps on the server what was not acknowledged, and what is in a spool stays there; start walden stream again"
}
