package index

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// The types of an index's sections in a stored object (docs/format.md).
const (
	SectionSummary       uint16 = 0x10
	SectionTransactions  uint16 = 0x11
	SectionLandmarks     uint16 = 0x12
	SectionEdges         uint16 = 0x13
	SectionChangedBlocks uint16 = 0x14 // reserved
	SectionDetails       uint16 = 0x16
	SectionEffects       uint16 = 0x17
)

// sectionVersion is the version of all sections so far: the one this package
// writes, and the only one it reads.
const sectionVersion = 1

// Encoded is one section of an encoded index.
type Encoded struct {
	Type uint16
	Data []byte
}

// Sections encodes the index: summary, transactions, landmarks, edges, details and
// effects, in that order, all six always. Decode restores it exactly, apart from what
// Times have below the microsecond.
func (ix *Index) Sections() []Encoded {
	return []Encoded{
		{SectionSummary, ix.encodeSummary()},
		{SectionTransactions, ix.encodeTransactions()},
		{SectionLandmarks, ix.encodeLandmarks()},
		{SectionEdges, ix.encodeEdges()},
		{SectionDetails, ix.encodeDetails()},
		{SectionEffects, ix.encodeEffects()},
	}
}

// Decode restores an index from its sections, which it asks for by type (as
// frame's Object.Section gives them). Data of an unknown version, anything
// Sections would not have written, and sections that contradict each other are
// errors. The index keeps references to the data.
func Decode(section func(t uint16) ([]byte, bool)) (*Index, error) {
	var ix *Index
	var sum endings
	for _, s := range []struct {
		t      uint16
		name   string
		decode func(b []byte) error
	}{
		{SectionSummary, "summary", func(b []byte) (err error) { ix, err = decodeSummary(b); return err }},
		{SectionTransactions, "transactions", func(b []byte) error { return ix.decodeTransactions(b, &sum) }},
		{SectionLandmarks, "landmarks", func(b []byte) error { return ix.decodeLandmarks(b) }},
		{SectionEdges, "edges", func(b []byte) error { return ix.decodeEdges(b) }},
		{SectionDetails, "details", func(b []byte) error { return ix.decodeDetails(b, &sum) }},
		{SectionEffects, "effects", func(b []byte) error { return ix.decodeEffects(b) }},
	} {
		b, ok := section(s.t)
		if !ok {
			return nil, fmt.Errorf("decode wal index: section %#x (%s) is missing", s.t, s.name)
		}
		if err := s.decode(b); err != nil {
			return nil, fmt.Errorf("decode wal index: section %#x (%s): %w", s.t, s.name, err)
		}
	}
	if sum != ix.endings() {
		return nil, fmt.Errorf("decode wal index: %w: the summary counts other transactions", errContradiction)
	}
	return ix, nil
}

// DecodeSummary restores an index without Transactions, Landmarks, Head, Tail and
// Effects from its summary section alone.
func DecodeSummary(b []byte) (*Index, error) {
	ix, err := decodeSummary(b)
	if err != nil {
		return nil, fmt.Errorf("decode wal index: summary: %w", err)
	}
	return ix, nil
}

// Bits of the summary's flags: which parts follow.
const (
	summaryHasRecords  = 1 << 0
	summaryHasComplete = 1 << 1
	summaryHasSwitch   = 1 << 2
	summaryHasEndings  = 1 << 3
	summaryHasPrepared = 1 << 4
	summaryFlags       = 1<<5 - 1
)

func (ix *Index) encodeSummary() []byte {
	var e encoder
	seg := ix.Segment
	e.byte(sectionVersion)
	e.uint(uint64(seg.Timeline))
	e.byte(byte(bits.TrailingZeros32(uint32(seg.Size))))
	e.uint(seg.Number)
	e.uint64(ix.SystemID)
	e.uint16(ix.Magic)
	e.uint(ix.summaryFlags())
	e.uint(uint64(ix.EndOfRecords - seg.Start()))
	e.uint(uint64(ix.PageTimelineFirst))
	e.uint(uint64(ix.PageTimelineLast - ix.PageTimelineFirst))
	if ix.Records > 0 {
		e.uint(ix.Records)
		e.uint(uint64(ix.FirstRecord - seg.Start()))
		e.uint(uint64(ix.LastRecord - ix.FirstRecord))
		e.uint(uint64(ix.FirstPrev))
	}
	if ix.LastComplete != 0 {
		e.uint(uint64(ix.LastComplete - ix.FirstRecord))
	}
	if ix.Switch != 0 {
		e.uint(uint64(seg.End() - ix.Switch))
	}
	if ix.Commits+ix.Aborts > 0 {
		e.endings(ix.endings())
	}
	if ix.Prepared > 0 {
		e.uint(ix.Prepared)
	}
	return e.b
}

func (ix *Index) summaryFlags() (flags uint64) {
	if ix.Records > 0 {
		flags |= summaryHasRecords
	}
	if ix.LastComplete != 0 {
		flags |= summaryHasComplete
	}
	if ix.Switch != 0 {
		flags |= summaryHasSwitch
	}
	if ix.Commits+ix.Aborts > 0 {
		flags |= summaryHasEndings
	}
	if ix.Prepared > 0 {
		flags |= summaryHasPrepared
	}
	return flags
}

func (e *encoder) endings(s endings) {
	e.uint(s.commits)
	e.uint(s.aborts)
	e.int(s.firstTime)
	e.int(s.lastTime - s.firstTime)
	e.int(s.minTime - s.firstTime)
	e.int(s.maxTime - s.firstTime)
	e.uint(uint64(s.minXID))
	e.uint(uint64(s.maxXID - s.minXID))
}

func (d *decoder) endings() endings {
	s := endings{commits: d.uint(), aborts: d.uint()}
	if s.commits > 1<<40 || s.aborts > 1<<40 || s.commits+s.aborts == 0 {
		d.fail(errRange)
	}
	s.firstTime = d.int()
	s.lastTime = s.firstTime + d.int()
	s.minTime = s.firstTime + d.int()
	s.maxTime = s.firstTime + d.int()
	s.minXID = uint32(d.max(1<<32 - 1))
	s.maxXID = s.minXID + uint32(d.max(1<<32-1-uint64(s.minXID)))
	return s
}

func decodeSummary(b []byte) (*Index, error) {
	d := decoder{b: b}
	d.version()
	ix := &Index{Segment: d.segment()}
	seg := ix.Segment
	ix.SystemID, ix.Magic = d.uint64(), d.uint16()
	if _, ok := record.Major(ix.Magic); d.err == nil && !ok {
		d.fail(fmt.Errorf("the page magic %04X is of no known version", ix.Magic))
	}
	flags := d.max(summaryFlags)
	ix.EndOfRecords = seg.Start() + wal.LSN(d.max(uint64(seg.Size)))
	ix.PageTimelineFirst = wal.TimelineID(d.between(1, uint64(seg.Timeline)))
	ix.PageTimelineLast = ix.PageTimelineFirst + wal.TimelineID(d.max(uint64(seg.Timeline-ix.PageTimelineFirst)))
	if flags&summaryHasRecords != 0 {
		ix.Records = d.between(1, uint64(seg.Size))
		ix.FirstRecord = d.position(seg)
		ix.LastRecord = ix.FirstRecord + wal.LSN(d.max(uint64(seg.End()-ix.FirstRecord)-1))
		ix.FirstPrev = wal.LSN(d.max(uint64(seg.Start())))
	}
	if flags&summaryHasComplete != 0 {
		ix.LastComplete = ix.FirstRecord + wal.LSN(d.max(uint64(ix.LastRecord-ix.FirstRecord)))
	}
	if flags&summaryHasSwitch != 0 {
		ix.Switch = seg.End() - wal.LSN(d.between(1, uint64(seg.Size)+16))
	}
	if flags&summaryHasEndings != 0 {
		ix.setEndings(d.endings())
	}
	if flags&summaryHasPrepared != 0 {
		ix.Prepared = d.between(1, uint64(seg.Size))
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return ix, ix.checkSummary()
}

func (d *decoder) segment() wal.Segment {
	seg := wal.Segment{Timeline: wal.TimelineID(d.between(1, 1<<32-1))}
	if shift := d.byte(); shift < 32 {
		seg.Size = 1 << shift
	}
	if seg.Size.Valid() != nil {
		d.fail(errRange)
		return seg
	}
	seg.Number = d.uint()
	if err := checkSegment(seg); d.err == nil && err != nil {
		d.fail(err)
	}
	return seg
}

var errContradiction = errors.New("its parts contradict each other")

// checkSummary holds the parts of a summary against each other.
func (ix *Index) checkSummary() error {
	aligned := ix.FirstRecord.Aligned() && ix.LastRecord.Aligned() && ix.LastComplete.Aligned() &&
		ix.Switch.Aligned() && ix.EndOfRecords.Aligned()
	switch {
	case !aligned,
		ix.LastComplete != 0 && ix.Records == 0,
		ix.Records == 1 && ix.LastRecord != ix.FirstRecord,
		ix.Records > 1 && (ix.LastRecord == ix.FirstRecord || ix.LastComplete == 0),
		ix.Switch >= ix.Segment.Start() && ix.Switch != ix.LastComplete && ix.Switch != 0,
		ix.Switch != 0 && ix.Switch < ix.Segment.Start() && ix.Records != 0,
		ix.Switch != 0 && ix.EndOfRecords != ix.Segment.End():
		return errContradiction
	}
	return nil
}

func (ix *Index) encodeTransactions() []byte {
	var e encoder
	e.byte(sectionVersion)
	e.uint(ix.transactions.count)
	return append(e.b, ix.transactions.encoded...)
}

// decodeTransactions checks the list once, so that iterating cannot fail, and
// counts what is in it in sum.
func (ix *Index) decodeTransactions(b []byte, sum *endings) error {
	d := decoder{b: b}
	d.version()
	list := transactionList{count: d.max(uint64(ix.Segment.Size)), last: cursor{end: ix.Segment.Start()}}
	list.encoded = d.b
	for range list.count {
		t := d.transaction(ix.Segment, &list.last)
		if d.err != nil {
			break
		}
		sum.add(t.Kind, t.XID, list.last.time)
	}
	if err := d.end(); err != nil {
		return err
	}
	ix.transactions = list
	return nil
}

// Bits of the edges' flags.
const (
	edgesHasHead     = 1 << 0
	edgesHasTail     = 1 << 1
	edgesOverwritten = 1 << 2
	edgesFlags       = 1<<3 - 1
)

// edgeFlags tells which parts of the edges there are.
func (ix *Index) edgeFlags() (flags uint64) {
	if ix.Head.Length > 0 {
		flags |= edgesHasHead
	}
	if ix.Tail.LSN != 0 {
		flags |= edgesHasTail
	}
	if ix.Head.Overwritten {
		flags |= edgesOverwritten
	}
	return flags
}

func (ix *Index) encodeEdges() []byte {
	var e encoder
	e.byte(sectionVersion)
	e.uint(ix.edgeFlags())
	if h := ix.Head; h.Length > 0 {
		e.uint(uint64(h.Length))
		e.uint(uint64(h.Have))
		e.uint32(h.CRC)
		e.b = append(e.b, h.Bytes...)
	}
	if t := ix.Tail; t.LSN != 0 {
		e.uint(uint64(t.LSN - ix.Segment.Start()))
		e.uint(uint64(t.Length))
		e.uint(uint64(t.Have))
		e.uint32(t.CRC)
		e.b = append(e.b, t.Bytes...)
	}
	return e.b
}

func (ix *Index) decodeEdges(b []byte) error {
	d := decoder{b: b}
	d.version()
	flags := d.max(edgesFlags)
	if flags&edgesHasHead != 0 {
		h := &ix.Head
		h.Length = uint32(d.between(1, 1<<32-1))
		h.Have = uint32(d.between(1, min(uint64(h.Length), uint64(ix.Segment.Size))))
		h.CRC = d.uint32()
		h.Bytes = d.bytes(uint64(min(h.Have, EdgeBytes)))
	}
	if flags&edgesHasTail != 0 {
		t := &ix.Tail
		t.LSN = d.position(ix.Segment)
		t.Length = uint32(d.between(record.HeaderSize, 1<<32-1))
		t.Have = uint32(d.between(8, min(uint64(t.Length)-1, uint64(ix.Segment.Size))))
		t.CRC = d.uint32()
		t.Bytes = d.bytes(uint64(min(t.Have, EdgeBytes)))
	}
	ix.Head.Overwritten = flags&edgesOverwritten != 0
	if err := d.end(); err != nil {
		return err
	}
	return ix.checkEdges()
}

// checkEdges holds the edges against the summary and their bytes against their CRCs.
func (ix *Index) checkEdges() error {
	h, t := ix.Head, ix.Tail
	toEnd := ix.EndOfRecords == ix.Segment.End()
	goesOn := h.Have < h.Length && !h.Overwritten
	switch {
	case goesOn && ix.Records > 0,
		goesOn && toEnd && int64(h.Have) != capacity(ix.Segment.Size),
		h.Overwritten && h.Length > 0 && h.Have == h.Length,
		(t.LSN != 0) != (ix.Records > 0 && ix.LastRecord != ix.LastComplete),
		t.LSN != 0 && (!toEnd || t.LSN != ix.LastRecord):
		return fmt.Errorf("%w: the summary has other edges", errContradiction)
	case int(h.Have) == len(h.Bytes) && crc32.Checksum(h.Bytes, castagnoli) != h.CRC:
		return errors.New("the head does not match its checksum")
	case t.LSN != 0 && int(t.Have) == len(t.Bytes) && crc32.Checksum(t.Bytes[min(len(t.Bytes), record.HeaderSize):], castagnoli) != t.CRC:
		return errors.New("the tail does not match its checksum")
	}
	return nil
}

// capacity is how many bytes of records a segment holds beside its page headers.
func capacity(size wal.SegmentSize) int64 {
	const shortHeader, longHeader = 24, 40
	return size.Bytes() - size.Bytes()/wal.PageSize*shortHeader - (longHeader - shortHeader)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
