package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

// deliverLive puts a segment that is not sealed together from its fragments.
// What they do not cover at its end is zeros, as in the file that the server was writing.
//
// No fragments at all are storage.ErrNotExist. A *HoleError means that bytes are
// missing of which later ones are there: behind a hole between fragments, or
// because a later segment has been begun. Both can be a listing that was taken while
// fragments were replaced: the caller looks again before it believes it.
func (a *Archive) deliverLive(ctx context.Context, seg wal.Segment, path string) (err error) {
	live, err := a.LiveSegment(ctx, seg)
	if err != nil {
		return err
	}
	if len(live.Fragments) == 0 {
		return fmt.Errorf("segment %s has no fragments: %w", seg.Name(), storage.ErrNotExist)
	}
	if err := a.checkCover(ctx, live); err != nil {
		return err
	}
	tmp, err := createTemporary(filepath.Dir(path))
	if err != nil {
		return &DeliveryError{Name: seg.Name(), Path: path, Err: err}
	}
	defer func() {
		if err != nil {
			// See deliver.
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err := a.Assemble(ctx, live, tmp); err != nil {
		if local := (*ScratchError)(nil); errors.As(err, &local) {
			return &DeliveryError{Name: seg.Name(), Path: path, Err: local.Err}
		}
		return err
	}
	if err := tmp.Truncate(seg.Size.Bytes()); err != nil {
		return &DeliveryError{Name: seg.Name(), Path: path, Err: err}
	}
	if err := publish(tmp, path); err != nil {
		return &DeliveryError{Name: seg.Name(), Path: path, Err: err}
	}
	return nil
}

// checkCover returns a *HoleError if bytes are missing of which later ones are there.
func (a *Archive) checkCover(ctx context.Context, live LiveSegment) error {
	if live.Complete() {
		return nil
	}
	missing := Fragment{Segment: live.Segment, From: live.Covered(), To: live.Segment.Size.Bytes()}
	hole := &HoleError{Name: missing.String(), Key: SegmentKey(a.inc, live.Segment)}
	if live.HasHole() {
		hole.Next = live.Fragments[len(live.Fragments)-1].String()
		return hole
	}
	next, err := a.laterThan(ctx, live.Segment)
	if err != nil {
		return fmt.Errorf("prove that %s ends the archived WAL: %w", live.Segment.Name(), err)
	}
	if next != "" {
		hole.Next = next
		return hole
	}
	return nil
}

// liveLaterThan returns the name of the first later segment of the timeline that has fragments, or "".
func (a *Archive) liveLaterThan(ctx context.Context, seg wal.Segment) (string, error) {
	// Behind all keys of the segment's own fragments.
	after := liveTimelinePrefix(a.inc, seg.Timeline) + seg.Name() + "/~"
	for info, err := range a.repo.Store().List(ctx, liveTimelinePrefix(a.inc, seg.Timeline), after) {
		if err != nil {
			return "", fmt.Errorf("list fragments: %w", err)
		}
		if f, ok := a.FragmentOf(info.Key); ok && f.Segment.Number > seg.Number {
			return f.Segment.Name(), nil
		}
	}
	return "", nil
}
