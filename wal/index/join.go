package index

import (
	"fmt"
	"hash/crc32"

	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Joined is what is learned where one segment's WAL goes on in the next.
type Joined struct {
	// LSN and End bound the record that crosses into the later segment; LSN 0:
	// none does, or its start was not seen. End is 0 while it goes on.
	LSN, End    wal.LSN
	Length      uint32       // of the record, without page headers; 0: its start was not seen
	Continues   bool         // it goes on beyond the later segment
	Overwritten bool         // it was never finished, and PostgreSQL wrote over its place
	Verified    bool         // its CRC was computed over all segments' parts, and holds
	Transaction *Transaction // the transaction the record ends or prepares; nil: it is no such record
	Landmark    *Landmark    // the landmark it is; nil: it is none
	Effects     []Effect     // what it does to relations
	Locks       []Lock       // the transactions it gives exclusive locks
}

// Join checks that b continues a on a path: the next segment of the same
// cluster, linked by xl_prev, with the record that crosses (if any) of the
// promised length and with a sound CRC. The error is a *record.Error.
//
// Where a is itself in the midst of a record that began earlier, only a Joiner
// that has seen its beginning can verify the record.
func Join(a, b *Index) (*Joined, error) {
	var j Joiner
	if _, err := j.Add(a); err != nil {
		return nil, err
	}
	return j.Add(b)
}

// JoinAt is Join for a step from one timeline to the next, which splits off at
// switchLSN. PostgreSQL copies the segment that holds the switch position to
// the new timeline and goes on there. So either b follows a and switchLSN is not
// before a's end; or b has a's number, is that copy, and JoinAt checks
// that both agree in what lies before switchLSN as far as their indexes tell.
func JoinAt(a, b *Index, switchLSN wal.LSN) (*Joined, error) {
	if b.Segment.Number == a.Segment.Number {
		return &Joined{}, compareFork(a, b, switchLSN)
	}
	if switchLSN < a.Segment.End() {
		return nil, disconnected(b, "timeline %s begins at %s, inside segment %s: its own copy of that segment, %s, must come before this one",
			b.Segment.Timeline, switchLSN, a.Segment, wal.Segment{Timeline: b.Segment.Timeline, Number: a.Segment.Number, Size: a.Segment.Size})
	}
	if switchLSN == a.Segment.End() && a.Tail.LSN != 0 {
		return nil, disconnected(b, "timeline %s begins here, but segment %s ends in the midst of the record at %s",
			b.Segment.Timeline, a.Segment, a.Tail.LSN)
	}
	return Join(a, b)
}

// compareFork checks what the indexes of two copies of a segment say about the
// part before the fork.
func compareFork(a, b *Index, fork wal.LSN) error {
	early := func(l wal.LSN) wal.LSN {
		if l >= fork {
			return 0
		}
		return l
	}
	sameHead := a.Head.Length == b.Head.Length && a.Head.Overwritten == b.Head.Overwritten &&
		(a.Head.Have != b.Head.Have || a.Head.CRC == b.Head.CRC)
	switch {
	case a.SystemID != b.SystemID || a.Segment.Size != b.Segment.Size || a.Magic != b.Magic:
		return disconnected(b, "segment %s is of another cluster or version", a.Segment)
	case fork <= a.Segment.Start():
		return nil // nothing in common
	case !sameHead, early(a.FirstRecord) != early(b.FirstRecord),
		early(a.FirstRecord) != 0 && a.FirstPrev != b.FirstPrev && a.Tail.LSN != a.FirstRecord,
		a.PageTimelineFirst != b.PageTimelineFirst:
		return disconnected(b, "it differs from segment %s before %s, where it was split off", a.Segment, fork)
	}
	return nil
}

func disconnected(ix *Index, format string, args ...any) error {
	return fault(ix, ix.Segment.Start(), record.Disconnected, format, args...)
}

func fault(ix *Index, at wal.LSN, k record.Kind, format string, args ...any) error {
	return fmt.Errorf("join segments: %w", &record.Error{
		Segment: ix.Segment, LSN: at, Kind: k, Reason: fmt.Sprintf(format, args...),
	})
}

// Joiner joins any number of consecutive segments, so that records longer than
// a segment are followed to their end. The zero value is ready for the first Add.
type Joiner struct {
	last *Index
	// prev is the start of the last complete record; prevKnown: it was seen.
	prev      wal.LSN
	prevKnown bool
	open      *crossing // the record that goes on; nil: none
}

// crossing is a record that goes on beyond the segments so far.
type crossing struct {
	start     wal.LSN // 0: not seen; then only remaining counts
	length    uint32
	remaining uint32
	kept      []byte // its first bytes, as far as they are kept without a hole
	whole     bool   // no byte is missing between kept and what comes next
	header    []byte // its first bytes, up to 24
	crc       uint32 // of what follows those 24 bytes
}

// maxKept bounds what a Joiner keeps of a record to decode it.
const maxKept = 2 * EdgeBytes

// Add takes the next segment and reports on the step to it; for the first
// segment, which has no predecessor, it returns nil. After an error the Joiner
// must not be used again.
func (j *Joiner) Add(ix *Index) (*Joined, error) {
	if j.last == nil {
		j.seed(ix)
		return nil, nil
	}
	if err := j.neighbours(ix); err != nil {
		return nil, err
	}
	res, err := j.cross(ix)
	if err != nil {
		return nil, err
	}
	if err := j.link(ix); err != nil {
		return nil, err
	}
	j.advance(ix)
	return res, nil
}

// seed starts with a segment whose predecessor is not known.
func (j *Joiner) seed(ix *Index) {
	if h := ix.Head; h.Have < h.Length && !h.Overwritten {
		j.open = &crossing{remaining: h.Length - h.Have}
	}
	if h, ok := ix.Tail.Header(); ok && ix.LastComplete == 0 {
		j.prev, j.prevKnown = h.Prev, true
	}
	j.advance(ix)
}

// advance takes over the state at the segment's end.
func (j *Joiner) advance(ix *Index) {
	j.last = ix
	if ix.LastComplete != 0 {
		j.prev, j.prevKnown = ix.LastComplete, true
	}
	if t := ix.Tail; t.LSN != 0 {
		j.open = &crossing{
			start: t.LSN, length: t.Length, remaining: t.Length - t.Have,
			kept: append([]byte(nil), t.Bytes...), whole: int(t.Have) == len(t.Bytes),
			header: append([]byte(nil), t.Bytes[:min(len(t.Bytes), record.HeaderSize)]...), crc: t.CRC,
		}
	}
}

// neighbours checks what two consecutive segments have in common.
func (j *Joiner) neighbours(ix *Index) error {
	a, b := j.last, ix
	switch {
	case a.Segment.Size != b.Segment.Size:
		return disconnected(b, "segment %s has another size", a.Segment)
	case b.Segment.Number != a.Segment.Number+1:
		return disconnected(b, "it does not follow segment %s", a.Segment)
	case a.SystemID != b.SystemID:
		return disconnected(b, "it is of the cluster with system identifier %d, segment %s of %d", b.SystemID, a.Segment, a.SystemID)
	case a.Magic != b.Magic:
		return disconnected(b, "its pages have the magic number %04X, those of segment %s %04X", b.Magic, a.Segment, a.Magic)
	case b.Segment.Timeline < a.Segment.Timeline || b.PageTimelineFirst < a.PageTimelineLast:
		return disconnected(b, "its first page is of timeline %s, but segment %s reaches timeline %s", b.PageTimelineFirst, a.Segment, a.PageTimelineLast)
	case a.EndOfRecords != a.Segment.End():
		return disconnected(b, "segment %s before it is not complete: its WAL ends at %s", a.Segment, a.EndOfRecords)
	}
	return nil
}

// cross follows the record that is open, if any, into ix.
func (j *Joiner) cross(ix *Index) (*Joined, error) {
	c, h := j.open, ix.Head
	switch {
	case c == nil && (h.Length > 0 || h.Overwritten):
		return nil, disconnected(ix, "it continues a record, but segment %s ends with a complete one", j.last.Segment)
	case c == nil:
		return &Joined{}, j.checkSwitch(ix, nil)
	case h.Overwritten && (h.Length == 0 || h.Length == c.remaining):
		j.open = nil
		return &Joined{LSN: c.start, Length: c.length, Overwritten: true}, j.checkOverwritten(ix, c)
	case h.Length == 0:
		return nil, disconnected(ix, "it does not continue the record that segment %s begins at %s", j.last.Segment, c.start)
	case h.Length != c.remaining:
		return nil, disconnected(ix, "it continues a record with %d bytes, but segment %s leaves %d", h.Length, j.last.Segment, c.remaining)
	}
	cut := h.Have < h.Length && ix.EndOfRecords != ix.Segment.End() // a partial segment ends in the record
	if !cut && !c.add(h) {
		return nil, disconnected(ix, "its index lacks bytes of the record at %s", c.start)
	}
	if c.remaining > 0 {
		return &Joined{LSN: c.start, Length: c.length, Continues: true}, nil
	}
	j.open = nil
	if c.start == 0 {
		j.prevKnown = false
		return &Joined{End: headEnd(ix)}, j.checkSwitch(ix, nil)
	}
	return j.complete(ix, c)
}

// add takes in a segment's part of the record. False: the part lacks bytes that
// every real one has.
func (c *crossing) add(h Head) bool {
	c.remaining -= h.Have
	if c.start == 0 {
		return true
	}
	missing := uint32(record.HeaderSize - len(c.header))
	if h.Have < missing || uint32(len(h.Bytes)) < missing {
		return false
	}
	crc, n := h.CRC, h.Have-missing
	if missing > 0 {
		c.header = append(c.header, h.Bytes[:missing]...)
		// The header's part is taken out of the head's CRC, which is linear.
		crc = crc32c.Combine(crc32.Checksum(h.Bytes[:missing], castagnoli), h.CRC, int64(n))
	}
	c.crc = crc32c.Combine(c.crc, crc, int64(n))
	if c.whole {
		c.kept = append(c.kept, h.Bytes[:min(len(h.Bytes), maxKept-len(c.kept))]...)
		c.whole = int(h.Have) == len(h.Bytes) && len(c.kept) < maxKept
	}
	return true
}

// complete verifies a record that ends in ix, and says what it is.
func (j *Joiner) complete(ix *Index, c *crossing) (*Joined, error) {
	header := record.ParseHeader(c.header)
	switch {
	case crc32.Update(c.crc, castagnoli, c.header[:20]) != header.CRC:
		return nil, fault(ix, c.start, record.Corrupt, "the record that begins in segment %s and ends here fails its checksum", j.last.Segment)
	case j.prevKnown && header.Prev != j.prev:
		return nil, fault(ix, c.start, record.Corrupt, "the record links back to %s, but the record before it starts at %s", header.Prev, j.prev)
	}
	if err := j.checkSwitch(ix, &header); err != nil {
		return nil, err
	}
	res := &Joined{LSN: c.start, End: headEnd(ix), Length: c.length, Verified: true}
	j.prev, j.prevKnown = c.start, true
	if header.IsSwitch() {
		res.End = ix.Segment.End()
	}
	return res, c.interpret(ix, header, res)
}

// interpret says which transaction or landmark the record is.
func (c *crossing) interpret(ix *Index, header record.Header, res *Joined) error {
	if len(c.kept) < record.HeaderSize {
		return disconnected(ix, "the index of the segment before lacks bytes of the record at %s", c.start)
	}
	major, _ := record.Major(ix.Magic)
	rec := record.Record{
		LSN: c.start, End: res.End, Header: header, Major: major,
		Data: c.kept[record.HeaderSize:], Truncated: uint32(len(c.kept)) < c.length,
	}
	var b builder
	var t Transaction
	var l Landmark
	found, err := b.interpret(&rec, &t, &l)
	if err != nil {
		return fault(ix, c.start, record.Corrupt, "%v", err)
	}
	res.Effects, _ = b.effects.result()
	res.Locks = b.locks.result()
	switch found {
	case aTransaction:
		res.Transaction = &t
	case aLandmark:
		res.Landmark = &l
	}
	return nil
}

// checkSwitch checks a segment that holds only the end of an XLOG_SWITCH and
// zeros: whether that record is one. header is nil if no record crosses.
func (j *Joiner) checkSwitch(ix *Index, header *record.Header) error {
	claims := ix.Switch != 0 && ix.Switch < ix.Segment.Start()
	is := header != nil && header.IsSwitch()
	switch {
	case claims && !is:
		return fault(ix, ix.Segment.Start(), record.ZeroPadded, "the segment is empty, but the record that reaches into it is not XLOG_SWITCH")
	case is && !claims:
		return fault(ix, ix.Segment.Start(), record.Corrupt, "XLOG_SWITCH at the end of segment %s ends this segment, but records follow", j.last.Segment)
	}
	return nil
}

// checkOverwritten checks the record that says that c was given up.
func (j *Joiner) checkOverwritten(ix *Index, c *crossing) error {
	if ix.Records == 0 && ix.EndOfRecords != ix.Segment.End() {
		return nil // of an unfinished segment, that record is not there yet
	}
	if len(ix.Landmarks) == 0 || ix.Landmarks[0].LSN != ix.FirstRecord || ix.Landmarks[0].Kind != OverwriteContrecord {
		return disconnected(ix, "it writes over the record at %s, but does not say so", c.start)
	}
	if lost := ix.Landmarks[0].Redo; c.start != 0 && lost != c.start {
		return disconnected(ix, "it writes over the record at %s, but the unfinished one is at %s", lost, c.start)
	}
	return nil
}

// link checks xl_prev of the first record that starts in ix.
func (j *Joiner) link(ix *Index) error {
	if ix.Records == 0 || !j.prevKnown {
		return nil
	}
	if _, ok := ix.Tail.Header(); ix.FirstRecord == ix.Tail.LSN && !ok {
		return nil // its header is cut: complete will see
	}
	if ix.FirstPrev != j.prev {
		return fault(ix, ix.FirstRecord, record.Disconnected, "the first record links back to %s, but the last one of segment %s starts at %s: they are of different histories",
			ix.FirstPrev, j.last.Segment, j.prev)
	}
	return nil
}

// headEnd is the position after the record that ends with the segment's head.
func headEnd(ix *Index) wal.LSN {
	l, left := ix.Segment.Start()+40, wal.LSN(ix.Head.Have)
	for {
		room := wal.PageSize - l%wal.PageSize
		if left <= room {
			return (l + left).Align()
		}
		l, left = l+room+24, left-room
	}
}
