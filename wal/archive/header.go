package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// longHeaderSize is the length of a segment's first page header
// (XLogLongPageHeaderData in src/include/access/xlog_internal.h), in bytes.
const longHeaderSize = 40

// longHeader is what the header of a segment's first page says.
type longHeader struct {
	magic       uint16
	timeline    wal.TimelineID
	address     wal.LSN
	systemID    uint64
	segmentSize wal.SegmentSize
}

// parseLongHeader reads the header at the beginning of a segment. It checks
// what is needed to tell which cluster the file is of; the whole check is that
// of package index.
func parseLongHeader(b []byte) (longHeader, error) {
	if len(b) < longHeaderSize {
		return longHeader{}, fmt.Errorf("the file has only %d bytes", len(b))
	}
	le := binary.LittleEndian
	h := longHeader{
		magic:       le.Uint16(b),
		timeline:    wal.TimelineID(le.Uint32(b[4:])),
		address:     wal.LSN(le.Uint64(b[8:])),
		systemID:    le.Uint64(b[24:]),
		segmentSize: wal.SegmentSize(le.Uint32(b[32:])),
	}
	if allZero(b[:longHeaderSize]) {
		return h, errors.New("it begins with zeros: nothing has been written to it yet")
	}
	if _, known := record.Major(h.magic); !known {
		return h, fmt.Errorf("its first bytes (%02X %02X) are not those of WAL of PostgreSQL %d to %d", b[0], b[1], record.MinMajor, record.MaxMajor)
	}
	if le.Uint16(b[2:])&longHeaderFlag == 0 {
		return h, errors.New("its first page does not have the header of a segment's beginning")
	}
	if err := h.segmentSize.Valid(); err != nil {
		return h, fmt.Errorf("its first page: %w", err)
	}
	return h, nil
}

// longHeaderFlag is XLP_LONG_HEADER.
const longHeaderFlag = 0x0002

// belongs returns an error unless the header is that of seg in inc.
func (h longHeader) belongs(inc Incarnation, seg wal.Segment) error {
	switch {
	case h.systemID != inc.SystemID:
		return fmt.Errorf("its system identifier is %d, not %d", h.systemID, inc.SystemID)
	case h.segmentSize != seg.Size:
		return fmt.Errorf("its segment size is %s, not %s", h.segmentSize, seg.Size)
	case h.address != seg.Start():
		return fmt.Errorf("it begins at %s, not at %s", h.address, seg.Start())
	case h.timeline > seg.Timeline:
		return fmt.Errorf("it is of timeline %s, later than %s", h.timeline, seg.Timeline)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
