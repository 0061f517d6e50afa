package wal

import (
	"fmt"
	"strconv"
)

// TimelineID numbers a timeline of a cluster. 1 is the first; 0 is none.
type TimelineID uint32

// ParseTimelineID reads a decimal timeline number, 1 to 4294967295, without
// sign or leading zeros.
func ParseTimelineID(s string) (TimelineID, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("parse timeline %q: want a decimal number from 1 to 4294967295", s)
	}
	return TimelineID(v), nil
}

// String writes the timeline in decimal, as PostgreSQL's messages do.
func (t TimelineID) String() string { return strconv.FormatUint(uint64(t), 10) }

// Hex writes the timeline in the eight upper-case hexadecimal digits of file names.
func (t TimelineID) Hex() string { return fmt.Sprintf("%08X", uint32(t)) }
