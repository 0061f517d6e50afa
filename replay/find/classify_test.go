package find_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// rows writes a change of n rows.
func rows(b *waltest.Builder, xid uint32, table [3]uint32, op uint8, n int) {
	for range n {
		b.Rows(xid, table, waltest.Row{Op: op})
	}
}

// TestCommits tells what one transaction did, in the words of a person.
func TestCommits(t *testing.T) {
	newFile, transient := table(16700), table(16710)
	replaces := names.Name{Schema: "public", Name: "orders", Kind: names.Table, OID: 16384}
	for _, c := range []struct {
		name  string
		major int // 0: 17
		names func(n *fakeNames)
		write func(b *waltest.Builder) waltest.Transaction
		want  []string
	}{
		{"drop", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{toast, orders, ordersPK}, Stats: [][3]uint32{{2, 5, 16390}, {2, 5, 16387}, {2, 5, 16384}}}
		}, []string{"drop: dropped table public.orders"}},
		{"drop of one that was rewritten", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{items}, Stats: [][3]uint32{{2, 5, 16400}}}
		}, []string{`drop: dropped table "Sales".items`}},
		{"drop of an index", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{ordersPK}, Stats: [][3]uint32{{2, 5, 16390}}}
		}, []string{"drop: dropped index public.orders_pkey"}},
		{"drop of a partitioned table, which has no file", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Stats: [][3]uint32{{2, 5, partition}, {3, 5, 12}}}
		}, []string{"drop: dropped partitioned table public.parts"}},
		{"drop of one whose file is younger than its name", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{newFile}, Stats: [][3]uint32{{2, 5, 16384}}}
		}, []string{"drop: dropped table public.orders", "drop: dropped relation 16700 of database shop, not in any name snapshot ?"}},
		{"drop of one without a name", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{nameless}, Stats: [][3]uint32{{2, 5, 17000}}}
		}, []string{"drop: dropped relation 17000 of database shop, not in any name snapshot"}},
		{"what a session leaves of temporary tables", 0, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Stats: [][3]uint32{{2, 5, 18000}, {2, 5, 18001}}}
		}, nil},
		{"truncate", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			b.CreateFile(700, table(16701), 0)
			return waltest.Transaction{Relations: [][3]uint32{ordersPK, orders}}
		}, []string{"truncate: truncated table public.orders"}},
		{"truncate and load", 0, func(n *fakeNames) { n.add(newFile, replaces) }, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			rows(b, 700, newFile, record.HeapInsert, 120)
			return waltest.Transaction{Relations: [][3]uint32{orders}}
		}, []string{"truncate: truncated table public.orders", "insert: inserted 120 rows into public.orders"}},
		{"truncate of one without a name", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			return waltest.Transaction{Relations: [][3]uint32{nameless}}
		}, []string{"truncate: truncated, or wrote anew, relation 17000 of database shop, not in any name snapshot ?"}},
		{"rewrite", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, transient, 0)
			rows(b, 700, transient, record.HeapInsert, 120)
			return waltest.Transaction{Relations: [][3]uint32{orders, toast}, Stats: [][3]uint32{{2, 5, 16710}, {2, 5, 16387}}}
		}, []string{"rewrite: wrote anew table public.orders"}},
		{"truncate beside a rewrite, by a later snapshot", 0, func(n *fakeNames) {
			n.add(newFile, replaces)
			n.add(transient, names.Name{Schema: "Sales", Name: "items", Kind: names.Table, OID: 16400})
		}, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, transient, 0)
			b.CreateFile(700, newFile, 0)
			return waltest.Transaction{Relations: [][3]uint32{orders, items}, Stats: [][3]uint32{{2, 5, 16710}}}
		}, []string{"truncate: truncated table public.orders", `rewrite: wrote anew table "Sales".items`}},
		{"the same without one", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, transient, 0)
			b.CreateFile(700, newFile, 0)
			return waltest.Transaction{Relations: [][3]uint32{orders, items}, Stats: [][3]uint32{{2, 5, 16710}}}
		}, []string{"truncate: truncated, or wrote anew, table public.orders ?", `truncate: truncated, or wrote anew, table "Sales".items ?`}},
		{"truncate where wal_level is logical", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, transient, 0)
			b.CreateFile(700, newFile, 0)
			b.HeapTruncate(700, 5, 16384)
			return waltest.Transaction{Relations: [][3]uint32{orders}, Stats: [][3]uint32{{2, 5, 16710}}}
		}, []string{"truncate: truncated table public.orders"}},
		{"reindex", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			b.Images(700, newFile, 3)
			return waltest.Transaction{Relations: [][3]uint32{ordersPK}}
		}, []string{"rewrite: wrote anew index public.orders_pkey"}},
		{"create", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, orders, 0)
			b.CreateFile(700, ordersPK, 0)
			b.CreateFile(700, nameless, 0)
			rows(b, 700, pgClass, record.HeapInsert, 150)
			return waltest.Transaction{}
		}, []string{"create: created table public.orders", "create: created relation 17000 of database shop, not in any name snapshot"}},
		{"create and drop", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, orders, 0)
			return waltest.Transaction{Relations: [][3]uint32{orders}, Stats: [][3]uint32{{2, 5, 16384}}}
		}, nil},
		{"few rows", 0, nil, func(b *waltest.Builder) waltest.Transaction {
			rows(b, 700, orders, record.HeapDelete, 99)
			rows(b, 700, items, record.HeapUpdate, 100)
			rows(b, 700, items, record.HeapHotUpdate, 1)
			rows(b, 700, toast, record.HeapDelete, 500)
			return waltest.Transaction{}
		}, []string{`update: updated 101 rows of "Sales".items`}},
		{"14 drops", 14, nil, func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: [][3]uint32{orders, ordersPK}}
		}, []string{"drop: dropped table public.orders"}},
		{"14 truncates", 14, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			b.Rows(700, pgClass, waltest.Row{Op: record.HeapUpdate})
			return waltest.Transaction{Relations: [][3]uint32{orders}}
		}, []string{"truncate: truncated table public.orders"}},
		{"14 rewrites", 14, nil, func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, transient, 0)
			b.Rows(700, pgClass, waltest.Row{Op: record.HeapInsert})
			b.Rows(700, pgClass, waltest.Row{Op: record.HeapDelete})
			return waltest.Transaction{Relations: [][3]uint32{orders}}
		}, []string{"truncate: truncated, or wrote anew, table public.orders ?"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			major := c.major
			if major == 0 {
				major = 17
			}
			s, b := newScene(t, major)
			if c.names != nil {
				c.names(s.names)
			}
			x := c.write(b)
			x.Database = 5
			b.CommitWith(700, noon, x)
			endSegment(b)
			list, _ := s.run(find.Options{Kinds: find.Kinds()[:9], MinRows: 100})
			if d := cmp.Diff(c.want, brief(list)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestDropOfMany: a schema's tables are each named, with all that went with them.
func TestDropOfMany(t *testing.T) {
	s, b := newScene(t, 17)
	files := make([][3]uint32, index.MaxDropped+10)
	stats := make([][3]uint32, len(files))
	for i := range files {
		files[i], stats[i] = table(uint32(20000+i)), [3]uint32{2, 5, uint32(20000 + i)}
		if i < 3 {
			s.names.add(files[i], names.Name{Schema: "sales", Name: string(rune('a' + i)), Kind: names.Table, OID: uint32(20000 + i)})
		}
	}
	b.CommitWith(700, noon, waltest.Transaction{Relations: files, Stats: stats})
	endSegment(b)
	list, _ := s.run(find.Options{})
	if len(list) != 1 || list[0].Kind != find.Drop || len(list[0].Actions) != index.MaxDropped+1 {
		t.Fatalf("%d events", len(list))
	}
	got := brief(list)
	if got[0] != "drop: dropped table sales.a" || got[2] != "drop: dropped table sales.c" ||
		got[len(got)-1] != "drop: dropped or replaced 10 more relations, which the index leaves out ?" {
		t.Error(got[0], got[2], got[len(got)-1])
	}
	pattern, err := find.ParsePattern("other")
	if err != nil {
		t.Fatal(err)
	}
	left := "drop: dropped or replaced 10 more relations, which the index leaves out ?"
	if list, _ := s.run(find.Options{Table: pattern}); !slices.Equal(brief(list), []string{left}) {
		t.Errorf("one of those left out may be it: %q", brief(list))
	}
	if r := list[0].Actions[3].Relation; r.Known || r.OID != 20003 || r.File != 20003 {
		t.Errorf("%+v", r)
	}
}

// TestNamesGoAlong: a table whose file was replaced since the last snapshot of names keeps
// its name, as do its indexes and its TOAST table.
func TestNamesGoAlong(t *testing.T) {
	s, b := newScene(t, 17)
	s.names.add(table(16391), names.Name{Schema: "public", Name: "orders_idx", Kind: names.Index, OID: 16391, TableOID: 16384, TableSchema: "public", TableName: "orders"})
	s.names.add(table(16388), names.Name{Schema: "pg_toast", Name: "pg_toast_16384_index", Kind: names.Index, OID: 16388, TableOID: 16384, TableSchema: "public", TableName: "orders"})
	next := uint32(17000)
	file := func() [3]uint32 { next++; return table(next) }
	create := func(xid uint32, n int) (list [][3]uint32) {
		for range n {
			f := file()
			b.CreateFile(xid, f, 0)
			list = append(list, f)
		}
		return list
	}
	reversed := func(list ...[3]uint32) [][3]uint32 {
		slices.Reverse(list)
		return list
	}
	// TRUNCATE orders, "Sales".items
	one := create(700, 6)
	b.CommitWith(700, at(0), waltest.Transaction{Relations: reversed(orders, toast, ordersPK, table(16391), table(16388), items)})
	// VACUUM FULL orders: a transient table with its TOAST table and that one's index; then the indexes.
	two := create(701, 5)
	b.CommitWith(701, at(1), waltest.Transaction{
		Relations: reversed(one[2], one[3], one[4], one[1], one[0]),
		Stats:     [][3]uint32{{2, 5, two[0][2]}, {2, 5, two[1][2]}, {2, 5, two[2][2]}},
	})
	endSegment(b)
	// REINDEX
	three := create(702, 1)
	b.CommitWith(702, at(2), waltest.Transaction{Relations: reversed(two[3])})
	rows(b, 703, two[0], record.HeapDelete, 100)
	rows(b, 703, two[1], record.HeapDelete, 500)
	rows(b, 703, one[5], record.HeapUpdate, 100)
	b.Commit(703, at(3))
	// DROP
	b.CommitWith(704, at(4), waltest.Transaction{
		Relations: [][3]uint32{two[0], two[1], two[2], three[0], two[4]},
		Stats:     [][3]uint32{{2, 5, 16384}, {2, 5, 16390}, {2, 5, 16391}, {2, 5, 16387}, {2, 5, 16388}},
	})
	endSegment(b)
	list, _ := s.run(find.Options{Kinds: find.Kinds()[:9], MinRows: 100})
	want := []string{
		`truncate: truncated table "Sales".items`, "truncate: truncated table public.orders", "rewrite: wrote anew table public.orders",
		"rewrite: wrote anew an index or TOAST table of public.orders", "delete: deleted 100 rows from public.orders",
		`update: updated 100 rows of "Sales".items`, "drop: dropped table public.orders",
	}
	if d := cmp.Diff(want, brief(list)); d != "" {
		t.Error(d)
	}
}
