package names

import (
	"context"
	"fmt"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Verify reads a snapshot's directory; with whole, its object is read from the first byte to
// the last, and its chunks are decoded. Whether the snapshots that it refers to (Holders)
// are there is not looked at. Errors: *frame.Error and *FormatError for damage, and the store's.
func Verify(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id ID, whole bool) (*Snapshot, frame.Footer, error) {
	o, _, err := openSnapshot(ctx, repo, inc, id)
	if err != nil {
		return nil, frame.Footer{}, err
	}
	f := o.object.Footer()
	if !whole {
		return o.snapshot, f, nil
	}
	if err := o.object.Verify(ctx); err != nil {
		return nil, f, err
	}
	for _, ref := range o.snapshot.own() {
		if err := readRun(ctx, o.object, []chunkRef{ref}, ref.offset+ref.length, func(content, *chunk) {}); err != nil {
			return nil, f, fmt.Errorf("read names from object %s: %w", o.object.Name(), err)
		}
	}
	return o.snapshot, f, nil
}
