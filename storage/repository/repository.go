// Package repository is the place where everything is stored: a Store with an
// identity, written once in walden.json, whose objects are frame containers
// bound to it.
package repository

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
)

// Options say how objects are written and read.
type Options struct {
	// Codec of new objects.
	Codec frame.Codec
	// Level of compression: see frame.WriterOptions.
	Level int
	// Workers is the number of parallel compressors and decompressors of one
	// object; 0: GOMAXPROCS.
	Workers int
	// Memory is how many bytes of one encoded object are held in memory; a larger
	// one goes by a temporary file. 0: 64 MiB.
	Memory int64
	// TempDir is where those temporary files are made; empty: os.TempDir().
	TempDir string
}

// Repository is an open repository. It is safe for concurrent use.
type Repository struct {
	store  storage.Store
	o      Options
	id     [16]byte
	chunks sync.Pool // *[]byte of chunkSize, for spools
}

// NoRepositoryError says that the store holds no repository.
type NoRepositoryError struct {
	// Err is the store's error.
	Err error
}

// Error says so.
func (e *NoRepositoryError) Error() string {
	return "there is no repository here: " + DescriptorKey + " does not exist (walden init creates it)"
}

// Hint says how there can be one.
func (e *NoRepositoryError) Hint() string {
	return "is the repository's url right? `walden init` creates a repository in an empty place"
}

// Unwrap returns the store's error, a storage.ErrNotExist.
func (e *NoRepositoryError) Unwrap() error { return e.Err }

// NotEmptyError says that Init found objects, but no repository.
type NotEmptyError struct {
	// Key is one of the objects.
	Key string
}

// Error names the object and says what to do.
func (e *NotEmptyError) Error() string {
	return "refusing to create a repository: " + DescriptorKey + " does not exist, but other objects do, such as " + e.Key +
		"; use an empty place, or put " + DescriptorKey + " back if it was lost"
}

// ProbePrefix begins the keys that Init tries the store with.
const ProbePrefix = "probes/"

// Init opens the repository that s holds, or creates it if there is none. It
// may be killed, repeated and run by several at once: one of them creates
// (created is true), all of them open the same repository.
//
// Before it creates, it tries whether the store keeps a second writer from
// replacing an object, and refuses one that does not (storage.ErrReplaces). A
// store that holds other objects but no walden.json is a *NotEmptyError: a
// new identity would make them unreadable.
func Init(ctx context.Context, s storage.Store, o Options) (r *Repository, created bool, err error) {
	if err := storage.Prepare(ctx, s); err != nil {
		return nil, false, err
	}
	r, err = Open(ctx, s, o)
	var none *NoRepositoryError
	if !errors.As(err, &none) {
		return r, false, err
	}
	stray, err := strayObject(ctx, s)
	if err != nil {
		return nil, false, err
	}
	if stray != "" {
		// Another Init may have come first.
		if r, err = Open(ctx, s, o); errors.As(err, &none) {
			err = &NotEmptyError{Key: stray}
		}
		return r, false, err
	}
	if err := storage.ProbeConditional(ctx, s, ProbePrefix); err != nil {
		return nil, false, fmt.Errorf("try the store: %w", err)
	}
	d, err := newDescriptor(time.Now())
	if err != nil {
		return nil, false, err
	}
	err = storage.PutBytes(ctx, s, DescriptorKey, d.encode(), storage.PutOptions{})
	if err != nil && !errors.Is(err, storage.ErrExist) {
		return nil, false, err
	}
	if r, err = Open(ctx, s, o); err != nil {
		return nil, false, err
	}
	// After a lost reply the one that exists may be our own.
	return r, r.id == d.id, nil
}

// strayObject returns the key of any object of the store, or "".
func strayObject(ctx context.Context, s storage.Store) (string, error) {
	for info, err := range s.List(ctx, "", "") {
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(info.Key, ProbePrefix) {
			return info.Key, nil
		}
	}
	return "", nil
}

// Open opens the repository that s holds: one read. It returns a
// *NoRepositoryError if there is none, and a *frame.Error if walden.json is
// damaged, of an unknown format (frame.Version) or says that the repository is
// encrypted (frame.Encrypted).
func Open(ctx context.Context, s storage.Store, o Options) (*Repository, error) {
	b, err := storage.ReadAll(ctx, s, DescriptorKey, maxDescriptor)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, &NoRepositoryError{Err: err}
	}
	if err != nil {
		return nil, err
	}
	d, err := parseDescriptor(b)
	if err != nil {
		return nil, err
	}
	return &Repository{store: s, o: o, id: d.id}, nil
}

// ID returns the repository's id.
func (r *Repository) ID() [16]byte { return r.id }

// UUID returns the repository's id in the text form of a UUID.
func (r *Repository) UUID() string { return FormatID(r.id) }

// Store returns the store underneath.
func (r *Repository) Store() storage.Store { return r.store }

// Codec returns the codec of new objects.
func (r *Repository) Codec() frame.Codec { return r.o.Codec }

// NewRawHasher returns the hash that RawDigest holds in this repository's
// footers.
func (r *Repository) NewRawHasher() hash.Hash { return frame.NewRawHasher(r.id) }

// Open opens an object for random access: see frame.Open. kind 0 accepts any.
func (r *Repository) Open(ctx context.Context, key string, kind frame.Kind) (*frame.Object, error) {
	return frame.Open(ctx, frame.StoreRange(r.store, key), r.readOptions(key, kind))
}

// Footer reads an object's footer alone: one small read.
func (r *Repository) Footer(ctx context.Context, key string, kind frame.Kind) (frame.Footer, error) {
	return frame.ReadFooter(ctx, frame.StoreRange(r.store, key), r.readOptions(key, kind))
}

// Read returns the raw content of an object of at most limit raw bytes; a
// larger one is a storage.ErrTooLarge.
func (r *Repository) Read(ctx context.Context, key string, kind frame.Kind, limit int64) ([]byte, error) {
	obj, err := r.Open(ctx, key, kind)
	if err != nil {
		return nil, err
	}
	if obj.Size() > limit {
		return nil, fmt.Errorf("object %s has %d bytes, at most %d were expected: %w", key, obj.Size(), limit, storage.ErrTooLarge)
	}
	return obj.ReadAll(ctx)
}

func (r *Repository) readOptions(key string, kind frame.Kind) frame.ReadOptions {
	return frame.ReadOptions{Name: key, RepositoryID: r.id, WantKind: kind, Workers: r.o.Workers}
}
