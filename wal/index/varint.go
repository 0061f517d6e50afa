package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// encoder appends the primitives of docs/format-wal-index.md.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64)   { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)     { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) byte(v byte)     { e.b = append(e.b, v) }
func (e *encoder) uint16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) uint32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) uint64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// time writes seconds since 1970 and microseconds in the second.
func (e *encoder) time(t time.Time) {
	e.int(t.Unix())
	e.uint(uint64(t.Nanosecond() / 1000))
}

// delta writes a number of 32 bits as its difference to the last one.
func (e *encoder) delta(v uint32, last *uint32) {
	e.int(int64(v) - int64(*last))
	*last = v
}

func (e *encoder) relation(r record.Relation, last *record.Relation) {
	e.delta(r.Tablespace, &last.Tablespace)
	e.delta(r.Database, &last.Database)
	e.delta(r.Number, &last.Number)
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

// between reads a number that must lie from least to most.
func (d *decoder) between(least, most uint64) uint64 {
	v := d.max(most)
	if d.err == nil && v < least {
		d.fail(errRange)
	}
	return v
}

// position reads an offset into the segment that is a possible record start.
func (d *decoder) position(seg wal.Segment) wal.LSN {
	v := d.max(uint64(seg.Size) - 1)
	if v%8 != 0 {
		d.fail(errRange)
	}
	return seg.Start() + wal.LSN(v)
}

func (d *decoder) int() int64 {
	u := d.uint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

// delta reads what encoder.delta writes.
func (d *decoder) delta(last *uint32) uint32 {
	diff := d.int()
	v := int64(*last) + diff
	if diff > 1<<32 || diff < -1<<32 || v < 0 || v > 1<<32-1 {
		d.fail(errRange)
		return 0
	}
	*last = uint32(v)
	return *last
}

func (d *decoder) relation(last *record.Relation) record.Relation {
	d.delta(&last.Tablespace)
	d.delta(&last.Database)
	d.delta(&last.Number)
	return *last
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

func (d *decoder) uint16() uint16 {
	if b := d.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// time reads a time; the zero time is never written.
func (d *decoder) time() time.Time {
	sec := d.int()
	micros := d.max(1e6 - 1)
	t := time.Unix(sec, int64(micros)*1000).UTC()
	if t.IsZero() || t.Unix() != sec {
		d.fail(errRange)
	}
	return t
}

// version reads the byte that every section begins with.
func (d *decoder) version() {
	if v := d.byte(); d.err == nil && v != sectionVersion {
		d.fail(fmt.Errorf("version %d is not known, only %d", v, sectionVersion))
	}
}

// end is the verdict: the first error, or that something is left over.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return errMore
	}
	return d.err
}
