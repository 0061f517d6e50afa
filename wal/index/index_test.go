package index_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	size   = wal.MinSegmentSize
	system = 7345678901234567890
)

var (
	noon     = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)
	complete = index.Options{SystemID: system, Complete: true}
	exported = cmpopts.IgnoreUnexported(index.Index{})
)

func build(t testing.TB, b *waltest.Builder, seg wal.Segment) *index.Index {
	t.Helper()
	ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, complete)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

func buildAll(t testing.TB, b *waltest.Builder) []*index.Index {
	t.Helper()
	var list []*index.Index
	for _, seg := range b.Complete() {
		list = append(list, build(t, b, seg))
	}
	return list
}

func get(sections []index.Encoded) func(uint16) ([]byte, bool) {
	return func(t uint16) ([]byte, bool) {
		for _, s := range sections {
			if s.Type == t {
				return s.Data, true
			}
		}
		return nil, false
	}
}

// roundTrip encodes and decodes ix and checks that nothing is lost.
func roundTrip(t testing.TB, ix *index.Index) *index.Index {
	t.Helper()
	sections := ix.Sections()
	got, err := index.Decode(get(sections))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ix, got, exported, cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff(slices.Collect(ix.DetailedTransactions()), slices.Collect(got.DetailedTransactions())); d != "" {
		t.Fatal(d)
	}
	for i, s := range got.Sections() {
		if s.Type != sections[i].Type || !bytes.Equal(s.Data, sections[i].Data) {
			t.Fatalf("section %#x is encoded differently again", s.Type)
		}
	}
	return got
}

func TestBuild(t *testing.T) {
	for major := record.MinMajor; major <= record.MaxMajor; major++ {
		b := waltest.NewBuilder(major, system, 3, size)
		b.Seek(0x1005, wal.LSN(0x1005*int(size)-200))
		var xacts []index.Transaction
		var marks []index.Landmark
		xact := func(kind index.TransactionKind, xid uint32, at time.Time, gid string, db uint32) func(start, end wal.LSN) {
			return func(start, end wal.LSN) {
				xacts = append(xacts, index.Transaction{LSN: start, End: end, XID: xid, Time: at, Kind: kind, GID: gid, Database: db})
			}
		}
		mark := func(l index.Landmark) func(start, end wal.LSN) {
			return func(start, end wal.LSN) {
				l.LSN, l.End = start, end
				marks = append(marks, l)
			}
		}
		level := index.LevelUnknown
		if major >= 17 {
			level = index.LevelReplica
		}
		at := func(i int) time.Time { return noon.Add(time.Duration(i) * time.Second) }
		xact(index.Commit, 705, at(5), "", 0)(b.Commit(705, at(5)))
		b.Message(100000)
		xact(index.Abort, 701, at(1), "", 0)(b.Abort(701, at(1)))
		mark(index.Landmark{Kind: index.RestorePoint, Time: at(6), Name: "before the upgrade"})(b.RestorePoint("before the upgrade", at(6)))
		xact(index.Prepare, 709, at(9), "order 66", 5)(b.Prepare(709, 5, "order 66", at(9)))
		xact(index.CommitPrepared, 690, at(2), "", 0)(b.CommitWith(0, at(2), waltest.Transaction{Prepared: 690}))
		xact(index.AbortPrepared, 709, at(3), "order 66", 7)(b.AbortWith(0, at(3), waltest.Transaction{Prepared: 709, GID: "order 66", Database: 7}))
		mark(index.Landmark{Kind: index.ParameterChange, WALLevel: index.LevelLogical, Settings: &index.Settings{100, 8, 10, 2, 64, true, false}})(b.ParameterChange(100, 2))
		mark(index.Landmark{Kind: index.CheckpointRedo, WALLevel: index.LevelReplica})(b.CheckpointRedo())
		mark(index.Landmark{Kind: index.CheckpointOnline, Time: at(0).Truncate(time.Second), Timeline: 3, PrevTimeline: 3, Redo: 0x100500028, NextXID: 1<<32 | 750, WALLevel: level})(b.OnlineCheckpoint(0x100500028, at(0)))
		mark(index.Landmark{Kind: index.BackupEnd, Redo: 0x100500028})(b.BackupEnd(0x100500028))
		mark(index.Landmark{Kind: index.EndOfRecovery, Time: at(4), Timeline: 3, PrevTimeline: 2, WALLevel: level})(b.EndOfRecovery(2, at(4)))
		mark(index.Landmark{Kind: index.CheckpointShutdown, Time: at(0).Truncate(time.Second), Timeline: 3, PrevTimeline: 2, Redo: b.Position(), NextXID: 1<<32 | 750, WALLevel: level})(b.ShutdownCheckpoint(2, at(0)))
		mark(index.Landmark{Kind: index.Switch})(b.Switch())
		seg := b.Segments()[0]
		ix := build(t, b, seg)
		magic, _ := record.Magic(major)
		want := &index.Index{
			Segment: seg, SystemID: system, Magic: magic,
			FirstRecord: seg.Start() + 40, LastRecord: marks[7].LSN, LastComplete: marks[7].LSN, EndOfRecords: seg.End(),
			FirstPrev: seg.Start() - 200, Records: 14, Switch: marks[7].LSN, PageTimelineFirst: 3, PageTimelineLast: 3,
			FirstTime: at(5), LastTime: at(3), MinTime: at(1), MaxTime: at(5), MinXID: 690, MaxXID: 709, Commits: 2, Aborts: 2, Prepared: 3,
			Landmarks: marks,
		}
		if d := cmp.Diff(want, ix, exported); d != "" {
			t.Errorf("%d: %s", major, d)
		}
		if d := cmp.Diff(xacts, slices.Collect(ix.Transactions())); d != "" {
			t.Errorf("%d: %s", major, d)
		}
		if ix.NumTransactions() != 5 {
			t.Errorf("%d transactions", ix.NumTransactions())
		}
		roundTrip(t, ix)
		summary, err := index.DecodeSummary(ix.Sections()[0].Data)
		want.Landmarks = nil
		if d := cmp.Diff(want, summary, exported); d != "" || err != nil {
			t.Errorf("%d: summary: %v %s", major, err, d)
		}
	}
}

// TestBuildRefuses has each way a file in pg_wal can fail to be a complete segment.
func TestBuildRefuses(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Seek(7, 0)
	for range 2000 {
		b.Commit(700, noon)
	}
	stop := b.Position()
	seg := b.Segments()[0]
	unfinished, stale := b.Bytes(seg), b.WithStalePages(seg)
	b.FillSegment()
	good := b.Bytes(seg)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-100] ^= 1
	next := seg.Next()
	other := seg
	other.Timeline = 0
	for name, c := range map[string]struct {
		content []byte
		seg     wal.Segment
		system  uint64
		kind    record.Kind
		at      wal.LSN
	}{
		"zero-padded":      {unfinished, seg, system, record.ZeroPadded, stop},
		"half recycled":    {stale, seg, system, record.Recycled, stop},
		"flipped":          {flipped, seg, system, record.Corrupt, 0},
		"another cluster":  {good, seg, system + 1, record.Foreign, seg.Start()},
		"another segment":  {good, next, system, record.Recycled, next.Start()},
		"truncated":        {good[:len(good)-1], seg, system, record.Truncated, seg.End() - 1},
		"oversized":        {append(bytes.Clone(good), 0), seg, system, record.Oversized, seg.End()},
		"only zeros":       {make([]byte, size), seg, system, record.ZeroPadded, seg.Start()},
		"nothing":          {nil, seg, system, record.Truncated, seg.Start()},
		"not a WAL file":   {bytes.Repeat([]byte("walden! "), int(size)/8), seg, system, record.Foreign, seg.Start()},
		"larger segments":  {good, wal.Segment{Timeline: 1, Number: 0, Size: 16 << 20}, system, record.Foreign, 0},
		"smaller segments": {good, seg, system, 0, 0},
	} {
		ix, err := index.Build(bytes.NewReader(c.content), c.seg, index.Options{SystemID: c.system, Complete: true})
		var e *record.Error
		switch {
		case c.kind == 0 && (err != nil || ix.FirstPrev != 0):
			t.Errorf("%s: %v", name, err)
		case c.kind == 0:
		case !errors.As(err, &e) || ix != nil:
			t.Errorf("%s: %v", name, err)
		case e.Kind != c.kind || c.at != 0 && e.LSN != c.at || e.Reason == "":
			t.Errorf("%s: %s at %v: %v", name, e.Kind, e.LSN, e)
		case !strings.Contains(err.Error(), c.seg.Name()):
			t.Errorf("%s: the segment is not named: %v", name, err)
		}
	}
	for _, bad := range []wal.Segment{other, {Timeline: 1, Number: 1, Size: 5}, {Timeline: 1, Number: 1 << 60, Size: size}} {
		if _, err := index.Build(bytes.NewReader(good), bad, complete); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	broken := errors.New("the disk is on fire")
	if _, err := index.Build(failing{broken}, seg, complete); !errors.Is(err, broken) {
		t.Errorf("a failing source: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestBuildPartial(t *testing.T) {
	b := waltest.NewBuilder(17, system, 2, size)
	b.Seek(7, 0)
	b.Commit(700, noon)
	last, _ := b.Commit(701, noon)
	stop := b.Position()
	seg := b.Segments()[0]
	unfinished, stale := b.Bytes(seg), b.WithStalePages(seg)
	b.Message(200000)
	torn := b.Bytes(seg)
	clear(torn[100000:])
	damaged := b.Bytes(seg)
	damaged[50000] ^= 1
	o := index.Options{SystemID: system}
	for name, content := range map[string][]byte{"zeros": unfinished, "recycled": stale, "torn": torn, "damaged": damaged} {
		ix, err := index.Build(bytes.NewReader(content), seg, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if ix.EndOfRecords != stop || ix.LastRecord != last || ix.LastComplete != last || ix.Records != 2 || ix.Tail.LSN != 0 || ix.NumTransactions() != 2 {
			t.Errorf("%s: %+v", name, ix)
		}
		roundTrip(t, ix)
	}
	older := seg
	older.Timeline = 1
	for name, c := range map[string]struct {
		content []byte
		seg     wal.Segment
		o       index.Options
	}{
		"only zeros":      {make([]byte, size), seg, o},
		"another cluster": {unfinished, seg, index.Options{SystemID: 5}},
		"another place":   {unfinished, seg.Next(), o},
		"later timeline":  {unfinished, older, o},
		"truncated":       {unfinished[:8192], seg, o},
	} {
		if ix, err := index.Build(bytes.NewReader(c.content), c.seg, c.o); err == nil {
			t.Errorf("%s: %+v", name, ix)
		}
	}
}

// TestBuildShapes are segments that are unusual and sound: all continuation,
// ended exactly at the end, a copy made by a promotion.
func TestBuildShapes(t *testing.T) {
	b := waltest.NewBuilder(18, system, 1, size)
	b.Commit(700, noon)
	b.Message(3 << 20)
	f := b.Fork(2, "no recovery target specified")
	f.EndOfRecovery(1, noon)
	f.FillSegment()
	list := buildAll(t, b)
	if ix := list[1]; ix.Records != 0 || ix.FirstRecord != 0 || ix.EndOfRecords != ix.Segment.End() || ix.Head.Have >= ix.Head.Length {
		t.Errorf("a segment of continuation: %+v", ix)
	}
	forked := buildAll(t, f)[0]
	if forked.PageTimelineFirst != 1 || forked.PageTimelineLast != 2 || forked.Segment.Timeline != 2 {
		t.Errorf("a segment of two timelines: %d to %d", forked.PageTimelineFirst, forked.PageTimelineLast)
	}
	if forked.Tail.LSN != 0 || forked.EndOfRecords != forked.Segment.End() || forked.LastRecord != forked.LastComplete {
		t.Errorf("a segment that ends with a record: %+v", forked)
	}
	for _, ix := range append(list, forked) {
		roundTrip(t, ix)
	}
}

func TestSetTransactions(t *testing.T) {
	seg := wal.Segment{Timeline: 1, Number: 3, Size: size}
	ix := &index.Index{Segment: seg}
	rnd := rand.New(rand.NewPCG(1, 1))
	var list []index.Transaction
	for at := seg.Start() + 40; at < seg.End()-2000; {
		end := at + wal.LSN(8*(1+rnd.IntN(100)))
		x := index.Transaction{LSN: at, End: end, XID: rnd.Uint32(), Time: wal.FromPGMicros(rnd.Int64() - rnd.Int64()), Kind: index.TransactionKind(1 + rnd.IntN(5))}
		if rnd.IntN(3) == 0 {
			x.GID, x.Database = "gid", rnd.Uint32()
		}
		list = append(list, x)
		at = end + wal.LSN(8*rnd.IntN(100))
	}
	if err := ix.SetTransactions(list); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list, slices.Collect(ix.Transactions())); d != "" {
		t.Error(d)
	}
	for range ix.Transactions() {
		break // must be allowed
	}
	for name, bad := range map[string]index.Transaction{
		"before":    {LSN: seg.Start() - 8, End: seg.Start() + 32, Kind: index.Commit},
		"after":     {LSN: seg.End(), End: seg.End() + 32, Kind: index.Commit},
		"crossing":  {LSN: seg.End() - 8, End: seg.End() + 32, Kind: index.Commit},
		"no length": {LSN: seg.Start(), End: seg.Start(), Kind: index.Commit},
		"no kind":   {LSN: seg.Start(), End: seg.Start() + 8},
		"unaligned": {LSN: seg.Start() + 1, End: seg.Start() + 8, Kind: index.Commit},
		"long name": {LSN: seg.Start(), End: seg.Start() + 8, Kind: index.Commit, GID: strings.Repeat("x", 200)},
	} {
		if err := ix.SetTransactions([]index.Transaction{bad}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := ix.SetTransactions(list[:2]); err != nil {
		t.Fatal(err)
	}
	if err := ix.SetTransactions([]index.Transaction{list[1], list[0]}); err == nil {
		t.Error("descending positions were accepted")
	}
}

// TestDecodeRefuses flips every bit of every section: what is still accepted must
// be what its own encoding says, and nothing may be read beyond the segment.
func TestDecodeRefuses(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Seek(2, 0)
	b.CommitWith(1, noon, waltest.Transaction{Database: 5})
	b.Prepare(2, 5, "gid", noon)
	b.RestorePoint("p", noon)
	b.ParameterChange(1, 1)
	b.Rows(4, orders, waltest.Row{Multi: 3})
	b.Rows(5, items, deleted)
	b.CreateFile(5, orders, 0)
	b.TruncateFile(5, items, 200)
	b.Lock(5, 5, 16384)
	b.Lock(8, 5, 16384)
	b.DropDatabase(5, 16400, 1663)
	b.CommitWith(5, noon, waltest.Transaction{Subxacts: []uint32{6, 9}, Relations: [][3]uint32{orders, items}, Stats: [][3]uint32{{2, 5, 16384}}})
	b.FillTo(3*wal.LSN(size) - 64)
	b.CommitWith(3, noon, waltest.Transaction{Subxacts: make([]uint32, 20)})
	b.FillSegment()
	sections := buildAll(t, b)[0].Sections()
	for i, s := range sections {
		for at := range s.Data {
			for bit := range 8 {
				changed := slices.Clone(sections)
				changed[i].Data = bytes.Clone(s.Data)
				changed[i].Data[at] ^= 1 << bit
				checkCanonical(t, changed)
			}
		}
		for _, data := range [][]byte{s.Data[:len(s.Data)-1], append(bytes.Clone(s.Data), 0), nil, {0}, {2}} {
			changed := slices.Clone(sections)
			changed[i].Data = data
			if _, err := index.Decode(get(changed)); err == nil {
				t.Errorf("section %#x of %d instead of %d bytes was accepted", s.Type, len(data), len(s.Data))
			}
		}
		if _, err := index.Decode(get(slices.Delete(slices.Clone(sections), i, i+1))); err == nil {
			t.Errorf("without section %#x", s.Type)
		}
	}
}

func checkCanonical(t *testing.T, sections []index.Encoded) {
	t.Helper()
	ix, err := index.Decode(get(sections))
	if err != nil {
		return
	}
	for i, s := range ix.Sections() {
		if !bytes.Equal(s.Data, sections[i].Data) {
			t.Fatalf("section %#x: %x became %x", s.Type, sections[i].Data, s.Data)
		}
	}
	n := uint64(0)
	last := ix.Segment.Start()
	for x := range ix.DetailedTransactions() {
		if x.LSN < last || x.End <= x.LSN || x.End > ix.Segment.End() {
			t.Fatalf("transaction at %v to %v in %v", x.LSN, x.End, ix.Segment)
		}
		last = x.End
		n++
	}
	if n != ix.NumTransactions() {
		t.Fatalf("%d of %d transactions", n, ix.NumTransactions())
	}
	// What decodes can be joined with anything: its own edges here.
	next := *ix
	next.Segment.Number++
	if joined, err := index.Join(ix, &next); err == nil && joined.Verified && joined.LSN != ix.Tail.LSN {
		t.Fatalf("%+v", joined)
	}
}

// FuzzDecode holds every section's decoder to: what parses encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	seed := func(b *waltest.Builder) {
		b.FillSegment()
		for _, ix := range buildAll(f, b) {
			s := ix.Sections()
			f.Add(s[0].Data, s[1].Data, s[2].Data, s[3].Data, s[4].Data, s[5].Data)
		}
	}
	b := waltest.NewBuilder(17, system, 1, size)
	b.CommitWith(1, noon, waltest.Transaction{Database: 5})
	b.Prepare(2, 5, "gid", noon)
	b.RestorePoint("p", noon)
	b.Rows(4, orders, waltest.Row{Multi: 3})
	b.TruncateFile(3, items, 200)
	b.Lock(3, 5, 16384)
	b.DropDatabase(3, 16400, 1663)
	b.CommitWith(3, noon, waltest.Transaction{Subxacts: []uint32{6, 9}, Relations: [][3]uint32{orders, items}, Stats: [][3]uint32{{2, 5, 16384}}})
	b.FillTo(2*wal.LSN(size) - 64)
	b.Commit(4, noon)
	b.OnlineCheckpoint(4, noon)
	seed(b)
	b = waltest.NewBuilder(19, system, 1, size)
	b.FillTo(2*wal.LSN(size) - 64)
	b.Overwritten(1000, 0, noon)
	b.FillTo(3*wal.LSN(size) - 8)
	b.Switch()
	b.ParameterChange(7, 2)
	seed(b)
	f.Fuzz(func(t *testing.T, summary, transactions, landmarks, edges, details, effects []byte) {
		checkCanonical(t, []index.Encoded{
			{Type: index.SectionSummary, Data: summary}, {Type: index.SectionTransactions, Data: transactions},
			{Type: index.SectionLandmarks, Data: landmarks}, {Type: index.SectionEdges, Data: edges},
			{Type: index.SectionDetails, Data: details}, {Type: index.SectionEffects, Data: effects},
		})
		if ix, err := index.DecodeSummary(summary); err == nil && !bytes.Equal(ix.Sections()[0].Data, summary) {
			t.Fatalf("summary %x became %x", summary, ix.Sections()[0].Data)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	big := wal.SegmentSize(16 << 20)
	for name, write := range map[string]func(w *waltest.Builder, i int){
		"pgbench": func(w *waltest.Builder, i int) { // about the mix of a simple update
			w.Record(waltest.Record{RMGR: record.RMHeap, XID: uint32(i), Main: make([]byte, 60), Blocks: []waltest.Block{{Relation: 1, Number: 1, Data: make([]byte, 40)}}})
			w.Record(waltest.Record{RMGR: record.RMBtree, XID: uint32(i), Main: make([]byte, 2), Blocks: []waltest.Block{{Relation: 1, Number: 1, Data: make([]byte, 16)}}})
			w.Commit(uint32(i), noon)
		},
		"images": func(w *waltest.Builder, i int) {
			w.Record(waltest.Record{RMGR: record.RMXLOG, Info: record.XLOGFPI, Blocks: []waltest.Block{{Relation: 1, Number: 1, Image: make([]byte, 8192)}}})
		},
	} {
		b.Run(name, func(b *testing.B) {
			w := waltest.NewBuilder(17, system, 1, big)
			for i := 1; w.Position() < wal.LSN(2*big); i++ {
				write(w, i)
			}
			seg := w.Segments()[0]
			content := w.Bytes(seg)
			b.SetBytes(big.Bytes())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := index.Build(bytes.NewReader(content), seg, complete); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ io.ReaderAt = failing{}
