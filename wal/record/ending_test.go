package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// TestReaderTornOrCorrupt has a record that cannot be read, at the end of WAL and
// in its midst: the one is the torn end, the other damage.
func TestReaderTornOrCorrupt(t *testing.T) {
	start := wal.LSN(size)
	le := binary.LittleEndian
	// old is what a recycled file shows from a sector on: records of another place.
	old := waltest.NewBuilder(17, system, 1, size)
	fill(old, start+30*wal.PageSize, 3)
	recycled := old.Bytes(old.Segments()[0])
	for _, c := range []struct {
		name   string
		record func(b *waltest.Builder) // the one that is damaged
		damage func(s []byte, at int)
		midst  record.Kind // of the fault if WAL follows; at the end it is Torn
	}{
		{"a flipped bit", commit, func(s []byte, at int) { s[at+30] ^= 1 }, record.Corrupt},
		{"a wrong length", commit, func(s []byte, at int) { s[at]++ }, record.Corrupt},
		{"a length that cannot be", commit, func(s []byte, at int) { le.PutUint32(s[at:], 5) }, record.Corrupt},
		{"a wrong link", commit, func(s []byte, at int) { s[at+8] ^= 8 }, record.Corrupt},
		{"no such resource manager", commit, func(s []byte, at int) { s[at+17] = 77 }, record.Corrupt},
		{"old content from a sector on", commit, func(s []byte, at int) {
			from := at/512*512 + 512
			copy(s[at+24:from], make([]byte, from))
			copy(s[from:from+512], recycled[from:])
		}, record.Corrupt},
		{"a long record, its last page", long, func(s []byte, at int) { s[at/wal.PageSize*wal.PageSize+2*wal.PageSize+100] ^= 1 }, record.Corrupt},
		{"a long record, its first page", long, func(s []byte, at int) { s[at+100] ^= 1 }, record.Corrupt},
		{"a long record, its header", long, func(s []byte, at int) { s[at+17] = 77 }, 0},
	} {
		for _, follows := range []bool{false, true} {
			b := waltest.NewBuilder(17, system, 1, size)
			fill(b, start+9*wal.PageSize, 1)
			at := b.Position()
			c.record(b)
			if follows {
				b.Commit(701, noon)
				fill(b, start+20*wal.PageSize, 2)
			}
			content := b.Bytes(b.Segments()[0])
			c.damage(content, int(at-start))
			o := options(b)
			o.Length = size.Bytes()
			r := record.NewReader(bytes.NewReader(content), o)
			walk(r)
			want := record.Torn
			if follows || c.midst == 0 {
				want = record.Corrupt // the header of a long record: its own pages go on
			}
			var fault *record.Error
			if !errors.As(r.Err(), &fault) || fault.Kind != want || fault.LSN != at || r.End() != at {
				t.Errorf("%s, WAL follows: %v: %v; valid WAL ends at %v, the record is at %v", c.name, follows, r.Err(), r.End(), at)
				continue
			}
			if torn := strings.Contains(fault.Reason, "torn"); torn != (want == record.Torn) {
				t.Errorf("%s, WAL follows: %v: %v", c.name, follows, fault)
			}
			// Where what is known is known to be finished, it is damage.
			o.Known = b.Position()
			r.Reset(bytes.NewReader(content), o)
			walk(r)
			if !errors.As(r.Err(), &fault) || fault.Kind != record.Corrupt {
				t.Errorf("%s, known: %v", c.name, r.Err())
			}
		}
	}
}

func commit(b *waltest.Builder) { b.Commit(700, noon) }

func long(b *waltest.Builder) { b.Message(2 * wal.PageSize) }

// TestReaderDamagedLast has damage to the last record of a page of which nothing
// but a switch follows, and to one that fills its segment.
func TestReaderDamagedLast(t *testing.T) {
	for _, full := range []bool{false, true} {
		b := waltest.NewBuilder(17, system, 1, size)
		at, _ := b.Commit(700, noon)
		if full {
			b.FillTo(wal.LSN(2*size) - 64)
			at = b.Position()
			b.FillTo(wal.LSN(2 * size))
		} else {
			b.Switch()
		}
		content := b.Bytes(b.Segments()[0])
		content[int(at)-int(size)+20] ^= 1
		r := record.NewReader(bytes.NewReader(content), options(b))
		walk(r)
		var fault *record.Error
		if !errors.As(r.Err(), &fault) || fault.Kind != record.Corrupt || fault.LSN != at {
			t.Errorf("full %v: %v", full, r.Err())
		}
	}
}
