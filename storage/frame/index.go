package frame

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/walden-pg/walden/internal/crc32c"
)

const (
	indexHeaderSize = 32 // skippable frame header, word, counts, flags
	frameEntrySize  = 16
	pageHashSize    = 16
	sectionTop      = 6 // type u16, length u32
	minIndexSize    = indexHeaderSize + 4
	maxIndexSize    = 1 << 30

	flagPageHash = 1 << 0
)

// indexBuilder gathers what the index will hold.
type indexBuilder struct {
	frames, pageCRCs, pageHashes []byte
	sections                     []Section
	pageHash                     bool
}

func (x *indexBuilder) addFrame(storedLen, rawLen int, storedCRC uint32, s *rawSums) {
	le := binary.LittleEndian
	x.frames = le.AppendUint32(x.frames, uint32(storedLen))
	x.frames = le.AppendUint32(x.frames, uint32(rawLen))
	x.frames = le.AppendUint32(x.frames, storedCRC)
	x.frames = le.AppendUint32(x.frames, s.crc)
	x.pageCRCs = append(x.pageCRCs, s.pageCRCs...)
	x.pageHashes = append(x.pageHashes, s.pageHashes...)
}

// size returns the length of the encoded index.
func (x *indexBuilder) size() int64 {
	n := minIndexSize + int64(len(x.frames)) + int64(len(x.pageCRCs)) + int64(len(x.pageHashes))
	for _, s := range x.sections {
		n += sectionTop + int64(len(s.Data))
	}
	return n
}

// encode returns the index as a skippable frame. Sections are put in the
// order of their types, so that the same facts always give the same bytes.
func (x *indexBuilder) encode() ([]byte, error) {
	size := x.size()
	if size > maxIndexSize || len(x.sections) > math.MaxUint16 {
		return nil, fmt.Errorf("an index of %d bytes with %d sections is too large: the limits are %d and %d",
			size, len(x.sections), maxIndexSize, math.MaxUint16)
	}
	slices.SortStableFunc(x.sections, func(a, b Section) int { return int(a.Type) - int(b.Type) })
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = le.AppendUint32(b, indexMagic)
	b = le.AppendUint32(b, uint32(size-skippableTop))
	b = append(b, indexWord...)
	b = le.AppendUint32(b, uint32(len(x.frames)/frameEntrySize))
	b = le.AppendUint32(b, uint32(len(x.pageCRCs)/4))
	b = le.AppendUint16(b, uint16(len(x.sections)))
	var flags uint16
	if x.pageHash {
		flags |= flagPageHash
	}
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, 0)
	b = append(b, x.frames...)
	b = append(b, x.pageCRCs...)
	b = append(b, x.pageHashes...)
	for _, s := range x.sections {
		b = le.AppendUint16(b, s.Type)
		b = le.AppendUint32(b, uint32(len(s.Data)))
		b = append(b, s.Data...)
	}
	return le.AppendUint32(b, crc32c.Checksum(b)), nil
}

// frameInfo is what the index says of one frame.
type frameInfo struct {
	offset            int64 // in the body
	storedLen, rawLen int
	storedCRC, rawCRC uint32
}

// index is a decoded index. Its slices are parts of the bytes it was decoded
// from.
type index struct {
	frames               []frameInfo
	pageCRCs, pageHashes []byte
	hasPageHashes        bool
	sections             []Section
}

func (x *index) pages() int64 { return int64(len(x.pageCRCs) / 4) }

// pageCRC returns the checksum of a page below pages().
func (x *index) pageCRC(page int64) uint32 { return binary.LittleEndian.Uint32(x.pageCRCs[4*page:]) }

func (x *index) pageHash(page int64) []byte {
	return x.pageHashes[pageHashSize*page : pageHashSize*(page+1)]
}

// parseIndex decodes the index b of an object with the footer f. Everything in
// it is checked against b's length and against the footer before memory is
// taken for it. Its errors lack the object, and their offset is in the index.
func parseIndex(b []byte, f Footer) (*index, *Error) {
	corrupt := func(at int, format string, args ...any) (*index, *Error) {
		return nil, &Error{Kind: Corrupt, Offset: int64(at), Reason: "index: " + fmt.Sprintf(format, args...)}
	}
	le := binary.LittleEndian
	body := len(b) - 4
	switch {
	case len(b) < minIndexSize:
		return corrupt(0, "too short")
	case crc32c.Checksum(b[:body]) != le.Uint32(b[body:]):
		return corrupt(0, "its checksum does not match")
	case le.Uint32(b) != indexMagic || string(b[8:16]) != indexWord:
		return corrupt(0, "it does not begin like one")
	case int64(le.Uint32(b[4:])) != int64(len(b)-skippableTop):
		return corrupt(4, "its length does not match the footer's")
	}
	frames, pages := int64(le.Uint32(b[16:])), int64(le.Uint32(b[20:]))
	sections, flags := int(le.Uint16(b[24:])), le.Uint16(b[26:])
	if flags&^flagPageHash != 0 || !allZero(b[28:32]) {
		return nil, &Error{Kind: Version, Offset: 26, Reason: "index: unknown flags"}
	}
	if frames != divideUp(f.RawLength, MaxFrame) || pages != divideUp(f.RawLength, PageSize) {
		return corrupt(16, "%d frames and %d pages cannot be those of %d raw bytes", frames, pages, f.RawLength)
	}
	x := &index{hasPageHashes: flags&flagPageHash != 0}
	need := frames*frameEntrySize + pages*4 + int64(sections)*sectionTop
	if x.hasPageHashes {
		need += pages * pageHashSize
	}
	if need > int64(body-indexHeaderSize) {
		return corrupt(16, "it is too short for what it announces")
	}
	at := indexHeaderSize
	take := func(n int64) []byte {
		part := b[at : at+int(n) : at+int(n)]
		at += int(n)
		return part
	}
	entries := take(frames * frameEntrySize)
	x.pageCRCs = take(pages * 4)
	if x.hasPageHashes {
		x.pageHashes = take(pages * pageHashSize)
	}
	if err := x.parseFrames(entries, f); err != nil {
		return nil, err
	}
	if err := x.parseSections(b[at:body], at, sections); err != nil {
		return nil, err
	}
	return x, nil
}

// parseFrames decodes the table of frames: they must fill the body up to the
// index, and all but the last must be full.
func (x *index) parseFrames(entries []byte, f Footer) *Error {
	le := binary.LittleEndian
	x.frames = make([]frameInfo, len(entries)/frameEntrySize)
	var stored int64
	raw := f.RawLength
	for i := range x.frames {
		e := entries[i*frameEntrySize:]
		storedLen, rawLen := le.Uint32(e), int64(le.Uint32(e[4:]))
		if storedLen == 0 || storedLen > maxStoredFrame || rawLen != min(raw, MaxFrame) {
			return &Error{Kind: Corrupt, Offset: int64(indexHeaderSize + i*frameEntrySize),
				Reason: fmt.Sprintf("index: frame %d has impossible lengths", i)}
		}
		x.frames[i] = frameInfo{
			offset: stored, storedLen: int(storedLen), rawLen: int(rawLen),
			storedCRC: le.Uint32(e[8:]), rawCRC: le.Uint32(e[12:]),
		}
		stored += int64(storedLen)
		raw -= rawLen
	}
	if stored != f.IndexOffset {
		return &Error{Kind: Corrupt, Offset: indexHeaderSize,
			Reason: fmt.Sprintf("index: its frames have %d stored bytes, the index begins at %d", stored, f.IndexOffset)}
	}
	return nil
}

// parseSections decodes count sections, which must fill b. at is b's offset in
// the index.
func (x *index) parseSections(b []byte, at, count int) *Error {
	corrupt := func(reason string) *Error {
		return &Error{Kind: Corrupt, Offset: int64(at), Reason: "index: " + reason}
	}
	le := binary.LittleEndian
	x.sections = make([]Section, 0, count)
	for range count {
		if len(b) < sectionTop {
			return corrupt("a section is missing")
		}
		typ, n := le.Uint16(b), int64(le.Uint32(b[2:]))
		if n > int64(len(b)-sectionTop) {
			return corrupt("a section is cut off")
		}
		if len(x.sections) > 0 && x.sections[len(x.sections)-1].Type >= typ {
			return corrupt("its sections are not in order")
		}
		end := sectionTop + int(n)
		x.sections = append(x.sections, Section{Type: typ, Data: b[sectionTop:end:end]})
		b, at = b[end:], at+end
	}
	if len(b) != 0 {
		return corrupt("bytes follow its last section")
	}
	return nil
}

func divideUp(n, by int64) int64 { return (n + by - 1) / by }
