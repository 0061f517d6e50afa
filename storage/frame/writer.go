package frame

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"runtime"
)

// WriterOptions say what object to write, and how.
type WriterOptions struct {
	// Kind of the object; required.
	Kind Kind
	// Codec of its frames.
	Codec Codec
	// Level of compression. 0 is the fastest. LZ4 takes 1 to 9, for its high
	// compression variant; zstd takes the levels of its command line tool, 1
	// to 22. CodecNone ignores it.
	Level int
	// Name is the object's key relative to the repository; required. It is
	// bound into the footer: a reader that finds the object under another key
	// refuses it.
	Name string
	// RepositoryID is bound into the footer.
	RepositoryID [16]byte
	// RawDigest asks for BLAKE3 of the raw bytes in the footer, for objects
	// whose name two writers may write.
	RawDigest bool
	// PageHash asks for 16 bytes of BLAKE3 per page in the index, for objects
	// whose pages will be compared.
	PageHash bool
	// Workers is the number of parallel compressors; 0: GOMAXPROCS. 2 MiB of
	// memory are used for each, and 3 MiB besides, and what the compressors
	// themselves need: 64 KiB for LZ4, some MiB for zstd.
	Workers int
}

// Errors of a Writer that is used after its end.
var (
	errClosed  = errors.New("frame: the writer is closed")
	errAborted = errors.New("frame: the writer was aborted")
)

// Writer writes one object. It is used by one goroutine, and must be ended by
// Close or Abort. After an error all its methods return that error.
type Writer struct {
	o    WriterOptions
	sink *sink
	pipe *pipeline // nil until there is a second frame
	raw  hash.Hash // nil without RawDigest

	buf    []byte // raw bytes of the frame that is being filled
	offset int64

	err    error // sticky; errClosed after Close
	closed bool
	footer Footer
	result error // of Close
}

// NewWriter begins an object that is written to w. Until Close or Abort has
// returned, w may be written to from another goroutine, by one at a time. The
// bytes depend only on the options and on what is written, not on how it is
// cut into calls of Write, nor on Workers.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) {
	if o.Kind == 0 || o.Name == "" {
		return nil, errors.New("frame: an object needs a kind and a name")
	}
	if err := checkLevel(o.Codec, o.Level); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	fw := &Writer{o: o, sink: newSink(w, o.PageHash)}
	if o.RawDigest {
		fw.raw = NewRawHasher(o.RepositoryID)
	}
	return fw, nil
}

// Offset returns the number of raw bytes written so far.
func (w *Writer) Offset() int64 { return w.offset }

// Write adds raw bytes. An error of the underlying writer may be reported by
// a later call than the one that gave the bytes.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		room, err := w.room()
		if err != nil {
			return written, err
		}
		n := copy(room, p)
		w.advance(n)
		p = p[n:]
		written += n
	}
	return written, w.err
}

// ReadFrom adds everything r has, without another copy in between.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for idle := 0; ; {
		room, err := w.room()
		if err != nil {
			return total, err
		}
		n, err := r.Read(room)
		w.advance(n)
		total += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		case n > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return total, io.ErrNoProgress
			}
		}
	}
}

// Align pads the raw bytes with zeros to the next multiple of PageSize.
func (w *Writer) Align() error {
	if rest := int(w.offset % PageSize); rest != 0 {
		_, err := w.Write(zeroPage[rest:])
		return err
	}
	return w.err
}

var zeroPage [PageSize]byte

// AddSection adds a section to the index; before Close. The data is not
// copied. A second section of one type makes Close fail.
func (w *Writer) AddSection(s Section) {
	for _, have := range w.sink.index.sections {
		if have.Type == s.Type && w.err == nil {
			w.err = fmt.Errorf("frame: %s: two sections of type %#x", w.o.Name, s.Type)
		}
	}
	w.sink.index.sections = append(w.sink.index.sections, s)
}

// room returns the free part of the current frame; it is not empty.
func (w *Writer) room() ([]byte, error) {
	if w.err == nil && w.pipe != nil {
		w.err = w.pipe.failed()
	}
	if w.err == nil && len(w.buf) == MaxFrame {
		w.err = w.flush()
	}
	if w.err != nil {
		return nil, w.err
	}
	if w.buf == nil {
		w.buf = getBuffer()
	}
	return w.buf[len(w.buf):MaxFrame], nil
}

func (w *Writer) advance(n int) {
	w.buf = w.buf[:len(w.buf)+n]
	w.offset += int64(n)
}

// flush hands the current frame, which is full, to the compressors.
func (w *Writer) flush() error {
	if w.pipe == nil {
		p, err := startPipeline(w.sink, w.o)
		if err != nil {
			return err
		}
		w.pipe = p
	}
	w.hashRaw()
	w.buf = w.pipe.submit(w.buf)
	return nil
}

func (w *Writer) hashRaw() {
	if w.raw != nil {
		w.raw.Write(w.buf) // never fails
	}
}

// Close finishes the frames and writes the index and the footer. It does not
// close the underlying writer. A second call returns what the first returned.
func (w *Writer) Close() (Footer, error) {
	if w.closed {
		return w.footer, w.result
	}
	w.closed = true
	err := w.err
	if err == nil {
		err = w.finishFrames()
	}
	w.stop()
	if err == nil {
		w.footer, err = w.finish()
	}
	w.err = errClosed
	if err != nil {
		w.err, w.footer, w.result = err, Footer{}, err
	}
	return w.footer, w.result
}

// finishFrames writes the last frame and waits for all of them.
func (w *Writer) finishFrames() error {
	if len(w.buf) > 0 {
		w.hashRaw()
		if w.pipe == nil {
			return w.encodeInline()
		}
		w.buf = w.pipe.submit(w.buf)
	}
	if w.pipe != nil {
		return w.pipe.finish()
	}
	return nil
}

// encodeInline writes the only frame of a small object.
func (w *Writer) encodeInline() error {
	c, err := newCompressor(w.o.Codec, w.o.Level)
	if err != nil {
		return err
	}
	defer recycleCompressor(c, w.o.Level)
	j := job{raw: w.buf, stored: getBuffer()}
	defer putBuffer(j.stored)
	j.encode(c, w.o.PageHash)
	return w.sink.writeFrame(&j)
}

// finish writes the index and the footer.
func (w *Writer) finish() (Footer, error) {
	x, err := w.sink.index.encode()
	if err != nil {
		return Footer{}, fmt.Errorf("frame: %s: %w", w.o.Name, err)
	}
	f := Footer{
		Version: FormatVersion, Kind: w.o.Kind, Codec: w.o.Codec,
		RawLength: w.offset, IndexOffset: w.sink.body, IndexLength: int64(len(x)),
		RepositoryID: w.o.RepositoryID, NameDigest: NameDigest(w.o.Name),
	}
	if err := w.sink.write(x); err != nil {
		return Footer{}, err
	}
	f.BodyLength = w.sink.body
	w.sink.digest.Sum(f.StoredDigest[:0])
	if w.raw != nil {
		f.HasRawDigest = true
		w.raw.Sum(f.RawDigest[:0])
	}
	return f, w.sink.write(appendFooter(nil, f))
}

// Abort abandons the object and stops the compressors. It waits for a write
// to the underlying writer that is under way. After Close it is a no-op.
func (w *Writer) Abort() {
	if w.closed {
		return
	}
	w.closed = true
	if w.err == nil {
		w.err = errAborted
	}
	w.result = w.err
	if w.pipe != nil {
		w.pipe.abort()
	}
	w.stop()
}

// stop ends the goroutines and gives back the memory.
func (w *Writer) stop() {
	if w.pipe != nil {
		w.pipe.stop()
	}
	if w.buf != nil {
		putBuffer(w.buf)
		w.buf = nil
	}
}

// Encode returns a whole object in memory, for small contents.
func Encode(raw []byte, o WriterOptions, sections ...Section) ([]byte, Footer, error) {
	var out bytes.Buffer
	w, err := NewWriter(&out, o)
	if err != nil {
		return nil, Footer{}, err
	}
	defer w.Abort()
	for _, s := range sections {
		w.AddSection(s)
	}
	if len(raw) < math.MaxInt32 {
		out.Grow(len(raw)/4 + FooterSize + minIndexSize)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, Footer{}, err
	}
	f, err := w.Close()
	if err != nil {
		return nil, Footer{}, err
	}
	return out.Bytes(), f, nil
}
