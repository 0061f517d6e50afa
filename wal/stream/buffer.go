package stream

import (
	"errors"
	"io"
	"os"
)

// maxInMemory is the largest segment that is gathered in memory; larger ones
// go through a temporary file, so that memory does not grow with the segment size.
const maxInMemory = 16 << 20

// buffer gathers one segment.
type buffer interface {
	io.ReaderAt
	io.Closer
	WriteAt(p []byte, off int64) error
}

func newBuffer(size int64) (buffer, error) {
	if size <= maxInMemory {
		return memory(make([]byte, size)), nil
	}
	f, err := os.CreateTemp("", "walden-segment-*")
	if err != nil {
		return nil, err
	}
	// Where an open file can be removed it is, so that a crash leaves nothing.
	removed := os.Remove(f.Name()) == nil
	return spool{f: f, removed: removed}, nil
}

type memory []byte

func (m memory) WriteAt(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return errors.New("write beyond the segment")
	}
	copy(m[off:], p)
	return nil
}

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (memory) Close() error { return nil }

type spool struct {
	f       *os.File
	removed bool
}

func (s spool) WriteAt(p []byte, off int64) error {
	_, err := s.f.WriteAt(p, off)
	return err
}

func (s spool) ReadAt(p []byte, off int64) (int, error) { return s.f.ReadAt(p, off) }

func (s spool) Close() error {
	err := s.f.Close()
	if !s.removed {
		err = errors.Join(err, os.Remove(s.f.Name()))
	}
	return err
}
