// Package waltest writes WAL for tests: byte for byte what a PostgreSQL server
// of a chosen major would write, without a server.
//
// A Builder appends records; page headers, continuation over pages and
// segments, the chain of xl_prev links and CRCs are its work. What is written
// is read back as segments:
//
//	b := waltest.NewBuilder(17, 7345, 1, 1<<20)
//	b.Commit(731, time.Now())
//	b.RestorePoint("before the upgrade", time.Now())
//	b.Switch()
//	for _, seg := range b.Complete() {
//		content := b.Bytes(seg) // exactly seg.Size bytes
//	}
//
// Misuse is a bug in the test, and panics.
package waltest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

const (
	shortHeader  = 24
	longHeader   = 40
	recordHeader = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Builder writes the WAL of one timeline. It is not safe for concurrent use.
type Builder struct {
	// NextXID is what checkpoints tell: the next transaction id, its epoch in the upper half.
	NextXID uint64

	major    int
	magic    uint16
	systemID uint64
	timeline wal.TimelineID
	size     wal.SegmentSize
	segments map[uint64][]byte
	history  wal.History

	pos  wal.LSN // where the next record goes; a page's start stands for the place after its header
	prev wal.LSN // start of the last record
	seed uint64  // of the filler bytes
}

// NewBuilder starts an empty timeline at the start of segment 1, where a new
// cluster begins. major is one of record.MinMajor to record.MaxMajor.
func NewBuilder(major int, systemID uint64, tli wal.TimelineID, size wal.SegmentSize) *Builder {
	magic, ok := record.Magic(major)
	if !ok {
		panic(fmt.Sprintf("waltest: no major %d", major))
	}
	if err := size.Valid(); err != nil {
		panic("waltest: " + err.Error())
	}
	return &Builder{
		NextXID: 1<<32 | 750,
		major:   major, magic: magic, systemID: systemID, timeline: tli, size: size,
		segments: make(map[uint64][]byte),
		history:  wal.History{Timeline: tli},
		pos:      wal.LSN(size), seed: 1,
	}
}

// Seek moves an empty Builder to another segment's start. prev becomes the
// xl_prev of the first record.
func (b *Builder) Seek(number uint64, prev wal.LSN) {
	if len(b.segments) > 0 {
		panic("waltest: Seek after a record was written")
	}
	b.pos, b.prev = wal.LSN(number*uint64(b.size)), prev
}

// Fork begins timeline tli where this Builder stands, as a promotion does: the
// segment written last is copied and goes on under the new timeline. The
// Builder it is called on can go on too, on its own timeline.
func (b *Builder) Fork(tli wal.TimelineID, reason string) *Builder {
	if tli <= b.timeline {
		panic("waltest: a new timeline has a higher number")
	}
	f := *b
	f.timeline = tli
	f.segments = make(map[uint64][]byte)
	if b.pos%wal.LSN(b.size) != 0 {
		n := b.size.Number(b.pos)
		f.segments[n] = slices.Clone(b.segments[n])
	}
	f.history = wal.History{
		Timeline: tli,
		Entries:  append(slices.Clone(b.history.Entries), wal.HistoryEntry{Timeline: b.timeline, End: b.pos, Reason: reason}),
	}
	return &f
}

// Position is the position after the last record: what pg_current_wal_lsn() says.
func (b *Builder) Position() wal.LSN { return b.pos }

// Timeline is the timeline the Builder writes.
func (b *Builder) Timeline() wal.TimelineID { return b.timeline }

// History is the timeline's ancestry; its Encode is the history file.
func (b *Builder) History() wal.History { return b.history }

// Segments are all segments written to, in order; the last may be unfinished.
func (b *Builder) Segments() []wal.Segment {
	var list []wal.Segment
	for _, n := range slices.Sorted(maps.Keys(b.segments)) {
		list = append(list, wal.Segment{Timeline: b.timeline, Number: n, Size: b.size})
	}
	return list
}

// Complete are the segments that are finished: full, or ended by a switch.
func (b *Builder) Complete() []wal.Segment {
	list := b.Segments()
	return slices.DeleteFunc(list, func(s wal.Segment) bool { return s.End() > b.pos })
}

// Bytes is a copy of a segment's content, always of the segment's full size;
// what was not written is zero.
func (b *Builder) Bytes(seg wal.Segment) []byte {
	content, ok := b.segments[seg.Number]
	if !ok {
		panic(fmt.Sprintf("waltest: segment %s was not written", seg.Name()))
	}
	return slices.Clone(content)
}

// WithStalePages is a copy of an unfinished segment's content as a server leaves
// it in a recycled file: the pages after the last one written are those of an
// older segment.
func (b *Builder) WithStalePages(seg wal.Segment) []byte {
	content := b.Bytes(seg)
	if seg.Number == 0 {
		panic("waltest: no older segment")
	}
	for l := (b.pos + wal.PageSize - 1).Page(); l < seg.End(); l += wal.PageSize {
		b.pageHeader(content[l-seg.Start():], l-wal.LSN(seg.Size), 0, 0)
		content[l-seg.Start()+shortHeader+8] = 0xA5
	}
	return content
}

// page gives the bytes of the page at l, writing its header if it is new.
func (b *Builder) page(l wal.LSN, flags uint16, remaining uint32) []byte {
	n := b.size.Number(l)
	seg := b.segments[n]
	if seg == nil {
		seg = make([]byte, b.size)
		b.segments[n] = seg
	}
	off := uint64(l.Page()) % uint64(b.size)
	p := seg[off : off+wal.PageSize]
	if p[0] == 0 {
		b.pageHeader(p, l.Page(), flags, remaining)
	}
	return p
}

func (b *Builder) pageHeader(p []byte, at wal.LSN, flags uint16, remaining uint32) {
	if b.major < 19 {
		flags |= 0x0004 // XLP_BKP_REMOVABLE, as while no backup runs
	}
	if uint64(at)%uint64(b.size) == 0 {
		flags |= 0x0002
		binary.LittleEndian.PutUint64(p[24:], b.systemID)
		binary.LittleEndian.PutUint32(p[32:], uint32(b.size))
		binary.LittleEndian.PutUint32(p[36:], wal.PageSize)
	}
	binary.LittleEndian.PutUint16(p[0:], b.magic)
	binary.LittleEndian.PutUint16(p[2:], flags)
	binary.LittleEndian.PutUint32(p[4:], uint32(b.timeline))
	binary.LittleEndian.PutUint64(p[8:], uint64(at))
	binary.LittleEndian.PutUint32(p[16:], remaining)
}

// headerAt is the length of the header of the page that starts at l.
func (b *Builder) headerAt(l wal.LSN) int {
	if uint64(l)%uint64(b.size) == 0 {
		return longHeader
	}
	return shortHeader
}

// begin moves to where the next record starts, over the header of a new page.
func (b *Builder) begin(flags uint16) wal.LSN {
	if b.pos.PageOffset() == 0 {
		b.page(b.pos, flags, 0)
		b.pos += wal.LSN(b.headerAt(b.pos))
	}
	return b.pos
}

// insert writes a whole record and returns where it starts and the position after it.
func (b *Builder) insert(raw []byte) (start, end wal.LSN) {
	start = b.begin(0)
	b.write(raw, len(raw))
	b.prev = start
	return start, b.pos
}

// write copies the first n bytes of a record to the current position and on.
func (b *Builder) write(raw []byte, n int) {
	for done := 0; ; {
		p := b.page(b.pos, pageContinues, uint32(len(raw)-done))
		if b.pos.PageOffset() == 0 {
			b.pos += wal.LSN(b.headerAt(b.pos))
		}
		c := copy(p[b.pos.PageOffset():], raw[done:n])
		done += c
		b.pos += wal.LSN(c)
		if done == n {
			break
		}
	}
	b.pos = b.pos.Align()
}

const pageContinues = 0x0001

// room is how many bytes of records fit between the current position and l.
func (b *Builder) room(l wal.LSN) int {
	n := 0
	for pos := b.pos; pos < l; {
		if pos.PageOffset() == 0 {
			pos += wal.LSN(b.headerAt(pos))
		}
		stop := min(pos.Page()+wal.PageSize, l)
		if stop < pos {
			panic(fmt.Sprintf("waltest: %s lies in a page header", l))
		}
		n += int(stop - pos)
		pos = stop
	}
	return n
}

// FillTo writes NOOP records so that the next record starts at l (after the
// page header, if l is a page's start). l must be a multiple of 8, and at
// least 24 bytes of room away, or no way at all.
func (b *Builder) FillTo(l wal.LSN) {
	if !l.Aligned() {
		panic("waltest: records start at multiples of 8")
	}
	const most = 1 << 19
	for b.pos < l {
		n := b.room(l)
		if n > most {
			n = most
		}
		if n < recordHeader {
			panic(fmt.Sprintf("waltest: no record fits between %s and %s", b.pos, l))
		}
		if left := b.room(l) - n; left > 0 && left < recordHeader {
			n -= recordHeader
		}
		b.noop(n)
	}
}

// noop writes an XLOG_NOOP record of exactly n bytes, a multiple of 8.
func (b *Builder) noop(n int) {
	var main []byte
	switch {
	case n >= recordHeader+5+256:
		main = b.filler(n - recordHeader - 5)
	case n > recordHeader+2:
		main = b.filler(n - recordHeader - 2)
	}
	b.Record(Record{RMGR: record.RMXLOG, Info: 0x20, Main: main})
}

// FillSegment fills the current segment to its last byte, so that it is
// complete without a switch and no record crosses its end. Where fewer than 24
// bytes are left, one record crosses and the next segment is filled.
func (b *Builder) FillSegment() {
	end := wal.Segment{Number: b.size.Number(b.pos), Size: b.size}.End()
	if b.room(end) < recordHeader {
		b.noop(recordHeader)
		end += wal.LSN(b.size)
	}
	b.FillTo(end)
}

// filler is n bytes that look random and are the same in every run.
func (b *Builder) filler(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		b.seed = b.seed*6364136223846793005 + 1442695040888963407
		p[i] = byte(b.seed >> 56)
	}
	return p
}

// checksum sets the CRC of a complete record.
func checksum(raw []byte) {
	crc := crc32.Update(0, castagnoli, raw[recordHeader:])
	crc = crc32.Update(crc, castagnoli, raw[:20])
	binary.LittleEndian.PutUint32(raw[20:], crc)
}
