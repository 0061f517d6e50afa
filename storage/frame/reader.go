package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/storage"
)

var errReaderClosed = errors.New("the reader is closed")

// NewReader reads n raw bytes from raw offset off, or to the end if n < 0. A
// range that is not inside the object is an error of the first Read.
//
// Every frame is verified as a whole before any of its bytes are returned:
// its stored bytes before it is decompressed, its raw bytes, page by page,
// after. The frames of the range come from one ranged read; where there are
// several they are decompressed in parallel and returned in order. Nothing is
// read before the first Read. The reader is used by one goroutine; Close,
// which may come early, stops what it started. It is an io.WriterTo.
//
// What is wrong with the object is an *Error; errors of the source are passed
// on wrapped, and so is that of ctx.
func (o *Object) NewReader(ctx context.Context, off, n int64) io.ReadCloser {
	r := &reader{object: o, parent: ctx}
	size := o.Size()
	if n < 0 {
		n = size - off
	}
	if off < 0 || off > size || n < 0 || n > size-off {
		r.err = fmt.Errorf("object %s: the range of %d bytes from %d is not inside its %d bytes", o.name, n, off, size)
		return r
	}
	if n == 0 {
		r.err = io.EOF
		return r
	}
	r.first, r.end = int(off/MaxFrame), int(divideUp(off+n, MaxFrame))
	r.skip, r.left = int(off%MaxFrame), n
	return r
}

// ReadAll returns all raw bytes, verified.
func (o *Object) ReadAll(ctx context.Context) ([]byte, error) {
	r := o.NewReader(ctx, 0, -1)
	defer r.Close()
	// The index, which has been read, has 4 bytes for each 8 KiB of these.
	raw := make([]byte, o.Size())
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// frameJob is one frame on its way from stored to raw bytes.
type frameJob struct {
	number      int
	stored, raw []byte
	err         error
	done        chan struct{} // receives when decoded
}

// reader returns the raw bytes of frames first to end-1.
type reader struct {
	object *Object
	parent context.Context

	first, end int
	skip       int   // bytes of the first frame before the range
	left       int64 // bytes still to be returned
	// whole makes the reader check the stored object to its very end.
	whole *wholeCheck

	current []byte    // verified bytes, not yet returned
	job     *frameJob // that current is a part of
	err     error     // sticky, io.EOF at the end

	fetch *fetcher // nil until there is something to fetch in parallel
}

// Read returns verified raw bytes.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.current)
	r.current = r.current[n:]
	return n, nil
}

// WriteTo writes all that is left to w, frame by frame.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.fill(); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.current)
		total += int64(n)
		if err == nil && n < len(r.current) {
			err = io.ErrShortWrite
		}
		r.current = r.current[n:]
		if err != nil {
			return total, err
		}
	}
}

// Close stops the reader. It never fails.
func (r *reader) Close() error {
	if r.fetch != nil {
		r.fetch.stop()
		r.fetch = nil
	}
	if r.job != nil {
		r.job.recycle()
	}
	r.job, r.current = nil, nil
	r.err = fmt.Errorf("object %s: %w", r.object.name, errReaderClosed)
	return nil
}

// fill makes sure that current has bytes.
func (r *reader) fill() error {
	if len(r.current) > 0 {
		return nil
	}
	if r.err == nil {
		r.err = r.next()
	}
	return r.err
}

// next makes current the part of the next frame that is in the range.
func (r *reader) next() error {
	if r.left == 0 {
		return r.finish()
	}
	if err := r.parent.Err(); err != nil {
		return fmt.Errorf("read object %s: %w", r.object.name, err)
	}
	job, err := r.nextJob()
	if err != nil {
		return err
	}
	part := job.raw[r.skip:]
	r.skip = 0
	if int64(len(part)) > r.left {
		part = part[:r.left]
	}
	r.left -= int64(len(part))
	r.job, r.current = job, part
	return nil
}

// finish ends a reader that has returned everything.
func (r *reader) finish() error {
	if r.whole != nil {
		if r.fetch == nil {
			r.fetch = startFetcher(r) // no frames, but the rest is to be checked
		}
		if j, ok := <-r.fetch.order; ok && j.err != nil {
			return j.err
		}
	}
	return io.EOF
}

// nextJob returns the next frame, verified.
func (r *reader) nextJob() (*frameJob, error) {
	if r.end-r.first == 1 && r.whole == nil {
		return r.single()
	}
	if r.fetch == nil {
		r.fetch = startFetcher(r)
	}
	if r.job != nil {
		r.fetch.free <- r.job
		r.job = nil
	}
	j := <-r.fetch.order
	<-j.done
	return j, j.err
}

// single reads the only frame of the range, without other goroutines.
func (r *reader) single() (*frameJob, error) {
	o, info := r.object, r.object.index.frames[r.first]
	body, err := o.src.ReadRange(r.parent, info.offset, int64(info.storedLen))
	if err != nil {
		return nil, o.sourceError(info.offset, err)
	}
	defer body.Close()
	j := newFrameJob()
	if err = j.read(o, r.first, body); err == nil {
		err = j.decode(o)
	}
	if err != nil {
		j.recycle()
		return nil, err
	}
	return j, nil
}

func newFrameJob() *frameJob {
	return &frameJob{stored: getBuffer(), raw: getBuffer(), done: make(chan struct{}, 1)}
}

func (j *frameJob) recycle() {
	putBuffer(j.stored)
	putBuffer(j.raw)
	j.stored, j.raw = nil, nil
}

// read reads the stored bytes of a frame from body, which is at its start.
func (j *frameJob) read(o *Object, number int, body io.Reader) error {
	info := o.index.frames[number]
	j.number, j.err = number, nil
	j.stored = j.stored[:info.storedLen] // at most maxStoredFrame: parseFrames saw to it
	n, err := readFull(body, j.stored)
	if errors.Is(err, io.EOF) {
		return o.errorAt(info.offset, Truncated, "frame %d has %d bytes instead of %d", number, n, info.storedLen)
	}
	if err != nil {
		return o.sourceError(info.offset, err)
	}
	return nil
}

// decode verifies the stored bytes, decompresses them and verifies the raw
// ones, page by page.
func (j *frameJob) decode(o *Object) error {
	info := o.index.frames[j.number]
	if crc32c.Checksum(j.stored) != info.storedCRC {
		return o.errorAt(info.offset, Corrupt, "the stored bytes of frame %d do not match their checksum", j.number)
	}
	j.raw = j.raw[:info.rawLen]
	if err := decodeFrame(o.footer.Codec, j.raw, j.stored); err != nil {
		bad := o.errorAt(info.offset, Corrupt, "frame %d cannot be decompressed", j.number)
		bad.Err = err
		return bad
	}
	var sum uint32
	page := int64(j.number) * (MaxFrame / PageSize)
	for rest := j.raw; len(rest) > 0; page++ {
		part := rest[:min(PageSize, len(rest))]
		rest = rest[len(part):]
		crc := crc32c.Checksum(part)
		if crc != o.index.pageCRC(page) {
			return o.errorAt(info.offset, Corrupt, "page %d, in frame %d, does not match its checksum", page, j.number)
		}
		sum = appendPageCRC(sum, crc, len(part))
	}
	if sum != info.rawCRC {
		return o.errorAt(info.offset, Corrupt, "the raw bytes of frame %d do not match their checksum", j.number)
	}
	return nil
}

// sourceError adds to an error of the source what was being read. A source
// that ends before offset is an object that was cut.
func (o *Object) sourceError(offset int64, err error) error {
	if errors.Is(err, storage.ErrOffset) {
		bad := o.errorAt(offset, Truncated, "nothing is there")
		bad.Err = err
		return bad
	}
	return fmt.Errorf("read object %s at offset %d: %w", o.name, offset, err)
}

// readFull fills b. It returns io.EOF if r ends before, and any other error as
// it is: io.ErrUnexpectedEOF is a source's word for a broken connection.
func readFull(r io.Reader, b []byte) (int, error) {
	n := 0
	for idle := 0; n < len(b); {
		m, err := r.Read(b[n:])
		n += m
		switch {
		case n == len(b):
			return n, nil
		case err != nil:
			return n, err
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, io.ErrNoProgress
			}
		}
	}
	return n, nil
}

// fetcher reads stored frames one after the other and has them decoded in
// parallel. Its memory is that of a fixed number of jobs.
type fetcher struct {
	object     *Object
	first, end int
	whole      *wholeCheck

	cancel context.CancelFunc
	free   chan *frameJob // jobs nobody uses
	todo   chan *frameJob // to the decoders
	order  chan *frameJob // to the reader, in order; closed at the end
	wg     sync.WaitGroup
}

// startFetcher starts the goroutines of r; stop ends them.
func startFetcher(r *reader) *fetcher {
	workers := max(1, min(r.object.workers, r.end-r.first))
	jobs := workers + 1
	f := &fetcher{
		object: r.object, first: r.first, end: r.end, whole: r.whole,
		free: make(chan *frameJob, jobs), todo: make(chan *frameJob, jobs),
		order: make(chan *frameJob, jobs+1), // and one that only carries an error
	}
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(r.parent)
	for range jobs {
		f.free <- &frameJob{done: make(chan struct{}, 1)}
	}
	for range workers {
		f.wg.Go(f.decode)
	}
	f.wg.Go(func() {
		defer close(f.todo)
		defer close(f.order)
		if err := f.read(ctx); err != nil {
			f.order <- failedJob(err)
		}
	})
	return f
}

// failedJob is what the reader gets in place of a frame that cannot be read.
func failedJob(err error) *frameJob {
	j := &frameJob{err: err, done: make(chan struct{}, 1)}
	j.done <- struct{}{}
	return j
}

func (f *fetcher) decode() {
	for j := range f.todo {
		j.err = j.decode(f.object)
		j.done <- struct{}{}
	}
}

// read reads the stored frames, from one range of the source.
func (f *fetcher) read(ctx context.Context) error {
	frames := f.object.index.frames
	start, n := int64(0), int64(-1)
	if f.whole == nil {
		last := frames[f.end-1]
		start = frames[f.first].offset
		n = last.offset + int64(last.storedLen) - start
	}
	body, err := f.object.src.ReadRange(ctx, start, n)
	if err != nil {
		return f.object.sourceError(start, err)
	}
	defer body.Close()
	for i := f.first; i < f.end; i++ {
		var j *frameJob
		select {
		case j = <-f.free:
		case <-ctx.Done():
			return f.object.sourceError(frames[i].offset, ctx.Err())
		}
		if j.stored == nil {
			j.stored, j.raw = getBuffer(), getBuffer()
		}
		if err := j.read(f.object, i, body); err != nil {
			f.free <- j
			return err
		}
		if f.whole != nil {
			f.whole.add(j.stored)
		}
		// Neither can block: both have room for every job.
		f.todo <- j
		f.order <- j
	}
	if f.whole != nil {
		return f.whole.rest(f.object, body)
	}
	return nil
}

// stop ends the goroutines and gives back the memory of jobs that are at rest.
func (f *fetcher) stop() {
	f.cancel()
	f.wg.Wait()
	for j := range f.order {
		j.recycle()
	}
	close(f.free)
	for j := range f.free {
		if j.stored != nil {
			j.recycle()
		}
	}
}
