package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/walden-pg/walden/wal"
)

// Limits on what a Reader keeps of one record, whatever its length says.
const (
	// KeepBytes is how much of a record is kept for decoding. Longer records are
	// verified as a stream, and handed out with Truncated set.
	KeepBytes = 64 << 10
	// KeepTransactionBytes is the same for records of RMTransaction, whose
	// lists of dropped relations and subtransactions can be long.
	KeepTransactionBytes = 16 << 20

	// chunkSize is how much is read from a source at once. A chunk stays in a
	// processor's own cache while its records are verified and decoded.
	chunkSize = 128 << 10

	// maxRecord16 is XLogRecordMaxSize, which 16 and later never exceed.
	maxRecord16 = 1020 << 20
)

// Sizes of headers (access/xlog_internal.h, access/xlogrecord.h).
const (
	shortPageHeader = 24
	longPageHeader  = 40
	// HeaderSize is the length of a record's fixed header.
	HeaderSize = 24
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// Header is the fixed header of a record (XLogRecord).
type Header struct {
	TotalLength uint32  // of the whole record; page headers in between do not count
	XID         uint32  // the transaction, possibly a subtransaction; 0: none
	Prev        wal.LSN // where the record before starts
	Info        uint8   // the high four bits belong to the resource manager
	RMGR        RMGR
	CRC         uint32
}

// Record is one record, verified. It and its Data are valid until the next
// call of Reader.Next.
type Record struct {
	LSN wal.LSN // where it starts
	// End is the position after it, as PostgreSQL reports it: aligned, a page's
	// start rather than the place after its header, and after an XLOG_SWITCH
	// the start of the next segment.
	End wal.LSN
	Header
	Major int
	// Data is what follows the header, in one piece; nil where the record
	// crosses pages: Decode knows its parts, and Bytes puts them together.
	Data      []byte
	Truncated bool // only the beginning was kept: see KeepBytes
	pages     *pageParts
}

// IsSwitch reports whether the record is an XLOG_SWITCH, which ends its segment.
func (h Header) IsSwitch() bool { return h.RMGR == RMXLOG && h.Info&0xF0 == XLOGSwitch }

// Options say what a Reader is to read, and what to insist on.
type Options struct {
	Start       wal.LSN         // of the first byte; a multiple of wal.PageSize
	SegmentSize wal.SegmentSize // must be valid
	// Timeline is that of the file: the highest its pages may carry. Lower ones
	// are fine, since a new timeline's first segment begins with a copy of its
	// parent's pages. 0: any.
	Timeline wal.TimelineID
	SystemID uint64 // 0: any, but only one
	Length   int64  // how many bytes there must be, a multiple of wal.PageSize; 0: as many as come
	// Known is the position up to which the bytes are those of the WAL, where
	// only a part of it is there; 0: all are. The source gives zeros from there on. A
	// page header or a record that does not lie wholly before it ends the walk with an
	// Error of kind Unknown; what lies before it is judged as ever.
	Known wal.LSN
}

// Head is what a run of WAL begins with of a record that started before it.
// The zero value: nothing.
type Head struct {
	Length uint32 // bytes the record still had to come (xlp_rem_len)
	Have   uint32 // how many of them are here
	CRC    uint32 // CRC-32C of those
	Bytes  []byte // the first of those, at most KeepBytes
	// Overwritten: the record was never finished. PostgreSQL crashed, and after
	// recovery wrote over the place where it would have gone on
	// (XLP_FIRST_IS_OVERWRITE_CONTRECORD). Length is 0 if that place is the start.
	Overwritten bool
}

// Tail is a record that starts in a run of WAL and goes on after its end. The
// zero value: there is none.
type Tail struct {
	LSN    wal.LSN // where the record starts
	Length uint32  // xl_tot_len
	Have   uint32  // how many bytes of it are here, the header's included
	CRC    uint32  // CRC-32C of those of them that follow the 24-byte header
	Bytes  []byte  // the first of those, at most KeepBytes
}

// Header is the record's fixed header; false if it is cut.
func (t Tail) Header() (Header, bool) {
	if len(t.Bytes) < HeaderSize {
		return Header{}, false
	}
	return ParseHeader(t.Bytes), true
}

// Reader walks a run of WAL, one segment or several of one timeline, record by
// record. It is not safe for concurrent use.
type Reader struct {
	src   io.Reader // nil: the run is given
	given []byte
	opt   Options
	buf   []byte  // whole pages: the last chunk read, or all that is given
	base  wal.LSN // position of buf[0]
	more  bool    // there may be more after buf
	chunk []byte  // what src is read into

	end        wal.LSN // after the last complete record
	pos        wal.LSN // where the next record starts, or the page it starts on
	prev       wal.LSN // start of the last complete record; meaningful if linked
	linked     bool
	lost       wal.LSN // start of a record given up: the next must say so
	mustSay    bool    // the next record must be XLOG_OVERWRITE_CONTRECORD
	switched   bool    // the current record is an XLOG_SWITCH
	started    bool
	done       bool
	err        error
	rec        Record
	span       span      // a record that crosses pages
	pages      pageParts // what is kept of it
	assembling bool      // it is being read
	head       Head
	tail       Tail
	endOfHead  wal.LSN // start of an XLOG_SWITCH whose end is the head
	page       pageState
}

// pageState is what the page headers so far have said.
type pageState struct {
	magic       uint16
	major       int
	flags       flagLayout
	systemID    uint64
	first, last wal.TimelineID
}

// NewReader reads from src, which begins at o.Start.
func NewReader(src io.Reader, o Options) *Reader {
	return &Reader{src: src, opt: o, base: o.Start, pos: o.Start, end: o.Start, more: true}
}

// Reset makes the Reader read another run of WAL, with the buffers it has.
func (r *Reader) Reset(src io.Reader, o Options) {
	chunk, pages := r.chunk, r.pages
	*r = Reader{src: src, opt: o, base: o.Start, pos: o.Start, end: o.Start, more: true, chunk: chunk, pages: pages}
}

// ResetBytes is Reset for a run of WAL that is in memory: content is read where
// it lies, and must not change while records of it are in use.
func (r *Reader) ResetBytes(content []byte, o Options) {
	r.Reset(nil, o)
	r.given = content
}

// Next moves to the next record that starts and ends in the run. It returns
// false at the end of the run and at an error.
func (r *Reader) Next() bool {
	if r.done {
		return false
	}
	if !r.started {
		r.started = true
		if !r.begin() {
			return false
		}
	}
	if r.switched && !r.skipSwitched() {
		return false
	}
	for !r.done {
		if found := r.next(); found {
			return true
		}
	}
	return false
}

// Record is the record Next moved to.
func (r *Reader) Record() *Record { return &r.rec }

// Err is nil if the run was sound to its end, an *Error if its content is at
// fault, and else the error of the source, wrapped.
func (r *Reader) Err() error { return r.err }

// Head is known after the first call of Next. Its Bytes stay valid.
func (r *Reader) Head() Head { return r.head }

// Tail is known when Next has returned false and Err is nil. Its Bytes stay valid.
func (r *Reader) Tail() Tail { return r.tail }

// HeadSwitch is the start of an XLOG_SWITCH that lies before the run, so that only
// its last 8 or 16 bytes are in it, followed by zeros to the segment's end; 0: no
// such thing. Known after the first call of Next. It rests on those bytes
// alone until the record is joined with its beginning.
func (r *Reader) HeadSwitch() wal.LSN { return r.endOfHead }

// End is the position after the last complete record so far, the head included;
// the start of the run if there was none. After an error valid WAL ends there.
func (r *Reader) End() wal.LSN { return r.end }

// Magic is that of the pages read; 0 before the first.
func (r *Reader) Magic() uint16 { return r.page.magic }

// SystemID is that of the long page headers read; 0 before the first.
func (r *Reader) SystemID() uint64 { return r.page.systemID }

// PageTimelines are the timelines of the first and the last page read.
func (r *Reader) PageTimelines() (first, last wal.TimelineID) { return r.page.first, r.page.last }

// next tries to read the record at pos. False without done: try again, a record
// was given up.
func (r *Reader) next() bool {
	if r.pos.PageOffset() == 0 {
		if !r.enterPage() {
			return false
		}
	}
	known := r.opt.Known == 0 // to the end
	if !known && r.beyond(r.pos+4) {
		return false
	}
	off := int(r.pos - r.base)
	room := uint32(wal.PageSize - r.pos.PageOffset()) // at least 8
	total := le.Uint32(r.buf[off:])
	if total < HeaderSize || total > room {
		return r.unusual(total)
	}
	if !known && r.beyond(r.pos+wal.LSN(total)) {
		return false
	}
	raw := r.buf[off : off+int(total)]
	rec := &r.rec // field by field: this is the hot path
	rec.parse(raw)
	rec.Data, rec.Truncated = raw[HeaderSize:], false
	if rec.pages != nil {
		rec.pages = nil
	}
	if rec.RMGR > RMLogicalMessage || rec.Prev != r.prev || !r.linked {
		if err := r.checkHeader(&rec.Header, r.pos); err != nil {
			r.fail(r.torn(err, r.pos, r.pos+HeaderSize))
			return false
		}
	}
	crc := crc32.Update(0, castagnoli, raw[HeaderSize:])
	if crc32.Update(crc, castagnoli, raw[:20]) != rec.CRC {
		r.fail(r.brokenRecord(r.pos, (r.pos + wal.LSN(total)).Align()))
		return false
	}
	start, end := r.pos, (r.pos + wal.LSN(total)).Align()
	if r.mustSay || rec.RMGR == RMXLOG {
		return r.deliver(start, end)
	}
	rec.LSN, rec.End, rec.Major = start, end, r.page.major
	r.prev, r.linked, r.pos, r.end = start, true, end, end
	return true
}

// unusual reads the record of this length at pos, which does not lie on one page,
// or says why there is none.
func (r *Reader) unusual(total uint32) bool {
	if total == 0 {
		r.fail(r.classifyEnd(r.pos, 0))
		return false
	}
	if err := r.checkLength(total); err != nil {
		r.fail(r.torn(err, r.pos, r.pos+8))
		return false
	}
	return r.assemble(total)
}

// deliver makes rec, which is verified, the current record.
func (r *Reader) deliver(start, end wal.LSN) bool {
	rec := &r.rec
	if r.mustSay {
		if err := r.checkOverwrite(start); err != nil {
			r.fail(err)
			return false
		}
	}
	if rec.RMGR == RMXLOG && rec.Info&0xF0 == XLOGSwitch {
		end = r.segmentEnd(end)
		r.switched = true
	}
	rec.LSN, rec.End, rec.Major = start, end, r.page.major
	r.prev, r.linked = start, true
	r.pos, r.end = end, end
	return true
}

// segmentEnd rounds up to the end of a segment.
func (r *Reader) segmentEnd(l wal.LSN) wal.LSN {
	mask := wal.LSN(r.opt.SegmentSize) - 1
	return (l + mask) &^ mask
}

// ParseHeader reads the fixed header of a record from its first HeaderSize
// bytes, of which there must be as many. It judges nothing.
func ParseHeader(b []byte) (h Header) {
	h.parse(b)
	return h
}

func (h *Header) parse(b []byte) {
	_ = b[HeaderSize-1]
	h.TotalLength = le.Uint32(b[0:])
	h.XID = le.Uint32(b[4:])
	h.Prev = wal.LSN(le.Uint64(b[8:]))
	h.Info = b[16]
	h.RMGR = RMGR(b[17])
	h.CRC = le.Uint32(b[20:])
}

// checkLength judges xl_tot_len, which is all that is certain to lie on the
// record's first page.
func (r *Reader) checkLength(total uint32) error {
	if total < HeaderSize {
		return r.corrupt(r.pos, "a record of %d bytes, shorter than its own header", total)
	}
	if total > maxRecord16 && r.page.major >= 16 {
		return r.corrupt(r.pos, "a record of %d bytes, longer than PostgreSQL %d writes", total, r.page.major)
	}
	return nil
}

// checkHeader judges the fixed header of the record at start as
// ValidXLogRecordHeader does.
func (r *Reader) checkHeader(h *Header, start wal.LSN) error {
	if !validRMGR(r.page.major, r.page.magic, h.RMGR) {
		return r.corrupt(start, "a record of resource manager %d, which PostgreSQL %d does not have", uint8(h.RMGR), r.page.major)
	}
	if r.linked && h.Prev != r.prev {
		return r.corrupt(start, "the record links back to %s, but the record before it starts at %s", h.Prev, r.prev)
	}
	if !r.linked && h.Prev >= r.opt.Start {
		return r.corrupt(start, "the first record links back to %s, which is not before %s", h.Prev, r.opt.Start)
	}
	return nil
}

// checkOverwrite judges the first record on a page that overwrites a lost continuation.
func (r *Reader) checkOverwrite(start wal.LSN) error {
	r.mustSay = false
	var d Decoded
	if r.rec.RMGR != RMXLOG || r.rec.Op() != XLOGOverwriteContrecord || r.rec.Decode(&d) != nil {
		return r.corrupt(start, "the page overwrites an unfinished record, but its first record is not XLOG_OVERWRITE_CONTRECORD")
	}
	o, err := DecodeOverwriteContrecord(d.Main)
	if err != nil {
		return r.corrupt(start, "%v", err)
	}
	if r.lost != 0 && o.LSN != r.lost {
		return r.corrupt(start, "the record says that the one at %s was overwritten, but it is the one at %s", o.LSN, r.lost)
	}
	r.lost = 0
	return nil
}

// beyond reports whether bytes before l are not known. It ends the walk then.
func (r *Reader) beyond(l wal.LSN) bool {
	if r.opt.Known == 0 || l <= r.opt.Known {
		return false
	}
	r.fail(r.unknown())
	return true
}

func (r *Reader) unknown() error {
	return r.fault(r.opt.Known, Unknown, "the WAL that is there ends here")
}

// fail ends the walk. An error of nil is the end of the run.
func (r *Reader) fail(err error) {
	r.done = true
	r.err = err
}

func (r *Reader) corrupt(at wal.LSN, format string, args ...any) error {
	return r.fault(at, Corrupt, format, args...)
}

func (r *Reader) fault(at wal.LSN, k Kind, format string, args ...any) error {
	e := &Error{LSN: at, Kind: k, Reason: fmt.Sprintf(format, args...)}
	if r.opt.Timeline != 0 {
		e.Segment = wal.SegmentAt(r.opt.Timeline, at, r.opt.SegmentSize)
	}
	return e
}
