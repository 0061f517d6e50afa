package rollup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// The raw bytes of a roll-up (docs/format-wal-index.md): a header, and the entries in
// the order of their numbers. Numbers are those of package index: uint is a
// base-128 number in its shortest form.
//
//	u8 version  u8 version of the sections of an index  uint timeline  u8 shift  uint log  u64 system id  uint count
//	count times:
//	  uint gap  u64 fingerprint  uint+bytes compact  uint+bytes step  uint+bytes edges
const formatVersion = 1

// ErrVersion says that a roll-up is of a format that this version does not know. It is not
// damaged, but nothing can be taken from it.
var ErrVersion = errors.New("it is of another version of the format")

// Encode encodes the Rollup.
func (r *Rollup) Encode() []byte {
	b := []byte{formatVersion, index.CompactVersion}
	b = binary.AppendUvarint(b, uint64(r.Log.Timeline))
	b = append(b, byte(bits.TrailingZeros32(uint32(r.Size))))
	b = binary.AppendUvarint(b, uint64(r.Log.Number))
	b = binary.LittleEndian.AppendUint64(b, r.SystemID)
	b = binary.AppendUvarint(b, uint64(len(r.entries)))
	next := r.Log.First(r.Size)
	for _, e := range r.entries {
		b = binary.AppendUvarint(b, e.Segment.Number-next)
		b = binary.LittleEndian.AppendUint64(b, e.Fingerprint)
		for _, part := range [][]byte{e.compact, e.step, e.edges} {
			b = binary.AppendUvarint(b, uint64(len(part)))
			b = append(b, part...)
		}
		next = e.Segment.Number + 1
	}
	return b
}

// Decode restores what Encode wrote, and checks every entry. Anything that
// Encode would not have written is an error. The Rollup keeps references to b.
func Decode(b []byte) (*Rollup, error) {
	d := decoder{b: b}
	r, err := d.rollup()
	if err != nil {
		return nil, fmt.Errorf("decode roll-up: %w", err)
	}
	return r, nil
}

// decoder reads the parts of a roll-up. The first error sticks.
type decoder struct {
	b   []byte
	err error
}

var (
	errEnds  = errors.New("it ends too early")
	errRange = errors.New("a number is out of range, or not in its shortest form")
)

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

// uint reads a number of at most limit.
func (d *decoder) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.fail(errEnds)
		return 0
	case n < 0 || n > 1 && d.b[n-1] == 0 || v > limit:
		d.fail(errRange)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail(errEnds)
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) part() []byte { return d.bytes(d.uint(uint64(len(d.b)))) }

func (d *decoder) rollup() (*Rollup, error) {
	if v, sections := d.byte(), d.byte(); d.err == nil && (v != formatVersion || sections != index.CompactVersion) {
		return nil, fmt.Errorf("%w: %d.%d, not %d.%d", ErrVersion, v, sections, formatVersion, index.CompactVersion)
	}
	r := &Rollup{Log: Log{Timeline: wal.TimelineID(d.uint(1<<32 - 1))}}
	if shift := d.byte(); shift < 32 {
		r.Size = 1 << shift
	}
	r.Log.Number = uint32(d.uint(1<<32 - 1))
	r.SystemID = d.uint64()
	if d.err == nil && (r.Log.Timeline == 0 || r.Size.Valid() != nil) {
		d.fail(errRange)
	}
	if d.err != nil {
		return nil, d.err
	}
	count := d.uint(r.Size.SegmentsPerLog())
	for next, end := r.Log.First(r.Size), r.Log.Last(r.Size)+1; count > 0; count-- {
		if next >= end {
			return nil, errRange
		}
		e := Entry{Segment: wal.Segment{Timeline: r.Log.Timeline, Number: next + d.uint(end-next-1), Size: r.Size}}
		e.Fingerprint = d.uint64()
		e.compact, e.step, e.edges = d.part(), d.part(), d.part()
		if d.err != nil {
			return nil, d.err
		}
		if err := r.check(e); err != nil {
			return nil, err
		}
		r.entries = append(r.entries, e)
		next = e.Segment.Number + 1
	}
	if d.err == nil && len(d.b) > 0 {
		return nil, errors.New("there are bytes after its end")
	}
	return r, d.err
}

// check decodes what an entry holds, so that it can be relied on.
func (r *Rollup) check(e Entry) error {
	if e.Damaged() {
		if len(e.step)+len(e.edges) > 0 {
			return fmt.Errorf("the entry of segment %s tells of a damaged one", e.Segment.Name())
		}
		return nil
	}
	ix, err := e.Index()
	if err != nil {
		return err
	}
	j, stepped, err := e.Step()
	switch n := len(r.entries); {
	case err != nil:
		return err
	case ix.SystemID != r.SystemID:
		return fmt.Errorf("the entry of segment %s is of system identifier %d", e.Segment.Name(), ix.SystemID)
	case ix.EndOfRecords != e.Segment.End():
		return fmt.Errorf("the entry of segment %s is of a part of it", e.Segment.Name())
	case stepped && (n == 0 || r.entries[n-1].Segment.Number+1 != e.Segment.Number || r.entries[n-1].Damaged()):
		return fmt.Errorf("the entry of segment %s continues none", e.Segment.Name())
	case stepped && !fits(ix, j):
		return fmt.Errorf("the entry of segment %s begins with another record", e.Segment.Name())
	}
	return nil
}

// fits reports whether a step into a segment can have led to what its index says.
func fits(ix *index.Index, j *index.Joined) bool {
	switch h := ix.Head; {
	case j.LSN == 0:
		return h.Length == 0 && !h.Overwritten
	case j.Overwritten:
		return h.Overwritten
	case j.Continues:
		return h.Have < h.Length && !h.Overwritten
	default:
		return h.Length > 0 && h.Have == h.Length
	}
}
