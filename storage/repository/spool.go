package repository

import (
	"errors"
	"io"
	"os"
	"sync"
)

const (
	// chunkSize is the unit of a spool's memory.
	chunkSize = 1 << 20
	// spoolMemory is how much of an encoded object is held in memory by default.
	spoolMemory = 64 << 20
)

// SpoolError says that this machine's disk failed where an encoded object is held in a
// temporary file until it is stored. The store has no part in it.
type SpoolError struct{ Err error }

// Error says what failed; the cause names the file.
func (e *SpoolError) Error() string {
	return "hold an encoded object on this machine: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SpoolError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SpoolError) Hint() string {
	return "see that the directory for temporary files ($TMPDIR) can be written and has room"
}

// spool holds an encoded object until it is stored: in memory, in chunks that
// are used again, or in a temporary file once it grows beyond limit.
type spool struct {
	pool   *sync.Pool
	dir    string
	limit  int64
	size   int64
	chunks []*[]byte
	file   *os.File
	named  bool // file still has its name
}

func (r *Repository) newSpool() *spool {
	s := &spool{pool: &r.chunks, dir: r.o.TempDir, limit: r.o.Memory}
	if s.limit <= 0 {
		s.limit = spoolMemory
	}
	return s
}

// Write appends p.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.size+int64(len(p)) > s.limit {
		if err := s.overflow(); err != nil {
			return 0, err
		}
	}
	if s.file != nil {
		n, err := s.file.Write(p)
		s.size += int64(n)
		if err != nil {
			err = &SpoolError{err}
		}
		return n, err
	}
	written := len(p)
	for len(p) > 0 {
		at := int(s.size % chunkSize)
		if at == 0 {
			s.chunks = append(s.chunks, s.newChunk())
		}
		n := copy((*s.chunks[len(s.chunks)-1])[at:], p)
		p = p[n:]
		s.size += int64(n)
	}
	return written, nil
}

func (s *spool) newChunk() *[]byte {
	if c, ok := s.pool.Get().(*[]byte); ok {
		return c
	}
	c := make([]byte, chunkSize)
	return &c
}

// overflow moves what is in memory to a temporary file. Its name is removed
// at once where the system allows it, so that a killed process leaves nothing.
func (s *spool) overflow() error {
	file, err := os.CreateTemp(s.dir, "walden-spool-*")
	if err != nil {
		return &SpoolError{err}
	}
	s.file, s.named = file, os.Remove(file.Name()) != nil
	if _, err := io.Copy(file, io.NewSectionReader(memory{s}, 0, s.size)); err != nil {
		return &SpoolError{err}
	}
	s.release()
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		n, err := s.file.ReadAt(p, off)
		if err != nil && !errors.Is(err, io.EOF) {
			err = &SpoolError{err}
		}
		return n, err
	}
	return memory{s}.ReadAt(p, off)
}

// memory is the part of a spool that is in memory.
type memory struct{ s *spool }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) && off < m.s.size {
		chunk := (*m.s.chunks[off/chunkSize])[off%chunkSize:]
		chunk = chunk[:min(int64(len(chunk)), m.s.size-off)]
		c := copy(p[n:], chunk)
		n += c
		off += int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// release gives the chunks back.
func (s *spool) release() {
	for _, c := range s.chunks {
		s.pool.Put(c)
	}
	s.chunks = nil
}

// close frees everything.
func (s *spool) close() {
	s.release()
	if s.file != nil {
		_ = s.file.Close()
		if s.named {
			_ = os.Remove(s.file.Name())
		}
		s.file = nil
	}
}
