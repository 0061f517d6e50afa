package find_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

func flags(e find.Event) [2]string { return [2]string{e.Before.Flags, e.After.Flags} }

// TestLongTransaction: what is done in several segments, by subtransactions too, is
// told with the commit, and what was undone is not.
func TestLongTransaction(t *testing.T) {
	s, b := newScene(t, 17)
	rows(b, 700, orders, record.HeapDelete, 50)
	rows(b, 701, orders, record.HeapDelete, 60)
	rows(b, 702, orders, record.HeapDelete, 1000)
	rows(b, 704, items, record.HeapInsert, 300)
	endSegment(b)
	b.Abort(702, at(1)) // ROLLBACK TO
	rows(b, 701, orders, record.HeapDelete, 7)
	b.Abort(704, at(2))
	b.FillTo(wal.LSN(3*segment) - 40)
	b.Rows(703, orders, waltest.Row{Op: record.HeapDelete}) // crosses
	b.FillTo(wal.LSN(4*segment) - 40)
	start, end := b.CommitWith(700, at(3), waltest.Transaction{Database: 5, Subxacts: []uint32{701, 703}}) // crosses
	endSegment(b)
	list, sum := s.run(find.Options{})
	if d := cmp.Diff([]string{"delete: deleted 118 rows from public.orders"}, brief(list)); d != "" {
		t.Fatal(d)
	}
	e := list[0]
	if e.LSN != start || e.End != end || e.XID != 700 || e.Subtransactions != 2 || e.Database != "shop" || !e.Time.Equal(at(3)) || e.Incomplete || e.Timeline != 1 {
		t.Errorf("%+v", e)
	}
	if d := cmp.Diff([2]string{fmt.Sprintf("--lsn %s --exclusive --timeline 1", start), fmt.Sprintf("--lsn %s --timeline 1", start)}, flags(e)); d != "" {
		t.Error(d)
	}
	if sum.Segments != 4 || len(sum.Gaps) != 0 {
		t.Errorf("%+v", sum)
	}
	for _, xid := range []uint32{700, 703} {
		if list, _ := s.run(find.Options{XID: xid}); len(list) != 1 || list[0].XID != 700 {
			t.Errorf("xid %d: %+v", xid, list)
		}
	}
	list, _ = s.run(find.Options{XID: 702})
	if len(list) != 1 || list[0].Kind != find.Abort || list[0].XID != 702 {
		t.Errorf("the subtransaction that was rolled back: %+v", list)
	}
}

// TestDropDatabase: just before it is before its first effect, which is not the commit.
func TestDropDatabase(t *testing.T) {
	s, b := newScene(t, 17)
	create, _ := b.CreateDatabase(700, 6, 1663, 0)
	b.CreateFile(700, [3]uint32{1663, 6, 16384}, 0)
	b.CommitWith(700, at(1), waltest.Transaction{Database: 5})
	move, _ := b.CreateDatabase(701, 6, 1700, 6)
	b.Commit(701, at(2))
	b.DropDatabase(0, 6, 1663)
	b.DatabaseRow(0, 6, -1, false)
	invalid, _ := b.DatabaseRow(0, 6, -2, true) // a DROP that was cut off after this
	b.Commit(702, at(3))
	b.DatabaseRow(703, 6, -2, false)
	endSegment(b)
	b.DropDatabase(703, 6, 1700)
	drop, _ := b.CommitWith(703, at(4), waltest.Transaction{Database: 5})
	b.DropTablespace(704, 1700)
	b.Commit(704, at(5))
	endSegment(b)
	list, _ := s.run(find.Options{Kinds: append(find.Kinds()[:8], find.CreateDatabase, find.MoveDatabase, find.Create)})
	want := []string{"create-database: created database old", "move-database: moved database old to tablespace fast", "drop-database: dropped database old", "drop-tablespace: dropped tablespace fast"}
	if d := cmp.Diff(want, brief(list)); d != "" {
		t.Fatal(d)
	}
	for i, first := range []wal.LSN{create, move, invalid} {
		if list[i].Before.LSN != first || !list[i].Before.Exclusive || list[i].After.LSN != list[i].LSN {
			t.Errorf("%s: before is %+v, not %s", list[i].Kind, list[i].Before, first)
		}
	}
	if e := list[2]; e.LSN != drop || e.Actions[0].DatabaseOID != 6 || e.Database != "shop" {
		t.Errorf("%+v", e)
	}
	for name, n := range map[string]int{"old": 3, "6": 3, "shop": 2, "5": 2, "other": 0} {
		if list, _ := s.run(find.Options{Database: name}); len(list) != n {
			t.Errorf("of database %s: %q", name, brief(list))
		}
	}
}

// TestDropDatabaseCutOff: its files are gone though its transaction never ended.
func TestDropDatabaseCutOff(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		s, b := newScene(t, 17)
		invalid, _ := b.DatabaseRow(703, 6, -2, false)
		b.DropDatabase(703, 6, 1663)
		endSegment(b)
		if restarted {
			b.ShutdownCheckpoint(1, at(9))
			endSegment(b)
		}
		list, _ := s.run(find.Options{})
		if len(list) != 1 || list[0].Kind != find.DropDatabase || list[0].Before.LSN != invalid || !strings.Contains(list[0].Text, "does not have the end") {
			t.Errorf("restarted %t: %+v", restarted, list)
		}
	}
}

// TestLocked: where nobody committed between the lock and the commit, just before is
// before the lock; else the lock is told of.
func TestLocked(t *testing.T) {
	drop := waltest.Transaction{Relations: [][3]uint32{orders}, Stats: [][3]uint32{{2, 5, 16384}}}
	for _, c := range []struct {
		name   string
		write  func(b *waltest.Builder) (lock wal.LSN)
		locked bool
	}{
		{"alone", func(b *waltest.Builder) wal.LSN {
			lock, _ := b.Lock(700, 5, 16384)
			b.Abort(690, at(1))
			return lock
		}, false},
		{"in another segment", func(b *waltest.Builder) wal.LSN {
			lock, _ := b.Lock(701, 5, 16384)
			endSegment(b)
			b.Lock(700, 5, 16390)
			drop.Subxacts = []uint32{701}
			return lock
		}, false},
		{"a commit between", func(b *waltest.Builder) wal.LSN {
			b.Lock(700, 5, 16384)
			b.Commit(690, at(1))
			return 0
		}, true},
		{"no lock seen", func(*waltest.Builder) wal.LSN { return 0 }, true},
	} {
		s, b := newScene(t, 17)
		b.Commit(680, at(0))
		want := c.write(b)
		commit, _ := b.CommitWith(700, at(2), drop)
		if want == 0 {
			want = commit
		}
		endSegment(b)
		for _, o := range []find.Options{{}, {XID: 700}} {
			list, _ := s.run(o)
			if len(list) != 1 || list[0].Before.LSN != want || list[0].Before.Locked != c.locked || strings.HasSuffix(list[0].Before.Flags, "--action promote") != c.locked {
				t.Errorf("%s, of transaction %d: %+v", c.name, o.XID, list)
			}
		}
	}
}

// TestLockedAcrossSwitch: on a timeline that branched off, a commit on its parent counts as
// one between the lock and the commit.
func TestLockedAcrossSwitch(t *testing.T) {
	s, b := newScene(t, 17)
	b.Lock(700, 5, 16384)
	b.Prepare(700, 5, "x", at(1))
	b.Lock(701, 5, 16390)
	b.Prepare(701, 5, "y", at(1))
	endSegment(b)
	child := s.fork(b, 2, 3)
	endSegment(b)
	last, _ := child.CommitWith(0, at(4), waltest.Transaction{Prepared: 701, Relations: [][3]uint32{ordersPK}, Stats: [][3]uint32{{2, 5, 16390}}})
	endSegment(child)
	for _, o := range []find.Options{{}, {XID: 701}, {Timeline: 2}} {
		list, _ := s.run(o)
		i := slices.IndexFunc(list, func(e find.Event) bool { return e.Kind == find.Drop })
		if i < 0 || list[i].Before.LSN != last || !list[i].Before.Locked {
			t.Errorf("%+v: %+v", o, list)
		}
	}
}

// TestTimelines: every timeline's own WAL is gone over, what was left behind too.
func TestTimelines(t *testing.T) {
	s, b := newScene(t, 17)
	rows(b, 700, orders, record.HeapDelete, 150)
	b.Prepare(700, 5, "early", at(1))
	endSegment(b)
	b.RestorePoint("shared", at(2))
	child := s.fork(b, 2, 3)
	b.RestorePoint("abandoned", at(4))
	rows(b, 720, items, record.HeapDelete, 150)
	b.Commit(720, at(5))
	endSegment(b)
	child.RestorePoint("second", at(6))
	child.CommitWith(0, at(7), waltest.Transaction{Prepared: 700})
	child.Prepare(730, 5, "left", at(8))
	endSegment(child)
	parentCopy := b.Complete()[1]

	type told struct {
		what     string
		on       wal.TimelineID
		restores string
	}
	tell := func(list []find.Event) (out []told) {
		for i, what := range brief(list) {
			_, tli, _ := strings.Cut(list[i].Before.Flags, "--timeline ")
			out = append(out, told{what, list[i].Timeline, tli})
		}
		return out
	}
	shared := told{`restore-point: restore point "shared"`, 1, "1"}
	parent := []told{
		shared, {`restore-point: restore point "abandoned"`, 1, "1"},
		{`delete: deleted 150 rows from "Sales".items`, 1, "1"},
		{"prepared: prepared, and neither committed nor rolled back in the archived WAL", 1, "1"},
	}
	second := []told{
		{"promotion: timeline 2 began, after timeline 1", 2, "2"}, {`restore-point: restore point "second"`, 2, "2"},
		{"delete: deleted 150 rows from public.orders", 2, "2"},
		{"prepared: prepared, and neither committed nor rolled back in the archived WAL", 2, "2"},
	}
	list, sum := s.run(find.Options{})
	if d := cmp.Diff(append(slices.Clone(parent), second...), tell(list), cmp.AllowUnexported(told{})); d != "" {
		t.Error(d)
	}
	if len(sum.Gaps) > 0 {
		t.Error(sum.Gaps)
	}
	if list[6].GID != "early" || list[7].GID != "left" || list[3].GID != "early" {
		t.Errorf("%+v", list)
	}
	if len(s.histories) != 2 || s.histories[1].Timeline != 2 || len(s.histories[1].Entries) != 1 {
		t.Errorf("names along %+v", s.histories)
	}
	list, _ = s.run(find.Options{Timeline: 2})
	if d := cmp.Diff(append([]told{shared, parent[3]}, second...), tell(list), cmp.AllowUnexported(told{})); d != "" {
		t.Error(d)
	}
	// The parent's last segment never came: its part is in the child's copy.
	s.lost = []wal.Segment{parentCopy}
	shared.restores = "2"
	list, sum = s.run(find.Options{})
	if d := cmp.Diff(append([]told{parent[3], shared}, second...), tell(list), cmp.AllowUnexported(told{})); d != "" {
		t.Error(d)
	}
	if len(sum.Gaps) > 0 {
		t.Error(sum.Gaps)
	}
	if _, err := find.Run(t.Context(), find.Source{Snapshot: s.snapshot()}, find.Options{Timeline: 9}, nil); err == nil || !strings.Contains(err.Error(), "timeline 9") {
		t.Errorf("timeline 9: %v", err)
	}
}

// TestGaps: what lies behind missing or damaged WAL is told, with what cannot be known.
func TestGaps(t *testing.T) {
	s, b := newScene(t, 17)
	rows(b, 700, orders, record.HeapDelete, 50)
	rows(b, 701, items, record.HeapDelete, 150)
	b.Commit(701, at(0))
	endSegment(b)
	rows(b, 700, orders, record.HeapDelete, 50)
	endSegment(b)
	rows(b, 700, orders, record.HeapDelete, 120)
	b.Commit(700, at(1))
	b.OnlineCheckpoint(b.Position(), at(2)) // the next transaction id is 750
	rows(b, 760, items, record.HeapDelete, 130)
	b.Commit(760, at(3))
	endSegment(b)
	second := b.Complete()[1]
	for name, break1 := range map[string]func(){
		"missing": func() { s.lost = []wal.Segment{second} },
		"damaged": func() { s.lost, s.damaged = nil, []wal.Segment{second} },
	} {
		break1()
		list, sum := s.run(find.Options{})
		want := []string{`delete: deleted 150 rows from "Sales".items`, "delete: deleted 120 rows from public.orders", `delete: deleted 130 rows from "Sales".items`}
		if d := cmp.Diff(want, brief(list)); d != "" {
			t.Errorf("%s: %s", name, d)
			continue
		}
		if list[0].Incomplete || !list[1].Incomplete || list[2].Incomplete {
			t.Errorf("%s: incomplete are %t, %t, %t", name, list[0].Incomplete, list[1].Incomplete, list[2].Incomplete)
		}
		if len(sum.Gaps) != 1 || sum.Gaps[0].First != second.Name() || sum.Gaps[0].Segments != 1 || (sum.Gaps[0].Damaged != "") != (name == "damaged") {
			t.Errorf("%s: %+v", name, sum.Gaps)
		}
	}
}

// TestHoleAtSwitch: what is missing before a timeline begins is told, though neither
// of the two has a hole.
func TestHoleAtSwitch(t *testing.T) {
	s, b := newScene(t, 17)
	for range 3 {
		b.Commit(700, at(1))
		endSegment(b)
	}
	b.Commit(701, at(2))
	child := s.fork(b, 2, 3)
	endSegment(child)
	all := b.Complete()
	s.lost = all[1:3]
	list, sum := s.run(find.Options{Kinds: []find.Kind{find.Commit}})
	if len(sum.Gaps) != 1 || sum.Gaps[0].First != all[1].Name() || sum.Gaps[0].Segments != 2 || len(list) != 2 || list[1].XID != 701 {
		t.Errorf("%+v, %+v", sum.Gaps, list)
	}
	if _, sum := s.run(find.Options{Timeline: 1}); len(sum.Gaps) != 0 {
		t.Errorf("timeline 1 alone ends with the hole: %+v", sum.Gaps)
	}
}

// TestTimes: only the part of the WAL that can matter is read.
func TestTimes(t *testing.T) {
	s, b := newScene(t, 17)
	const minutes = 400
	for i := range minutes {
		xid := uint32(700 + i)
		rows(b, xid, orders, record.HeapDelete, 100)
		b.Commit(xid, at(60*i))
		endSegment(b)
	}
	all, _ := s.run(find.Options{})
	if len(all) != minutes || s.read != minutes {
		t.Fatalf("%d events, %d reads", len(all), s.read)
	}
	s.read = 0
	list, sum := s.run(find.Options{From: at(60 * 200), To: at(60*205 + 59)})
	if len(list) != 6 || list[0].XID != 900 || list[5].XID != 905 {
		t.Errorf("%d events: %+v", len(list), list)
	}
	if s.read > 80 || sum.Segments > 60 {
		t.Errorf("%d indexes were read, %d gone over", s.read, sum.Segments)
	}
	if list, _ := s.run(find.Options{From: at(60 * minutes)}); len(list) != 0 {
		t.Errorf("after the end: %+v", list)
	}
	if list, _ := s.run(find.Options{To: at(-1)}); len(list) != 0 {
		t.Errorf("before the beginning: %+v", list)
	}
}

// TestRestorable: a moment that a backup and the WAL after it reach.
func TestRestorable(t *testing.T) {
	s, b := newScene(t, 17)
	b.RestorePoint("one", at(0))
	endSegment(b)
	start, _ := b.OnlineCheckpoint(b.Position(), at(1))
	_, stop := b.BackupEnd(start)
	s.backups = []catalog.Backup{{ID: "b", Timeline: 1, StopTimeline: 1, StartLSN: start, CheckpointLSN: start, StopLSN: stop}}
	b.RestorePoint("two", at(2))
	endSegment(b)
	child := s.fork(b, 2, 3)
	child.RestorePoint("three", at(4))
	endSegment(child)
	list, _ := s.run(find.Options{Kinds: []find.Kind{find.RestorePoint}})
	if len(list) != 3 || list[0].Restorable || !list[1].Restorable || !list[2].Restorable {
		t.Errorf("%+v", list)
	}
}

// TestKinds: landmarks, and every commit.
func TestKinds(t *testing.T) {
	s, b := newScene(t, 17)
	b.Commit(700, at(1))
	redo, _ := b.CheckpointRedo()
	b.OnlineCheckpoint(redo, at(2))
	b.BackupEnd(redo)
	b.ParameterChange(100, 2)
	b.Abort(701, at(3))
	b.ShutdownCheckpoint(1, at(4))
	endSegment(b)
	list, _ := s.run(find.Options{Kinds: find.Kinds()})
	want := []string{
		"commit: committed", "checkpoint: checkpoint, redo point " + redo.String(), "backup: a base backup ended that began at " + redo.String(),
		"settings: settings changed: wal_level = logical, max_connections = 100, max_worker_processes = 8, max_wal_senders = 10, max_prepared_transactions = 2, max_locks_per_transaction = 64",
		"abort: rolled back", "checkpoint: the server was shut down (checkpoint)",
	}
	if d := cmp.Diff(want, brief(list)); d != "" {
		t.Error(d)
	}
	if list[2].Time != nil || !list[1].Time.Equal(at(2)) {
		t.Errorf("%+v", list[1:3])
	}
	if list, _ := s.run(find.Options{}); len(list) != 0 {
		t.Errorf("%q", brief(list))
	}
}
