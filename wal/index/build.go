package index

import (
	"errors"
	"io"

	"github.com/walden-pg/walden/wal"
)

// Options for Build.
type Options struct {
	SystemID uint64 // the cluster the segment must be of; 0: any
	// Complete: the segment must be sound to its last byte, or to an
	// XLOG_SWITCH followed by nothing but zeros. Otherwise (a .partial file) the
	// index ends where valid WAL ends; only a segment whose first page is not
	// valid, or that is of another cluster, is refused.
	Complete bool
}

// Build reads the segment from r in one pass and derives its index. r holds
// the segment from offset 0 on and nothing else. Memory is bounded; what grows
// with the content is about 10 bytes per transaction.
//
// The error is a *record.Error where the content is at fault; it names the
// position and the reason. Errors of r are returned as they are, wrapped.
func Build(r io.ReaderAt, seg wal.Segment, o Options) (*Index, error) {
	return nil, errors.New("build index: in the making")
}
