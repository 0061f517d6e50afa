// Package file is a storage driver; this is its interface, the body follows.
package file

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"

	"github.com/walden-pg/walden/storage"
)

// Store is a storage.Store.
type Store struct{ o Options }

var errPending = errors.New("driver not written yet")

func (s *Store) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	return errPending
}
func (s *Store) Create(ctx context.Context, key string, o storage.PutOptions) (storage.Writer, error) {
	return nil, errPending
}
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return nil, errPending
}
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	return storage.Info{}, errPending
}
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, errPending) }
}
func (s *Store) Delete(ctx context.Context, key string) error { return errPending }

// Options are the modes of what the store creates; zero values: 0700 and 0600.
type Options struct{ DirMode, FileMode os.FileMode }

// New returns the store below the directory root.
func New(root string, o Options) (*Store, error) { return &Store{o: o}, nil }
