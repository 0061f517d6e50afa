package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// RecordQuery asks where a record starts and ends that is neither a transaction
// nor a landmark, so that no index lists it.
type RecordQuery struct {
	// Segment is the one it starts in.
	Segment wal.Segment
	// At is a position in the segment. The record is the first that starts there
	// or later; with Before, the last that starts before it.
	At     wal.LSN
	Before bool
}

// RecordSpan is where a record starts, and the position after it. End is 0 if
// it goes on in the next segment.
type RecordSpan struct{ LSN, End wal.LSN }

// AddRecord records the answer to a query.
func (d *Details) AddRecord(q RecordQuery, s RecordSpan) {
	if d.Records == nil {
		d.Records = map[RecordQuery]RecordSpan{}
	}
	d.Records[q] = s
}

// fillRecords looks for records. A segment in which one is not found that its
// index promises is marked unreadable: one of the two is wrong.
func (r *Reader) fillRecords(ctx context.Context, s *Snapshot, queries []RecordQuery) error {
	for _, q := range queries {
		start, end, err := r.archive.AcceptPartial().FindRecord(ctx, q.Segment, q.At, q.Before)
		switch {
		case err != nil && (archive.IsStoreFault(err) || errors.Is(err, storage.ErrNotExist)):
			return fmt.Errorf("read WAL segment %s: %w", q.Segment.Name(), err)
		case err != nil:
			s.Details.AddUnreadable(q.Segment, err.Error())
		case start == 0:
			s.Details.AddUnreadable(q.Segment, fmt.Sprintf("its index tells of a record beside %s, and there is none", q.At))
		default:
			s.Details.AddRecord(q, RecordSpan{LSN: start, End: end})
		}
	}
	return nil
}
