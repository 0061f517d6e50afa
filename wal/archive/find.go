package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// FindRecord finds a record that starts in a segment: the first at position at or
// later, or with before the last that starts before it. An index does not list
// every record, so the WAL itself is read: from the page of at to the record, or with
// before from the segment's beginning to at. A segment that is not sealed is read
// from its fragments.
//
// start is 0 if there is none. end is 0 if the record goes on in the next segment,
// or beyond what is there of this one. An absent segment is storage.ErrNotExist; WAL that
// is not sound up to the record is a *record.Error.
func (a *Archive) FindRecord(ctx context.Context, seg wal.Segment, at wal.LSN, before bool) (start, end wal.LSN, err error) {
	if at < seg.Start() || at > seg.End() {
		return 0, 0, fmt.Errorf("find a record: %s is not in segment %s", at, seg.Name())
	}
	from := int64(0)
	if !before && at < seg.End() {
		from = int64(at.Page() - seg.Start())
	}
	src, err := a.readFrom(ctx, seg, from)
	if err != nil {
		return 0, 0, err
	}
	defer src.Close()
	o := record.Options{
		Start: seg.Start() + wal.LSN(from), SegmentSize: seg.Size, Timeline: seg.Timeline, SystemID: a.inc.SystemID,
		Length: seg.Size.Bytes() - from,
	}
	if src.known < seg.Size.Bytes() {
		if src.known <= from {
			return 0, 0, nil
		}
		o.Known = seg.Start() + wal.LSN(src.known)
	}
	start, end, err = findRecord(record.NewReader(src, o), at, before, src.unfinished)
	if err != nil {
		return 0, 0, fmt.Errorf("find the record at %s in segment %s: %w", at, seg.Name(), err)
	}
	return start, end, nil
}

// findRecord walks to the record that FindRecord means. unfinished: the WAL may end anywhere.
func findRecord(walk *record.Reader, at wal.LSN, before, unfinished bool) (start, end wal.LSN, err error) {
	for walk.Next() {
		rec := walk.Record()
		if rec.LSN >= at {
			if !before {
				start, end = rec.LSN, rec.End
			}
			return start, end, nil
		}
		if before {
			start, end = rec.LSN, rec.End
		}
	}
	var fault *record.Error
	switch err := walk.Err(); {
	case errors.As(err, &fault) && (fault.Kind == record.Unknown || unfinished && fault.Kind.EndOfWAL()):
		return start, end, nil // what is there ends here
	case err != nil:
		return 0, 0, err
	}
	if tail := walk.Tail().LSN; tail != 0 && (tail < at) == before {
		return tail, 0, nil
	}
	return start, end, nil
}

// content is a segment that is being read.
type content struct {
	io.ReadCloser
	// known is how many bytes of the segment are there, from its start; zeros follow those.
	known int64
	// unfinished: it is a partial segment, whose WAL ends somewhere.
	unfinished bool
}

// readFrom reads a segment from an offset on.
func (a *Archive) readFrom(ctx context.Context, seg wal.Segment, from int64) (content, error) {
	for range attemptsToFetch {
		obj, err := a.OpenSegment(ctx, seg)
		if err == nil {
			return content{ReadCloser: obj.NewReader(ctx, from, obj.Size()-from), known: obj.Size()}, nil
		}
		if !errors.Is(err, storage.ErrNotExist) {
			return content{}, err
		}
		c, err := a.readLive(ctx, seg, from)
		if !errors.Is(err, storage.ErrNotExist) {
			return c, err
		}
		if !a.partial {
			continue
		}
		obj, err = a.open(ctx, wal.File{Kind: wal.FilePartial, Segment: seg, Timeline: seg.Timeline})
		if !errors.Is(err, storage.ErrNotExist) {
			if err != nil {
				return content{}, err
			}
			return content{obj.NewReader(ctx, from, obj.Size()-from), obj.Size(), true}, nil
		}
	}
	return content{}, fmt.Errorf("read segment %s: it is not there, nor are fragments of it: %w", seg.Name(), storage.ErrNotExist)
}

// scratchReader reads a segment that was put together, and removes it when closed.
type scratchReader struct {
	io.Reader
	scratch
}

// readLive reads a segment from its fragments; none are storage.ErrNotExist.
func (a *Archive) readLive(ctx context.Context, seg wal.Segment, from int64) (content, error) {
	live, err := a.LiveSegment(ctx, seg)
	if err != nil {
		return content{}, err
	}
	if len(live.Fragments) == 0 {
		return content{}, fmt.Errorf("segment %s has no fragments: %w", seg.Name(), storage.ErrNotExist)
	}
	s, err := newScratch(seg.Size.Bytes())
	if err != nil {
		return content{}, fmt.Errorf("read the fragments of %s: %w", seg.Name(), &ScratchError{err})
	}
	known, err := a.Assemble(ctx, live, s)
	if err != nil {
		_ = s.Close() // what went wrong is told already
		return content{}, err
	}
	src := scratchReader{io.NewSectionReader(contextReader{ctx, s}, from, seg.Size.Bytes()-from), s}
	return content{ReadCloser: src, known: known}, nil
}
