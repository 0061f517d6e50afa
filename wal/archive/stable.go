package archive

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"sync"
)

// chunkSize is how much of a file is read at once, in bytes. It fits into a
// processor's cache: reading and hashing 16 MiB took 7 ms with it, and 11 ms
// with 1 MiB.
const chunkSize = 128 << 10

// errChanged is the error of reading bytes again that are not what they were.
var errChanged = errors.New("the file changed while it was read")

// stableReader reads a file of fixed size more than once and makes sure that
// it gives the same bytes each time: those that were checked are those that
// are stored. It remembers a hash of every chunk it has read, and one chunk;
// its memory does not grow with the file.
//
// The hash is fast rather than cryptographic, and its seed is new in every
// process: it catches a file that is written to, and nobody can aim at it.
type stableReader struct {
	src  io.ReaderAt
	size int64

	mu    sync.Mutex
	seed  maphash.Seed
	sums  []uint64
	known []bool
	buf   []byte
	held  int64 // the chunk that buf holds; -1: none
}

func newStableReader(src io.ReaderAt, size int64) *stableReader {
	chunks := (size + chunkSize - 1) / chunkSize
	return &stableReader{
		src: src, size: size, seed: maphash.MakeSeed(),
		sums: make([]uint64, chunks), known: make([]bool, chunks), held: -1,
	}
}

// ReadAt implements io.ReaderAt within the size.
func (s *stableReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) && off < s.size {
		if err := s.load(off / chunkSize); err != nil {
			return n, err
		}
		c := copy(p[n:], s.buf[off%chunkSize:])
		n, off = n+c, off+int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load brings a chunk into the buffer and compares it with what it was before.
func (s *stableReader) load(chunk int64) error {
	if chunk == s.held {
		return nil
	}
	s.held = -1
	if s.buf == nil {
		s.buf = make([]byte, min(chunkSize, s.size))
	}
	s.buf = s.buf[:min(chunkSize, s.size-chunk*chunkSize)]
	n, err := s.src.ReadAt(s.buf, chunk*chunkSize)
	if n < len(s.buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %d bytes at offset %d are missing", errChanged, len(s.buf)-n, chunk*chunkSize+int64(n))
		}
		return err
	}
	sum := maphash.Bytes(s.seed, s.buf)
	if s.known[chunk] && s.sums[chunk] != sum {
		return fmt.Errorf("%w, between offset %d and %d", errChanged, chunk*chunkSize, chunk*chunkSize+int64(len(s.buf)))
	}
	s.known[chunk], s.sums[chunk] = true, sum
	s.held = chunk
	return nil
}
