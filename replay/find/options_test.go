package find_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// TestTable: what was done to one table, however little, and nothing else.
func TestTable(t *testing.T) {
	s, b := newScene(t, 17)
	rows(b, 700, orders, record.HeapInsert, 1)
	rows(b, 700, items, record.HeapInsert, 1000)
	b.Commit(700, at(0))
	b.RestorePoint("p", at(1))
	rows(b, 701, items, record.HeapDelete, 2)
	b.Commit(701, at(2))
	b.CommitWith(702, at(3), waltest.Transaction{Relations: [][3]uint32{nameless}, Stats: [][3]uint32{{2, 5, 17000}}})
	endSegment(b)
	insert, deleted := `insert: inserted 1000 rows into "Sales".items`, `delete: deleted 2 rows from "Sales".items`
	for pattern, want := range map[string][]string{
		"orders":                 {"insert: inserted 1 row into public.orders"},
		"Orders":                 {"insert: inserted 1 row into public.orders"},
		"shop.public.orders":     {"insert: inserted 1 row into public.orders"},
		"other.public.orders":    nil,
		"private.orders":         nil,
		`"Orders"`:               nil,
		`"Sales".items`:          {insert, deleted},
		"Sales.items":            nil, // folded, as SQL does
		`"shop"."Sales"."items"`: {insert, deleted},
		"16500":                  {insert, deleted},
		"16400":                  {insert, deleted},
		"17000":                  {"drop: dropped relation 17000 of database shop, not in any name snapshot"},
	} {
		p, err := find.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := s.run(find.Options{Table: p})
		if d := cmp.Diff(want, brief(list)); d != "" {
			t.Errorf("%s: %s", pattern, d)
		}
	}
	p, _ := find.ParsePattern("16500")
	if list, _ := s.run(find.Options{Table: p, Kinds: []find.Kind{find.Delete, find.RestorePoint}, MinRows: 2}); len(list) != 1 || list[0].XID != 701 {
		t.Errorf("%q", brief(list))
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a.b.c.d", `"a`, `"a"b`, `a"b`, `a""`} {
		if p, err := find.ParsePattern(bad); err == nil {
			t.Errorf("%q became %+v", bad, p)
		}
	}
	a, _ := find.ParsePattern(`"a""b.c".d`)
	if b, _ := find.ParsePattern(`"a""b.c"."d"`); a != b || a.Empty() {
		t.Errorf("%+v and %+v", a, b)
	}
	list, err := find.ParseKinds("drop, Restore-Point")
	if d := cmp.Diff([]find.Kind{find.Drop, find.RestorePoint}, list); err != nil || d != "" {
		t.Error(err, d)
	}
	if list, err := find.ParseKinds("all"); err != nil || len(list) != len(find.Kinds()) {
		t.Error(list, err)
	}
	for _, bad := range []string{"", "drop,", "drops"} {
		if _, err := find.ParseKinds(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if err := (find.Options{From: at(1), To: at(0)}).Validate(); err == nil {
		t.Error("a time before its beginning was accepted")
	}
	if err := (find.Options{Table: a, Kinds: []find.Kind{find.Checkpoint}}).Validate(); err == nil {
		t.Error("checkpoints of a table were accepted")
	}
}

// TestStop: who has enough ends the search; another error ends it too, and is told.
func TestStop(t *testing.T) {
	s, b := newScene(t, 17)
	b.RestorePoint("a", at(0))
	b.RestorePoint("b", at(1))
	endSegment(b)
	other := errors.New("the pipe is closed")
	for _, stop := range []error{find.ErrStop, other} {
		n := 0
		src := s.source()
		_, err := find.Run(t.Context(), src, find.Options{}, func(find.Event) error { n++; return stop })
		if n != 1 || errors.Is(stop, find.ErrStop) && err != nil || !errors.Is(stop, find.ErrStop) && !errors.Is(err, other) {
			t.Errorf("%v: %d events, %v", stop, n, err)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"a", `"A".b`, "1", `"a""b"."."`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := find.ParsePattern(s); err == nil && p.Empty() {
			t.Errorf("%q fits everything", s)
		}
	})
}
