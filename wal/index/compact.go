package index

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Compact is a copy without the lists of transactions and effects and without the
// bytes of the head and the tail: what is worth keeping of many segments at once. It
// still says how the segment relates to others; to join it, the whole is needed.
func (ix *Index) Compact() *Index {
	c := *ix
	c.transactions, c.details = transactionList{}, detailList{}
	c.Effects, c.Omitted, c.Locks = nil, Omitted{}, nil
	c.Head.Bytes, c.Tail.Bytes = nil, nil
	return &c
}

// CompactVersion is the version of what EncodeCompact and EncodeStep write: that
// of the sections of an index.
const CompactVersion = sectionVersion

// EncodeCompact encodes what Compact keeps (docs/format-wal-index.md, roll-ups).
func (ix *Index) EncodeCompact() []byte {
	var e encoder
	for _, section := range [][]byte{ix.encodeSummary(), ix.encodeLandmarks(), ix.encodeBareEdges()} {
		e.uint(uint64(len(section)))
		e.b = append(e.b, section...)
	}
	return e.b
}

// DecodeCompact restores what EncodeCompact wrote. Anything it would not have
// written is an error.
func DecodeCompact(b []byte) (*Index, error) {
	d := decoder{b: b}
	sections := [3][]byte{}
	for i := range sections {
		sections[i] = d.bytes(d.uint())
	}
	err := d.end()
	var ix *Index
	if err == nil {
		ix, err = decodeSummary(sections[0])
	}
	if err == nil {
		err = ix.decodeLandmarks(sections[1])
	}
	if err == nil {
		err = ix.decodeBareEdges(sections[2])
	}
	if err != nil {
		return nil, fmt.Errorf("decode compact wal index: %w", err)
	}
	return ix, nil
}

// encodeBareEdges is encodeEdges without the bytes of the records.
func (ix *Index) encodeBareEdges() []byte {
	var e encoder
	e.uint(ix.edgeFlags())
	if h := ix.Head; h.Length > 0 {
		e.uint(uint64(h.Length))
		e.uint(uint64(h.Have))
		e.uint32(h.CRC)
	}
	if t := ix.Tail; t.LSN != 0 {
		e.uint(uint64(t.LSN - ix.Segment.Start()))
		e.uint(uint64(t.Length))
		e.uint(uint64(t.Have))
		e.uint32(t.CRC)
	}
	return e.b
}

func (ix *Index) decodeBareEdges(b []byte) error {
	d := decoder{b: b}
	flags := d.max(edgesFlags)
	if flags&edgesHasHead != 0 {
		h := &ix.Head
		h.Length = uint32(d.between(1, 1<<32-1))
		h.Have = uint32(d.between(1, min(uint64(h.Length), uint64(ix.Segment.Size))))
		h.CRC = d.uint32()
	}
	if flags&edgesHasTail != 0 {
		t := &ix.Tail
		t.LSN = d.position(ix.Segment)
		t.Length = uint32(d.between(record.HeaderSize, 1<<32-1))
		t.Have = uint32(d.between(8, min(uint64(t.Length)-1, uint64(ix.Segment.Size))))
		t.CRC = d.uint32()
	}
	ix.Head.Overwritten = flags&edgesOverwritten != 0
	if err := d.end(); err != nil {
		return err
	}
	return ix.checkEdges()
}

// EncodeEdges encodes the head and the tail with their bytes: the section
// SectionEdges.
func (ix *Index) EncodeEdges() []byte { return ix.encodeEdges() }

// WithEdges is a copy with the head and the tail that EncodeEdges wrote: one
// that can be joined. They must be those that ix knows of.
func (ix *Index) WithEdges(edges []byte) (*Index, error) {
	c := *ix
	c.Head, c.Tail = Head{}, Tail{}
	if err := c.decodeEdges(edges); err != nil {
		return nil, fmt.Errorf("decode edges of segment %s: %w", ix.Segment.Name(), err)
	}
	if !bytes.Equal(c.encodeBareEdges(), ix.encodeBareEdges()) {
		return nil, fmt.Errorf("decode edges of segment %s: %w", ix.Segment.Name(), errContradiction)
	}
	return &c, nil
}

// Plain reports whether all that the step between two segments says is that they
// fit: no transaction or landmark crosses, and where a record does, it has been
// followed from its start. A plain step can be kept without the edges (EncodeStep).
func (j *Joined) Plain() bool {
	crosses := j.End != 0 || j.Continues || j.Overwritten
	return j.Transaction == nil && j.Landmark == nil && (j.LSN != 0) == crosses
}

// Bits of a plain step's flags.
const (
	stepCrosses = 1 << iota
	stepContinues
	stepOverwritten
	stepVerified
	stepFlags = 1<<4 - 1
)

// EncodeStep encodes a Plain step into the segment.
func (j *Joined) EncodeStep(into wal.Segment) []byte {
	var e encoder
	var flags uint64
	for _, f := range []struct {
		set bool
		bit uint64
	}{{j.LSN != 0, stepCrosses}, {j.Continues, stepContinues}, {j.Overwritten, stepOverwritten}, {j.Verified, stepVerified}} {
		if f.set {
			flags |= f.bit
		}
	}
	e.uint(flags)
	if j.LSN != 0 {
		e.uint(uint64(into.Start() - j.LSN))
		e.uint(uint64(j.Length))
	}
	if j.Verified {
		e.uint(uint64(j.End - into.Start()))
	}
	return e.b
}

// DecodeStep restores what EncodeStep wrote of a step into the segment.
func DecodeStep(b []byte, into wal.Segment) (*Joined, error) {
	d := decoder{b: b}
	flags := d.max(stepFlags)
	j := &Joined{Continues: flags&stepContinues != 0, Overwritten: flags&stepOverwritten != 0, Verified: flags&stepVerified != 0}
	if flags&stepCrosses != 0 {
		j.LSN = into.Start() - wal.LSN(d.between(8, uint64(into.Start())))
		j.Length = uint32(d.between(record.HeaderSize, 1<<32-1))
	}
	if j.Verified {
		j.End = into.Start() + wal.LSN(d.between(8, uint64(into.Size)))
	}
	ends := 0
	for _, is := range []bool{j.Continues, j.Overwritten, j.Verified} {
		if is {
			ends++
		}
	}
	// What crosses has begun somewhere, and has one end.
	if !j.LSN.Aligned() || !j.End.Aligned() || ends > 1 || (j.LSN != 0) != (ends == 1) {
		d.fail(errContradiction)
	}
	if err := d.end(); err != nil {
		return nil, errors.Join(errors.New("decode a step between segments"), err)
	}
	return j, nil
}

// Joinable reports whether the index holds the bytes that joining needs: that
// of Compact does not, unless the segment has neither head nor tail.
func (ix *Index) Joinable() bool {
	return (ix.Head.Have == 0 || ix.Head.Bytes != nil) && (ix.Tail.LSN == 0 || ix.Tail.Bytes != nil)
}
