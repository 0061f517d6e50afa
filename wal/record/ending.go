package record

import (
	"errors"

	"github.com/walden-pg/walden/wal"
)

// brokenRecord is the fault of a record from start to end whose checksum is wrong.
// If it fills the segment to the last byte, the segment was finished.
func (r *Reader) brokenRecord(start, end wal.LSN) error {
	err := r.corrupt(start, "the record's checksum does not match its content")
	if r.segmentEnd(end) == end {
		return err
	}
	from := start + HeaderSize // its length may be wrong too
	if end.Page() != start.Page() {
		from = end
	}
	return r.torn(err, start, from)
}

// torn judges err, the fault of the record at start, by what lies behind it, from
// from on. If that is none of this WAL, the record is its torn end: a crash or a
// copy caught it half written, or what it was written over still shows. If the WAL
// goes on, the fault is damage.
func (r *Reader) torn(err error, start, from wal.LSN) error {
	var fault *Error
	// Where only a part is known, what is known was finished.
	if !errors.As(err, &fault) || fault.Kind != Corrupt || r.opt.Known != 0 || r.goesOn(start, from) {
		return err
	}
	fault.Kind = Torn
	fault.Reason = "the WAL ends here, in a record that was torn or damaged: " + fault.Reason
	return fault
}

// goesOn reports whether WAL follows in the segment on the record at start: another
// record that links back to it on the same page, or a page that is at its place. A
// source that fails counts as none: its error has been, or will be, told elsewhere.
func (r *Reader) goesOn(start, from wal.LSN) bool {
	l := from.Align()
	for ; l.PageOffset() != 0; l += 8 {
		if off := int(l - r.base); off+16 <= len(r.buf) && wal.LSN(le.Uint64(r.buf[off+8:])) == start {
			return true
		}
	}
	for end := r.segmentEnd(start + 1); l < end; l += wal.PageSize {
		if ok, err := r.load(l); !ok || err != nil {
			return false
		}
		p := r.buf[l-r.base:]
		if le.Uint16(p) == r.page.magic && wal.LSN(le.Uint64(p[8:])) == l {
			return true
		}
	}
	return false
}
