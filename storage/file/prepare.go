package file

import (
	"context"

	"github.com/walden-pg/walden/storage"
)

var _ storage.Preparer = (*Store)(nil)

// Prepare implements storage.Preparer: it makes the root directory and whatever
// is missing above it.
func (s *Store) Prepare(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		err = s.makeRoot()
	}
	return s.fail("prepare", s.root, err)
}
