package find_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// crossing writes a record of which the indexes keep no more than its first 64 KiB.
func crossing(b *waltest.Builder, x waltest.Transaction) (start, end wal.LSN) {
	b.FillTo((b.Position()/wal.LSN(segment)+1)*wal.LSN(segment) - 96)
	x.Database = 5
	start, end = b.CommitWith(700, at(1), x)
	endSegment(b)
	return start, end
}

const beginning = "may have dropped, replaced or changed more: of its record, which is very long, only the beginning is known ?"

// TestCutRecords: what the end of a record would tell is not told as if it were known.
func TestCutRecords(t *testing.T) {
	many := func(last ...uint32) (list [][3]uint32) {
		for i := range uint32(2400) {
			list = append(list, [3]uint32{2, 5, 50000 + i})
		}
		for _, oid := range last {
			list = append(list, [3]uint32{2, 5, oid})
		}
		return list
	}
	files := func(first ...[3]uint32) [][3]uint32 {
		list := first
		for i := range uint32(2400) {
			list = append(list, table(50000+i))
		}
		return list
	}
	newFile := table(16700)
	for _, c := range []struct {
		name  string
		write func(b *waltest.Builder) waltest.Transaction
		o     find.Options
		want  []string
	}{
		{"a drop", func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: files(orders), Stats: append(many(), many(16384)...)}
		}, find.Options{}, []string{"drop: dropped, truncated or wrote anew, table public.orders ?", "drop: " + beginning}},
		{"one that the record has before its end", func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: files(orders), Stats: append([][3]uint32{{2, 5, 16384}}, append(many(), many()...)...)}
		}, find.Options{}, []string{"drop: dropped table public.orders", "drop: " + beginning}},
		{"what takes its place", func(b *waltest.Builder) waltest.Transaction {
			b.CreateFile(700, newFile, 0)
			return waltest.Transaction{Relations: files(orders), Stats: append(many(), many(16710)...)}
		}, find.Options{}, []string{"drop: " + beginning, "truncate: truncated, wrote anew or dropped, table public.orders ?"}},
		{"invalidations alone", func(*waltest.Builder) waltest.Transaction {
			return waltest.Transaction{Relations: files(orders), Stats: many(16384), Invals: 9000}
		}, find.Options{}, []string{"drop: dropped table public.orders"}},
		{"subtransactions, and all behind them", func(b *waltest.Builder) waltest.Transaction {
			rows(b, 700, items, record.HeapDelete, 150)
			subs := make([]uint32, 20000)
			for i := range subs {
				subs[i] = uint32(1000 + i)
			}
			return waltest.Transaction{Subxacts: subs, Relations: [][3]uint32{orders}}
		}, find.Options{}, []string{"drop: " + beginning, `delete: deleted 150 rows from "Sales".items`}},
	} {
		s, b := newScene(t, 17)
		crossing(b, c.write(b))
		list, _ := s.run(c.o)
		got := brief(list)
		if d := cmp.Diff(c.want, slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "relation 5") })); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if len(list) == 1 && list[0].Incomplete != (list[0].Subtransactions > 0) {
			t.Errorf("%s: incomplete: %t", c.name, list[0].Incomplete)
		}
	}
}

// TestCutUnasked: a record whose end may name what is asked for is told, with doubt.
func TestCutUnasked(t *testing.T) {
	s, b := newScene(t, 17)
	crossing(b, waltest.Transaction{Subxacts: make([]uint32, 20000)})
	pattern, err := find.ParsePattern("orders")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []find.Options{{Table: pattern}, {Table: pattern, Database: "shop"}, {XID: 700, Table: pattern}} {
		if list, _ := s.run(o); !slices.Equal(brief(list), []string{"drop: " + beginning}) {
			t.Errorf("%+v: %q", o, brief(list))
		}
	}
	if list, _ := s.run(find.Options{Kinds: []find.Kind{find.Delete}}); !slices.Equal(brief(list), []string{"delete: " + beginning}) {
		t.Errorf("%q", brief(list))
	}
	if list, _ := s.run(find.Options{Kinds: []find.Kind{find.Create}}); len(list) != 0 {
		t.Errorf("%q", brief(list))
	}
}

// TestCutPrepared: the id of a prepared transaction lies behind the lists.
func TestCutPrepared(t *testing.T) {
	s, b := newScene(t, 17)
	b.Prepare(701, 5, "x", at(0))
	crossing(b, waltest.Transaction{Prepared: 701, Subxacts: make([]uint32, 20000)})
	list, _ := s.run(find.Options{Kinds: []find.Kind{find.Prepared}})
	if len(list) != 1 || list[0].XID != 701 || !strings.HasPrefix(list[0].Text, "prepared; whether it was committed or rolled back is not known") {
		t.Errorf("%+v", list)
	}
}
