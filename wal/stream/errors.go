package stream

import (
	"fmt"

	"github.com/walden-pg/walden/wal"
)

// RemovedError says that the server has removed WAL that was asked for.
type RemovedError struct {
	// Segment is the first one that is missing.
	Segment wal.Segment
	// Err is the server's error.
	Err error
}

// Error names the segment.
func (e *RemovedError) Error() string {
	return fmt.Sprintf("the server no longer has WAL segment %s: %v", e.Segment.Name(), e.Err)
}

// Unwrap returns the server's error.
func (e *RemovedError) Unwrap() error { return e.Err }

// Hint says how to keep the server from removing WAL too early.
func (e *RemovedError) Hint() string {
	return "repair archive_command, or raise wal_keep_size or max_slot_wal_keep_size, so that the server keeps WAL until it is archived"
}

// EndOfTimelineError says that the timeline ends before the WAL asked for is whole.
type EndOfTimelineError struct {
	Timeline wal.TimelineID
	// Next is the timeline that follows on this server, from Switch on; 0 if
	// the server did not say.
	Next   wal.TimelineID
	Switch wal.LSN
}

// Error names both timelines.
func (e *EndOfTimelineError) Error() string {
	if e.Next == 0 {
		return fmt.Sprintf("timeline %d has ended on the server", e.Timeline)
	}
	return fmt.Sprintf("timeline %d ends at %s on the server, where timeline %d begins", e.Timeline, e.Switch, e.Next)
}
