package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// tidy finishes what receivers left that were stopped or killed: it seals
// segments that fragments cover, and removes fragments of segments that are
// sealed. Nothing waits for it. Segments from the position where this receiver
// began are its journal's.
//
// What it finds of one segment does not keep it from the others. The error is why
// something could not be done now.
func (r *Receiver) tidy(ctx context.Context, began start) error {
	tlis, err := r.o.Archive.Timelines(ctx)
	if err != nil {
		return err
	}
	var undone error
	for _, tli := range tlis {
		live, err := r.o.Archive.Live(ctx, tli)
		if err != nil {
			return err
		}
		for _, l := range live {
			received := tli == began.timeline && l.Segment.End() > began.at
			err := r.tidySegment(ctx, l, received)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case final(err) || damaged(err):
				r.state.finding()
				r.o.Logger.Error("fragments of an earlier run cannot be sealed, or do not fit to what is archived; they are kept",
					"segment", l.Segment.Name(), "error", err)
			case err != nil && undone == nil:
				undone = err
			}
		}
	}
	return undone
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
	case received && damaged(err):
		return nil // its journal tells of it
	case err == nil:
		content := obj.NewReader(ctx, 0, obj.Size())
		defer content.Close()
		switch _, err := io.Copy(localWriter{l.Segment, f}, content); {
		case received && damaged(err):
			return nil
		case err != nil:
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
	var bad error
	for _, fragment := range l.Fragments {
		err := r.o.Archive.CompareFragment(ctx, fragment.Fragment, f)
		switch {
		case err == nil:
			r.shipper.sweeper.add(fragment.Fragment)
		case damaged(err):
			// The segment has what it held.
			r.state.finding()
			r.o.Logger.Error("a damaged fragment of a segment that is sealed is removed", "what", fragment.String(), "error", err)
			r.shipper.sweeper.add(fragment.Fragment)
		case final(err):
			bad = errors.Join(bad, err)
		case !errors.Is(err, storage.ErrNotExist):
			return errors.Join(bad, err)
		}
	}
	return bad
}

// localWriter writes to a segment's file. An error of it is a *LocalError.
type localWriter struct {
	seg  wal.Segment
	file *segmentFile
}

// Write implements io.Writer.
func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = &LocalError{Segment: w.seg, Err: err}
	}
	return n, err
}

// tidyOnce runs tidy in the background, and tells what it could not do.
func (r *Receiver) tidyOnce(ctx context.Context, began start) {
	if err := r.tidy(ctx, began); err != nil && ctx.Err() == nil {
		r.o.Logger.Warn("what earlier runs left in fragments could not all be sealed now; the next start does it", "error", err)
	}
}
