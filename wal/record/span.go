package record

import (
	"bytes"
	"hash/crc32"

	"github.com/walden-pg/walden/wal"
)

// begin reads what lies before the first record: the head.
func (r *Reader) begin() bool {
	ok, err := r.load(r.pos)
	if !ok {
		r.fail(err)
		return false
	}
	h, err := r.readPageHeader(r.pos)
	if err != nil {
		r.fail(err)
		return false
	}
	r.pos += wal.LSN(h.size)
	switch {
	case h.info&r.page.flags.overwrite != 0:
		r.head.Overwritten, r.mustSay = true, true
		return true
	case !h.continues():
		return true
	case h.remaining == 0:
		r.fail(r.corrupt(r.pos.Page(), "the page continues a record of which no bytes are left"))
		return false
	}
	r.head.Length = h.remaining
	return r.readHead() && r.checkHeadSwitch()
}

// readHead takes in the continuation of a record that started before the run.
func (r *Reader) readHead() bool {
	l := r.pos
	for {
		n := min(int64(wal.PageSize-l.PageOffset()), int64(r.head.Length-r.head.Have))
		if known := r.opt.Known; known != 0 && l+wal.LSN(n) > known {
			n = int64(known - l)
		}
		part := r.buf[l-r.base : int64(l-r.base)+n]
		r.head.CRC = crc32.Update(r.head.CRC, castagnoli, part)
		r.head.Bytes = append(r.head.Bytes, part[:min(len(part), KeepBytes-len(r.head.Bytes))]...)
		r.head.Have += uint32(n)
		l += wal.LSN(n)
		if r.head.Have == r.head.Length {
			r.pos = l.Align()
			r.end = r.pos
			return true
		}
		if r.beyond(l + 1) {
			return false
		}
		h, more, err := r.continuation(l, 0, r.head.Length-r.head.Have)
		if err != nil || !more {
			r.fail(err)
			return false
		}
		l += wal.LSN(h.size)
		if h.info&r.page.flags.overwrite != 0 {
			r.head.Overwritten, r.mustSay = true, true
			r.pos = l
			return true
		}
	}
}

// continuation enters the page at l, on which the record at started (0: not
// known) must go on with the given number of bytes, or be given up (the overwrite
// flag). more is false where the run ends.
func (r *Reader) continuation(l, started wal.LSN, remaining uint32) (h pageHeader, more bool, err error) {
	more, err = r.load(l)
	if err != nil || !more {
		return h, false, err
	}
	if isZero(r.buf[l-r.base:l-r.base+longPageHeader]) && !r.cutsHeader(l) {
		return h, false, r.classifyEnd(l, started)
	}
	h, err = r.readPageHeader(l)
	switch {
	case err != nil:
		return h, false, err
	case h.info&r.page.flags.overwrite != 0:
		return h, true, nil
	case !h.continues():
		return h, false, r.corrupt(l, "the page does not continue the record that the pages before begin")
	case h.remaining != remaining:
		return h, false, r.corrupt(l, "the page continues a record with %d bytes, but the pages before leave %d", h.remaining, remaining)
	}
	return h, true, nil
}

// checkHeadSwitch looks for an XLOG_SWITCH whose beginning is the last 8 or 16
// bytes of the segment before, so that it ends the segment it only reaches into.
func (r *Reader) checkHeadSwitch() bool {
	n := len(r.head.Bytes)
	if r.head.Overwritten || r.head.Length != uint32(n) || n != 8 && n != 16 {
		return true
	}
	last := r.head.Bytes[n-8:] // xl_info, xl_rmid, padding, xl_crc
	if RMGR(last[1]) != RMXLOG || last[0]&0xF0 != XLOGSwitch || !isZero(r.buf[r.pos-r.base:r.pos-r.base+8]) {
		return true
	}
	end := r.segmentEnd(r.pos)
	place, err := r.firstNonZero(r.pos, end)
	if err == nil && place != end {
		err = r.afterSwitch(place)
	}
	if err != nil {
		r.fail(err)
		return false
	}
	r.endOfHead = r.opt.Start - wal.LSN(HeaderSize-n)
	r.pos, r.end = end, end
	return true
}

// skipSwitched verifies that nothing but zeros follows the XLOG_SWITCH just delivered.
func (r *Reader) skipSwitched() bool {
	from := r.rec.LSN + HeaderSize
	if room := wal.PageSize - r.rec.LSN.PageOffset(); room < HeaderSize {
		from += shortPageHeader
		if uint64(from.Page())%uint64(r.opt.SegmentSize) == 0 {
			from += longPageHeader - shortPageHeader
		}
	}
	r.switched = false
	place, err := r.firstNonZero(from, r.pos)
	if err == nil && place < r.pos {
		err = r.afterSwitch(place)
	}
	if err != nil {
		r.fail(err)
		return false
	}
	return true
}

func (r *Reader) afterSwitch(place wal.LSN) error {
	return r.corrupt(place, "the segment was ended by XLOG_SWITCH, but what follows is not zero")
}

// assemble reads the record at pos, which crosses pages. False without done:
// the record was given up, and the walk goes on at pos.
func (r *Reader) assemble(total uint32) bool {
	start := r.pos
	r.pages.reset()
	r.assembling = true
	defer func() { r.assembling = false }()
	s := &r.span
	*s = span{start: start, total: total, pages: &r.pages}
	l := start
	for {
		n := min(int64(wal.PageSize-l.PageOffset()), int64(total-s.got))
		if r.beyond(l + wal.LSN(n)) {
			return false
		}
		headed := s.add(r.buf[l-r.base : int64(l-r.base)+n])
		l += wal.LSN(n)
		if headed {
			if err := r.checkHeader(&s.header, start); err != nil {
				r.fail(r.torn(err, start, l))
				return false
			}
		}
		if s.got == total {
			return r.finish(s, l)
		}
		h, more, err := r.continuation(l, start, total-s.got)
		switch {
		case err != nil:
			r.fail(err)
			return false
		case !more:
			r.tail = s.tail()
			r.fail(nil)
			return false
		}
		l += wal.LSN(h.size)
		if h.info&r.page.flags.overwrite != 0 {
			r.lost, r.mustSay = start, true
			r.pos = l
			return false
		}
	}
}

// finish verifies and delivers a record that crosses pages.
func (r *Reader) finish(s *span, end wal.LSN) bool {
	if !s.sound() {
		r.fail(r.brokenRecord(s.start, end.Align()))
		return false
	}
	rec := &r.rec
	rec.Header, rec.Data, rec.pages = s.header, nil, nil
	rec.Truncated = HeaderSize+uint32(r.pages.have) < s.total
	switch len(r.pages.list) {
	case 0:
	case 1:
		rec.Data = r.pages.list[0]
	default:
		rec.pages = &r.pages
	}
	return r.deliver(s.start, end.Align())
}

// span gathers a record that comes in parts.
type span struct {
	start  wal.LSN
	total  uint32
	got    uint32
	crc    uint32 // of what follows the fixed header
	fixed  [HeaderSize]byte
	header Header     // once got reaches HeaderSize
	pages  *pageParts // of what follows the fixed header, as far as it is kept
}

// add takes the next part, and reports whether it completed the fixed header.
func (s *span) add(part []byte) (headed bool) {
	if s.got < HeaderSize {
		n := copy(s.fixed[s.got:], part)
		s.got += uint32(n)
		part = part[n:]
		if s.got < HeaderSize {
			return false
		}
		s.header = ParseHeader(s.fixed[:])
		s.pages.limit = KeepBytes - HeaderSize
		if s.header.RMGR == RMTransaction {
			s.pages.limit = KeepTransactionBytes - HeaderSize
		}
		headed = true
	}
	s.crc = crc32.Update(s.crc, castagnoli, part)
	s.pages.add(part)
	s.got += uint32(len(part))
	return headed
}

func (s *span) sound() bool {
	return crc32.Update(s.crc, castagnoli, s.fixed[:20]) == s.header.CRC
}

// tail describes the record as far as it came.
func (s *span) tail() Tail {
	kept := bytes.Clone(s.fixed[:min(s.got, HeaderSize)])
	for _, part := range s.pages.list {
		kept = append(kept, part[:min(len(part), KeepBytes-len(kept))]...)
	}
	return Tail{LSN: s.start, Length: s.total, Have: s.got, CRC: s.crc, Bytes: kept}
}
