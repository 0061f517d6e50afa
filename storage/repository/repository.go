// Package repository is the place where everything is stored: a Store with an
// identity, written once in walden.json, whose objects are frame containers
// bound to it.
package repository

import (
	"context"
	"errors"
	"hash"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
)

var errNotReady = errors.New("repository: not ready")

// Options say how objects are written.
type Options struct {
	// Codec of new objects.
	Codec frame.Codec
	// Level of compression: see frame.WriterOptions.
	Level int
	// Workers is the number of parallel compressors and decompressors of one
	// object; 0: GOMAXPROCS.
	Workers int
	// TempDir is where large encoded objects are spooled; empty: os.TempDir().
	TempDir string
}

// Repository is an open repository. It is safe for concurrent use.
type Repository struct{}

// NoRepositoryError says that the store holds no repository.
type NoRepositoryError struct{ Err error }

// Error says so.
func (e *NoRepositoryError) Error() string { return "no repository here: walden.json does not exist" }

// Unwrap returns the store's error.
func (e *NoRepositoryError) Unwrap() error { return e.Err }

// ConflictError says that an object exists with other content.
type ConflictError struct{ Key string }

// Error names the object.
func (e *ConflictError) Error() string { return "object " + e.Key + " exists with other content" }

// Init creates the repository, or opens the one that is there.
func Init(ctx context.Context, s storage.Store, o Options) (r *Repository, created bool, err error) {
	return nil, false, errNotReady
}

// Open opens the repository that s holds.
func Open(ctx context.Context, s storage.Store, o Options) (*Repository, error) {
	return nil, errNotReady
}

// ID returns the repository's id.
func (r *Repository) ID() [16]byte { return [16]byte{} }

// UUID returns the repository's id in text form.
func (r *Repository) UUID() string { return "" }

// Store returns the store underneath.
func (r *Repository) Store() storage.Store { return nil }

// Codec returns the codec of new objects.
func (r *Repository) Codec() frame.Codec { return 0 }

// NewRawHasher returns the hash of a footer's RawDigest in this repository.
func (r *Repository) NewRawHasher() hash.Hash { return nil }

// ObjectOptions say what object to write.
type ObjectOptions struct {
	Kind                frame.Kind
	RawDigest, PageHash bool
	Codec               *frame.Codec
	StorageClass        string
	Workers             int
}

// ObjectWriter writes one object whose size is not known yet.
type ObjectWriter struct{}

// Create begins an object.
func (r *Repository) Create(ctx context.Context, key string, o ObjectOptions) (*ObjectWriter, error) {
	return nil, errNotReady
}

// Write adds raw bytes.
func (w *ObjectWriter) Write(p []byte) (int, error) { return 0, errNotReady }

// Offset returns the number of raw bytes written so far.
func (w *ObjectWriter) Offset() int64 { return 0 }

// Align pads with zeros to the next multiple of frame.PageSize.
func (w *ObjectWriter) Align() error { return errNotReady }

// AddSection adds a section to the index.
func (w *ObjectWriter) AddSection(s frame.Section) {}

// Commit makes the object durable.
func (w *ObjectWriter) Commit() (frame.Footer, error) { return frame.Footer{}, errNotReady }

// Abort discards the object. After Commit it is a no-op.
func (w *ObjectWriter) Abort() {}

// Put stores a small object.
func (r *Repository) Put(ctx context.Context, key string, raw []byte, o ObjectOptions, sections ...frame.Section) (frame.Footer, error) {
	return frame.Footer{}, errNotReady
}

// PutReaderAt stores an object of known size.
func (r *Repository) PutReaderAt(ctx context.Context, key string, raw io.ReaderAt, size int64, o ObjectOptions, sections ...frame.Section) (frame.Footer, error) {
	return frame.Footer{}, errNotReady
}

// PutIdempotent stores an object unless it is there already with the same raw bytes.
func (r *Repository) PutIdempotent(ctx context.Context, key string, raw io.ReaderAt, size int64, o ObjectOptions, sections ...frame.Section) (f frame.Footer, identical bool, err error) {
	return frame.Footer{}, false, errNotReady
}

// Open opens an object for random access.
func (r *Repository) Open(ctx context.Context, key string, kind frame.Kind) (*frame.Object, error) {
	return nil, errNotReady
}

// Footer reads an object's footer alone.
func (r *Repository) Footer(ctx context.Context, key string, kind frame.Kind) (frame.Footer, error) {
	return frame.Footer{}, errNotReady
}

// Read returns the raw content of an object of at most limit raw bytes.
func (r *Repository) Read(ctx context.Context, key string, kind frame.Kind, limit int64) ([]byte, error) {
	return nil, errNotReady
}
