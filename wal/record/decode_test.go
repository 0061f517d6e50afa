package record_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// read returns copies of all records that write writes, decoded.
func read(t *testing.T, major int, write func(b *waltest.Builder)) ([]record.Record, []record.Decoded) {
	t.Helper()
	b := waltest.NewBuilder(major, system, 2, size)
	write(b)
	r := record.NewReader(bytes.NewReader(all(b)), options(b))
	var list []record.Record
	var decoded []record.Decoded
	for r.Next() {
		rec := *r.Record()
		rec.Data = bytes.Clone(rec.Bytes())
		var d record.Decoded
		if err := rec.Decode(&d); err != nil {
			t.Fatal(err)
		}
		list, decoded = append(list, rec), append(decoded, d)
	}
	if r.End() != b.Position() {
		t.Fatalf("read up to %v of %v: %v", r.End(), b.Position(), r.Err())
	}
	return list, decoded
}

func TestDecodeFragments(t *testing.T) {
	image := bytes.Repeat([]byte{7}, 8192)
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		list, decoded := read(t, major, func(b *waltest.Builder) {
			b.Record(waltest.Record{RMGR: record.RMHeap, Info: 0x80, XID: 9, Origin: 3, TopLevel: 8, Main: []byte("main"), Blocks: []waltest.Block{
				{Tablespace: 1663, Database: 5, Relation: 16384, Number: 70000, Image: image, Data: []byte("one")},
				{SameRelation: true, Fork: 2, Number: 2},
				{Tablespace: 1664, Database: 0, Relation: 1260, Number: 1, Data: []byte("three")},
			}})
			b.Record(waltest.Record{RMGR: record.RMHeap, Main: bytes.Repeat([]byte("x"), 256)})
			b.Record(waltest.Record{RMGR: record.RMXLOG, Info: record.XLOGNoop})
		})
		first := record.Relation{Tablespace: 1663, Database: 5, Number: 16384}
		want := record.Decoded{
			Blocks: []record.Block{
				{ID: 0, Relation: first, Number: 70000, HasImage: true, ImageApplied: true, ImageLength: 8192, DataLength: 3, Data: []byte("one")},
				{ID: 1, Relation: first, Fork: 2, Number: 2},
				{ID: 2, Relation: record.Relation{Tablespace: 1664, Number: 1260}, Number: 1, DataLength: 5, Data: []byte("three")},
			},
			Origin: 3, TopLevelXID: 8, Main: []byte("main"), MainLength: 4,
		}
		if d := cmp.Diff(want, decoded[0]); d != "" {
			t.Errorf("%d: %s", major, d)
		}
		if len(decoded[1].Main) != 256 || len(decoded[2].Main) != 0 || list[0].Op() != 0x80 {
			t.Errorf("%d: main data of %d and %d bytes", major, len(decoded[1].Main), len(decoded[2].Main))
		}
		if got := first.String(); got != "1663/5/16384" {
			t.Error(got)
		}
	}
}

// raw is a record made of the given bytes after the header.
func raw(major int, data []byte) *record.Record {
	return &record.Record{Major: major, Data: data, Header: record.Header{TotalLength: uint32(len(data) + record.HeaderSize)}}
}

// TestDecodeImages goes through the combinations of image flags, whose bits 15 renumbered.
func TestDecodeImages(t *testing.T) {
	header := func(length, holeOffset uint16, info uint8, holeLength ...uint16) []byte {
		b := []byte{0, 0x10, 0, 0}
		b = binary.LittleEndian.AppendUint16(b, length)
		b = append(binary.LittleEndian.AppendUint16(b, holeOffset), info)
		for _, h := range holeLength {
			b = binary.LittleEndian.AppendUint16(b, h)
		}
		b = append(b, make([]byte, 16)...)
		return append(b, make([]byte, length)...)
	}
	for _, c := range []struct {
		name    string
		major   int
		data    []byte
		applied bool
		ok      bool
	}{
		{"14 plain", 14, header(8192, 0, 0x04), true, true},
		{"14 not applied", 14, header(8192, 0, 0), false, true},
		{"14 hole", 14, header(8000, 24, 0x05), true, true},
		{"14 pglz", 14, header(800, 0, 0x06), true, true},
		{"14 pglz with hole", 14, header(800, 24, 0x07, 500), true, true},
		{"14 hole without offset", 14, header(8000, 0, 0x05), true, false},
		{"14 short without hole", 14, header(8000, 0, 0x04), true, false},
		{"15 plain", 15, header(8192, 0, 0x02), true, true},
		{"15 hole", 15, header(8000, 24, 0x03), true, true},
		{"15 pglz", 15, header(800, 0, 0x06), true, true},
		{"18 lz4 with hole", 18, header(800, 24, 0x0B, 500), true, true},
		{"19 zstd with hole", 19, header(800, 24, 0x13, 500), true, true},
		{"15 hole of nothing", 15, header(800, 24, 0x07, 0), true, false},
		{"15 compressed to a full page", 15, header(8192, 0, 0x06), true, false},
		{"15 longer than a page", 15, header(9000, 0, 0x02), true, false},
		{"15 hole in a full page", 15, header(8192, 24, 0x03), true, false},
	} {
		var d record.Decoded
		err := raw(c.major, c.data).Decode(&d)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && (!d.Blocks[0].HasImage || d.Blocks[0].ImageApplied != c.applied) {
			t.Errorf("%s: %+v", c.name, d.Blocks[0])
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	reference := func(id, flags byte, length uint16) []byte {
		return append(binary.LittleEndian.AppendUint16([]byte{id, flags}, length), make([]byte, 16)...)
	}
	for name, data := range map[string][]byte{
		"unknown id":                 {200, 1, 2},
		"main data missing":          {255, 9, 1},
		"main data left over":        {255, 1, 1, 2},
		"long length cut":            {254, 1, 0},
		"origin cut":                 {253, 1},
		"top-level xid cut":          {252, 1, 2, 3},
		"reference cut":              {0, 0, 0, 0, 1},
		"data without length":        reference(0, 0x20, 0),
		"length without data":        append(reference(0, 0, 3), 1, 2, 3),
		"same relation, none before": {0, 0x80, 0, 0, 1, 2, 3, 4},
		"ids descend":                append(reference(1, 0, 0), reference(0, 0, 0)...),
		"ids repeat":                 append(reference(1, 0, 0), reference(1, 0, 0)...),
		"data missing":               append(reference(0, 0x20, 3), 1, 2),
	} {
		var d record.Decoded
		if err := raw(17, data).Decode(&d); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestDecodeTransaction(t *testing.T) {
	x := waltest.Transaction{
		Database: 5, Subxacts: []uint32{701, 702}, Relations: [][3]uint32{{1663, 5, 16384}, {1663, 5, 16387}},
		Stats: [][3]uint32{{2, 5, 16384}}, Invals: 3, Origin: 0x16B374D848, OriginTime: noon.Add(-time.Hour),
	}
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		prepared := x
		prepared.Prepared, prepared.GID = 690, "order 66"
		quiet := waltest.Transaction{Prepared: 691}
		list, decoded := read(t, major, func(b *waltest.Builder) {
			b.Commit(700, noon)
			b.CommitWith(703, noon, x)
			b.AbortWith(704, noon, waltest.Transaction{Subxacts: []uint32{705}})
			b.CommitWith(0, noon, prepared)
			b.AbortWith(0, noon, quiet)
		})
		full := record.Transaction{
			Op: record.XactCommit, XID: 703, Time: noon, Info: 0x2F, Database: 5, Subxacts: []uint32{701, 702},
			Relations:     []record.Relation{{Tablespace: 1663, Database: 5, Number: 16384}, {Tablespace: 1663, Database: 5, Number: 16387}},
			Invalidations: make([]byte, 48), OriginLSN: 0x16B374D848, OriginTime: noon.Add(-time.Hour),
		}
		if major >= 15 {
			full.Info |= 0x100
			full.DroppedStats = []record.DroppedStats{{Kind: 2, Database: 5, Object: 16384}}
		}
		second := full
		second.Op, second.XID, second.GID = record.XactCommitPrepared, 690, "order 66"
		second.Info |= 0x90
		want := []record.Transaction{
			{Op: record.XactCommit, XID: 700, Time: noon},
			full,
			{Op: record.XactAbort, XID: 704, Time: noon, Info: 0x02, Subxacts: []uint32{705}},
			second,
			{Op: record.XactAbortPrepared, XID: 691, Time: noon, Info: 0x10},
		}
		for i := range want {
			var got record.Transaction
			if err := record.DecodeTransaction(&list[i], decoded[i].Main, &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want[i], got); d != "" {
				t.Errorf("%d: record %d: %s", major, i, d)
			}
			// Cut anywhere it is an error, unless what is cut was not read.
			for n := range len(decoded[i].Main) {
				if err := record.DecodeTransaction(&list[i], decoded[i].Main[:n], &got); err == nil {
					t.Errorf("%d: record %d cut to %d bytes was accepted", major, i, n)
				}
			}
			cut := list[i]
			cut.Truncated = true
			if n := 13; i == 3 {
				if err := record.DecodeTransaction(&cut, decoded[i].Main[:n], &got); err != nil || !got.Truncated || !got.ListsCut || got.XID != 0 || got.Time != noon {
					t.Errorf("%d: a truncated record: %+v, %v", major, got, err)
				}
			}
		}
	}
	rec := record.Record{Header: record.Header{Info: record.XactCommitPrepared, RMGR: record.RMTransaction}, Major: 17}
	if err := record.DecodeTransaction(&rec, make([]byte, 8), new(record.Transaction)); err == nil {
		t.Error("COMMIT PREPARED without an xid was accepted")
	}
}

func TestDecodePrepare(t *testing.T) {
	for _, major := range []int{14, 15, 19} {
		list, decoded := read(t, major, func(b *waltest.Builder) { b.Prepare(700, 5, "order 66", noon, 701, 702) })
		got, err := record.DecodePrepare(&list[0], decoded[0].Main)
		want := record.Prepared{XID: 700, Database: 5, Owner: 10, Time: noon, GID: "order 66", Subxacts: []uint32{701, 702}}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%d: %v %s", major, err, d)
		}
		for _, n := range []int{0, 63, 70, 75} {
			if got, err := record.DecodePrepare(&list[0], decoded[0].Main[:n]); err == nil {
				t.Errorf("%d: cut to %d: %+v", major, n, got)
			}
		}
		decoded[0].Main[0] ^= 1
		if _, err := record.DecodePrepare(&list[0], decoded[0].Main); err == nil || !strings.Contains(err.Error(), "magic") {
			t.Errorf("%d: another magic: %v", major, err)
		}
	}
}

func TestDecodeXLOG(t *testing.T) {
	whole := noon.Truncate(time.Second)
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		list, decoded := read(t, major, func(b *waltest.Builder) {
			b.RestorePoint("before the upgrade", noon)
			b.OnlineCheckpoint(0x2000028, noon)
			b.ShutdownCheckpoint(1, noon)
			b.EndOfRecovery(1, noon)
			b.BackupEnd(0x2000028)
			b.ParameterChange(100, 2)
			b.CheckpointRedo()
		})
		level := int32(record.LevelUnknown)
		if major >= 17 {
			level = 1
		}
		check := func(i int, want any, got any, err error) {
			t.Helper()
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%d: record %d: %v %s", major, i, err, d)
			}
		}
		point, err := record.DecodeRestorePoint(decoded[0].Main)
		check(0, record.NamedPoint{Time: noon, Name: "before the upgrade"}, point, err)
		for i, want := range map[int]record.Checkpoint{
			1: {Redo: 0x2000028, Timeline: 2, PrevTimeline: 2, FullPageWrites: true, WALLevel: level, NextXID: 1<<32 | 750, Time: whole},
			2: {Redo: list[2].LSN, Timeline: 2, PrevTimeline: 1, FullPageWrites: true, WALLevel: level, NextXID: 1<<32 | 750, Time: whole},
		} {
			got, err := record.DecodeCheckpoint(major, decoded[i].Main)
			check(i, want, got, err)
		}
		end, err := record.DecodeEndOfRecovery(major, decoded[3].Main)
		check(3, record.EndOfRecovery{Time: noon, Timeline: 2, PrevTimeline: 1, WALLevel: level}, end, err)
		redo, err := record.DecodeBackupEnd(decoded[4].Main)
		check(4, wal.LSN(0x2000028), redo, err)
		params, err := record.DecodeParameterChange(decoded[5].Main)
		check(5, record.ParameterChange{100, 8, 10, 2, 64, 2, true, false}, params, err)
		redoLevel, err := record.DecodeCheckpointRedo(decoded[6].Main)
		check(6, int32(1), redoLevel, err)

		_, err = record.DecodeRestorePoint(bytes.Repeat([]byte{'x'}, 72))
		if err == nil {
			t.Error("a name without an end was accepted")
		}
	}
	if on, err := record.DecodeFPWChange([]byte{1}); !on || err != nil {
		t.Error(on, err)
	}
	if oid, err := record.DecodeNextOID([]byte{0, 64, 0, 0}); oid != 16384 || err != nil {
		t.Error(oid, err)
	}
}

// TestDecodeCheckpointFields fills every byte of the struct with its own value,
// so that a field read from a wrong place is seen.
func TestDecodeCheckpointFields(t *testing.T) {
	main := make([]byte, 96)
	for i := range main {
		main[i] = byte(i)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(main[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(main[at:]) }
	for _, major := range []int{14, 17, 19} {
		got, err := record.DecodeCheckpoint(major, main)
		if err != nil {
			t.Fatal(err)
		}
		want := record.Checkpoint{
			Redo: wal.LSN(u64(0)), Timeline: wal.TimelineID(u32(8)), PrevTimeline: wal.TimelineID(u32(12)), FullPageWrites: true, WALLevel: record.LevelUnknown,
			NextXID: u64(24), NextOID: u32(32), NextMulti: u32(36), NextMultiOffset: uint64(u32(40)),
			OldestXID: u32(44), OldestMulti: u32(52), Time: wal.FromUnixSeconds(int64(u64(64))), OldestActiveXID: u32(80),
		}
		if major >= 17 {
			want.WALLevel = int32(u32(20))
		}
		if major == 19 {
			want.NextXID, want.NextOID, want.NextMulti, want.NextMultiOffset = u64(32), u32(40), u32(44), u64(48)
			want.OldestXID, want.OldestMulti, want.Time, want.OldestActiveXID = u32(56), u32(64), wal.FromUnixSeconds(int64(u64(72))), u32(88)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d: %s", major, d)
		}
	}
	if _, err := record.DecodeCheckpoint(18, main[:87]); err == nil {
		t.Error("a short checkpoint was accepted")
	}
	if _, err := record.DecodeCheckpoint(19, main[:95]); err == nil {
		t.Error("a short checkpoint of 19 was accepted")
	}
}

func TestNames(t *testing.T) {
	for r, want := range map[record.RMGR]string{record.RMXLOG: "XLOG", record.RMLogicalMessage: "LogicalMessage", record.RMXLOG2: "XLOG2", 128: "custom128", 23: "rmgr 23"} {
		if r.String() != want {
			t.Errorf("%d: %s", uint8(r), r)
		}
	}
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		magic, ok := record.Magic(major)
		if got, known := record.Major(magic); !ok || !known || got != major {
			t.Errorf("major %d has magic %04X, which is of %d", major, magic, got)
		}
	}
	if _, ok := record.Major(0xD106); ok {
		t.Error("13 is not supported")
	}
	if _, ok := record.Magic(13); ok {
		t.Error("13 is not supported")
	}
}

// TestKindNamesByMajor has what TestKindNames cannot see: majors the tests have no
// server of, and what is no kind at all.
func TestKindNamesByMajor(t *testing.T) {
	for _, c := range []struct {
		major int
		rmgr  record.RMGR
		info  uint8
		want  string
	}{
		{14, record.RMDatabase, 0x00, "CREATE"},
		{14, record.RMDatabase, 0x10, "DROP"},
		{16, record.RMDatabase, 0x20, "DROP"},
		{14, record.RMDatabase, 0x20, "UNKNOWN (20)"},
		{14, record.RMHeap2, 0x10, "PRUNE"},
		{16, record.RMHeap2, 0x30, "FREEZE_PAGE"},
		{19, record.RMHeap2, 0x30, "PRUNE_VACUUM_CLEANUP"},
		{19, record.RMHeap2, 0x40, "UNKNOWN (40)"},
		{16, record.RMXLOG, 0xE0, "UNKNOWN (e0)"},
		{19, record.RMXLOG, 0xF0, "LOGICAL_DECODING_STATUS_CHANGE"},
		{19, record.RMGist, 0x70, "UNKNOWN (70)"},
		{14, record.RMGist, 0x70, "ASSIGN_LSN"},
		{14, record.RMTransaction, 0x80 | record.XactCommitPrepared, "COMMIT_PREPARED"},
		{18, record.RMHeap, 0xC0, "HOT_UPDATE+INIT"},
		{18, record.RMHeap, 0x40 | 0x01, "HOT_UPDATE"},
		{19, record.RMXLOG2, 0x00, "CHECKSUMS"},
		{18, record.RMXLOG2, 0x00, "UNKNOWN (0)"},
		{18, 128, 0x20, "UNKNOWN (20)"},
		{18, 60, 0x20, "UNKNOWN (20)"},
	} {
		r := record.Record{Major: c.major, Header: record.Header{RMGR: c.rmgr, Info: c.info}}
		if got := r.Name(); got != c.want {
			t.Errorf("%d: %s %02X is %s, want %s", c.major, c.rmgr, c.info, got, c.want)
		}
	}
}

// TestReaderXLOG2 has a record of the resource manager that 19 gave up: its betas'
// pages may have it, those of the release may not.
func TestReaderXLOG2(t *testing.T) {
	for magic, ok := range map[uint16]bool{0xD120: true, record.Magic19: false} {
		b := waltest.NewBuilder(19, system, 1, size)
		b.Record(waltest.Record{RMGR: record.RMXLOG2, Main: []byte{1, 0, 0, 0}})
		b.FillSegment()
		content := b.Bytes(b.Segments()[0])
		for p := 0; p < len(content); p += wal.PageSize {
			binary.LittleEndian.PutUint16(content[p:], magic)
		}
		var r record.Reader
		r.ResetBytes(content, options(b))
		if r.Next() != ok {
			t.Errorf("magic %04X: %v", magic, r.Err())
		}
		if ok && r.Record().Name() != "CHECKSUMS" {
			t.Error(r.Record().Name())
		}
	}
}

func TestErrorText(t *testing.T) {
	seg := wal.Segment{Timeline: 1, Number: 3, Size: size}
	e := &record.Error{Segment: seg, LSN: 0x300028, Kind: record.Corrupt, Reason: "why"}
	if got := e.Error(); got != "wal segment 000000010000000000000003 at 0/300028: why" {
		t.Error(got)
	}
	if got := (&record.Error{LSN: 5, Reason: "why"}).Error(); got != "wal at 0/5: why" {
		t.Error(got)
	}
	for k := record.Torn; k <= record.Disconnected; k++ {
		if strings.HasPrefix(k.String(), "Kind(") {
			t.Errorf("kind %d has no name", k)
		}
	}
}
