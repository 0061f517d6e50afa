package frame

import (
	"encoding/binary"

	"github.com/zeebo/blake3"

	"github.com/walden-pg/walden/internal/crc32c"
)

// pageShift combines the checksum of what was there with that of a full page.
var pageShift = crc32c.NewShift(PageSize)

// rawSums are the checksums of one frame's raw bytes. The frame's own follows
// from those of its pages, so the bytes are walked once.
type rawSums struct {
	crc        uint32
	pageCRCs   []byte // u32 each
	pageHashes []byte // pageHashSize bytes each; empty without page hashes
}

// compute replaces the sums by those of raw.
func (s *rawSums) compute(raw []byte, pageHash bool) {
	s.crc, s.pageCRCs, s.pageHashes = 0, s.pageCRCs[:0], s.pageHashes[:0]
	for len(raw) > 0 {
		page := raw[:min(PageSize, len(raw))]
		raw = raw[len(page):]
		crc := crc32c.Checksum(page)
		s.pageCRCs = binary.LittleEndian.AppendUint32(s.pageCRCs, crc)
		s.crc = appendPageCRC(s.crc, crc, len(page))
		if pageHash {
			sum := blake3.Sum256(page)
			s.pageHashes = append(s.pageHashes, sum[:pageHashSize]...)
		}
	}
}

// appendPageCRC returns the checksum of a run of bytes followed by a page.
func appendPageCRC(run, page uint32, pageLen int) uint32 {
	if pageLen == PageSize {
		return pageShift.Combine(run, page)
	}
	return crc32c.Combine(run, page, int64(pageLen))
}
