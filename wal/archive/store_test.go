package archive_test

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/walden-pg/walden/storage"
)

// countingStore counts how many objects listings yielded, and calls.
type countingStore struct {
	storage.Store
	listed, calls atomic.Int64
}

func (s *countingStore) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	s.calls.Add(1)
	return func(yield func(storage.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix, after) {
			s.listed.Add(1)
			if !yield(info, err) {
				return
			}
		}
	}
}
