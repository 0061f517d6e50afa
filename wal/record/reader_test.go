package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	size   = wal.MinSegmentSize
	system = 7345678901234567890
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

// seen is what a test compares of a record.
type seen struct {
	LSN, End wal.LSN
	RMGR     record.RMGR
	Info     uint8
	XID      uint32
}

func all(b *waltest.Builder) []byte {
	var out []byte
	for _, seg := range b.Segments() {
		out = append(out, b.Bytes(seg)...)
	}
	return out
}

func options(b *waltest.Builder) record.Options {
	first := b.Segments()[0]
	return record.Options{Start: first.Start(), SegmentSize: first.Size, Timeline: b.Timeline(), SystemID: system}
}

func walk(r *record.Reader) []seen {
	var list []seen
	for r.Next() {
		rec := r.Record()
		list = append(list, seen{rec.LSN, rec.End, rec.RMGR, rec.Info, rec.XID})
	}
	return list
}

// fill writes a mix of records until the Builder is past l, and returns what it wrote.
func fill(b *waltest.Builder, l wal.LSN, seed uint64) []seen {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var list []seen
	for b.Position() < l {
		xid := 700 + uint32(len(list))
		r := waltest.Record{RMGR: record.RMHeap, XID: xid, Main: make([]byte, rnd.IntN(600))}
		switch rnd.IntN(8) {
		case 0:
			r.Blocks = []waltest.Block{{Tablespace: 1663, Database: 5, Relation: 16384, Number: 7, Image: make([]byte, 8192), Data: []byte("x")},
				{SameRelation: true, Fork: 2, Number: 1}}
		case 1:
			r.Main = make([]byte, rnd.IntN(40000))
		case 2:
			r.Main = nil
		}
		start, end := b.Record(r)
		list = append(list, seen{start, end, r.RMGR, r.Info, xid})
	}
	return list
}

func TestReaderEveryMajor(t *testing.T) {
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			b := waltest.NewBuilder(major, system, 1, size)
			want := fill(b, wal.LSN(3*size), uint64(major))
			b.FillSegment()
			r := record.NewReader(bytes.NewReader(all(b)), options(b))
			got := walk(r)
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			if d := cmp.Diff(want, got[:len(want)]); d != "" {
				t.Error(d)
			}
			if m, _ := record.Major(r.Magic()); m != major || r.SystemID() != system || r.End() != b.Position() {
				t.Errorf("major %d, system %d, end %v", m, r.SystemID(), r.End())
			}
		})
	}
}

// TestReaderSources reads through a source that gives few bytes at a time, and
// reuses one Reader.
func TestReaderSources(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	want := fill(b, wal.LSN(2*size)+100000, 3)
	b.FillSegment()
	content := all(b)
	var r record.Reader
	for _, src := range []io.Reader{bytes.NewReader(content), iotest.HalfReader(bytes.NewReader(content)), iotest.DataErrReader(bytes.NewReader(content))} {
		r.Reset(src, options(b))
		got := walk(&r)
		if r.Err() != nil || !cmp.Equal(want, got[:len(want)]) {
			t.Errorf("%T: %d records, %v", src, len(got), r.Err())
		}
	}
	broken := errors.New("the disk is on fire")
	r.Reset(io.MultiReader(bytes.NewReader(content[:size]), iotest.ErrReader(broken)), options(b))
	walk(&r)
	if !errors.Is(r.Err(), broken) {
		t.Errorf("a failing source: %v", r.Err())
	}
}

// TestReaderSplits puts a record across every 8-byte position around a page's
// end and a segment's end, so that its header is split everywhere it can be.
func TestReaderSplits(t *testing.T) {
	for _, boundary := range []wal.LSN{wal.LSN(size) + 5*wal.PageSize, wal.LSN(2 * size)} {
		for before := wal.LSN(8); before <= 72; before += 8 {
			b := waltest.NewBuilder(18, system, 1, size)
			b.FillTo(boundary - before)
			start, _ := b.Commit(731, noon)
			if start != boundary-before {
				t.Fatalf("the record is at %v, not %v", start, boundary-before)
			}
			end := b.Position()
			b.FillSegment()
			r := record.NewReader(bytes.NewReader(all(b)), options(b))
			var got *record.Record
			for r.Next() {
				if rec := r.Record(); rec.RMGR == record.RMTransaction {
					c := *rec
					got = &c
				}
			}
			if r.Err() != nil || got == nil || got.LSN != start || got.End != end || got.XID != 731 {
				t.Errorf("%d before %v: %+v, %v", before, boundary, got, r.Err())
			}
		}
	}
}

// TestReaderEdges reads segments one by one: the head of each continues the
// tail of the one before.
func TestReaderEdges(t *testing.T) {
	b := waltest.NewBuilder(16, system, 1, size)
	b.Commit(700, noon)
	start, _ := b.Message(3 << 20)
	end := b.Position()
	b.FillSegment()
	var tail record.Tail
	got := uint32(0)
	for i, seg := range b.Segments() {
		r := record.NewReader(bytes.NewReader(b.Bytes(seg)), record.Options{Start: seg.Start(), SegmentSize: size, Timeline: 1, Length: size.Bytes()})
		list := walk(r)
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		switch head := r.Head(); {
		case i == 0:
			tail = r.Tail()
			got = tail.Have
			if tail.LSN != start || head.Length != 0 || len(list) != 1 || len(tail.Bytes) != record.KeepBytes {
				t.Fatalf("first segment: head %d, tail at %v, %d records", head.Length, tail.LSN, len(list))
			}
		case head.Length != tail.Length-got:
			t.Fatalf("segment %d: head of %d bytes, %d are left", i, head.Length, tail.Length-got)
		default:
			got += head.Have
			if got < tail.Length && (len(list) != 0 || r.Tail().LSN != 0) {
				t.Fatalf("segment %d holds more than the continuation", i)
			}
			if got == tail.Length && list[0].LSN != end {
				t.Fatalf("the record after it is at %v, want %v", list[0].LSN, end)
			}
		}
	}
	if got != tail.Length {
		t.Fatalf("%d of %d bytes", got, tail.Length)
	}
}

func TestReaderBoundsMemory(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Message(5 << 20)
	b.CommitWith(9, noon, waltest.Transaction{Subxacts: make([]uint32, 200000)})
	b.FillSegment()
	r := record.NewReader(bytes.NewReader(all(b)), options(b))
	if !r.Next() || !r.Record().Truncated || len(r.Record().Bytes()) != record.KeepBytes-record.HeaderSize {
		t.Fatalf("a long message: %d bytes kept, %v", len(r.Record().Bytes()), r.Err())
	}
	if !r.Next() || r.Record().Truncated || len(r.Record().Bytes()) < 800000 {
		t.Fatalf("a long commit: %d bytes kept, %v", len(r.Record().Bytes()), r.Err())
	}
}

func TestReaderSwitch(t *testing.T) {
	for before := wal.LSN(0); before <= 40; before += 8 { // the switch record's place relative to a page's end
		b := waltest.NewBuilder(15, system, 1, size)
		if before > 0 {
			b.FillTo(wal.LSN(size) + 2*wal.PageSize - before)
		} else {
			b.Commit(1, noon)
		}
		start, end := b.Switch()
		after, _ := b.Commit(731, noon)
		b.FillSegment()
		content := all(b)
		r := record.NewReader(bytes.NewReader(content), options(b))
		list := walk(r)
		i := 0
		for i < len(list) && list[i].LSN != start {
			i++
		}
		if r.Err() != nil || i+1 >= len(list) || list[i].End != end || list[i+1].LSN != after || end != wal.LSN(2*size) {
			t.Fatalf("%d before a page's end: switch %v to %v: %+v, %v", before, start, end, list, r.Err())
		}
		for _, at := range []wal.LSN{start + record.HeaderSize + 24, start.Page() + wal.PageSize, end - 1} {
			if at < start+record.HeaderSize {
				continue
			}
			bad := bytes.Clone(content)
			bad[at-wal.LSN(size)] ^= 1
			r := record.NewReader(bytes.NewReader(bad), options(b))
			walk(r)
			if r.Err() == nil {
				t.Errorf("%d before a page's end: garbage at %v after the switch at %v was accepted", before, at, start)
			}
		}
	}
}

// TestReaderSwitchAcrossSegments has an XLOG_SWITCH whose first 8 or 16 bytes
// are the last of a segment: it ends the next one.
func TestReaderSwitchAcrossSegments(t *testing.T) {
	for _, before := range []wal.LSN{8, 16} {
		b := waltest.NewBuilder(14, system, 1, size)
		b.FillTo(wal.LSN(2*size) - before)
		start, end := b.Switch()
		if end != wal.LSN(3*size) {
			t.Fatalf("the switch ends at %v", end)
		}
		after, _ := b.Commit(1, noon)
		b.FillSegment()
		r := record.NewReader(bytes.NewReader(all(b)), options(b))
		list := walk(r)
		if r.Err() != nil || list[len(list)-1].LSN < after {
			t.Fatalf("%v", r.Err())
		}
		second := b.Segments()[1]
		r = record.NewReader(bytes.NewReader(b.Bytes(second)), record.Options{Start: second.Start(), SegmentSize: size, Timeline: 1, Length: size.Bytes()})
		if list := walk(r); r.Err() != nil || len(list) != 0 || r.HeadSwitch() != start || r.End() != end {
			t.Errorf("alone: %+v, switch %v, %v", list, r.HeadSwitch(), r.Err())
		}
		bad := b.Bytes(second)
		bad[len(bad)-1] = 1
		r = record.NewReader(bytes.NewReader(bad), record.Options{Start: second.Start(), SegmentSize: size, Timeline: 1, Length: size.Bytes()})
		if walk(r); r.Err() == nil {
			t.Error("garbage after it was accepted")
		}
	}
}

func TestReaderOverwritten(t *testing.T) {
	for _, major := range []int{14, 18, 19} {
		b := waltest.NewBuilder(major, system, 1, size)
		first, _ := b.Commit(700, noon)
		lost, overwrite := b.Overwritten(60000, 2, noon)
		b.FillSegment()
		content := all(b)
		r := record.NewReader(bytes.NewReader(content), options(b))
		list := walk(r)
		if r.Err() != nil || list[0].LSN != first || list[1].LSN != overwrite {
			t.Fatalf("%d: %+v, %v", major, list[:2], r.Err())
		}
		// Cold, on the page where the continuation was lost.
		from := overwrite.Page()
		o := options(b)
		o.Start = from
		r = record.NewReader(bytes.NewReader(content[from-wal.LSN(size):]), o)
		if list := walk(r); r.Err() != nil || list[0].LSN != overwrite || !r.Head().Overwritten || r.Head().Length != 0 {
			t.Errorf("%d: cold: %+v, %v", major, r.Head(), r.Err())
		}
		// Cold, a page earlier: the head is given up.
		o.Start = from - wal.PageSize
		r = record.NewReader(bytes.NewReader(content[o.Start-wal.LSN(size):]), o)
		if walk(r); r.Err() != nil || !r.Head().Overwritten || r.Head().Have != wal.PageSize-24 {
			t.Errorf("%d: cold, a page earlier: %+v, %v", major, r.Head(), r.Err())
		}
		// Another record's place in XLOG_OVERWRITE_CONTRECORD, with a sound CRC.
		wrong := waltest.NewBuilder(major, system, 1, size)
		wrong.Commit(700, noon)
		wrong.Commit(701, noon)
		wrong.Overwritten(60000, 2, noon)
		wrong.FillSegment()
		mixed := append(bytes.Clone(content[:from-wal.LSN(size)]), all(wrong)[from-wal.LSN(size):]...)
		r = record.NewReader(bytes.NewReader(mixed), options(b))
		if walk(r); lost == 0 || r.Err() == nil {
			t.Errorf("%d: a foreign overwrite was accepted", major)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	w := waltest.NewBuilder(17, system, 1, 16<<20)
	fill(w, 2*16<<20, 4)
	content := w.Bytes(w.Segments()[0])
	o := options(w)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	var r record.Reader
	for b.Loop() {
		r.Reset(bytes.NewReader(content), o)
		for r.Next() {
		}
		if r.Err() != nil {
			b.Fatal(r.Err())
		}
	}
}
