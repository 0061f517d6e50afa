// Package storage is the contract between Walden and the places that keep its
// bytes: opaque keys on one side, durable bytes on the other. It knows nothing
// of PostgreSQL, of compression or of encryption.
//
// Drivers live in storage/file, storage/s3 and storage/mem. All of them, and
// every decorator, pass the conformance suite in storage/storetest.
package storage

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store keeps objects: byte strings that are written once, under a key, and
// never changed afterwards.
//
// Keys are slash-separated paths of one or more non-empty segments made of the
// characters A–Z a–z 0–9 . _ - ; no segment is "." or "..", none starts with a
// dot, and a key is at most 512 bytes long. CheckKey tells. A method that is
// given any other key returns an error and touches nothing. No key may be a
// directory of another ("a" and "a/b" cannot both exist): a driver may refuse
// the second of them.
//
// All methods are safe for concurrent use, by goroutines and by processes on
// several machines. They honour ctx: when it is done they return ctx.Err()
// (wrapped) soon, and what they had begun is either whole or absent.
//
// Errors are *Error values: they name the operation and the key, and wrap the
// cause. errors.Is(err, ErrNotExist) and errors.Is(err, ErrExist) work on all
// of them, and Retryable tells whether trying again can help.
type Store interface {
	// Put stores the size bytes of r as the object key.
	//
	// When Put returns nil the object is durable: it survives a crash of this
	// process, of this machine and of the store. Until then no reader sees any
	// of it; after a crash at any point the object is whole or absent.
	//
	// If the key exists already Put returns ErrExist and changes nothing,
	// whatever the content. Of several concurrent Puts of one key exactly one
	// succeeds. A driver may read r more than once and in pieces: r must give
	// the same bytes each time. A retry after a lost reply can find the object
	// that its own first attempt wrote: it then gets ErrExist, and the caller
	// compares.
	Put(ctx context.Context, key string, r io.ReaderAt, size int64, o PutOptions) error

	// Create begins an object whose size is not known yet. Nothing is visible
	// under the key until the Writer is committed. Create may return ErrExist
	// if the key exists already, but only Commit decides.
	// ctx governs the whole life of the Writer, not only this call.
	Create(ctx context.Context, key string, o PutOptions) (Writer, error)

	// Open reads the object from offset off: n bytes, or to the end if n < 0.
	// If off < 0 it reads the last -off bytes (all of them if the object is
	// shorter), and n is ignored. A range that reaches beyond the end is cut
	// at the end; an offset beyond the end is an error. The reader returns io.EOF only after
	// all bytes of the range: a connection that breaks early is an error
	// (io.ErrUnexpectedEOF or the cause). The caller closes it.
	// An absent object is ErrNotExist, from Open itself.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Stat describes the object. An absent object is ErrNotExist.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields every object whose key starts with prefix and is greater
	// than after, in ascending byte order of keys. prefix is any string, not
	// necessarily whole path segments; after may be "" or any string. An error
	// ends the sequence: the last pair then carries it. Objects that are
	// created or deleted while the listing runs may or may not appear; all
	// others appear exactly once. Stopping early is cheap, and so is a large
	// after: what lies before it is not walked.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes the object. If it is absent Delete returns nil.
	Delete(ctx context.Context, key string) error
}

// A Writer takes the bytes of one new object. It is used by one goroutine.
// Its bytes are invisible until Commit returns nil; then they are durable.
type Writer interface {
	io.Writer

	// Commit makes the object visible and durable. If the key exists by then
	// it returns ErrExist and changes nothing. After an error the object may
	// have been created only if the error is Retryable (a lost reply) or ctx is
	// done; the caller then looks. Commit is called at most once.
	Commit() error

	// Abort discards what was written and frees what the store keeps for it.
	// After Commit, successful or not, it is a no-op: defer it.
	Abort() error
}

// Info describes one object.
type Info struct {
	// Key is the object's key, as it was given to Put or Create.
	Key string
	// Size is the length of the stored bytes.
	Size int64
	// ModTime is when the store received the object, by the store's clock.
	ModTime time.Time
	// Version is the store's identifier of this very content (an S3 version id
	// or ETag); empty where the store has none.
	Version string
}

// PutOptions are wishes about how an object is kept. A driver that cannot
// honour one returns an error rather than ignore it, except for StorageClass
// and Tags on stores that have no such notion.
type PutOptions struct {
	// StorageClass names a class of the store ("STANDARD_IA"); empty: the default.
	StorageClass string
	// RetainUntil forbids deletion before this moment; zero: no retention.
	RetainUntil time.Time
	// Tags are attached to the object.
	Tags map[string]string
}
