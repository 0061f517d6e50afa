package index

import (
	"errors"

	"github.com/walden-pg/walden/wal"
)

// Joined is what is learned where one segment's WAL goes on in the next.
type Joined struct {
	// LSN and End bound the record that crosses into the later segment; LSN 0:
	// none does, or its start was not seen. End is 0 while it goes on.
	LSN, End    wal.LSN
	Length      uint32       // of the record, without page headers
	Continues   bool         // it goes on beyond the later segment
	Overwritten bool         // it was never finished, and PostgreSQL wrote over its place
	Verified    bool         // its CRC was computed over both segments' parts, and holds
	Transaction *Transaction // the transaction the record ends or prepares; nil: it is no such record
	Landmark    *Landmark    // the landmark it is; nil: it is none
}

// Join checks that b continues a on a path: the next segment of the same
// cluster, linked by xl_prev, with the record that crosses (if any) of the
// promised length and with a sound CRC. The error is a *record.Error.
//
// Where a is itself in the midst of a record that began earlier, only a Joiner
// that has seen its beginning can verify the record.
func Join(a, b *Index) (*Joined, error) { return nil, errors.New("join: in the making") }

// JoinAt is Join for a step from one timeline to the next, which splits off at
// switchLSN. PostgreSQL copies the segment that holds the switch position to
// the new timeline and goes on there. So either b follows a and switchLSN is not
// before a's end; or b has a's number, is that copy, and JoinAt checks
// that both agree in what lies before switchLSN as far as their indexes tell.
func JoinAt(a, b *Index, switchLSN wal.LSN) (*Joined, error) {
	return nil, errors.New("join: in the making")
}

// Joiner joins any number of consecutive segments, so that records longer than
// a segment are followed to their end. The zero value is ready for the first Add.
type Joiner struct {
}

// Add takes the next segment and reports on the step to it; for the first
// segment, which has no predecessor, it returns nil. After an error the Joiner
// must not be used again.
func (j *Joiner) Add(ix *Index) (*Joined, error) { return nil, errors.New("join: in the making") }
