package wal

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// SegmentSize is wal_segment_size in bytes: a power of two from 1 MiB to 1 GiB.
type SegmentSize uint32

// The limits of wal_segment_size (WalSegMinSize and WalSegMaxSize in
// access/xlog_internal.h) and initdb's default.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
	DefaultSegmentSize SegmentSize = 16 << 20
)

// Valid returns an error unless the size is one PostgreSQL can use.
func (s SegmentSize) Valid() error {
	if s < MinSegmentSize || s > MaxSegmentSize || bits.OnesCount32(uint32(s)) != 1 {
		return fmt.Errorf("wal segment size %d: want a power of two from 1 MiB to 1 GiB", uint32(s))
	}
	return nil
}

// ParseSegmentSize reads wal_segment_size as SHOW prints it (16MB, 1GB), or as
// a number of bytes.
func ParseSegmentSize(text string) (SegmentSize, error) {
	digits, unit := text, uint64(1)
	if d, ok := strings.CutSuffix(text, "MB"); ok {
		digits, unit = d, 1<<20
	} else if d, ok := strings.CutSuffix(text, "GB"); ok {
		digits, unit = d, 1<<30
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || digits[0] == '+' || digits[0] == '0' {
		return 0, fmt.Errorf("parse wal segment size %q: want a number of bytes, or one followed by MB or GB", text)
	}
	if n > uint64(MaxSegmentSize)/unit {
		return 0, fmt.Errorf("parse wal segment size %q: larger than 1 GiB", text)
	}
	s := SegmentSize(n * unit)
	if err := s.Valid(); err != nil {
		return 0, fmt.Errorf("parse wal segment size %q: %w", text, err)
	}
	return s, nil
}

// String writes the size as SHOW wal_segment_size does.
func (s SegmentSize) String() string {
	switch {
	case s >= 1<<30 && s%(1<<30) == 0:
		return strconv.Itoa(int(s>>30)) + "GB"
	case s >= 1<<20 && s%(1<<20) == 0:
		return strconv.Itoa(int(s>>20)) + "MB"
	}
	return strconv.FormatUint(uint64(s), 10)
}

// Bytes is the size in bytes, for arithmetic on lengths.
func (s SegmentSize) Bytes() int64 { return int64(s) }

// SegmentsPerLog is the number of segments in 4 GiB of WAL: one value of the
// middle part of a segment's name. s must be valid.
func (s SegmentSize) SegmentsPerLog() uint64 { return 1 << 32 / uint64(s) }

// Number is the number of the segment that holds the byte at l (XLByteToSeg).
func (s SegmentSize) Number(l LSN) uint64 { return uint64(l) / uint64(s) }

// PrevNumber is the number of the segment that holds the byte before l
// (XLByteToPrevSeg): the right one for end positions. For 0 it is 0.
func (s SegmentSize) PrevNumber(l LSN) uint64 {
	if l == 0 {
		return 0
	}
	return uint64(l-1) / uint64(s)
}

// Segment names one WAL segment of a cluster. Segments of different timelines
// with the same number cover the same positions. The methods need a valid Size;
// String alone does without.
type Segment struct {
	Timeline TimelineID
	Number   uint64
	Size     SegmentSize
}

// segmentNameLength is the length of a segment's file name: three times eight
// hexadecimal digits.
const segmentNameLength = 24

// ParseSegment reads the name of a WAL segment, such as
// 000000010000000A000000FF: timeline, log and segment in the log, eight
// upper-case hexadecimal digits each. The last part must be below
// size.SegmentsPerLog(), so that name and segment determine each other.
func ParseSegment(name string, size SegmentSize) (Segment, error) {
	if err := size.Valid(); err != nil {
		return Segment{}, fmt.Errorf("parse segment name %q: %w", name, err)
	}
	if len(name) != segmentNameLength {
		return Segment{}, fmt.Errorf("parse segment name %q: want %d hexadecimal digits", name, segmentNameLength)
	}
	tli, ok1 := parseUpperHex32(name[:8])
	log, ok2 := parseUpperHex32(name[8:16])
	seg, ok3 := parseUpperHex32(name[16:])
	switch {
	case !ok1 || !ok2 || !ok3:
		return Segment{}, fmt.Errorf("parse segment name %q: want %d upper-case hexadecimal digits", name, segmentNameLength)
	case tli == 0:
		return Segment{}, fmt.Errorf("parse segment name %q: there is no timeline 0", name)
	case uint64(seg) >= size.SegmentsPerLog():
		return Segment{}, fmt.Errorf("parse segment name %q: with segments of %s the last part is below %08X",
			name, size, size.SegmentsPerLog())
	}
	return Segment{
		Timeline: TimelineID(tli),
		Number:   uint64(log)*size.SegmentsPerLog() + uint64(seg),
		Size:     size,
	}, nil
}

// SegmentAt is the segment of a timeline that holds the byte at l.
func SegmentAt(tli TimelineID, l LSN, size SegmentSize) Segment {
	return Segment{Timeline: tli, Number: size.Number(l), Size: size}
}

// Name is the segment's file name, 24 upper-case hexadecimal digits.
func (s Segment) Name() string {
	per := s.Size.SegmentsPerLog()
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), s.Number/per, s.Number%per)
}

// String is Name, or a description where the size makes no name.
func (s Segment) String() string {
	if s.Size.Valid() != nil {
		return fmt.Sprintf("segment %d of timeline %d", s.Number, s.Timeline)
	}
	return s.Name()
}

// Log is the middle part of the name: which 4 GiB of WAL the segment lies in.
func (s Segment) Log() uint32 { return uint32(s.Number / s.Size.SegmentsPerLog()) }

// Start is the position of the segment's first byte.
func (s Segment) Start() LSN { return LSN(s.Number * uint64(s.Size)) }

// End is the position after the segment's last byte: the next one's Start. For
// the very last segment before 2^64 it wraps to 0, which no cluster reaches.
func (s Segment) End() LSN { return LSN((s.Number + 1) * uint64(s.Size)) }

// Contains reports whether the byte at l lies in the segment.
func (s Segment) Contains(l LSN) bool { return s.Size.Number(l) == s.Number }

// Next is the segment that follows on the same timeline.
func (s Segment) Next() Segment {
	s.Number++
	return s
}
