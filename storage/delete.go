package storage

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// BatchDeleter is implemented by stores that remove many objects at less cost
// than one by one.
type BatchDeleter interface {
	// DeleteAll does what Delete does, for each of the keys. It goes on after an
	// error, and returns all of them, joined.
	DeleteAll(ctx context.Context, keys []string) error
}

// deletions bounds how many objects DeleteAll removes at the same time where
// the store takes them one by one.
const deletions = 4

// DeleteAll removes objects, together where the store can do that. It goes on
// after an error, and returns all of them, joined.
func DeleteAll(ctx context.Context, s Store, keys []string) error {
	if b, ok := s.(BatchDeleter); ok {
		return b.DeleteAll(ctx, keys)
	}
	errs := make([]error, len(keys))
	var g errgroup.Group
	g.SetLimit(deletions)
	for i, key := range keys {
		g.Go(func() error {
			errs[i] = s.Delete(ctx, key)
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	return errors.Join(errs...)
}
