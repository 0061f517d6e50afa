package catalog

import (
	"context"
	"fmt"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// Read reads the whole indexes of segments, many at a time, and hands them to use
// in the order given, without keeping any. An error that use is given is about the
// object, which is damaged or gone; an error of Read itself means that the store could
// not be asked, or is that of use.
func (r *Reader) Read(ctx context.Context, s *Snapshot, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error {
	if err := r.each(ctx, s, segs, use); err != nil {
		return fmt.Errorf("read the indexes of WAL segments: %w", err)
	}
	return nil
}
