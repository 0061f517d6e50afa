package frame

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"

	"github.com/walden-pg/walden/internal/crc32c"
)

// job is one frame on its way from raw to stored bytes.
type job struct {
	raw, stored []byte
	sums        rawSums
	storedCRC   uint32
	done        chan struct{} // receives when encoded
}

// encode fills in what follows from raw.
func (j *job) encode(c compressor, pageHash bool) {
	j.sums.compute(j.raw, pageHash)
	j.stored = c.compress(j.stored[:0], j.raw)
	j.storedCRC = crc32c.Checksum(j.stored)
}

// sink is where stored bytes go, in order. One goroutine at a time uses it.
type sink struct {
	w      io.Writer
	digest *blake3.Hasher
	body   int64
	index  indexBuilder
}

func newSink(w io.Writer, pageHash bool) *sink {
	return &sink{w: w, digest: blake3.New(), index: indexBuilder{pageHash: pageHash}}
}

func (s *sink) write(b []byte) error {
	n, err := s.w.Write(b)
	if err != nil {
		return err
	}
	if n != len(b) {
		return io.ErrShortWrite
	}
	s.digest.Write(b) // never fails
	s.body += int64(n)
	return nil
}

func (s *sink) writeFrame(j *job) error {
	if len(j.stored) == 0 || len(j.stored) > maxStoredFrame {
		// No codec does this; a reader would refuse it.
		return fmt.Errorf("frame: %d raw bytes were encoded as %d", len(j.raw), len(j.stored))
	}
	if err := s.write(j.stored); err != nil {
		return err
	}
	s.index.addFrame(len(j.stored), len(j.raw), j.storedCRC, &j.sums)
	return nil
}

// pipeline compresses frames in parallel and writes them in order. Its memory
// is that of a fixed number of jobs.
type pipeline struct {
	o     WriterOptions
	sink  *sink
	free  chan *job // jobs nobody uses
	todo  chan *job // to the compressors
	order chan *job // to the goroutine that writes
	err   atomic.Pointer[error]
	wg    sync.WaitGroup
	ended bool
}

// startPipeline starts the goroutines; stop ends them.
func startPipeline(s *sink, o WriterOptions) (*pipeline, error) {
	jobs := o.Workers + 1
	p := &pipeline{
		o: o, sink: s,
		free: make(chan *job, jobs), todo: make(chan *job, jobs), order: make(chan *job, jobs),
	}
	compressors := make([]compressor, o.Workers)
	for i := range compressors {
		var err error
		if compressors[i], err = newCompressor(o.Codec, o.Level); err != nil {
			return nil, err
		}
	}
	for range jobs {
		p.free <- &job{raw: nil, stored: nil, done: make(chan struct{}, 1)}
	}
	for _, c := range compressors {
		p.wg.Go(func() { p.compress(c) })
	}
	p.wg.Go(p.write)
	return p, nil
}

// submit takes a frame of raw bytes and returns an empty buffer for the next.
// It waits while all jobs are in use.
func (p *pipeline) submit(raw []byte) []byte {
	j := <-p.free
	next := j.raw
	if next == nil {
		next, j.stored = getBuffer(), getBuffer()
	}
	j.raw = raw
	// Neither can block: both have room for every job.
	p.order <- j
	p.todo <- j
	return next[:0]
}

func (p *pipeline) compress(c compressor) {
	defer recycleCompressor(c, p.o.Level)
	for j := range p.todo {
		if p.failed() == nil {
			j.encode(c, p.o.PageHash)
		}
		j.done <- struct{}{}
	}
}

// write writes finished frames in order. After an error it lets the rest pass
// unwritten, so that submit never waits for ever.
func (p *pipeline) write() {
	for j := range p.order {
		<-j.done
		if p.failed() == nil {
			if err := p.sink.writeFrame(j); err != nil {
				p.fail(err)
			}
		}
		p.free <- j
	}
}

// failed returns the first error.
func (p *pipeline) failed() error {
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *pipeline) fail(err error) { p.err.CompareAndSwap(nil, &err) }

func (p *pipeline) abort() { p.fail(errAborted) }

// finish waits until every frame is written.
func (p *pipeline) finish() error {
	p.end()
	return p.failed()
}

// end stops the goroutines after what was submitted.
func (p *pipeline) end() {
	if !p.ended {
		p.ended = true
		close(p.todo)
		close(p.order)
		p.wg.Wait()
	}
}

// stop ends the goroutines and gives back the memory.
func (p *pipeline) stop() {
	p.end()
	close(p.free)
	for j := range p.free {
		if j.raw != nil {
			putBuffer(j.raw)
			putBuffer(j.stored)
		}
	}
}
