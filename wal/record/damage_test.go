package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// TestReaderDamage names each way a segment can be bad, and expects the kind,
// the place and a word of the reason.
func TestReaderDamage(t *testing.T) {
	start := wal.LSN(size)
	page := func(n int) int { return n * wal.PageSize }
	fresh := func() (*waltest.Builder, []byte) {
		b := waltest.NewBuilder(17, system, 2, size)
		fill(b, start+wal.LSN(page(20)), 9)
		b.FillTo(start + wal.LSN(page(30))) // so that a record begins page 30
		b.FillTo(start + wal.LSN(page(30)) + 512)
		b.Message(20000)
		b.FillSegment()
		return b, b.Bytes(b.Segments()[0])
	}
	le := binary.LittleEndian
	cases := []struct {
		name   string
		damage func(s []byte) []byte
		change func(o *record.Options)
		kind   record.Kind
		at     wal.LSN // 0: anywhere
		reason string
	}{
		{name: "record byte", damage: func(s []byte) []byte { s[page(30)+700] ^= 4; return s }, kind: record.Corrupt, at: start + wal.LSN(page(30)) + 512, reason: "checksum"},
		{name: "later page of a record", damage: func(s []byte) []byte { s[page(31)+700] ^= 4; return s }, kind: record.Corrupt, at: start + wal.LSN(page(30)) + 512, reason: "checksum"},
		{name: "zeros from a page on", damage: func(s []byte) []byte { clear(s[page(31):]); return s }, kind: record.ZeroPadded, at: start + wal.LSN(page(31)), reason: "in the midst of the record at 0/13C200"},
		{name: "zeros from a record on", damage: func(s []byte) []byte { clear(s[page(30)+512:]); return s }, kind: record.ZeroPadded, at: start + wal.LSN(page(30)) + 512, reason: "zeros"},
		{name: "a lost page", damage: func(s []byte) []byte { clear(s[page(31):page(32)]); return s }, kind: record.Corrupt, at: start + wal.LSN(page(31)), reason: "missing"},
		{name: "torn page", damage: func(s []byte) []byte { clear(s[page(30)+512 : page(30)+1024]); return s }, kind: record.Torn, at: start + wal.LSN(page(30)) + 512, reason: "torn"},
		{name: "zeros, then rubbish", damage: func(s []byte) []byte { clear(s[page(31):]); s[len(s)-1] = 1; return s }, kind: record.Torn, reason: "no WAL"},
		{name: "an old page", damage: func(s []byte) []byte { le.PutUint64(s[page(31)+8:], uint64(start)/2); return s }, kind: record.Recycled, at: start + wal.LSN(page(31)), reason: "0/80000"},
		{name: "zeros, then an old page", damage: func(s []byte) []byte {
			clear(s[page(30)+512 : page(32)])
			le.PutUint64(s[page(32)+8:], uint64(start)/2)
			return s
		}, kind: record.Recycled, at: start + wal.LSN(page(30)) + 512, reason: "old one"},
		{name: "an old page of an older major", damage: func(s []byte) []byte {
			le.PutUint16(s[page(31):], record.Magic16)
			le.PutUint64(s[page(31)+8:], 1<<20)
			return s
		}, kind: record.Recycled, reason: "PostgreSQL 16"},
		{name: "another magic", damage: func(s []byte) []byte { s[page(31)] ^= 1; return s }, kind: record.Corrupt, at: start + wal.LSN(page(31)), reason: "magic"},
		{name: "unknown version", damage: func(s []byte) []byte { s[0] = 0x01; return s }, kind: record.Foreign, at: start, reason: "magic number D101"},
		{name: "a text file", damage: func(s []byte) []byte { copy(s, "hello world, this is not WAL"); return s }, kind: record.Foreign, at: start, reason: "not a WAL segment"},
		{name: "only zeros", damage: func(s []byte) []byte { clear(s); return s }, kind: record.ZeroPadded, at: start, reason: "zeros"},
		{name: "another cluster", change: func(o *record.Options) { o.SystemID = 5 }, kind: record.Foreign, at: start, reason: fmt.Sprint(uint64(system))},
		{name: "another segment size", damage: func(s []byte) []byte { le.PutUint32(s[32:], 16<<20); return s }, kind: record.Foreign, at: start, reason: "wal_segment_size"},
		{name: "another page size", damage: func(s []byte) []byte { le.PutUint32(s[36:], 16384); return s }, kind: record.Foreign, at: start, reason: "16384"},
		{name: "another place", change: func(o *record.Options) { o.Start += wal.LSN(size) }, kind: record.Recycled, at: 2 * start, reason: "0/100000"},
		{name: "a later timeline", change: func(o *record.Options) { o.Timeline = 1 }, kind: record.Foreign, at: start, reason: "timeline 2"},
		{name: "timeline descends", damage: func(s []byte) []byte { le.PutUint32(s[page(10)+4:], 1); return s }, kind: record.Corrupt, at: start + wal.LSN(page(10)), reason: "timeline 1, after"},
		{name: "no timeline", damage: func(s []byte) []byte { le.PutUint32(s[4:], 0); return s }, kind: record.Corrupt, at: start, reason: "timeline 0"},
		{name: "unknown flag", damage: func(s []byte) []byte { s[page(31)+2] |= 0x10; return s }, kind: record.Corrupt, at: start + wal.LSN(page(31)), reason: "flags"},
		{name: "long header in the middle", damage: func(s []byte) []byte { s[page(31)+2] |= 0x02; return s }, kind: record.Corrupt, reason: "flags"},
		{name: "no long header at the start", damage: func(s []byte) []byte { s[2] &^= 0x02; return s }, kind: record.Corrupt, at: start, reason: "flags"},
		{name: "continuation denied", damage: func(s []byte) []byte { s[page(31)+2] &^= 0x01; return s }, kind: record.Corrupt, at: start + wal.LSN(page(31)), reason: "does not continue"},
		{name: "continuation claimed", damage: func(s []byte) []byte { s[page(30)+2] |= 0x01; return s }, kind: record.Corrupt, reason: "continue"},
		{name: "continuation of another length", damage: func(s []byte) []byte { s[page(31)+16]++; return s }, kind: record.Corrupt, at: start + wal.LSN(page(31)), reason: "leave"},
		{name: "continuation of nothing", damage: func(s []byte) []byte { s[2] |= 0x01; return s }, kind: record.Corrupt, at: start, reason: "no bytes are left"},
		{name: "short record", damage: func(s []byte) []byte { le.PutUint32(s[page(30)+512:], 23); return s }, kind: record.Corrupt, reason: "shorter"},
		{name: "giant record", damage: func(s []byte) []byte { le.PutUint32(s[page(30)+512:], 1<<31); return s }, kind: record.Corrupt, reason: "longer"},
		{name: "unknown resource manager", damage: func(s []byte) []byte { s[page(30)+512+17] = 22; return s }, kind: record.Corrupt, reason: "resource manager 22"},
		{name: "broken chain", damage: func(s []byte) []byte { s[page(30)+512+9] ^= 1; return s }, kind: record.Corrupt, reason: "links back"},
		{name: "first record links ahead", damage: func(s []byte) []byte { s[40+8+4] = 1; return s }, kind: record.Corrupt, at: start + 40, reason: "not before"},
		{name: "cut short", damage: func(s []byte) []byte { return s[:page(50)+100] }, kind: record.Truncated, at: start + wal.LSN(page(50)) + 100, reason: "only 409700 bytes"},
		{name: "empty", damage: func([]byte) []byte { return nil }, kind: record.Truncated, at: start, reason: "only 0 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := fresh()
			o := options(b)
			o.Length = size.Bytes()
			if c.damage != nil {
				s = c.damage(s)
			}
			if c.change != nil {
				c.change(&o)
			}
			r := record.NewReader(bytes.NewReader(s), o)
			walk(r)
			var e *record.Error
			if !errors.As(r.Err(), &e) {
				t.Fatalf("%v", r.Err())
			}
			if e.Kind != c.kind || c.at != 0 && e.LSN != c.at || !strings.Contains(e.Error(), c.reason) {
				t.Errorf("%s at %v: %v", e.Kind, e.LSN, e)
			}
			if r.End() > e.LSN {
				t.Errorf("valid WAL ends at %v, after the fault at %v", r.End(), e.LSN)
			}
			if r.Next() {
				t.Error("Next goes on after an error")
			}
		})
	}
}

// TestReaderStalePages has the unfinished segment of a live server, in a
// recycled file.
func TestReaderStalePages(t *testing.T) {
	b := waltest.NewBuilder(15, system, 1, size)
	b.Seek(5, wal.LSN(5*size)-100)
	_, end := b.Commit(700, noon)
	seg := b.Segments()[0]
	r := record.NewReader(bytes.NewReader(b.WithStalePages(seg)), options(b))
	walk(r)
	var e *record.Error
	if !errors.As(r.Err(), &e) || e.Kind != record.Recycled || !e.Kind.EndOfWAL() || r.End() != end {
		t.Errorf("end %v, %v", r.End(), r.Err())
	}
}

// TestReaderBitFlips flips bits all over the records of a segment: none may go unseen.
func TestReaderBitFlips(t *testing.T) {
	b := waltest.NewBuilder(18, system, 1, size)
	fill(b, wal.LSN(size)+40*wal.PageSize, 5)
	b.FillSegment()
	content := b.Bytes(b.Segments()[0])
	o := options(b)
	o.Length = size.Bytes()
	r := record.NewReader(bytes.NewReader(content), o)
	covered := make([]bool, len(content))
	for r.Next() {
		rec := r.Record()
		at := int(rec.LSN - o.Start)
		for left := int(rec.TotalLength); left > 0; at++ {
			if at%wal.PageSize == 0 {
				at += 24
			}
			covered[at] = true
			left--
		}
		// xlogreader.c and this package ignore the two bytes of padding, but the CRC covers them.
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		at := rnd.IntN(41 * wal.PageSize)
		if !covered[at] {
			continue
		}
		bit := byte(1) << rnd.IntN(8)
		content[at] ^= bit
		r.Reset(bytes.NewReader(content), o)
		walk(r)
		if r.Err() == nil {
			t.Fatalf("bit %02X at %v was flipped and nobody saw", bit, o.Start+wal.LSN(at))
		}
		content[at] ^= bit
	}
}
