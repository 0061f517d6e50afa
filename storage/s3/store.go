// Package s3 is a storage driver; this is its interface, the body follows.
package s3

import (
	"context"
	"errors"
	"io"
	"iter"

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

// Options say where the bucket is.
type Options struct {
	Bucket, Prefix, Endpoint, Region   string
	PathStyle                          bool
	CAFile                             string
	PartSize                           int64
	Concurrency                        int
	AccessKey, SecretKey, SessionToken string
	InsecureSkipVerify                 bool
}

// New returns the store in a bucket.
func New(ctx context.Context, o Options) (*Store, error) { return &Store{o: o}, nil }
