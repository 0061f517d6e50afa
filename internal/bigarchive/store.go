package bigarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
)

// The sizes of a listing's answers, as those of storage/s3.
const firstPage, laterPages = 100, 1000

// Store is an Archive as a storage.Store that can be read: every request takes
// Latency, and is counted. Nothing can be stored in it.
type Store struct {
	*Archive
	Latency time.Duration

	mu    sync.Mutex
	count Count
}

// Count are requests, and what was read.
type Count struct {
	Lists, Gets, Stats int
	Bytes              int64 // of objects
	// ByKind are the requests by the first part of the key within the incarnation.
	ByKind map[string]int
}

// Requests are all of them.
func (c Count) Requests() int { return c.Lists + c.Gets + c.Stats }

// Count returns what was counted since it was called last.
func (s *Store) Count() Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.count
	s.count = Count{}
	return c
}

// request counts a request and waits for as long as it takes.
func (s *Store) request(ctx context.Context, key string, add func(*Count)) error {
	s.mu.Lock()
	add(&s.count)
	if s.count.ByKind == nil {
		s.count.ByKind = map[string]int{}
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(key, s.Incarnation.Prefix()), "/")
	s.count.ByKind[kind]++
	s.mu.Unlock()
	select {
	case <-time.After(s.Latency):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		limit := firstPage
		for {
			if err := s.request(ctx, prefix, func(c *Count) { c.Lists++ }); err != nil {
				yield(storage.Info{}, &storage.Error{Op: "list", Key: prefix, Err: err})
				return
			}
			page, more := s.Page(prefix, after, limit)
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
				after = info.Key
			}
			if !more {
				return
			}
			limit = laterPages
		}
	}
}

// Open implements storage.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.request(ctx, key, func(c *Count) { c.Gets++ }); err != nil {
		return nil, &storage.Error{Op: "open", Key: key, Err: err}
	}
	b, err := s.object(ctx, "open", key)
	if err != nil {
		return nil, err
	}
	start, length, err := storage.Range(int64(len(b)), off, n)
	if err != nil {
		return nil, &storage.Error{Op: "open", Key: key, Err: err}
	}
	s.mu.Lock()
	s.count.Bytes += length
	s.mu.Unlock()
	return io.NopCloser(bytes.NewReader(b[start : start+length])), nil
}

func (s *Store) object(ctx context.Context, op, key string) ([]byte, error) {
	b, ok, err := s.Object(ctx, key)
	if err == nil && !ok {
		err = storage.ErrNotExist
	}
	if err != nil {
		return nil, &storage.Error{Op: op, Key: key, Err: err}
	}
	return b, nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := s.request(ctx, key, func(c *Count) { c.Stats++ }); err != nil {
		return storage.Info{}, &storage.Error{Op: "stat", Key: key, Err: err}
	}
	b, err := s.object(ctx, "stat", key)
	return storage.Info{Key: key, Size: int64(len(b)), ModTime: Began}, err
}

var errReadOnly = errors.New("nothing can be stored in a made-up archive")

func readOnly(op, key string) error { return &storage.Error{Op: op, Key: key, Err: errReadOnly} }

// Put implements storage.Store.
func (s *Store) Put(_ context.Context, key string, _ io.ReaderAt, _ int64, _ storage.PutOptions) error {
	return readOnly("put", key)
}

// Create implements storage.Store.
func (s *Store) Create(_ context.Context, key string, _ storage.PutOptions) (storage.Writer, error) {
	return nil, readOnly("create", key)
}

// Delete implements storage.Store.
func (s *Store) Delete(_ context.Context, key string) error { return readOnly("delete", key) }

// String says what was counted.
func (c Count) String() string {
	return fmt.Sprintf("%d requests: %d lists, %d reads of %d KiB, %d stats; %v", c.Requests(), c.Lists, c.Gets, c.Bytes>>10, c.Stats, c.ByKind)
}
