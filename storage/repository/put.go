package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
)

// ObjectOptions say what object to write.
type ObjectOptions struct {
	// Kind of the object; required.
	Kind frame.Kind
	// RawDigest and PageHash: see frame.WriterOptions.
	RawDigest, PageHash bool
	// Codec, if not nil, is used instead of the repository's, at its fastest
	// level.
	Codec *frame.Codec
	// StorageClass: see storage.PutOptions.
	StorageClass string
	// Workers is used instead of the repository's, if not 0.
	Workers int
}

// ConflictError says that an object exists with other content. Nothing was
// changed.
type ConflictError struct {
	// Key is the object's key.
	Key string
	// Existing is its footer.
	Existing frame.Footer
	// RawLength and RawDigest are those of the content that was refused.
	RawLength int64
	RawDigest [32]byte
}

// Error names the object and both contents.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("object %s exists already with other content (%d bytes, digest %.8x); the new one (%d bytes, digest %.8x) was not stored",
		e.Key, e.Existing.RawLength, e.Existing.RawDigest, e.RawLength, e.RawDigest)
}

// Put stores raw as the object key: see PutReaderAt.
func (r *Repository) Put(ctx context.Context, key string, raw []byte, o ObjectOptions, sections ...frame.Section) (frame.Footer, error) {
	return r.PutReaderAt(ctx, key, bytes.NewReader(raw), int64(len(raw)), o, sections...)
}

// PutReaderAt stores the size bytes of raw as the object key. It encodes them
// into memory, or into a temporary file once that takes more than Options.Memory,
// and stores them by one Put of the store, under its promises: durable when nil is
// returned, whole or absent after a crash, never overwriting.
//
// If the key exists the error is a storage.ErrExist, whatever the content. The
// footer returned with it is that of the object that was not stored, so that
// the caller can compare.
func (r *Repository) PutReaderAt(ctx context.Context, key string, raw io.ReaderAt, size int64, o ObjectOptions, sections ...frame.Section) (frame.Footer, error) {
	s := r.newSpool()
	defer s.close()
	f, err := r.encode(ctx, s, key, raw, size, o, sections)
	if err != nil {
		return frame.Footer{}, err
	}
	if s.size != f.StoredSize() {
		return frame.Footer{}, fmt.Errorf("encode object %s: %d bytes were spooled instead of %d", key, s.size, f.StoredSize())
	}
	return f, r.store.Put(ctx, key, s, s.size, storage.PutOptions{StorageClass: o.StorageClass})
}

// encode writes the container of raw to w.
func (r *Repository) encode(ctx context.Context, w io.Writer, key string, raw io.ReaderAt, size int64, o ObjectOptions, sections []frame.Section) (frame.Footer, error) {
	fw, err := frame.NewWriter(w, r.writerOptions(key, o))
	if err != nil {
		return frame.Footer{}, err
	}
	defer fw.Abort()
	for _, s := range sections {
		fw.AddSection(s)
	}
	n, err := fw.ReadFrom(contextReader{ctx, io.NewSectionReader(raw, 0, size)})
	if err != nil {
		return frame.Footer{}, fmt.Errorf("encode object %s: %w", key, err)
	}
	if n != size {
		return frame.Footer{}, fmt.Errorf("encode object %s: its source ends after %d of %d bytes: %w", key, n, size, io.ErrUnexpectedEOF)
	}
	f, err := fw.Close()
	if err != nil {
		return frame.Footer{}, fmt.Errorf("encode object %s: %w", key, err)
	}
	return f, nil
}

// contextReader is a reader that ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// PutIdempotent is PutReaderAt, with a raw digest whatever o says, for names
// that several may write. If the key exists with the same raw bytes (by
// length and raw digest, whatever codec it was written with) that is success:
// identical is true and f the footer of the object that is there. If it
// exists with others the error is a *ConflictError. If what exists cannot be
// read as an object of o.Kind the error says why.
func (r *Repository) PutIdempotent(ctx context.Context, key string, raw io.ReaderAt, size int64, o ObjectOptions, sections ...frame.Section) (f frame.Footer, identical bool, err error) {
	o.RawDigest = true
	f, err = r.PutReaderAt(ctx, key, raw, size, o, sections...)
	if !errors.Is(err, storage.ErrExist) {
		return f, false, err
	}
	there, err := r.Footer(ctx, key, o.Kind)
	if err != nil {
		return frame.Footer{}, false, fmt.Errorf("compare with the object that exists: %w", err)
	}
	if !there.HasRawDigest || there.RawLength != f.RawLength || there.RawDigest != f.RawDigest {
		return frame.Footer{}, false, &ConflictError{Key: key, Existing: there, RawLength: f.RawLength, RawDigest: f.RawDigest}
	}
	return there, true, nil
}

func (r *Repository) writerOptions(key string, o ObjectOptions) frame.WriterOptions {
	w := frame.WriterOptions{
		Kind: o.Kind, Codec: r.o.Codec, Level: r.o.Level, Name: key, RepositoryID: r.id,
		RawDigest: o.RawDigest, PageHash: o.PageHash, Workers: r.o.Workers,
	}
	if o.Codec != nil && *o.Codec != w.Codec {
		w.Codec, w.Level = *o.Codec, 0
	}
	if o.Workers != 0 {
		w.Workers = o.Workers
	}
	return w
}
