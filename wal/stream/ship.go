package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
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
}

// run ships until ctx is done. An error is one that only a person can mend.
func (s *shipper) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
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
	err := s.persist(ctx, f.String(), func() error {
		_, err := s.archive.PutFragment(ctx, f, next.segment.file)
		return err
	})
	if err != nil {
		return err
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

// compare holds the fragments of an earlier run against what was received.
func (s *shipper) compare(ctx context.Context, next job) error {
	if len(next.compare) == 0 && next.segment.presealed {
		return s.compareSealed(ctx, next.segment)
	}
	var right []archive.StoredFragment
	for _, f := range next.compare {
		gone := false
		err := s.persist(ctx, f.String(), func() error {
			err := s.archive.CompareFragment(ctx, f.Fragment, next.segment.file)
			gone = errors.Is(err, storage.ErrNotExist) // covered by another, or sealed
			if gone {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if !gone {
			right = append(right, f)
		}
	}
	var files []*segmentFile
	s.journal.update(func() {
		next.segment.compared(right)
		files = s.journal.popDone()
	})
	s.discard(files)
	return nil
}

// compareSealed holds the beginning of a segment against the sealed one.
func (s *shipper) compareSealed(ctx context.Context, seg *openSegment) error {
	gone := false
	err := s.persist(ctx, "segment "+seg.seg.Name(), func() error {
		obj, err := s.archive.OpenSegment(ctx, seg.seg)
		if gone = errors.Is(err, storage.ErrNotExist); gone {
			return nil
		}
		if err != nil {
			return err
		}
		sealed := obj.NewReader(ctx, 0, seg.have)
		defer sealed.Close()
		theirs, ours := make([]byte, 64<<10), make([]byte, 64<<10)
		for at := int64(0); at < seg.have; {
			n := min(seg.have-at, int64(len(ours)))
			if _, err := io.ReadFull(sealed, theirs[:n]); err != nil {
				return fmt.Errorf("read segment %s: %w", seg.seg.Name(), err)
			}
			if _, err := seg.file.ReadAt(ours[:n], at); err != nil && !errors.Is(err, io.EOF) {
				return &LocalError{Segment: seg.seg, Err: err}
			}
			if !bytes.Equal(theirs[:n], ours[:n]) {
				key := archive.SegmentKey(s.archive.Incarnation(), seg.seg)
				return &archive.DisagreementError{Segment: seg.seg, Key: key, From: at, To: at + n}
			}
			at += n
		}
		return nil
	})
	if err != nil {
		return err
	}
	var files []*segmentFile
	s.journal.update(func() {
		if seg.comparing = false; gone {
			seg.presealed = false
			return
		}
		seg.durable, seg.scheduled = seg.have, seg.have
		files = s.journal.popDone()
	})
	s.discard(files)
	return nil
}

// seal puts the whole segment into the archive and removes its fragments.
func (s *shipper) seal(ctx context.Context, next job) error {
	seg := next.segment
	var refused *archive.RefusedError
	err := s.persist(ctx, "segment "+seg.seg.Name(), func() error {
		_, err := s.archive.PutSegment(ctx, seg.seg, seg.file)
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
	s.state.sealed(time.Since(next.begun))
	var files []*segmentFile
	var fragments []archive.Fragment
	s.journal.update(func() {
		for _, f := range seg.fragments {
			fragments = append(fragments, f.Fragment)
		}
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
)

// persist calls f until it succeeds, or fails in a way that trying again
// cannot mend: a conflict, a refusal, the end of ctx.
func (s *shipper) persist(ctx context.Context, what string, f func() error) error {
	pause := firstPause
	for {
		err := f()
		if err == nil {
			s.state.repositoryWorks()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if final(err) {
			return err
		}
		s.state.failed(err)
		wait := pause/2 + rand.N(pause)
		s.o.Logger.Warn("the repository does not take it; it is tried again", "what", what, "wait", wait.Round(time.Millisecond), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// final reports whether an error stays what it is however often it is tried.
func final(err error) bool {
	var (
		conflict *archive.ConflictError
		differ   *archive.DisagreementError
		refused  *archive.RefusedError
	)
	return errors.As(err, &conflict) || errors.As(err, &differ) || errors.As(err, &refused)
}

// drain waits until everything that was received is durable.
func (s *shipper) drain(ctx context.Context) error {
	for {
		changed := s.journal.await()
		s.journal.need()
		if n, _ := s.journal.pending(); n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			n, _ := s.journal.pending()
			return &UnshippedError{Bytes: n, Err: s.state.lastFailure()}
		case <-changed:
		}
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
