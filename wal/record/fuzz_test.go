package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// There is a target for each layer: pages, records on them, what is in a record,
// and what the records of a resource manager say. Each input is met once as it
// is, and once such that it gets past the layers above.

// reading is all that a Reader says of a run.
type reading struct {
	Records []readRecord
	Head    record.Head
	Tail    record.Tail
	End     wal.LSN
	Fault   string
}

type readRecord struct {
	LSN, End  wal.LSN
	Header    record.Header
	Truncated bool
	Data      []byte
	Decoded   record.Decoded
	Failed    string
}

// readAll reads the run and holds the Reader to what it promises of any.
func readAll(t *testing.T, r *record.Reader) reading {
	t.Helper()
	var all reading
	last := wal.LSN(0)
	for r.Next() {
		rec := r.Record()
		if rec.LSN <= last || rec.End <= rec.LSN || !rec.LSN.Aligned() {
			t.Fatalf("record %v to %v after %v", rec.LSN, rec.End, last)
		}
		last = rec.LSN
		got := readRecord{LSN: rec.LSN, End: rec.End, Header: rec.Header, Truncated: rec.Truncated}
		got.Decoded, got.Failed = decodeTwice(t, rec)
		got.Data = bytes.Clone(rec.Bytes())
		if len(got.Data) > record.KeepTransactionBytes || len(got.Data) > record.KeepBytes && rec.RMGR != record.RMTransaction {
			t.Fatalf("%d bytes are kept of a record of %s", len(got.Data), rec.RMGR)
		}
		all.Records = append(all.Records, got)
	}
	all.Head, all.Tail, all.End = r.Head(), r.Tail(), r.End()
	if len(all.Head.Bytes) > record.KeepBytes || len(all.Tail.Bytes) > record.KeepBytes {
		t.Fatal("edges out of bounds")
	}
	if err := r.Err(); err != nil {
		var fault *record.Error
		if !errors.As(err, &fault) {
			t.Fatalf("an error of reading from memory: %v", err)
		}
		// A switch ends its segment, whatever lies behind it.
		switched := r.HeadSwitch() != 0 || len(all.Records) > 0 && all.Records[len(all.Records)-1].Header.IsSwitch()
		if fault.LSN < all.End && !switched {
			t.Fatalf("a fault at %v, before valid WAL ends at %v", fault.LSN, all.End)
		}
		all.Fault = fault.Kind.String() + " " + fault.Error()
	}
	return all
}

// decodeTwice decodes a record where it lies and put together, which must be the same.
func decodeTwice(t *testing.T, rec *record.Record) (record.Decoded, string) {
	t.Helper()
	var lying, joined record.Decoded
	err := rec.Decode(&lying)
	lying = cloned(&lying)
	one := *rec
	one.Data = bytes.Clone(one.Bytes())
	if again := one.Decode(&joined); (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
		t.Fatalf("%v; in one piece %v", err, again)
	}
	if err != nil {
		return record.Decoded{}, err.Error()
	}
	same(t, "as it lies", cloned(&joined), lying)
	return lying, ""
}

// same is cmp.Diff where it matters, which is slow with many bytes.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("%s, want -, got +\n%s", what, cmp.Diff(want, got))
	}
}

func cloned(d *record.Decoded) record.Decoded {
	c := *d
	c.Blocks = append([]record.Block{}, d.Blocks...)
	for i := range c.Blocks {
		c.Blocks[i].Data = bytes.Clone(c.Blocks[i].Data)
	}
	c.Main = append([]byte{}, d.Main...)
	return c
}

// readEveryWay reads a run in memory and from sources, which must be the same.
func readEveryWay(t *testing.T, content []byte, o record.Options) {
	t.Helper()
	var r record.Reader
	r.ResetBytes(content, o)
	want := readAll(t, &r)
	for _, src := range []io.Reader{bytes.NewReader(content), iotest.HalfReader(bytes.NewReader(content))} {
		r.Reset(src, o)
		same(t, fmt.Sprintf("from %T", src), want, readAll(t, &r))
	}
}

var fuzzOptions = record.Options{Start: wal.LSN(size), SegmentSize: size, Timeline: 1}

// FuzzPages feeds the Reader anything; with mend the pages are such that magic
// number and address are right.
func FuzzPages(f *testing.F) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Commit(700, noon)
	b.Message(9000)
	b.Overwritten(20000, 1, noon)
	b.Switch()
	content := b.Bytes(b.Segments()[0])
	f.Add(content[:8*wal.PageSize], true)
	f.Add(content[:3*wal.PageSize], false)
	f.Add(content[5*wal.PageSize:7*wal.PageSize], true)
	f.Fuzz(func(t *testing.T, content []byte, mend bool) {
		content = bytes.Clone(content)
		for p := 0; mend && p+wal.PageSize <= len(content); p += wal.PageSize {
			binary.LittleEndian.PutUint16(content[p:], record.Magic17)
			binary.LittleEndian.PutUint64(content[p+8:], uint64(size)+uint64(p))
		}
		readEveryWay(t, content, fuzzOptions)
		o := fuzzOptions
		o.Known = o.Start + wal.LSN(len(content)/2)
		var r record.Reader
		r.ResetBytes(content, o)
		for _, rec := range readAll(t, &r).Records {
			if rec.LSN+24 > o.Known {
				t.Fatalf("a record at %v, only the part up to %v is known", rec.LSN, o.Known)
			}
		}
	})
}

// FuzzPageHeader puts anything in the place of one page's header, in the midst
// of a long record or between short ones.
func FuzzPageHeader(f *testing.F) {
	b := waltest.NewBuilder(18, system, 1, size)
	b.Message(20000)
	fill(b, wal.LSN(size)+8*wal.PageSize, 7)
	b.FillSegment()
	valid := b.Bytes(b.Segments()[0])[:10*wal.PageSize]
	for page := range 4 {
		f.Add(bytes.Clone(valid[page*wal.PageSize:page*wal.PageSize+40]), uint8(page))
	}
	f.Add(make([]byte, 40), uint8(2))
	f.Fuzz(func(t *testing.T, header []byte, page uint8) {
		content := bytes.Clone(valid)
		copy(content[int(page)%10*wal.PageSize:], header[:min(len(header), 40)])
		readEveryWay(t, content, fuzzOptions)
	})
}

// FuzzRecords puts anything in the place of records, at any distance from the end
// of a page, over which it may go. What is given has no sound checksum; the record
// before and after have.
func FuzzRecords(f *testing.F) {
	b := waltest.NewBuilder(16, system, 1, size)
	b.Record(waltest.Record{RMGR: record.RMHeap, Main: []byte("x"), Blocks: []waltest.Block{{Relation: 5, Image: make([]byte, 8192)}}})
	whole := b.Bytes(b.Segments()[0])
	f.Add(bytes.Clone(whole[40:120]), uint16(64), false)
	f.Add(bytes.Clone(whole[40:64]), uint16(8), true)
	f.Add([]byte{24, 0, 0, 0}, uint16(8), false)
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0x3F}, uint16(4000), true)
	f.Fuzz(func(t *testing.T, raw []byte, before uint16, zero bool) {
		b := waltest.NewBuilder(16, system, 1, size)
		b.Commit(700, noon)
		page := b.Position().Page() + 2*wal.PageSize
		b.FillTo(page - wal.LSN(before%8000)&^7)
		at := int(b.Position() - wal.LSN(size))
		fill(b, b.Position()+3*wal.PageSize, 11)
		content := b.Bytes(b.Segments()[0])[:8*wal.PageSize]
		if zero {
			clear(content[at:])
		}
		for _, c := range raw { // over the pages' ends, leaving their headers
			if at%wal.PageSize == 0 {
				at += 24
			}
			if at >= len(content) {
				break
			}
			content[at] = c
			at++
		}
		readEveryWay(t, content, fuzzOptions)
	})
}

// FuzzDecode feeds Decode anything, as a record of each major: alone, and on
// pages, across whose end it lies.
func FuzzDecode(f *testing.F) {
	for _, major := range []int{14, 17, 19} {
		b := waltest.NewBuilder(major, system, 1, size)
		b.Record(waltest.Record{RMGR: record.RMHeap, Origin: 3, TopLevel: 8, Main: []byte("main"), Blocks: []waltest.Block{
			{Tablespace: 1663, Database: 5, Relation: 16384, Number: 70000, Image: make([]byte, 8192), Data: []byte("one")},
			{SameRelation: true, Fork: 2, Number: 2, Data: []byte("two")}, {Tablespace: 1664, Relation: 1260},
		}})
		var r record.Reader
		r.ResetBytes(b.Bytes(b.Segments()[0]), options(b))
		r.Next()
		f.Add(bytes.Clone(r.Record().Bytes()), uint8(major), uint16(64), false)
	}
	f.Add([]byte{0, 0x10, 0, 0, 0x20, 3, 24, 0, 0x0B, 0xF4, 1}, uint8(18), uint16(8), true)
	f.Fuzz(func(t *testing.T, data []byte, major uint8, before uint16, truncated bool) {
		m := record.MinMajor + int(major)%(record.MaxMajor-record.MinMajor+1)
		rec := record.Record{Major: m, Data: data, Truncated: truncated, Header: record.Header{TotalLength: uint32(len(data)) + record.HeaderSize}}
		if truncated {
			rec.TotalLength += 1000
		}
		d, failed := decodeTwice(t, &rec)
		if failed == "" {
			checkDecoded(t, &rec, &d)
		}
		if truncated || len(data) > 100_000 {
			return
		}
		b := waltest.NewBuilder(m, system, 1, size)
		b.FillTo(wal.LSN(size) + 2*wal.PageSize - wal.LSN(before%8000)&^7)
		start, _ := b.Raw(record.RMHeap, 0, 700, data)
		var r record.Reader
		r.ResetBytes(b.Bytes(b.Segments()[0]), options(b))
		got := readAll(t, &r)
		for _, x := range got.Records {
			if x.LSN == start && !x.Truncated && (x.Failed == "") != (failed == "") {
				t.Fatalf("alone: %q; on pages: %q", failed, x.Failed)
			}
		}
		if !bytes.Equal(got.Records[len(got.Records)-1].Data[:min(len(data), 60_000)], data[:min(len(data), 60_000)]) {
			t.Fatal("the record is not the last, or has other bytes")
		}
	})
}

// checkDecoded holds the content of a record to what its bytes can hold.
func checkDecoded(t *testing.T, rec *record.Record, d *record.Decoded) {
	t.Helper()
	total, kept := int64(d.MainLength), len(d.Main)
	for i, blk := range d.Blocks {
		total += int64(blk.DataLength) + int64(blk.ImageLength)
		kept += len(blk.Data)
		if i > 0 && blk.ID <= d.Blocks[i-1].ID || blk.ID > 32 {
			t.Fatalf("block reference %d", blk.ID)
		}
		page := int(blk.ImageLength) + int(blk.HoleLength)
		if blk.HasImage && blk.Compression == record.Uncompressed && page != 8192 || (blk.HoleLength > 0) != (blk.HoleOffset > 0) {
			t.Fatalf("an image of %d bytes, with its hole: %+v", page, blk)
		}
	}
	if total > int64(rec.TotalLength) || kept > len(rec.Data) {
		t.Fatalf("%d bytes, of which %d are kept, in a record of %d", total, kept, len(rec.Data))
	}
}

// FuzzTransaction feeds the decoders of RMTransaction anything.
func FuzzTransaction(f *testing.F) {
	for _, major := range []int{14, 17, 18} {
		b := waltest.NewBuilder(major, system, 1, size)
		x := waltest.Transaction{
			Database: 5, Subxacts: []uint32{1}, Relations: [][3]uint32{{1, 2, 3}}, Stats: [][3]uint32{{2, 5, 1}}, Invals: 1,
			Prepared: 3, GID: "x", Origin: 1, OriginTime: noon,
		}
		b.CommitWith(703, noon, x)
		b.AbortWith(703, noon, waltest.Transaction{Subxacts: []uint32{9}})
		b.Prepare(700, 5, "order 66", noon, 701)
		for _, s := range mainSeeds(f, b) {
			f.Add(s.main, s.info, s.major, false)
		}
	}
	f.Fuzz(func(t *testing.T, main []byte, info, major uint8, truncated bool) {
		rec := bare(major, record.RMTransaction, info, truncated)
		var x record.Transaction
		if record.DecodeTransaction(rec, main, &x) == nil {
			size := len(x.Subxacts)*4 + len(x.Relations)*12 + len(x.DroppedStats)*12 + len(x.Invalidations) + len(x.GID)
			if size > len(main) || len(x.GID) > 199 {
				t.Fatal("a transaction says more than its record")
			}
		}
		if p, err := record.DecodePrepare(rec, main); err == nil && len(p.Subxacts)*4+len(p.GID) > len(main) {
			t.Fatal("a prepared transaction says more than its record")
		}
	})
}

// FuzzXLOG feeds the decoders of RMXLOG anything.
func FuzzXLOG(f *testing.F) {
	for _, major := range []int{14, 17, 19} {
		b := waltest.NewBuilder(major, system, 1, size)
		b.RestorePoint("p", noon)
		b.OnlineCheckpoint(1, noon)
		b.EndOfRecovery(1, noon)
		b.BackupEnd(5)
		b.ParameterChange(100, 1)
		b.CheckpointRedo()
		for _, s := range mainSeeds(f, b) {
			f.Add(s.main, s.info, s.major, false)
		}
	}
	f.Fuzz(func(t *testing.T, main []byte, info, major uint8, truncated bool) {
		rec := bare(major, record.RMXLOG, info, truncated)
		c, err := record.DecodeCheckpoint(rec.Major, main)
		if err == nil && (c.WALLevel == record.LevelUnknown) != (rec.Major < 17) && int32(binary.LittleEndian.Uint32(main[20:])) != record.LevelUnknown {
			t.Fatalf("wal_level %d of %d", c.WALLevel, rec.Major)
		}
		if p, err := record.DecodeRestorePoint(main); err == nil && (len(p.Name) > 63 || bytes.IndexByte([]byte(p.Name), 0) >= 0) {
			t.Fatalf("a name that cannot be: %q", p.Name)
		}
		_, _ = record.DecodeEndOfRecovery(rec.Major, main)
		_, _ = record.DecodeParameterChange(main)
		_, _ = record.DecodeOverwriteContrecord(main)
		_, _ = record.DecodeCheckpointRedo(main)
		_, _ = record.DecodeBackupEnd(main)
		_, _ = record.DecodeFPWChange(main)
		_, _ = record.DecodeNextOID(main)
	})
}

// FuzzKindName asks for the name of anything.
func FuzzKindName(f *testing.F) {
	f.Add(uint8(10), uint8(0x40), 17)
	f.Fuzz(func(t *testing.T, rmgr, info uint8, major int) {
		name, ok := record.KindName(major, record.RMGR(rmgr), info)
		rec := record.Record{Major: major, Header: record.Header{RMGR: record.RMGR(rmgr), Info: info}}
		if ok != (name != "") || rec.Name() == "" || ok && rec.Name() != name {
			t.Fatalf("%q, %v, %q", name, ok, rec.Name())
		}
	})
}

// bare is a record of which a target has the main data.
func bare(major uint8, rmgr record.RMGR, info uint8, truncated bool) *record.Record {
	m := record.MinMajor + int(major)%(record.MaxMajor-record.MinMajor+1)
	return &record.Record{Major: m, Truncated: truncated, Header: record.Header{RMGR: rmgr, Info: info, XID: 700}}
}

type mainSeed struct {
	main        []byte
	info, major uint8
}

// mainSeeds are the main data of all records that were built.
func mainSeeds(f *testing.F, b *waltest.Builder) (list []mainSeed) {
	f.Helper()
	var r record.Reader
	r.ResetBytes(all(b), options(b))
	var d record.Decoded
	for r.Next() {
		rec := r.Record()
		if err := rec.Decode(&d); err != nil {
			f.Fatal(err)
		}
		list = append(list, mainSeed{bytes.Clone(d.Main), rec.Info, uint8(rec.Major - record.MinMajor)})
	}
	return list
}
