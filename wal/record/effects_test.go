package record_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

var table = [3]uint32{1663, 5, 16384}

func TestDecodeHeapRows(t *testing.T) {
	rel := record.Relation{Tablespace: 1663, Database: 5, Number: 16384}
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		for _, image := range []bool{false, true} {
			list, _ := read(t, major, func(b *waltest.Builder) {
				for _, op := range []uint8{record.HeapInsert, record.HeapDelete, record.HeapUpdate, record.HeapHotUpdate, record.HeapInsert | 0x80} {
					b.Rows(7, table, waltest.Row{Op: op, Image: image})
				}
				b.Rows(7, table, waltest.Row{Multi: 300, Image: image})
				b.Rows(7, table, waltest.Row{Op: 0x60, Image: image}) // a lock
				b.Record(waltest.Record{RMGR: record.RMHeap2, Info: 0x10, Main: make([]byte, 9)})
				b.Record(waltest.Record{RMGR: record.RMBtree, Main: make([]byte, 9)})
			})
			want := []record.HeapRows{
				{rel, 1, 0, 0}, {rel, 0, 0, 1}, {rel, 0, 1, 0}, {rel, 0, 1, 0}, {rel, 1, 0, 0}, {rel, 300, 0, 0},
			}
			var got []record.HeapRows
			for _, rec := range list {
				rows, ok, err := record.DecodeHeapRows(&rec, &record.Decoded{})
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					got = append(got, rows)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%d, image %t: %s", major, image, d)
			}
		}
	}
}

// TestDecodeEffectsRefuses: every beginning of every record is refused, or gives
// what a shorter record can give; none panics.
func TestDecodeEffectsRefuses(t *testing.T) {
	list, _ := read(t, 17, func(b *waltest.Builder) {
		b.Rows(7, table, waltest.Row{Op: record.HeapInsert})
		b.Rows(7, table, waltest.Row{Op: record.HeapUpdate, Image: true})
		b.Rows(7, table, waltest.Row{Multi: 3})
		b.HeapTruncate(7, 5, 16384, 16385)
		b.CreateFile(7, table, 0)
		b.TruncateFile(7, table, 3)
		b.CreateDatabase(7, 16400, 1663, 1)
		b.CreateDatabase(7, 16400, 1663, 0)
		b.DropDatabase(7, 16400, 1663, 1664)
		b.DropTablespace(7, 16390)
		b.Lock(7, 5, 16384, 16385)
		b.DatabaseRow(7, 16400, -2, false)
		b.DatabaseRow(7, 16400, -2, true)
	})
	for _, rec := range list {
		if err := decodeEffects(&rec); err != nil {
			t.Errorf("%v: %v", rec.RMGR, err)
		}
		whole := rec
		for n := range whole.Data {
			rec.Data, rec.TotalLength = whole.Data[:n], uint32(n+record.HeaderSize)
			err := decodeEffects(&rec)
			if heap := rec.RMGR == record.RMHeap && rec.HeapOp() != record.HeapTruncate; err == nil && (!heap || n > 0 && n < 16) {
				t.Errorf("%v %02X with %d of %d bytes was accepted", rec.RMGR, rec.Info, n, len(whole.Data))
			}
		}
	}
	rec := record.Record{Major: 14, Header: record.Header{RMGR: record.RMDatabase, Info: 0x20}}
	if _, err := record.DecodeDatabase(&rec, make([]byte, 16)); err == nil {
		t.Error("14 has no such record")
	}
}

// decodeEffects decodes all that a record can be.
func decodeEffects(rec *record.Record) error {
	var d record.Decoded
	if _, ok, err := record.DecodeHeapRows(rec, &d); ok || err != nil {
		return err
	}
	if _, ok, err := record.DecodeDatabaseRow(rec, &d); ok || err != nil {
		return err
	}
	err := rec.Decode(&d)
	if err != nil {
		return err
	}
	switch {
	case rec.RMGR == record.RMHeap && rec.HeapOp() == record.HeapTruncate:
		_, err = record.DecodeHeapTruncate(rec, d.Main)
	case rec.RMGR == record.RMStorage && rec.Op() == record.StorageCreate:
		_, err = record.DecodeStorageCreate(d.Main)
	case rec.RMGR == record.RMStorage:
		_, err = record.DecodeStorageTruncate(d.Main)
	case rec.RMGR == record.RMDatabase:
		_, err = record.DecodeDatabase(rec, d.Main)
	case rec.RMGR == record.RMStandby:
		_, err = record.DecodeStandbyLocks(rec, d.Main)
	case rec.RMGR == record.RMTablespace:
		_, err = record.DecodeTablespaceDrop(d.Main)
	}
	return err
}

func TestDecodeDatabaseRow(t *testing.T) {
	for _, major := range []int{14, 15, 19} {
		list, _ := read(t, major, func(b *waltest.Builder) {
			for _, image := range []bool{false, true} {
				b.DatabaseRow(7, 16400, -2, image)
				b.DatabaseRow(0, 16401, -1, image)
			}
			b.Rows(7, [3]uint32{1664, 0, 1262}, waltest.Row{Op: record.HeapInplace})
			b.Rows(7, [3]uint32{1664, 0, 1262}, waltest.Row{Op: record.HeapUpdate})
			b.Rows(7, [3]uint32{1663, 5, 1262}, waltest.Row{Op: record.HeapInplace})
		})
		var got []record.DatabaseRow
		for _, rec := range list {
			row, ok, err := record.DecodeDatabaseRow(&rec, &record.Decoded{})
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				got = append(got, row)
			}
		}
		want := []record.DatabaseRow{{true, 16400, true}, {true, 16401, false}, {true, 16400, true}, {true, 16401, false}, {}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d: %s", major, d)
		}
	}
}

// TestDatabaseRowInHole: an image without the empty middle of the page.
func TestDatabaseRowInHole(t *testing.T) {
	list, decoded := read(t, 17, func(b *waltest.Builder) { b.DatabaseRow(7, 16400, -2, true) })
	rec := list[0]
	page := rec.Data[len(rec.Data)-2-8192 : len(rec.Data)-2]
	for _, hole := range [][2]int{{36, 6000}, {100, 6900}, {36, 7000}, {30, 50}} {
		length := uint16(8192 - (hole[1] - hole[0]))
		head := append([]byte(nil), rec.Data[:len(rec.Data)-2-8192]...)
		head[4], head[5] = byte(length), byte(length>>8)
		head[6], head[7], head[8] = byte(hole[0]), byte(hole[0]>>8), head[8]|0x01
		data := bytes.Join([][]byte{head, page[:hole[0]], page[hole[1]:], decoded[0].Main}, nil)
		cut := rec
		cut.Data, cut.TotalLength = data, uint32(len(data)+record.HeaderSize)
		row, ok, err := record.DecodeDatabaseRow(&cut, &record.Decoded{})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if inside := hole[0] < 36; row.Known == inside || row.Known && (row.Database != 16400 || !row.Invalid) {
			t.Errorf("hole %v: %+v", hole, row)
		}
	}
}

// FuzzDecodeEffects holds the decoders to bytes that no server writes.
func FuzzDecodeEffects(f *testing.F) {
	for _, info := range []uint8{0x00, 0x10, 0x20, 0x30, 0x70} {
		f.Add(uint8(17), uint8(record.RMHeap), info, []byte{0, 0x20, 4, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 255, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
		f.Add(uint8(14), uint8(record.RMDatabase), info, []byte{255, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	}
	f.Fuzz(func(t *testing.T, major, rmgr, info uint8, data []byte) {
		rec := record.Record{
			Header: record.Header{TotalLength: uint32(len(data) + record.HeaderSize), RMGR: record.RMGR(rmgr), Info: info},
			Major:  14 + int(major%6), Data: data,
		}
		_ = decodeEffects(&rec)
		rec.Truncated = true
		rec.TotalLength += 1000
		_ = decodeEffects(&rec)
	})
}
