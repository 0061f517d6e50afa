package basebackup

import (
	"context"
	"io"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// WALArchive is what Take needs of the WAL archive. *archive.Archive is one.
type WALArchive interface {
	Segments(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]archive.Entry, error)
	Index(ctx context.Context, seg wal.Segment) (*index.Index, error)
	PutSegment(ctx context.Context, seg wal.Segment, r io.ReaderAt) (archive.PushResult, error)
	Histories(ctx context.Context) (map[wal.TimelineID]wal.History, error)
	PutHistory(ctx context.Context, tli wal.TimelineID, content []byte) (archive.PushResult, error)
}

var _ WALArchive = (*archive.Archive)(nil)
