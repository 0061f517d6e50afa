package stream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// openSegment is a segment that is being received or is not sealed yet. Its
// bytes lie in a file: a temporary one, or one of the spool. All fields are
// guarded by the journal's lock, but for the file, which is written by the
// receiving goroutine alone, at its end.
type openSegment struct {
	seg  wal.Segment
	file *segmentFile // nil once the bytes are not needed any more

	have      int64 // bytes received, from the segment's start on
	synced    int64 // of them, synced to the spool (acknowledge: local)
	durable   int64 // of them, durable in the repository
	scheduled int64 // of them, durable or being uploaded
	inFlight  int   // uploads of fragments under way
	// since is when the first byte arrived that is not scheduled.
	since time.Time
	// arrived is when the first byte arrived that is not durable.
	arrived time.Time

	// left says that the segment will not grow: its timeline was left in it.
	left bool
	// sealed: its object is in the archive. sealing: it is being put there.
	// refused: the archive does not take it as a segment, so that its
	// fragments are all there will be.
	sealed, sealing, refused bool

	// existing are fragments that were there when the segment was begun; they
	// are compared before they count. comparing: it is being done.
	existing  []archive.StoredFragment
	comparing bool
	// damaged are fragments that were found to be so: their names are taken.
	damaged []archive.Fragment
	// presealed says that the segment was in the archive when it was begun:
	// it is received again, to be compared whole.
	presealed bool
	// fragments are those that are durable and known to be right.
	fragments []ownFragment
	uploads   int // fragments begun, to know which ones the next is to cover
}

// ownFragment is a fragment, and the first of the uploads that it covers,
// counted from 1.
type ownFragment struct {
	archive.Fragment
	first int
}

// complete reports whether all bytes are here.
func (s *openSegment) complete() bool { return s.have == s.seg.Size.Bytes() }

// end is the position after the last byte that is here.
func (s *openSegment) end() wal.LSN { return s.seg.Start() + wal.LSN(s.have) }

// done reports whether nothing remains to be uploaded or sealed.
func (s *openSegment) done() bool {
	switch {
	case s.sealed:
		return true
	case s.inFlight > 0 || s.comparing || s.sealing:
		return false
	case s.refused, s.left && !s.complete():
		return s.durable >= s.have
	}
	return false
}

// segmentFile is where a segment's bytes lie while they are here.
type segmentFile struct {
	*os.File
	size    int64
	removed bool // its name, already
	spooled bool // it is kept for another run
}

// newTemporarySegment is a file that vanishes with the process where the
// system allows it.
func newTemporarySegment(size int64) (*segmentFile, error) {
	f, err := os.CreateTemp("", "walden-segment-*")
	if err != nil {
		return nil, err
	}
	return &segmentFile{File: f, size: size, removed: os.Remove(f.Name()) == nil}, nil
}

// ReadAt implements io.ReaderAt over a whole segment: what has not been
// received reads as zeros.
func (f *segmentFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if off >= f.size {
		return 0, io.EOF
	}
	short := off+int64(len(p)) > f.size
	if short {
		p = p[:f.size-off]
	}
	n, err := f.File.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		n, err = len(p), nil
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// content gives a segment's bytes for as long as they are here. An error of it, but
// for the end, is a *LocalError: the repository has no part in it.
func (s *openSegment) content() io.ReaderAt { return localContent{s.seg, s.file} }

type localContent struct {
	seg  wal.Segment
	file *segmentFile
}

// ReadAt implements io.ReaderAt.
func (c localContent) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.file.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &LocalError{Segment: c.seg, Err: err}
	}
	return n, err
}

// release closes the file, and removes it unless it is one of a spool.
func (f *segmentFile) release() error {
	if f.spooled {
		return f.Close()
	}
	return f.discard()
}

// discard closes the file and removes it.
func (f *segmentFile) discard() error {
	err := f.Close()
	if !f.removed {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
