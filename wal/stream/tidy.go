package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal/archive"
)

// tidy finishes what receivers left that were stopped or killed: it seals
// segments that fragments cover, and removes fragments of segments that are
// sealed. Nothing waits for it. Segments from the position where this receiver
// began are its journal's.
func (r *Receiver) tidy(ctx context.Context, began start) error {
	tlis, err := r.o.Archive.Timelines(ctx)
	if err != nil {
		return err
	}
	for _, tli := range tlis {
		live, err := r.o.Archive.Live(ctx, tli)
		if err != nil {
			return err
		}
		for _, l := range live {
			received := tli == began.timeline && l.Segment.End() > began.at
			if err := r.tidySegment(ctx, l, received); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidySegment seals one segment if its fragments cover it, and removes them if
// it is sealed and they agree with it. One that is not sealed and is received
// again is its journal's.
func (r *Receiver) tidySegment(ctx context.Context, l archive.LiveSegment, received bool) error {
	f, err := newTemporarySegment(l.Segment.Size.Bytes())
	if err != nil {
		return &LocalError{Segment: l.Segment, Err: err}
	}
	defer r.shipper.discard([]*segmentFile{f})
	obj, err := r.o.Archive.OpenSegment(ctx, l.Segment)
	switch {
	case err == nil:
		content := obj.NewReader(ctx, 0, obj.Size())
		defer content.Close()
		if _, err := io.Copy(f, content); err != nil {
			return fmt.Errorf("read segment %s: %w", l.Segment.Name(), err)
		}
	case !errors.Is(err, storage.ErrNotExist):
		return err
	case received || !l.Complete():
		return nil
	default:
		if _, err := r.o.Archive.Assemble(ctx, l, f); err != nil {
			return err
		}
		if _, err := r.o.Archive.PutSegment(ctx, l.Segment, f); err != nil {
			return fmt.Errorf("seal %s: %w", l.Segment.Name(), err)
		}
	}
	for _, fragment := range l.Fragments {
		err := r.o.Archive.CompareFragment(ctx, fragment.Fragment, f)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.shipper.sweeper.add(fragment.Fragment)
	}
	return nil
}

// tidyOnce runs tidy in the background, and tells what it could not do.
func (r *Receiver) tidyOnce(ctx context.Context, began start) {
	err := r.tidy(ctx, began)
	if err == nil || ctx.Err() != nil {
		return
	}
	if final(err) {
		r.state.finding()
		r.o.Logger.Error("fragments of an earlier run do not fit to what is archived; they are kept", "error", err)
		return
	}
	r.o.Logger.Warn("what earlier runs left in fragments could not be sealed now; the next start does it", "error", err)
}
