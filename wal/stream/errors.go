package stream

import (
	"fmt"
	"time"

	"github.com/walden-pg/walden/internal/server"
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

// GapError says that the server no longer had WAL that the repository lacks.
// What follows it is archived; moments within it cannot be restored.
type GapError struct {
	Timeline wal.TimelineID `json:"timeline"`
	// From is the first position that is missing, To the first that is there again.
	From wal.LSN `json:"from_lsn"`
	To   wal.LSN `json:"to_lsn"`
}

// Error names the stretch.
func (e GapError) Error() string {
	return fmt.Sprintf("GAP: the WAL of timeline %s from %s to %s is neither in the repository nor on the server any more", e.Timeline, e.From, e.To)
}

// Hint says what to do.
func (e GapError) Hint() string {
	return "take a base backup now (walden backup): moments after it can be restored again. If another server or archive still has the segments, push them with walden wal-push"
}

// ForeignServerError says that the server is not of the cluster that the
// archive belongs to.
type ForeignServerError struct {
	Found, Known uint64
	// FoundSize and KnownSize are the segment sizes.
	FoundSize, KnownSize wal.SegmentSize
}

// Error names both.
func (e *ForeignServerError) Error() string {
	if e.Found == e.Known {
		return fmt.Sprintf("the server has WAL segments of %s, the archive's cluster has segments of %s", e.FoundSize, e.KnownSize)
	}
	return fmt.Sprintf("the server has system identifier %d, the archive's cluster has %d", e.Found, e.Known)
}

// Hint says what to do.
func (e *ForeignServerError) Hint() string {
	return "if the cluster was re-initialised, upgraded or given another segment size, run `walden init`; otherwise `connection` leads to the wrong server"
}

// FindingsError says that Run ended well, and that something bad was found
// meanwhile.
type FindingsError struct {
	Findings int
	Gaps     []GapError
}

// Error counts them.
func (e *FindingsError) Error() string {
	if len(e.Gaps) > 0 {
		return fmt.Sprintf("all that was received is in the repository, but %d problems were found, the first: %v", e.Findings, e.Gaps[0])
	}
	return fmt.Sprintf("all that was received is in the repository, but %d problems were found; see the log", e.Findings)
}

// NotReceivingError says that Run ended well, but that no WAL was being received
// when it was told to stop: what the server has written since is not archived.
type NotReceivingError struct {
	// Err is why not.
	Err error
}

// Error gives the reason.
func (e *NotReceivingError) Error() string {
	return "stopped while no WAL was being received: " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *NotReceivingError) Unwrap() error { return e.Err }

// BehindError says that the server's WAL ends before the archived WAL of its
// own timeline does.
type BehindError struct {
	Timeline wal.TimelineID
	// Archived is where the archived WAL ends, Server where the server's does.
	Archived, Server wal.LSN
}

// Error names both positions.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the server is at %s on timeline %s, where WAL up to %s is archived already", e.Server, e.Timeline, e.Archived)
}

// Hint says what that can mean.
func (e *BehindError) Hint() string {
	return "a standby that lags catches up, and is then streamed from; a copy, or a server that was restored to an earlier moment without being promoted, must not be streamed from"
}

// SilentServerError says that a server was given up that did not say anything
// for long, although its connection is there.
type SilentServerError struct {
	Host server.Host
	// For is how long nothing was heard of it.
	For time.Duration
	// Command is what it was asked; empty: it was streamed from.
	Command string
}

// Error names the server and what it did not answer.
func (e *SilentServerError) Error() string {
	text := fmt.Sprintf("nothing was heard of the server at %s for %s", e.Host, e.For.Round(time.Millisecond))
	if e.Command != "" {
		text += ": it does not answer " + e.Command
	}
	return text
}

// Hint says what to do.
func (e *SilentServerError) Hint() string {
	return "see whether its machine is frozen or overloaded, or the network swallows packets; the other hosts of `connection`, if there are any, are tried before it now"
}
