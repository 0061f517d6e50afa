package find

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// ordersOnly knows one table.
type ordersOnly struct{}

func (ordersOnly) Relation(_, _, file uint32, _ wal.LSN) (names.Name, bool) {
	return names.Name{Schema: "public", Name: "orders", Kind: names.Table, OID: 16384}, file == 16384
}

func (ordersOnly) RelationByOID(uint32, uint32, wal.LSN) (names.Name, bool) {
	return names.Name{}, false
}
func (ordersOnly) Database(uint32, wal.LSN) (string, bool)   { return "shop", true }
func (ordersOnly) Tablespace(uint32, wal.LSN) (string, bool) { return "", false }

// TestGivenUp: of a transaction whose beginning was given up, and which goes on, it is told
// that not all is known; the others are as sure as ever.
func TestGivenUp(t *testing.T) {
	const more = "may have dropped, replaced or changed more: what it did at first was given up to bound memory ?"
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b := waltest.NewBuilder(17, 7345678901234567890, 1, 1<<20)
	deleted := func(xid, file uint32) {
		b.Rows(xid, [3]uint32{1663, 5, file}, waltest.Row{Op: record.HeapDelete})
	}
	b.CreateFile(700, [3]uint32{1663, 5, 16700}, 0)
	b.Lock(700, 5, 16384)
	b.FillSegment()
	for i := range uint32(12) {
		deleted(701, 17000+i)
	}
	b.FillSegment()
	b.Abort(701, noon)
	b.Lock(700, 5, 16384)
	b.CommitWith(700, noon, waltest.Transaction{Database: 5, Relations: [][3]uint32{{1663, 5, 16384}}})
	b.Commit(702, noon)
	b.FillSegment()
	for _, c := range []struct {
		limit   int
		partial bool
		want    []string
	}{
		{maxPending, false, []string{"truncated table public.orders"}},
		{14, true, []string{more, "truncated, or wrote anew, table public.orders ?"}},
	} {
		var events []Event
		s := newScan(Options{Kinds: []Kind{Drop, Truncate, Rewrite}}, wal.History{Timeline: 1}, ordersOnly{}, func(e Event) error {
			events = append(events, e)
			return nil
		}, func(wal.TimelineID, wal.LSN) bool { return true })
		s.pending.known, s.pending.limit = true, c.limit
		var joiner index.Joiner
		for _, seg := range b.Complete() {
			ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, index.Options{Complete: true})
			if err != nil {
				t.Fatal(err)
			}
			joined, err := joiner.Add(ix)
			if err == nil {
				err = s.segment(ix, joined)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		i := slices.IndexFunc(events, func(e Event) bool { return e.XID == 700 })
		if i < 0 || len(events) != 1 || events[i].Incomplete != c.partial || events[i].Before.Locked != c.partial {
			t.Fatalf("limit %d: %+v", c.limit, events)
		}
		var got []string
		for _, a := range events[i].Actions {
			text := a.Text
			if a.Uncertain {
				text += " ?"
			}
			got = append(got, text)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("limit %d: %s", c.limit, d)
		}
		if (s.pending.forgotten > 0) != c.partial {
			t.Errorf("limit %d: %d were given up", c.limit, s.pending.forgotten)
		}
	}
}
