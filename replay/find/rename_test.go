package find_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// takenAt makes a snapshot of names at a position the one that has the names of the tests.
func (n *fakeNames) takenAt(lsn wal.LSN, seconds int) {
	id := names.ID{Time: at(seconds), Timeline: 1, LSN: lsn}
	for f, name := range n.files {
		name.Snapshot = id
		n.files[f] = name
	}
	for oid, name := range n.oids {
		name.Snapshot = id
		n.oids[oid] = name
	}
}

// TestRenamed: after a rename the snapshot's name is told as one that may be wrong.
func TestRenamed(t *testing.T) {
	update := func(b *waltest.Builder, xid uint32, tables ...[3]uint32) {
		for _, f := range tables {
			b.Rows(xid, f, waltest.Row{Op: record.HeapUpdate})
		}
	}
	rowTypes, schemas := table(1247), table(2615)
	for _, c := range []struct {
		name             string
		before           func(b *waltest.Builder)
		late             bool // the snapshot was taken after it all
		doubt, uncertain bool
	}{
		{"nothing", func(*waltest.Builder) {}, false, false, false},
		{"a swap", func(b *waltest.Builder) { update(b, 700, pgClass, rowTypes, pgClass, rowTypes); b.Commit(700, at(1)) }, false, true, true},
		{"a swap in a subtransaction", func(b *waltest.Builder) {
			update(b, 701, pgClass, rowTypes)
			endSegment(b)
			b.CommitWith(700, at(1), waltest.Transaction{Subxacts: []uint32{701}})
		}, false, true, true},
		{"a schema", func(b *waltest.Builder) { update(b, 700, schemas); b.Commit(700, at(1)) }, false, true, true},
		{"one in another database", func(b *waltest.Builder) {
			update(b, 700, [3]uint32{1663, 6, 1259}, [3]uint32{1663, 6, 1247})
			b.Commit(700, at(1))
		}, false, false, false},
		{"one that was rolled back", func(b *waltest.Builder) { update(b, 700, pgClass, rowTypes); b.Abort(700, at(1)) }, false, false, false},
		{"ALTER TABLE", func(b *waltest.Builder) { update(b, 700, pgClass); b.Commit(700, at(1)) }, false, false, false},
		{"a later snapshot", func(*waltest.Builder) {}, true, true, false},
		{"the same transaction", func(b *waltest.Builder) { update(b, 710, pgClass, rowTypes) }, false, true, true},
	} {
		for _, xid := range []uint32{0, 710} {
			s, b := newScene(t, 17)
			b.Commit(690, at(0))
			taken := b.Position()
			c.before(b)
			b.CommitWith(710, at(5), waltest.Transaction{Database: 5, Relations: [][3]uint32{orders}, Stats: [][3]uint32{{2, 5, 16384}}})
			if c.late {
				taken = b.Position()
			}
			endSegment(b)
			s.names.takenAt(taken, 9)
			list, _ := s.run(find.Options{Kinds: []find.Kind{find.Drop}, XID: xid})
			if len(list) != 1 || len(list[0].Actions) != 1 {
				t.Fatalf("%s: %+v", c.name, list)
			}
			a := list[0].Actions[0]
			if a.Relation.NameTime == nil || !a.Relation.NameTime.Equal(at(9)) {
				t.Errorf("%s: %v", c.name, a.Relation.NameTime)
			}
			if d := cmp.Diff(fmt.Sprint(c.doubt, c.uncertain), fmt.Sprint(a.Relation.NameDoubt, a.Uncertain)); d != "" {
				t.Errorf("%s, of transaction %d: %s", c.name, xid, d)
			}
		}
	}
}

// TestRenamedUnread: where WAL between the snapshot and the event was not read, the name is not vouched for.
func TestRenamedUnread(t *testing.T) {
	s, b := newScene(t, 17)
	s.names.takenAt(b.Position(), 0)
	for i := range 3 {
		rows(b, uint32(700+i), orders, record.HeapDelete, 150)
		b.Commit(uint32(700+i), at(i))
		endSegment(b)
	}
	s.lost = b.Complete()[1:2]
	list, _ := s.run(find.Options{})
	if len(list) != 2 || list[0].Actions[0].Relation.NameDoubt || !list[1].Actions[0].Relation.NameDoubt || list[1].Actions[0].Uncertain {
		t.Errorf("%+v", list)
	}
}

// TestRenamedOnParent: what was renamed before a timeline branched off counts on it.
func TestRenamedOnParent(t *testing.T) {
	s, b := newScene(t, 17)
	taken := b.Position()
	b.Rows(700, pgClass, waltest.Row{Op: record.HeapUpdate})
	b.Rows(700, table(1247), waltest.Row{Op: record.HeapUpdate})
	b.Commit(700, at(1))
	endSegment(b)
	child := s.fork(b, 2, 3)
	rows(child, 720, orders, record.HeapDelete, 150)
	child.Commit(720, at(4))
	endSegment(child)
	s.names.takenAt(taken, 0)
	list, _ := s.run(find.Options{Kinds: []find.Kind{find.Delete}})
	if len(list) != 1 || !list[0].Actions[0].Uncertain || !list[0].Actions[0].Relation.NameDoubt {
		t.Errorf("%+v", list)
	}
}
