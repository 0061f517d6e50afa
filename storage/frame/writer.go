package frame

import (
	"errors"
	"io"
)

// WriterOptions say what object to write, and how.
type WriterOptions struct {
	// Kind of the object; required.
	Kind Kind
	// Codec of its frames.
	Codec Codec
	// Level of compression. 0 is the fastest. LZ4 takes 1 to 9, for the high
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
	// Workers is the number of parallel compressors; 0: GOMAXPROCS. About
	// 2 MiB of memory are used for each, and 4 MiB besides.
	Workers int
}

var errNotReady = errors.New("frame: not ready")

// Writer writes one object. It is used by one goroutine.
type Writer struct{}

// NewWriter begins an object that is written to w.
func NewWriter(w io.Writer, o WriterOptions) (*Writer, error) { return nil, errNotReady }

// Write adds raw bytes.
func (w *Writer) Write(p []byte) (int, error) { return 0, errNotReady }

// Offset returns the number of raw bytes written so far.
func (w *Writer) Offset() int64 { return 0 }

// Align pads the raw bytes with zeros to the next multiple of PageSize.
func (w *Writer) Align() error { return errNotReady }

// AddSection adds a section to the index; before Close.
func (w *Writer) AddSection(s Section) {}

// Close finishes the object. It does not close the underlying writer.
func (w *Writer) Close() (Footer, error) { return Footer{}, errNotReady }

// Abort abandons the object and stops the compressors.
func (w *Writer) Abort() {}

// Encode returns a whole object, for small contents.
func Encode(raw []byte, o WriterOptions, sections ...Section) ([]byte, Footer, error) {
	return nil, Footer{}, errNotReady
}
