package record

import (
	"fmt"

	"github.com/walden-pg/walden/wal"
)

// Kind tells why a run of WAL cannot be read on.
type Kind uint8

const (
	// Torn: the WAL ends in the midst of the data, as in a segment that was
	// still being written: in a record or page that is not written to its end,
	// and behind which there is nothing of this WAL.
	Torn Kind = iota + 1
	// ZeroPadded: everything from here on is zeros, without an XLOG_SWITCH
	// that would explain them.
	ZeroPadded
	// Recycled: the next page is an old one, of another place in the WAL: the
	// file was reused, and only its first part has been written anew.
	Recycled
	// Corrupt: a checksum fails, or a header contradicts itself or its neighbours,
	// and the WAL goes on behind it.
	Corrupt
	// Foreign: the WAL is of another cluster, timeline, segment size, page size
	// or an unknown version.
	Foreign
	// Truncated: there are fewer bytes than there should be.
	Truncated
	// Oversized: there are more bytes than there should be.
	Oversized
	// Disconnected: two neighbouring segments are both sound and do not fit together.
	Disconnected
	// Unknown: nothing is wrong, but what comes next is not known (Options.Known).
	Unknown
)

// String names the kind in a word or two.
func (k Kind) String() string {
	switch k {
	case Torn:
		return "torn"
	case ZeroPadded:
		return "zero-padded"
	case Recycled:
		return "recycled"
	case Corrupt:
		return "corrupt"
	case Foreign:
		return "foreign"
	case Truncated:
		return "truncated"
	case Oversized:
		return "oversized"
	case Disconnected:
		return "disconnected"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// EndOfWAL reports whether the kind is what the unfinished last segment of a
// timeline looks like after its last record. So can Corrupt: after a crash, pages
// that were written before it may lie behind the place where the WAL was begun
// again. And damage to the last record looks torn: only who knows that the segment
// is finished can tell.
func (k Kind) EndOfWAL() bool {
	return k == Torn || k == ZeroPadded || k == Recycled || k == Corrupt
}

// Error says where WAL cannot be read on, and why.
type Error struct {
	Segment wal.Segment // Size 0: not known
	LSN     wal.LSN     // the place of the fault; before it everything was sound
	Kind    Kind
	Reason  string // for a DBA to read
}

// Error names segment, position and reason.
func (e *Error) Error() string {
	if e.Segment.Size.Valid() != nil {
		return fmt.Sprintf("wal at %s: %s", e.LSN, e.Reason)
	}
	return fmt.Sprintf("wal segment %s at %s: %s", e.Segment.Name(), e.LSN, e.Reason)
}
