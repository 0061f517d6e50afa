package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/wal"
)

// pageHeader is XLogPageHeaderData.
type pageHeader struct {
	magic     uint16
	info      uint16
	timeline  wal.TimelineID
	address   wal.LSN
	remaining uint32
	size      int // of the header: 24 or 40
}

func (h pageHeader) continues() bool { return h.info&pageContinues != 0 }

var zeros [wal.PageSize]byte

func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// load makes the page at l, the current one or a later one, available in buf.
// False: the run ends before it (err nil), or it cannot be read.
func (r *Reader) load(l wal.LSN) (bool, error) {
	for l >= r.base+wal.LSN(len(r.buf)) {
		if !r.more {
			return false, nil
		}
		if err := r.fill(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fill replaces buf by the next chunk of the run. The parts of the record that
// is being assembled are saved.
func (r *Reader) fill() error {
	if r.assembling {
		r.pages.save()
	}
	r.base += wal.LSN(len(r.buf))
	size := int64(chunkSize)
	if r.opt.Length > 0 {
		size = min(size, r.opt.Length-int64(r.base-r.opt.Start))
	}
	if r.src == nil {
		return r.take()
	}
	if int64(len(r.chunk)) < size {
		r.chunk = make([]byte, size)
	}
	n, err := io.ReadFull(r.src, r.chunk[:size])
	r.buf = r.chunk[:n]
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !ended {
		return fmt.Errorf("read wal at %s: %w", r.base+wal.LSN(n), err)
	}
	return r.filled(n, ended)
}

// take makes buf all that was given.
func (r *Reader) take() error {
	r.buf = r.given
	if r.opt.Length > 0 {
		r.buf = r.buf[:min(int64(len(r.buf)), r.opt.Length)]
	}
	return r.filled(len(r.buf), true)
}

// filled judges the length of what buf holds, its last n bytes just come. ended:
// nothing comes after them.
func (r *Reader) filled(n int, ended bool) error {
	got := int64(r.base-r.opt.Start) + int64(n)
	r.more = !ended && (r.opt.Length == 0 || got < r.opt.Length)
	if ended && (r.opt.Length > 0 && got < r.opt.Length || n%wal.PageSize != 0) {
		return r.short(got)
	}
	return nil
}

func (r *Reader) short(got int64) error {
	at := r.opt.Start + wal.LSN(got)
	if r.opt.Length > 0 {
		return r.fault(at, Truncated, "there are only %d bytes of %d", got, r.opt.Length)
	}
	return r.fault(at, Truncated, "the last page is cut off after %d bytes", got%wal.PageSize)
}

// enterPage validates the page at pos, on which a record must start, and moves
// pos to behind its header.
func (r *Reader) enterPage() bool {
	ok, err := r.load(r.pos)
	if !ok {
		r.fail(err)
		return false
	}
	h, err := r.readPageHeader(r.pos)
	if err == nil && h.continues() {
		err = r.corrupt(r.pos, "the page continues a record, but the record before it is complete")
	}
	if err != nil {
		r.fail(err)
		return false
	}
	r.pos += wal.LSN(h.size)
	return true
}

// readPageHeader validates the header of the loaded page at l
// (XLogReaderValidatePageHeader), and follows the timeline.
func (r *Reader) readPageHeader(l wal.LSN) (pageHeader, error) {
	if r.cutsHeader(l) {
		return pageHeader{}, r.unknown()
	}
	p := r.buf[l-r.base:]
	h := pageHeader{
		magic:     le.Uint16(p[0:]),
		info:      le.Uint16(p[2:]),
		timeline:  wal.TimelineID(le.Uint32(p[4:])),
		address:   wal.LSN(le.Uint64(p[8:])),
		remaining: le.Uint32(p[16:]),
		size:      shortPageHeader,
	}
	if isZero(p[:longPageHeader]) {
		return h, r.classifyEnd(l, 0)
	}
	if err := r.checkMagic(l, h); err != nil {
		return h, err
	}
	atStart := uint64(l)%uint64(r.opt.SegmentSize) == 0
	if atStart && h.info&pageLongHeader != 0 {
		h.size = longPageHeader
		if err := r.checkLongHeader(l, p); err != nil {
			return h, err
		}
	}
	if h.address != l {
		return h, r.fault(l, Recycled, "this page is an old one, of %s: the file was reused, and written anew only up to here", h.address)
	}
	if atStart != (h.info&pageLongHeader != 0) || h.info&^r.page.flags.all != 0 {
		return h, r.corrupt(l, "the page header has the flags %04X, which do not belong here", h.info)
	}
	return h, r.checkTimeline(l, h.timeline)
}

// cutsHeader reports whether the header of the page at l is not known to its end.
func (r *Reader) cutsHeader(l wal.LSN) bool {
	size := wal.LSN(shortPageHeader)
	if uint64(l)%uint64(r.opt.SegmentSize) == 0 {
		size = longPageHeader
	}
	return r.opt.Known != 0 && l+size > r.opt.Known
}

// checkMagic settles the major version with the first page, and holds the others to it.
func (r *Reader) checkMagic(l wal.LSN, h pageHeader) error {
	if h.magic == r.page.magic {
		return nil
	}
	major, known := Major(h.magic)
	switch {
	case r.page.magic == 0 && known:
		r.page.magic, r.page.major, r.page.flags = h.magic, major, flagsOf(major)
		return nil
	case r.page.magic == 0:
		return r.fault(l, Foreign, "the page's magic number %04X is of no PostgreSQL version from %d to %d: "+
			"not a WAL segment, or of a version that is not supported", h.magic, MinMajor, MaxMajor)
	case known && h.address != l:
		return r.fault(l, Recycled, "this page is an old one, of %s and PostgreSQL %d: the file was reused, and written anew only up to here", h.address, major)
	}
	return r.corrupt(l, "the page's magic number is %04X, not %04X as on the pages before", h.magic, r.page.magic)
}

// checkLongHeader judges what only the first page of a segment says.
func (r *Reader) checkLongHeader(l wal.LSN, p []byte) error {
	systemID, size, page := le.Uint64(p[24:]), le.Uint32(p[32:]), le.Uint32(p[36:])
	want := r.opt.SystemID
	if want == 0 {
		want = r.page.systemID
	}
	switch {
	case want != 0 && systemID != want:
		return r.fault(l, Foreign, "it belongs to the cluster with system identifier %d, not to %d", systemID, want)
	case wal.SegmentSize(size) != r.opt.SegmentSize:
		return r.fault(l, Foreign, "it was written with a wal_segment_size of %d bytes, not %d", size, r.opt.SegmentSize)
	case page != wal.PageSize:
		return r.fault(l, Foreign, "it was written with WAL pages of %d bytes: only builds with %d are supported", page, wal.PageSize)
	}
	r.page.systemID = systemID
	return nil
}

func (r *Reader) checkTimeline(l wal.LSN, tli wal.TimelineID) error {
	switch {
	case tli == 0:
		return r.corrupt(l, "the page header names timeline 0")
	case r.opt.Timeline != 0 && tli > r.opt.Timeline:
		return r.fault(l, Foreign, "the page is of timeline %s, but the file's name says timeline %s", tli, r.opt.Timeline)
	case tli < r.page.last:
		return r.corrupt(l, "the page is of timeline %s, after pages of timeline %s", tli, r.page.last)
	}
	if r.page.first == 0 {
		r.page.first = tli
	}
	r.page.last = tli
	return nil
}

// classifyEnd says why no record and no page can be read at l, where there are
// zeros. started is the start of the record that should go on there; 0: none.
func (r *Reader) classifyEnd(l, started wal.LSN) error {
	cut := ""
	if started != 0 {
		cut = fmt.Sprintf(", in the midst of the record at %s", started)
	}
	end := r.segmentEnd(l + 1)
	place, err := r.firstNonZero(l, end)
	if err != nil {
		return err
	}
	if place == end {
		return r.fault(l, ZeroPadded, "the WAL ends here%s, and only zeros follow: "+
			"the segment was not finished yet, or was padded by another tool", cut)
	}
	if place.Page() == l.Page() {
		return r.fault(l, Torn, "the WAL ends here%s, but the page does not: it was torn or damaged", cut)
	}
	p := r.buf[place.Page()-r.base:]
	address := wal.LSN(le.Uint64(p[8:]))
	_, known := Major(le.Uint16(p[0:]))
	switch {
	case known && address == place.Page():
		return r.corrupt(l, "there are zeros here%s, although the WAL goes on at %s: a part is missing", cut, address)
	case known:
		return r.fault(l, Recycled, "the WAL ends here%s: the page at %s is an old one, of %s, since the file was reused", cut, place.Page(), address)
	}
	return r.fault(l, Torn, "the WAL ends here%s, and at %s there is something that is no WAL", cut, place)
}

// firstNonZero is the position of the first byte that is not zero in [l, end),
// which is loaded then; end if there is none.
func (r *Reader) firstNonZero(l, end wal.LSN) (wal.LSN, error) {
	for l < end {
		ok, err := r.load(l.Page())
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, r.fault(l, Truncated, "there is nothing but zeros up to here, and the segment is not complete")
		}
		p := r.buf[l-r.base : l.Page()+wal.PageSize-r.base]
		if !isZero(p) {
			for p[0] == 0 {
				p, l = p[1:], l+1
			}
			return l, nil
		}
		l = l.Page() + wal.PageSize
	}
	return end, nil
}
