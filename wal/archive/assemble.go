package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// ReadWriterAt is where a segment is put together.
type ReadWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Assemble writes what the fragments of l cover without a hole, from the
// segment's start on, to w at the same offsets, and returns how many bytes that
// is. Every fragment is verified while it is read, and where fragments overlap
// their bytes are compared: fragments that disagree are a *DisagreementError.
//
// A fragment that is damaged, a *frame.Error, is passed over where others cover
// its bytes: a receiver stores them again beside it.
//
// A fragment that has gone meanwhile is storage.ErrNotExist: the segment has been
// sealed, or fragments were replaced by one that covers them; list again.
func (a *Archive) Assemble(ctx context.Context, l LiveSegment, w ReadWriterAt) (covered int64, err error) {
	var damage *frame.Error
	for _, f := range l.Fragments {
		if f.From > covered {
			break
		}
		err := a.place(ctx, f.Fragment, w, covered)
		switch {
		case err == nil:
			covered = max(covered, f.To)
		case !errors.As(err, &damage):
			return 0, err
		}
	}
	if covered < l.Covered() {
		return 0, fmt.Errorf("read fragments of segment %s: %w", l.Segment.Name(), damage)
	}
	if covered < longHeaderSize {
		return covered, nil
	}
	first := make([]byte, longHeaderSize)
	if _, err := w.ReadAt(first, 0); err != nil {
		return 0, &ScratchError{err}
	}
	head, err := parseLongHeader(first)
	if err == nil {
		err = head.belongs(a.inc, l.Segment)
	}
	if err != nil {
		return 0, fmt.Errorf("object %s does not hold a part of %s: %w", FragmentKey(a.inc, l.Fragments[0].Fragment), l.Segment.Name(), err)
	}
	return covered, nil
}

// place writes a fragment's bytes from covered on and compares those before.
func (a *Archive) place(ctx context.Context, f Fragment, w ReadWriterAt, covered int64) error {
	key := FragmentKey(a.inc, f)
	obj, err := a.OpenFragment(ctx, f)
	if err != nil {
		return err
	}
	r := obj.NewReader(ctx, 0, obj.Size())
	defer r.Close()
	got := make([]byte, min(chunkSize, obj.Size()))
	had := make([]byte, len(got))
	for at := f.From; at < f.To; {
		n := min(int64(len(got)), f.To-at)
		if at < covered {
			n = min(n, covered-at)
		}
		if _, err := io.ReadFull(r, got[:n]); err != nil {
			return fmt.Errorf("read %s: object %s: %w", f, key, err)
		}
		if at >= covered {
			if _, err := w.WriteAt(got[:n], at); err != nil {
				return &ScratchError{err}
			}
		} else {
			if _, err := w.ReadAt(had[:n], at); err != nil && !errors.Is(err, io.EOF) {
				return &ScratchError{err}
			}
			if !bytes.Equal(got[:n], had[:n]) {
				return &DisagreementError{Segment: f.Segment, Key: key, From: at, To: at + n}
			}
		}
		at += n
	}
	return nil
}

// ScratchError is a fault of the place where a segment is put together: of a
// local disk, not of the archive.
type ScratchError struct{ Err error }

// Error says what failed.
func (e *ScratchError) Error() string { return "put the segment together: " + e.Err.Error() }

// Unwrap is the cause.
func (e *ScratchError) Unwrap() error { return e.Err }

// DisagreementError says that two fragments hold different bytes for the same
// place of a segment: two writers, of which one is not the cluster's.
type DisagreementError struct {
	Segment wal.Segment
	// Key is the object that disagrees with those that begin before it.
	Key string
	// From and To bound the bytes among which the difference is.
	From, To int64
}

// Error names the object and the place.
func (e *DisagreementError) Error() string {
	return fmt.Sprintf("object %s holds other bytes than the fragments that overlap it, between bytes %d and %d of segment %s",
		e.Key, e.From, e.To, e.Segment.Name())
}

// Hint says what to look for.
func (e *DisagreementError) Hint() string { return (&ConflictError{}).Hint() }

// MinCovered is how much of a segment its fragments must cover, from its start
// on, for anything to be known of it: the header of its first page.
const MinCovered = longHeaderSize

// LiveIndex derives the index of a segment from its fragments. It ends with the
// last record that they cover whole: where a record or a page is cut off there, the
// WAL that is archived ends. What lies before that is finished, and is held to
// be sound as in a sealed segment: the error is a *record.Error if it is not.
// The other errors are those of Assemble. At least MinCovered bytes must be covered.
func (a *Archive) LiveIndex(ctx context.Context, l LiveSegment) (*index.Index, error) {
	s, err := newScratch(l.Segment.Size.Bytes())
	if err != nil {
		return nil, fmt.Errorf("index of the fragments of %s: %w", l.Segment.Name(), &ScratchError{err})
	}
	defer s.Close()
	covered, err := a.Assemble(ctx, l, s)
	if err != nil {
		return nil, err
	}
	if covered < MinCovered {
		return nil, fmt.Errorf("the fragments of segment %s do not cover its beginning", l.Segment.Name())
	}
	o := index.Options{SystemID: a.inc.SystemID, Complete: true}
	if covered < l.Segment.Size.Bytes() {
		o.Complete, o.Known = false, covered
	}
	x, err := index.Build(contextReader{ctx, s}, l.Segment, o)
	if err != nil {
		return nil, fmt.Errorf("fragments of segment %s: %w", l.Segment.Name(), err)
	}
	return x, nil
}
