package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/walden-pg/walden/wal"
)

// memorySpool is the size of the largest segment that is gathered in memory, in bytes.
const memorySpool = 64 << 20

// PutSegmentFrom archives a complete segment that arrives as a stream: r must
// give exactly seg.Size bytes. Up to 64 MiB it is gathered in memory, else in a
// temporary file (os.TempDir). It checks and returns what Push does.
func (a *Archive) PutSegmentFrom(ctx context.Context, seg wal.Segment, r io.Reader) (PushResult, error) {
	if err := seg.Size.Valid(); err != nil {
		return 0, fmt.Errorf("archive segment: %w", err)
	}
	if seg.Size.Bytes() > memorySpool {
		return a.putSpooled(ctx, seg, r)
	}
	b := make([]byte, seg.Size.Bytes())
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, fmt.Errorf("archive %s: read: %w", seg.Name(), err)
	}
	if err := atEnd(r); err != nil {
		return 0, fmt.Errorf("archive %s: %w", seg.Name(), err)
	}
	return a.PutSegment(ctx, seg, bytes.NewReader(b))
}

func (a *Archive) putSpooled(ctx context.Context, seg wal.Segment, r io.Reader) (res PushResult, err error) {
	f, err := os.CreateTemp("", "walden-segment-*")
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", seg.Name(), err)
	}
	defer func() {
		_ = f.Close() // its content is not needed any more
		if e := os.Remove(f.Name()); e != nil && err == nil {
			err = fmt.Errorf("archive %s: %w", seg.Name(), e)
		}
	}()
	if _, err := io.CopyN(f, r, seg.Size.Bytes()); err != nil {
		return 0, fmt.Errorf("archive %s: spool: %w", seg.Name(), err)
	}
	if err := atEnd(r); err != nil {
		return 0, fmt.Errorf("archive %s: %w", seg.Name(), err)
	}
	return a.PutSegment(ctx, seg, f)
}

// atEnd returns an error unless r is at its end.
func atEnd(r io.Reader) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("there are more bytes than a segment has")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
