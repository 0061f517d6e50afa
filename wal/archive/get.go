package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

// firstPause is the time between the first two looks of Fetch; each further one is
// twice as long. Segments that arrive in parallel need not arrive in order.
const firstPause = 100 * time.Millisecond

// attemptsToFetch bounds how often Fetch starts over because a file that was
// absent arrived while its absence was being proven, or because fragments were
// replaced while they were read.
const attemptsToFetch = 5

// Fetch delivers a file of the archive to path, which PostgreSQL gives
// relative to its data directory. name is that of a segment, a history file, a
// partial segment or a backup history file.
//
// The file is verified to the last byte while it is written under a temporary
// name beside path; only then is it synced and renamed, and the directory
// synced. After any error nothing is there that was not there before.
//
// A segment that is not sealed yet is put together from its fragments, with
// zeros after the last byte that is there. See also AcceptPartial.
//
// *AbsentError means proven absence: the listing of what follows succeeded and
// is empty. If something later on the timeline is there it is a *HoleError.
// Damage is a *frame.Error that names the object, a fault of the store is a
// *storage.Error, one of the local disk a *DeliveryError.
func (a *Archive) Fetch(ctx context.Context, name, path string) error {
	f, err := wal.ParseFile(name, a.inc.SegmentSize)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for attempt := 1; ; attempt++ {
		if err = a.fetchOnce(ctx, f, path); err == nil || !passing(err) || attempt == attemptsToFetch {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.pause << (attempt - 1)):
		}
	}
}

// fetchOnce delivers the file from its object, or a segment from its fragments,
// or says that it is absent.
func (a *Archive) fetchOnce(ctx context.Context, f wal.File, path string) error {
	err := a.deliver(ctx, f, path)
	if errors.Is(err, storage.ErrNotExist) && f.Kind == wal.FileSegment {
		err = a.deliverLive(ctx, f.Segment, path)
		if a.partial && errors.Is(err, storage.ErrNotExist) {
			err = a.deliver(ctx, wal.File{Kind: wal.FilePartial, Segment: f.Segment, Timeline: f.Timeline}, path)
		}
	}
	if !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	if absence := a.proveAbsent(ctx, f); absence != nil {
		return absence
	}
	return fmt.Errorf("fetch %s: it comes and goes: %w", f.Name(), err)
}

// passing reports whether looking again can show something else: what is
// listed and read in several steps may be replaced in between.
func passing(err error) bool {
	var hole *HoleError
	return errors.Is(err, storage.ErrNotExist) || errors.As(err, &hole)
}

// proveAbsent returns an *AbsentError or a *HoleError for a file that was not
// found, nil if it is there now, or the fault that prevents a proof.
func (a *Archive) proveAbsent(ctx context.Context, f wal.File) error {
	next, err := a.evidence(ctx, f)
	if err != nil {
		return fmt.Errorf("prove that %s is absent: %w", f.Name(), err)
	}
	// The file may have been archived after it was looked for and before what
	// follows it was listed.
	key := FileKey(a.inc, f)
	_, err = a.repo.Store().Stat(ctx, key)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, storage.ErrNotExist):
		return fmt.Errorf("prove that %s is absent: %w", f.Name(), err)
	case next != "":
		return &HoleError{Name: f.Name(), Key: key, Next: next}
	}
	return &AbsentError{Name: f.Name()}
}

// evidence looks for a file that proves that f should be there, and returns
// its name, or "" if there is none.
func (a *Archive) evidence(ctx context.Context, f wal.File) (string, error) {
	switch f.Kind {
	case wal.FileSegment:
		return a.laterThan(ctx, f.Segment)
	case wal.FileHistory:
		return a.beginningOf(ctx, f.Timeline)
	}
	// Partial segments and backup history files are not part of a sequence;
	// still the listing must succeed.
	for _, err := range a.repo.Store().List(ctx, timelinePrefix(a.inc, f.Timeline), FileKey(a.inc, f)) {
		return "", err
	}
	return "", nil
}

// laterThan returns the first file of the segment's timeline that belongs to a
// later segment, or "". Segments that lie before the timeline's beginning are
// not missed: PostgreSQL never wrote them.
func (a *Archive) laterThan(ctx context.Context, seg wal.Segment) (string, error) {
	next, err := a.liveLaterThan(ctx, seg)
	if err != nil {
		return "", err
	}
	for info, err := range a.repo.Store().List(ctx, timelinePrefix(a.inc, seg.Timeline), SegmentKey(a.inc, seg)) {
		if err != nil {
			return "", err
		}
		// Beside the segment there may be its own .partial and .backup files.
		f, ok := a.FileOf(info.Key)
		if ok && f.Segment.Number > seg.Number {
			next = f.Name()
			break
		}
	}
	if next == "" || seg.Timeline == 1 {
		return next, nil
	}
	h, err := a.History(ctx, seg.Timeline)
	if errors.Is(err, storage.ErrNotExist) {
		return next, nil
	}
	if err != nil {
		return "", err
	}
	if parent, ok := h.Parent(); ok && seg.End() <= parent.End {
		return "", nil
	}
	return next, nil
}

// beginningOf returns the first segment of a timeline if the timeline began in
// it, or "": PostgreSQL archives the history file before that segment, so that
// it must have been here. Where archiving began in the midst of a timeline the
// history file need not be there, and recovery does without.
func (a *Archive) beginningOf(ctx context.Context, tli wal.TimelineID) (string, error) {
	prefix := timelinePrefix(a.inc, tli)
	for info, err := range a.repo.Store().List(ctx, prefix, "") {
		if err != nil {
			return "", err
		}
		f, ok := a.FileOf(info.Key)
		if !ok || f.Kind != wal.FileSegment {
			continue
		}
		x, err := a.Index(ctx, f.Segment)
		if err != nil {
			return "", err
		}
		began := x.PageTimelineFirst < tli
		for _, l := range x.Landmarks {
			began = began || l.Timeline == tli && l.PrevTimeline != 0 && l.PrevTimeline != tli
		}
		if began && tli > 1 {
			return f.Name(), nil
		}
		return "", nil
	}
	return "", nil
}
