package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
)

// liveDirectory holds the fragments.
const liveDirectory = "live/"

// Fragment names a durable piece of a segment that was still being written when
// it was stored: the bytes From to To, counted from the segment's start, To not
// included. 0 ≤ From < To ≤ the segment's size.
type Fragment struct {
	Segment  wal.Segment
	From, To int64
}

// String names the piece for a message.
func (f Fragment) String() string {
	return fmt.Sprintf("bytes %d to %d of segment %s", f.From, f.To, f.Segment.Name())
}

// valid returns an error unless the bounds make sense.
func (f Fragment) valid() error {
	if f.From < 0 || f.From >= f.To || f.To > f.Segment.Size.Bytes() {
		return fmt.Errorf("there is no fragment of %s", f)
	}
	return nil
}

// livePrefix is what the keys of all fragments start with.
func livePrefix(inc Incarnation) string { return inc.Prefix() + liveDirectory }

// liveTimelinePrefix is what the keys of a timeline's fragments start with.
func liveTimelinePrefix(inc Incarnation, tli wal.TimelineID) string {
	return livePrefix(inc) + tli.Hex() + "/"
}

// liveSegmentPrefix is what the keys of a segment's fragments start with.
func liveSegmentPrefix(inc Incarnation, seg wal.Segment) string {
	return liveTimelinePrefix(inc, seg.Timeline) + seg.Name() + "/"
}

// FragmentKey is the key of a fragment.
func FragmentKey(inc Incarnation, f Fragment) string {
	return fmt.Sprintf("%s%08X-%08X", liveSegmentPrefix(inc, f.Segment), f.From, f.To)
}

// FragmentOf takes apart the key of a fragment; ok is false for a key under
// which none is ever stored.
func (a *Archive) FragmentOf(key string) (f Fragment, ok bool) {
	rest, ok := strings.CutPrefix(key, livePrefix(a.inc))
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return f, false
	}
	var err error
	if f.Segment, err = wal.ParseSegment(parts[1], a.inc.SegmentSize); err != nil {
		return f, false
	}
	from, to, _ := strings.Cut(parts[2], "-")
	first, ok1 := parseHex8(from)
	last, ok2 := parseHex8(to)
	f.From, f.To = int64(first), int64(last)
	return f, ok1 && ok2 && f.valid() == nil && FragmentKey(a.inc, f) == key
}

// attemptsToPut bounds how often a fragment is stored again that another writer
// stored and removed meanwhile.
const attemptsToPut = 3

// PutFragment stores the bytes of a fragment: r gives those of the segment, so
// that f.From is the offset of the first. When it returns nil they are durable.
//
// The same bytes again are Identical, others a *ConflictError. Where the
// fragment begins with the segment, bytes that are not of this cluster or not
// of this place are a *RefusedError; nothing else about them is checked, since
// a fragment can begin and end within a record.
func (a *Archive) PutFragment(ctx context.Context, f Fragment, r io.ReaderAt) (PushResult, error) {
	if err := f.valid(); err != nil {
		return 0, err
	}
	if f.From == 0 && f.To >= longHeaderSize {
		head, err := headerOf(r)
		if err == nil {
			err = a.checkHeader(head, segmentFile(f.Segment))
		}
		if err != nil {
			return 0, named(err, f.Segment.Name())
		}
	}
	key := FragmentKey(a.inc, f)
	// Workers would cost more than they gain: fragments are small.
	o := repository.ObjectOptions{Kind: frame.KindFragment, Workers: 1}
	var identical bool
	var err error
	for range attemptsToPut {
		_, identical, err = a.repo.PutIdempotent(ctx, key, io.NewSectionReader(r, f.From, f.To-f.From), f.To-f.From, o)
		if !errors.Is(err, storage.ErrNotExist) {
			break
		}
		// Another writer's was there, and was replaced before it could be compared.
	}
	var conflict *repository.ConflictError
	switch {
	case errors.As(err, &conflict):
		return 0, &ConflictError{Name: f.String(), Key: key, Stored: conflict.Existing.RawDigest, Offered: conflict.RawDigest}
	case err != nil:
		return 0, fmt.Errorf("store %s: %w", f, err)
	case identical:
		return Identical, nil
	}
	return Stored, nil
}

// CompareFragment holds a stored fragment against the segment's bytes, which r
// gives from the segment's start on at least to f.To: by its digest, without
// downloading it. Other bytes are a *ConflictError; an absent fragment is
// storage.ErrNotExist; one that is damaged, as far as its digest tells, a *frame.Error.
func (a *Archive) CompareFragment(ctx context.Context, f Fragment, r io.ReaderAt) error {
	key := FragmentKey(a.inc, f)
	footer, err := a.repo.Footer(ctx, key, frame.KindFragment)
	if err != nil {
		return fmt.Errorf("compare %s with the archive: %w", f, err)
	}
	if !footer.HasRawDigest {
		return fmt.Errorf("compare %s with the archive: %w", f, &frame.Error{Object: key, Offset: -1, Kind: frame.WrongObject, Reason: "it has no digest of its content"})
	}
	h := a.repo.NewRawHasher()
	section := io.NewSectionReader(contextReader{ctx, r}, f.From, f.To-f.From)
	n, err := io.CopyBuffer(h, section, make([]byte, min(chunkSize, f.To-f.From)))
	if err == nil && n != f.To-f.From {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("compare %s with the archive: %w", f, err)
	}
	c := &ConflictError{Name: f.String(), Key: key, Stored: footer.RawDigest}
	h.Sum(c.Offered[:0])
	if c.Offered != c.Stored || footer.RawLength != n {
		return c
	}
	return nil
}

// OpenFragment opens the object of a fragment and checks that it has the length
// that it must have. Damage is a *frame.Error.
func (a *Archive) OpenFragment(ctx context.Context, f Fragment) (*frame.Object, error) {
	key := FragmentKey(a.inc, f)
	obj, err := a.repo.Open(ctx, key, frame.KindFragment)
	if err == nil && obj.Size() != f.To-f.From {
		err = &frame.Error{Object: key, Offset: -1, Kind: frame.WrongObject, Reason: fmt.Sprintf("it holds %d bytes instead of %d", obj.Size(), f.To-f.From)}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f, err)
	}
	return obj, nil
}

// DeleteFragments removes fragments. What is absent already is no error. After
// an error the others are removed all the same; it holds a *storage.Error for each that was not.
func (a *Archive) DeleteFragments(ctx context.Context, list ...Fragment) error {
	keys := make([]string, len(list))
	for i, f := range list {
		keys[i] = FragmentKey(a.inc, f)
	}
	if err := storage.DeleteAll(ctx, a.repo.Store(), keys); err != nil {
		return fmt.Errorf("remove fragments that are not needed any more: %w", err)
	}
	return nil
}
