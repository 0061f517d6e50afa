package index_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

var (
	orders  = [3]uint32{1663, 5, 16384}
	items   = [3]uint32{1663, 5, 16390}
	pgClass = [3]uint32{1663, 5, 1259}
	insert  = waltest.Row{Op: record.HeapInsert}
	deleted = waltest.Row{Op: record.HeapDelete}
)

func relation(table [3]uint32) record.Relation {
	return record.Relation{Tablespace: table[0], Database: table[1], Number: table[2]}
}

// TestEffects: rows by transaction and relation, folded into the top level with
// a commit, forgotten with an abort, as written without either.
func TestEffects(t *testing.T) {
	for _, major := range []int{14, 18} {
		b := waltest.NewBuilder(major, system, 1, size)
		b.Seek(2, 0)
		for range 3 {
			b.Rows(700, orders, deleted)
			b.Rows(701, orders, deleted) // a subtransaction of 700
			b.Rows(710, items, waltest.Row{Op: record.HeapHotUpdate})
		}
		b.Rows(700, orders, waltest.Row{Op: record.HeapUpdate | 0x80, Image: true})
		b.Rows(0, orders, insert) // as redo of a catalogue's in-place change would be: no transaction
		b.Rows(702, items, waltest.Row{Multi: 60})
		b.Rows(703, items, waltest.Row{Multi: 50, Image: true})
		b.Record(waltest.Record{RMGR: record.RMHeap, Info: 0x60, XID: 700, Main: make([]byte, 8), Blocks: []waltest.Block{{Relation: 9, Data: []byte{1}}}}) // a lock
		b.AbortWith(703, noon, waltest.Transaction{})
		b.CommitWith(700, noon, waltest.Transaction{Database: 5, Subxacts: []uint32{701, 702}})
		b.CreateFile(711, items, 0)
		b.CreateFile(711, items, 3)
		b.CreateFile(711, orders, 1)
		b.TruncateFile(711, orders, 9)
		b.TruncateFile(0, items, 9)
		b.Images(711, items, 5)
		b.Images(0, items, 5)
		b.FillSegment()
		ix := buildAll(t, b)[0]
		want := []index.Effect{
			{XID: 700, Relation: relation(orders), Deleted: 6, Updated: 1},
			{XID: 700, Relation: relation(items), Inserted: 60},
			{XID: 710, Relation: relation(items), Updated: 3},
			{XID: 711, Relation: relation(orders), Truncated: true, Blocks: 9},
			{XID: 711, Relation: relation(items), Created: true, Images: 5},
		}
		if d := cmp.Diff(want, roundTrip(t, ix).Effects); d != "" {
			t.Errorf("%d: %s", major, d)
		}
		if ix.Omitted != (index.Omitted{}) {
			t.Errorf("%+v", ix.Omitted)
		}
	}
}

// TestEffectsOmitted: of more than an index holds, the largest stay, files that
// were made before all.
func TestEffectsOmitted(t *testing.T) {
	for _, ended := range []bool{true, false} {
		b := waltest.NewBuilder(17, system, 1, 16*size)
		b.Seek(2, 0)
		small := index.MaxEffects * 5
		for i := range small {
			b.Rows(uint32(1000+i), orders, deleted)
			if i%2 == 0 {
				b.Rows(uint32(1000+i), orders, deleted)
			}
			if ended {
				b.Commit(uint32(1000+i), noon)
			}
		}
		b.CreateFile(900, items, 0)
		b.Rows(900, pgClass, deleted)
		b.Rows(901, items, waltest.Row{Multi: 3})
		b.Commit(900, noon)
		b.FillSegment()
		ix := roundTrip(t, buildAll(t, b)[0])
		lost := uint64(small + 3 - index.MaxEffects)
		if len(ix.Effects) != index.MaxEffects || ix.Omitted.Effects != lost || ix.Omitted.Largest != 2 {
			t.Fatalf("%d kept, omitted %+v", len(ix.Effects), ix.Omitted)
		}
		kept := ix.Omitted.Rows
		for _, e := range ix.Effects {
			kept += e.Rows()
		}
		if want := uint64(small + small/2 + 1 + 3); kept != want {
			t.Errorf("rows kept and omitted are %d of %d", kept, want)
		}
		if e := ix.Effects[:3]; e[0].Relation != relation(pgClass) || !e[1].Created || e[2].Inserted != 3 {
			t.Errorf("%+v", e)
		}
	}
}

// TestEffectsOfManyRelations: one transaction that changes more relations than
// are gathered at once loses none of the rows.
func TestEffectsOfManyRelations(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, 16*size)
	b.Seek(2, 0)
	for range 3 {
		for i := range uint32(1500) {
			b.Rows(700, [3]uint32{1663, 5, 20000 + i}, deleted)
		}
	}
	b.Commit(700, noon)
	b.FillSegment()
	ix := roundTrip(t, buildAll(t, b)[0])
	if len(ix.Effects) != 1500 {
		t.Fatalf("%d effects", len(ix.Effects))
	}
	for _, e := range ix.Effects {
		if e.Deleted != 3 {
			t.Fatalf("%+v", e)
		}
	}
}

func TestStorageLandmarks(t *testing.T) {
	many := make([]uint32, index.MaxOIDs+5)
	for i := range many {
		many[i] = uint32(30000 + i)
	}
	for _, major := range []int{14, 15, 18} {
		b := waltest.NewBuilder(major, system, 1, size)
		b.Seek(2, 0)
		b.CreateDatabase(700, 16400, 1663, 1)
		if major >= 15 {
			b.CreateDatabase(701, 16401, 1663, 0)
		}
		b.DatabaseRow(0, 16400, -1, false) // VACUUM: nothing
		b.DatabaseRow(0, 16400, -1, true)
		b.DatabaseRow(702, 16400, -2, false)
		b.DatabaseRow(0, 16401, -2, true)
		b.DropDatabase(702, 16400, 1663, 16390)
		b.DropTablespace(703, 16390)
		b.HeapTruncate(704, 5, 16500, 16501)
		b.HeapTruncate(705, 5, many...)
		b.FillSegment()
		want := []index.Landmark{
			{Kind: index.DatabaseCreate, XID: 700, Database: 16400, OIDs: []uint32{1663}, Template: 1},
			{Kind: index.DatabaseCreate, XID: 701, Database: 16401, OIDs: []uint32{1663}},
			{Kind: index.DatabaseInvalid, XID: 702, Database: 16400},
			{Kind: index.DatabaseInvalid, Database: 16401},
			{Kind: index.DatabaseDrop, XID: 702, Database: 16400, OIDs: []uint32{1663, 16390}},
			{Kind: index.TablespaceDrop, XID: 703, OIDs: []uint32{16390}},
			{Kind: index.HeapTruncate, XID: 704, Database: 5, OIDs: []uint32{16500, 16501}},
			{Kind: index.HeapTruncate, XID: 705, Database: 5, OIDs: many[:index.MaxOIDs], LeftOut: 5},
		}
		if major < 15 {
			want = slices.Delete(want, 1, 2)
		}
		got := roundTrip(t, buildAll(t, b)[0]).Landmarks
		for i := range got {
			if got[i].LSN == 0 || got[i].End <= got[i].LSN {
				t.Errorf("%+v", got[i])
			}
			got[i].LSN, got[i].End = 0, 0
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d: %s", major, d)
		}
	}
}

// TestDetails: what a commit record says beside its time comes back whole, and
// a subtransaction finds its top level.
func TestDetails(t *testing.T) {
	b := waltest.NewBuilder(18, system, 1, size)
	b.Seek(2, 0)
	b.Commit(699, noon)
	b.CommitWith(700, noon, waltest.Transaction{
		Database: 5, Subxacts: []uint32{701, 705, 690}, Relations: [][3]uint32{orders, {1664, 0, 1262}, items},
		Stats: [][3]uint32{{2, 5, 16384}, {3, 5, 99}, {2, 0, 1262}, {1, 16400, 0}}, Invals: 3,
	})
	b.Commit(702, noon)
	b.Prepare(710, 5, "gid", noon, 711, 712)
	b.AbortWith(720, noon, waltest.Transaction{Subxacts: []uint32{721}, Relations: [][3]uint32{items}})
	b.CommitWith(0, noon, waltest.Transaction{Prepared: 710, Subxacts: []uint32{711, 712}})
	b.Abort(730, noon)
	b.FillSegment()
	ix := roundTrip(t, buildAll(t, b)[0])
	want := map[uint32]*index.Detail{
		700: {Subxacts: []uint32{701, 705, 690}, Files: []record.Relation{relation(orders), {Tablespace: 1664, Number: 1262}, relation(items)},
			Relations: []index.RelationID{{5, 16384}, {0, 1262}}},
		710: {Subxacts: []uint32{711, 712}},
		720: {Subxacts: []uint32{721}, Files: []record.Relation{relation(items)}},
	}
	plain := slices.Collect(ix.Transactions())
	n := 0
	for x := range ix.DetailedTransactions() {
		if d := cmp.Diff(want[x.XID], x.Detail); d != "" {
			t.Errorf("%d: %s", x.XID, d)
		}
		if x.Detail = nil; x != plain[n] {
			t.Errorf("%+v instead of %+v", x, plain[n])
		}
		n++
	}
	if n != len(plain) || n != 7 || !ix.HasDetails() {
		t.Errorf("%d of %d transactions", n, len(plain))
	}
	for range ix.DetailedTransactions() {
		break // must be allowed
	}
	if ix.MinXID != 690 || ix.MaxXID != 730 {
		t.Errorf("transaction ids from %d to %d", ix.MinXID, ix.MaxXID)
	}
	for xid, top := range map[uint32]uint32{690: 700, 705: 700, 700: 700, 702: 702, 711: 710, 721: 720, 0: 0, 703: 0} {
		if got, ok := ix.TopLevel(xid); ok != (top != 0) || got.XID != top || ok && got.Kind == index.Prepare {
			t.Errorf("top level of %d: %+v", xid, got)
		}
	}
}

// TestDetailsOrigin: of a commit that came from another server.
func TestDetailsOrigin(t *testing.T) {
	seg := wal.Segment{Timeline: 1, Number: 3, Size: size}
	ix := &index.Index{Segment: seg, Magic: record.Magic17, PageTimelineFirst: 1, PageTimelineLast: 1, EndOfRecords: seg.End()}
	list := []index.Transaction{
		{LSN: seg.Start() + 40, End: seg.Start() + 80, XID: 7, Time: noon, Kind: index.Commit, Detail: &index.Detail{Origin: 3, OriginLSN: 77, OriginTime: noon.Add(-time.Second)}},
		{LSN: seg.Start() + 80, End: seg.Start() + 120, XID: 8, Time: noon, Kind: index.Commit, Detail: &index.Detail{Origin: 3, Truncated: true, Subxacts: []uint32{9}, FilesLeftOut: 1, RelationsLeftOut: 2}},
		{LSN: seg.Start() + 120, End: seg.Start() + 160, XID: 9, Time: noon, Kind: index.Commit},
	}
	if err := ix.SetTransactions(list); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(list, slices.Collect(roundTrip(t, ix).DetailedTransactions())); d != "" {
		t.Error(d)
	}
	list[0].Detail.Files = make([]record.Relation, index.MaxDropped+1)
	if err := ix.SetTransactions(list); err == nil || !strings.Contains(err.Error(), "more than an index holds") {
		t.Errorf("too many files: %v", err)
	}
}

// TestDetailsBounded: a drop of very many relations leaves some out, and says how many.
func TestDetailsBounded(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, 16*size)
	b.Seek(2, 0)
	files := make([][3]uint32, 10000)
	stats := make([][3]uint32, 10000)
	sub := make([]uint32, 100000)
	for i := range files {
		files[i], stats[i] = [3]uint32{1663, 5, uint32(20000 + i)}, [3]uint32{2, 5, uint32(20000 + i)}
	}
	for i := range sub {
		sub[i] = uint32(1001 + i)
	}
	b.CommitWith(700, noon, waltest.Transaction{Relations: files, Stats: stats})
	b.CommitWith(1000, noon, waltest.Transaction{Relations: files, Stats: stats, Subxacts: sub})
	b.FillSegment()
	ix := roundTrip(t, buildAll(t, b)[0])
	list := slices.Collect(ix.DetailedTransactions())
	first, second := list[0].Detail, list[1].Detail
	if len(first.Files) != 10000 || len(first.Relations) != 10000 || first.FilesLeftOut+first.RelationsLeftOut != 0 {
		t.Errorf("%d files, %d relations", len(first.Files), len(first.Relations))
	}
	if len(second.Files) != index.MaxDropped-10000 || second.FilesLeftOut != 20000-index.MaxDropped ||
		len(second.Relations) != index.MaxDropped-10000 || second.RelationsLeftOut != 20000-index.MaxDropped {
		t.Errorf("%d files, %d relations, left out %d, %d", len(second.Files), len(second.Relations), second.FilesLeftOut, second.RelationsLeftOut)
	}
	if !slices.Equal(second.Subxacts, sub) || second.Truncated || ix.MaxXID != 101000 {
		t.Errorf("%d subtransactions, to %d", len(second.Subxacts), ix.MaxXID)
	}
}

// TestJoinEffects: a record that crosses counts, whatever it does.
func TestJoinEffects(t *testing.T) {
	boundary := wal.LSN(2 * size)
	for before := wal.LSN(8); before < 88; before += 8 {
		for name, write := range map[string]func(b *waltest.Builder) (wal.LSN, wal.LSN){
			"rows": func(b *waltest.Builder) (wal.LSN, wal.LSN) {
				return b.Rows(700, orders, waltest.Row{Multi: 60, Image: true})
			},
			"delete": func(b *waltest.Builder) (wal.LSN, wal.LSN) {
				return b.Rows(700, orders, waltest.Row{Op: record.HeapDelete, Image: true})
			},
			"images": func(b *waltest.Builder) (wal.LSN, wal.LSN) { return b.Images(700, orders, 32) },
			"drop":   func(b *waltest.Builder) (wal.LSN, wal.LSN) { return b.DropDatabase(700, 5, make([]uint32, 20)...) },
		} {
			b := waltest.NewBuilder(17, system, 1, size)
			b.FillTo(boundary - before)
			start, end := write(b)
			b.FillSegment()
			list := buildAll(t, b)
			got, err := index.Join(roundTrip(t, list[0]), roundTrip(t, list[1]))
			if err != nil {
				t.Fatalf("%s, %d before: %v", name, before, err)
			}
			e := index.Effect{XID: 700, Relation: relation(orders)}
			switch name {
			case "rows":
				e.Inserted = 60
			case "delete":
				e.Deleted = 1
			case "images":
				e.Images = 32
			case "drop":
				l := got.Landmark
				if l == nil || l.Kind != index.DatabaseDrop || l.LSN != start || l.End != end || len(l.OIDs) != 20 {
					t.Errorf("%d before: %+v", before, l)
				}
				continue
			}
			if d := cmp.Diff([]index.Effect{e}, got.Effects); d != "" {
				t.Errorf("%s, %d before: %s", name, before, d)
			}
		}
	}
}

// TestLocks: the first of each transaction that commits or has not ended, by its
// top level where that is known.
func TestLocks(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Seek(2, 0)
	sub, _ := b.Lock(702, 5, 16384)
	b.Lock(701, 5, 16390)
	open, _ := b.Lock(710, 5, 16500, 16501)
	b.Lock(720, 5, 16384)
	b.Lock(721, 5, 16384)
	b.Lock(710, 5, 16502)
	b.AbortWith(720, noon, waltest.Transaction{Subxacts: []uint32{721}})
	b.CommitWith(701, noon, waltest.Transaction{Subxacts: []uint32{702}})
	b.FillTo(wal.LSN(3*size) - 40)
	start, _ := b.Lock(730, 5, 16384)
	b.FillSegment()
	list := buildAll(t, b)
	ix := roundTrip(t, list[0])
	if d := cmp.Diff([]index.Lock{{XID: 701, LSN: sub}, {XID: 710, LSN: open}}, ix.Locks); d != "" {
		t.Error(d)
	}
	joined, err := index.Join(ix, roundTrip(t, list[1]))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]index.Lock{{XID: 730, LSN: start}}, joined.Locks); d != "" {
		t.Error(d)
	}
}

func TestLocksBounded(t *testing.T) {
	b := waltest.NewBuilder(17, system, 1, size)
	b.Seek(2, 0)
	for i := range uint32(index.MaxLocks + 7) {
		b.Lock(1000+i, 5, 16384)
	}
	b.FillSegment()
	if ix := roundTrip(t, buildAll(t, b)[0]); len(ix.Locks) != index.MaxLocks || ix.Omitted.Locks != 7 || ix.Locks[0].XID != 1000 {
		t.Errorf("%d locks, %d left out", len(ix.Locks), ix.Omitted.Locks)
	}
}
