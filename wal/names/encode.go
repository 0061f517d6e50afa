package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/wal"
)

// SectionDirectory is the type of the section that holds a snapshot's directory
// (docs/format.md).
const SectionDirectory uint16 = 0x15

// formatVersion is the version of directories and chunks: the one this package
// writes, and the only one it reads.
const formatVersion = 1

// Limits that a reader relies on.
const (
	maxName      = 1023            // bytes of a name or a reason
	maxDirectory = 16 << 20        // bytes
	maxChunk     = 16 << 20        // bytes
	maxRows      = 1 << chunkShift // of each catalogue in a chunk
	maxChunks    = 1 << 18         // that a snapshot may refer to
)

var errName = fmt.Errorf("a name has more than %d bytes", maxName)

// encoder appends the primitives of docs/format-names.md.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) byte(v byte)   { e.b = append(e.b, v) }
func (e *encoder) text(s string) { e.uint(uint64(len(s))); e.b = append(e.b, s...) }

func (e *encoder) id(id ID) {
	e.int(id.Time.UnixMilli())
	e.uint(uint64(id.Timeline))
	e.uint(uint64(id.LSN))
}

// encode is the snapshot's directory.
func (s *Snapshot) encode() []byte {
	var e encoder
	e.byte(formatVersion)
	e.id(s.ID)
	e.uint(uint64(s.Until - s.LSN))
	e.uint(uint64(s.ServerVersion))
	holders := s.Holders()
	e.uint(uint64(len(holders)))
	for _, h := range holders {
		e.id(h)
	}
	e.uint(uint64(len(s.chunks)))
	var last uint32
	for _, c := range s.chunks {
		e.uint(uint64(c.number - last))
		last = c.number
		e.b = append(e.b, c.print[:]...)
		holder := 0
		if c.holder != s.ID {
			i, _ := slices.BinarySearchFunc(holders, c.holder, ID.compare)
			holder = i + 1
		}
		e.uint(uint64(holder))
		e.uint(uint64(c.offset))
		e.uint(uint64(c.length))
	}
	e.uint(uint64(len(s.Tablespaces)))
	last = 0
	for _, t := range s.Tablespaces {
		e.uint(uint64(t.OID - last))
		last = t.OID
		e.text(t.Name)
	}
	e.uint(uint64(len(s.Databases)))
	last = 0
	for _, d := range s.Databases {
		e.uint(uint64(d.OID - last))
		last = d.OID
		e.database(d)
	}
	return e.b
}

func (e *encoder) database(d Database) {
	e.text(d.Name)
	e.uint(uint64(d.Tablespace))
	e.byte(byte(d.State))
	if d.State == Unread {
		e.text(d.Reason)
	}
	e.uint(uint64(len(d.chunks)))
	last := 0
	for _, i := range d.chunks {
		e.uint(uint64(i - last))
		last = i
	}
}

// encode is the chunk as it is stored.
func (c *chunk) encode() ([]byte, error) {
	var e encoder
	e.byte(formatVersion)
	e.uint(uint64(c.number))
	e.uint(uint64(len(c.schemas)))
	base := c.number << chunkShift
	last := base
	for _, s := range c.schemas {
		if len(s.Name) > maxName {
			return nil, errName
		}
		e.uint(uint64(s.OID - last))
		last = s.OID
		e.text(s.Name)
	}
	e.uint(uint64(len(c.relations)))
	last = base
	for _, r := range c.relations {
		if len(r.Name) > maxName {
			return nil, errName
		}
		e.uint(uint64(r.OID - last))
		last = r.OID
		e.relation(r)
	}
	return e.b, nil
}

func (e *encoder) relation(r Relation) {
	e.byte(byte(r.Kind))
	e.uint(uint64(r.Schema))
	if r.Filenode == 0 {
		e.uint(0)
	} else {
		// Most relations have the file that they were created with.
		d := int64(r.Filenode) - int64(r.OID)
		e.uint(uint64(d<<1^d>>63) + 1)
	}
	e.uint(uint64(r.Tablespace))
	e.uint(uint64(r.Of))
	e.text(r.Name)
}

// decoder reads what encoder writes, and refuses what it would not write. The
// first error sticks, and reads after it give zeros.
type decoder struct {
	b   []byte
	err error
}

var (
	errEnds  = errors.New("it ends too early")
	errLong  = errors.New("a number is not in its shortest form")
	errRange = errors.New("a number is out of range")
	errOrder = errors.New("its entries are not in ascending order")
	errMore  = errors.New("there are bytes after its end")
)

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.fail(errEnds)
		return 0
	case n < 0 || n > 1 && d.b[n-1] == 0:
		d.fail(errLong)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// max reads a number that must not exceed limit.
func (d *decoder) max(limit uint64) uint64 {
	v := d.uint()
	if v > limit {
		d.fail(errRange)
		return 0
	}
	return v
}

func (d *decoder) oid() uint32 { return uint32(d.max(1<<32 - 1)) }

// count reads how many entries follow, of at least size bytes each.
func (d *decoder) count(size int) int {
	v := d.uint()
	if v > uint64(len(d.b)/size) {
		d.fail(errEnds)
		return 0
	}
	return int(v)
}

// next reads a number that is stored as its distance from the one before, which
// it must exceed unless it is the first.
func (d *decoder) next(last, limit uint64, first bool) uint64 {
	v := d.max(limit - last)
	if v == 0 && !first {
		d.fail(errOrder)
	}
	return last + v
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

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) text() string { return string(d.bytes(d.max(maxName))) }

func (d *decoder) version() {
	if v := d.byte(); d.err == nil && v != formatVersion {
		d.fail(fmt.Errorf("version %d is not known, only %d", v, formatVersion))
	}
}

// maxMilli bounds times to what a key can say: years of four digits.
var maxMilli = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()

func (d *decoder) id() ID {
	u := d.uint()
	milli := int64(u>>1) ^ -int64(u&1)
	if milli < 0 || milli > maxMilli {
		d.fail(errRange)
	}
	id := ID{Time: time.UnixMilli(milli).UTC(), Timeline: wal.TimelineID(d.oid()), LSN: wal.LSN(d.uint())}
	if d.err == nil && id.Timeline == 0 {
		d.fail(errRange)
	}
	return id
}

// end is the verdict: the first error, or that something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return errMore
	}
	return d.err
}
