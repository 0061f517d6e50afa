package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// PushResult says how a file came to be in the archive.
type PushResult int

const (
	// Stored: it was not there before.
	Stored PushResult = iota + 1
	// Identical: it was there already, with the same content.
	Identical
)

// String names the result in a word.
func (r PushResult) String() string {
	switch r {
	case Stored:
		return "stored"
	case Identical:
		return "identical"
	}
	return fmt.Sprintf("PushResult(%d)", int(r))
}

// PushOptions say how files are stored.
type PushOptions struct {
	// StorageClass of the object; empty: the store's default.
	StorageClass string
	// Workers compress in parallel; 0: the repository's default.
	Workers int
}

// Push archives one file, whose base name says what it is: a segment, a
// timeline history file, a partial segment or a backup history file. When it
// returns nil the file is durable.
//
// A segment must be whole: of the archive's cluster and segment size, at the
// place its name says, and valid WAL to its end or to a switch; everything
// else is a *RefusedError. A file that is archived already is recognised by the
// digest of its bytes, without walking its records: with the same content Push
// returns Identical, with other content a *ConflictError. It can be called
// again after any error.
func (a *Archive) Push(ctx context.Context, path string, o PushOptions) (PushResult, error) {
	name := filepath.Base(path)
	f, err := wal.ParseFile(name, a.inc.SegmentSize)
	if err != nil {
		return 0, &RefusedError{Name: name, Reason: err.Error(), Err: err}
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("push %s: %w", name, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("push %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return 0, &RefusedError{Name: name, Reason: "it is not a regular file"}
	}
	switch f.Kind {
	case wal.FileSegment, wal.FilePartial:
		if err := a.checkSize(f, info.Size()); err != nil {
			return 0, err
		}
		return a.putWAL(ctx, f, file, o)
	default:
		return a.pushText(ctx, f, file, o)
	}
}

// checkSize refuses a segment that does not have the size of one.
func (a *Archive) checkSize(f wal.File, size int64) error {
	if size == a.inc.SegmentSize.Bytes() {
		return nil
	}
	return &RefusedError{
		Name:   f.Name(),
		Reason: fmt.Sprintf("it has %d bytes, segments of this cluster have %d (%s)", size, a.inc.SegmentSize.Bytes(), a.inc.SegmentSize),
		Advice: "it is a cut-off copy, or of a cluster with another segment size",
	}
}

// PutSegment archives a complete segment that is not a file in pg_wal; r gives
// seg.Size bytes. It checks and returns what Push does.
func (a *Archive) PutSegment(ctx context.Context, seg wal.Segment, r io.ReaderAt) (PushResult, error) {
	if seg.Size != a.inc.SegmentSize {
		return 0, &RefusedError{Name: seg.Name(), Reason: fmt.Sprintf("its segment size is %s, not %s", seg.Size, a.inc.SegmentSize)}
	}
	return a.putWAL(ctx, segmentFile(seg), r, PushOptions{})
}

// putWAL archives a segment or partial segment of the right size.
func (a *Archive) putWAL(ctx context.Context, f wal.File, r io.ReaderAt, o PushOptions) (PushResult, error) {
	head, err := headerOf(r)
	if err == nil {
		err = a.checkHeader(head, f)
	}
	if err != nil {
		return 0, named(err, f.Name())
	}
	size := f.Segment.Size.Bytes()
	if res, err := a.compare(ctx, f, r, size); !errors.Is(err, storage.ErrNotExist) {
		return res, err
	}
	stable := newStableReader(r, size)
	x, err := a.check(ctx, f, stable)
	if err != nil {
		return 0, err
	}
	return a.store(ctx, f, stable, size, o, x.Sections()...)
}

// named puts the file's name into a refusal that lacks it.
func named(err error, name string) error {
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Name == "" {
		refused.Name = name
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// checkHeader refuses WAL that is not of this incarnation or not what its name says.
func (a *Archive) checkHeader(h longHeader, f wal.File) error {
	if !a.inc.same(h.systemID, h.segmentSize) {
		return foreign(a.inc, h.systemID, h.segmentSize)
	}
	if err := h.belongs(a.inc, f.Segment); err != nil {
		return &RefusedError{
			Reason: err.Error(), LSN: h.address, Err: err,
			Advice: "the file is not what its name says: it was renamed, or is an old one that was kept for reuse",
		}
	}
	return nil
}

// check walks the WAL and returns its index, or a *RefusedError.
func (a *Archive) check(ctx context.Context, f wal.File, r io.ReaderAt) (*index.Index, error) {
	x, err := index.Build(contextReader{ctx, r}, f.Segment, index.Options{SystemID: a.inc.SystemID, Complete: f.Kind == wal.FileSegment})
	if err != nil {
		return nil, refusal(f, err)
	}
	if err := a.checkTimeline(ctx, f, x); err != nil {
		return nil, err
	}
	return x, nil
}

// refusal makes of what is wrong with the WAL a refusal; other errors, such as
// those of reading the file, stay what they are.
func refusal(f wal.File, err error) error {
	var bad *record.Error
	if !errors.As(err, &bad) {
		return fmt.Errorf("check %s: %w", f.Name(), err)
	}
	e := &RefusedError{
		Name: f.Name(), LSN: bad.LSN, Err: err,
		Reason: fmt.Sprintf("%s WAL at %s: %s", bad.Kind, bad.LSN, bad.Reason),
	}
	switch bad.Kind {
	case record.Torn, record.ZeroPadded, record.Recycled:
		e.Advice = "the segment is not finished: PostgreSQL archives it when it is; if it is the end of a timeline, its name ends in .partial"
	case record.Corrupt:
		e.Advice = "the file is damaged: check the disk, and fetch the segment from a standby or another archive if there is one"
	}
	return e
}

// checkTimeline refuses a segment whose name has a timeline that its pages
// contradict, as far as the timeline's history is known.
func (a *Archive) checkTimeline(ctx context.Context, f wal.File, x *index.Index) error {
	seg := f.Segment
	refuse := func(format string, args ...any) error {
		return &RefusedError{
			Name: f.Name(), LSN: seg.Start(), Reason: fmt.Sprintf(format, args...),
			Advice: "the file is not what its name says, or two clusters have used the same timeline number",
		}
	}
	if x.PageTimelineFirst > seg.Timeline || x.PageTimelineLast > seg.Timeline {
		return refuse("its pages are of timeline %s", max(x.PageTimelineFirst, x.PageTimelineLast))
	}
	if seg.Timeline == 1 {
		return nil
	}
	h, err := a.History(ctx, seg.Timeline)
	if errors.Is(err, storage.ErrNotExist) {
		return nil // archiving began in the midst of this timeline
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", f.Name(), err)
	}
	parent, ok := h.Parent()
	switch {
	case !ok:
		return nil
	case seg.End() <= parent.End:
		return refuse("timeline %s began at %s, after its end", seg.Timeline, parent.End)
	case seg.Start() < parent.End && x.PageTimelineFirst == seg.Timeline:
		return refuse("timeline %s began at %s, and its first page is of timeline %s already", seg.Timeline, parent.End, x.PageTimelineFirst)
	case seg.Start() >= parent.End && x.PageTimelineLast != seg.Timeline:
		// Where a record was cut off at the fork, pages of the old timeline can
		// lie behind it; later ones are of the new timeline even then.
		return refuse("timeline %s began at %s, and none of its pages is of that timeline", seg.Timeline, parent.End)
	}
	return nil
}

// store writes the object, or finds that somebody was faster.
func (a *Archive) store(ctx context.Context, f wal.File, r io.ReaderAt, size int64, o PushOptions, facts ...index.Encoded) (PushResult, error) {
	sections := make([]frame.Section, 0, len(facts))
	for _, s := range facts {
		sections = append(sections, frame.Section{Type: s.Type, Data: s.Data})
	}
	oo := repository.ObjectOptions{Kind: kindOf(f.Kind), RawDigest: true, StorageClass: o.StorageClass, Workers: o.Workers}
	_, err := a.repo.PutReaderAt(ctx, FileKey(a.inc, f), r, size, oo, sections...)
	switch {
	case err == nil:
		return Stored, nil
	case errors.Is(err, storage.ErrExist):
		// Another process was faster, or an attempt whose reply was lost was
		// our own: the content decides.
		return a.compare(ctx, f, r, size)
	}
	return 0, fmt.Errorf("archive %s: %w", f.Name(), err)
}

// compare compares the size bytes of r with the object that is archived under
// the file's name, by its footer alone. An absent object is storage.ErrNotExist.
func (a *Archive) compare(ctx context.Context, f wal.File, r io.ReaderAt, size int64) (PushResult, error) {
	key := FileKey(a.inc, f)
	footer, err := a.repo.Footer(ctx, key, kindOf(f.Kind))
	if err != nil {
		return 0, fmt.Errorf("compare %s with the archive: %w", f.Name(), err)
	}
	if !footer.HasRawDigest {
		return 0, fmt.Errorf("compare %s with the archive: %w", f.Name(), &frame.Error{
			Object: key, Offset: -1, Kind: frame.WrongObject, Reason: "it has no digest of its content",
		})
	}
	h := a.repo.NewRawHasher()
	if _, err := io.CopyBuffer(h, contextSection(ctx, r, size), make([]byte, min(chunkSize, max(size, 1)))); err != nil {
		return 0, fmt.Errorf("compare %s with the archive: %w", f.Name(), err)
	}
	c := &ConflictError{Name: f.Name(), Key: key, Stored: footer.RawDigest}
	h.Sum(c.Offered[:0])
	if c.Offered != c.Stored || footer.RawLength != size {
		return 0, c
	}
	return Identical, nil
}

// contextReader ends reading when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (c contextReader) ReadAt(p []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.ReadAt(p, off)
}

func contextSection(ctx context.Context, r io.ReaderAt, size int64) io.Reader {
	return io.NewSectionReader(contextReader{ctx, r}, 0, size)
}
