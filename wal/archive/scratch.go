package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// maxScratchMemory is the largest segment that is put together in memory, in
// bytes; larger ones are put together in a temporary file, so that memory does
// not grow with the segment size.
const maxScratchMemory = 16 << 20

// scratch is where a segment is put together: size bytes, zero at first.
type scratch interface {
	ReadWriterAt
	io.Closer
}

func newScratch(size int64) (scratch, error) {
	if size <= maxScratchMemory {
		return memoryScratch(make([]byte, size)), nil
	}
	f, err := os.CreateTemp("", "walden-segment-*")
	if err != nil {
		return nil, err
	}
	s := fileScratch{File: f, removed: os.Remove(f.Name()) == nil}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

type memoryScratch []byte

func (m memoryScratch) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m memoryScratch) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, fmt.Errorf("bytes %d to %d are not in the segment", off, off+int64(len(p)))
	}
	return copy(m[off:], p), nil
}

func (memoryScratch) Close() error { return nil }

type fileScratch struct {
	*os.File
	removed bool // its name: where an open file can be removed, a crash leaves nothing
}

func (s fileScratch) Close() error {
	err := s.File.Close()
	if !s.removed {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}
