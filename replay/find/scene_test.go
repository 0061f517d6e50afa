package find_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	segment  = wal.SegmentSize(1 << 20)
	systemID = 7345678901234567890
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at is noon and some seconds.
func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// table is a relation of database 5, shop.
func table(number uint32) [3]uint32 { return [3]uint32{1663, 5, number} }

// The relations of the tests: file number, and OID where it is another.
var (
	orders    = table(16384)
	ordersPK  = table(16390)
	toast     = table(16387)
	items     = table(16500) // OID 16400: it was rewritten once
	pgClass   = table(1259)
	nameless  = table(17000)
	partition = uint32(16600)
)

// fakeNames are the names of those.
type fakeNames struct {
	files map[[3]uint32]names.Name
	oids  map[uint32]names.Name
}

func newNames() *fakeNames {
	n := &fakeNames{files: map[[3]uint32]names.Name{}, oids: map[uint32]names.Name{}}
	n.add(orders, names.Name{Schema: "public", Name: "orders", Kind: names.Table, OID: 16384})
	n.add(ordersPK, names.Name{Schema: "public", Name: "orders_pkey", Kind: names.Index, OID: 16390, TableOID: 16384, TableSchema: "public", TableName: "orders"})
	n.add(toast, names.Name{Schema: "pg_toast", Name: "pg_toast_16384", Kind: names.TOAST, OID: 16387, TableOID: 16384, TableSchema: "public", TableName: "orders"})
	n.add(items, names.Name{Schema: "Sales", Name: "items", Kind: names.Table, OID: 16400})
	n.add(pgClass, names.Name{Schema: "pg_catalog", Name: "pg_class", Kind: names.Table, OID: 1259})
	n.add([3]uint32{}, names.Name{Schema: "public", Name: "parts", Kind: names.PartitionedTable, OID: partition})
	return n
}

func (n *fakeNames) add(file [3]uint32, name names.Name) {
	name.Database = "shop"
	n.oids[name.OID] = name
	if file[2] != 0 {
		n.files[file] = name
	}
}

func (n *fakeNames) Relation(database, tablespace, file uint32, _ wal.LSN) (names.Name, bool) {
	x, ok := n.files[[3]uint32{tablespace, database, file}]
	return x, ok
}

func (n *fakeNames) RelationByOID(database, oid uint32, _ wal.LSN) (names.Name, bool) {
	x, ok := n.oids[oid]
	return x, ok && database == 5
}

func (n *fakeNames) Database(oid uint32, _ wal.LSN) (string, bool) {
	return map[uint32]string{5: "shop", 6: "old"}[oid], oid == 5 || oid == 6
}

func (n *fakeNames) Tablespace(oid uint32, _ wal.LSN) (string, bool) {
	return "fast", oid == 1700
}

// scene is an archive.
type scene struct {
	t         *testing.T
	branches  []*waltest.Builder
	names     *fakeNames
	lost      []wal.Segment // not archived
	damaged   []wal.Segment // cannot be read
	backups   []catalog.Backup
	read      int // how many indexes were
	built     map[wal.Segment]*index.Index
	histories []wal.History
}

func newScene(t *testing.T, major int) (*scene, *waltest.Builder) {
	t.Helper()
	b := waltest.NewBuilder(major, systemID, 1, segment)
	return &scene{t: t, branches: []*waltest.Builder{b}, names: newNames()}, b
}

// fork begins a timeline as a promotion does.
func (s *scene) fork(b *waltest.Builder, tli wal.TimelineID, seconds int) *waltest.Builder {
	child := b.Fork(tli, "test")
	s.branches = append(s.branches, child)
	child.EndOfRecovery(b.Timeline(), at(seconds))
	return child
}

// endSegment fills the segment, which is archived then.
func endSegment(b *waltest.Builder) {
	if uint64(b.Position())%uint64(segment) != 0 {
		b.FillSegment()
	}
}

// snapshot is the overview of the archive.
func (s *scene) snapshot() *catalog.Snapshot {
	snap := &catalog.Snapshot{Cluster: "main", SegmentSize: segment, SystemID: systemID, Backups: s.backups}
	for _, b := range s.branches {
		t := catalog.Timeline{ID: b.Timeline(), HistoryState: catalog.HistoryNone, Ranges: []catalog.Range{}}
		if h := b.History(); len(h.Entries) > 0 {
			t.HistoryState, t.History = catalog.HistoryPresent, h
			p, _ := h.Parent()
			t.Parent, t.Switch = p.Timeline, p.End
		}
		for _, seg := range b.Complete() {
			if slices.Contains(s.lost, seg) {
				continue
			}
			if n := len(t.Ranges); n > 0 && t.Ranges[n-1].Last+1 == seg.Number {
				t.Ranges[n-1] = catalog.NewRange(seg.Timeline, t.Ranges[n-1].First, seg.Number, segment, 0)
				continue
			}
			t.Ranges = append(t.Ranges, catalog.NewRange(seg.Timeline, seg.Number, seg.Number, segment, 0))
		}
		snap.Timelines = append(snap.Timelines, t)
	}
	return snap
}

func (s *scene) index(seg wal.Segment) (*index.Index, error) {
	if slices.Contains(s.damaged, seg) {
		return nil, errors.New("it is damaged")
	}
	if ix := s.built[seg]; ix != nil {
		return ix, nil
	}
	for _, b := range s.branches {
		if b.Timeline() == seg.Timeline {
			ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, index.Options{Complete: true})
			if s.built == nil {
				s.built = map[wal.Segment]*index.Index{}
			}
			s.built[seg] = ix
			return ix, err
		}
	}
	return nil, errors.New("no such segment")
}

// source is the archive as find reads it.
func (s *scene) source() find.Source {
	return find.Source{
		Snapshot: s.snapshot(),
		Read: func(_ context.Context, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error {
			for _, seg := range segs {
				s.read++
				ix, err := s.index(seg)
				if err := use(seg, ix, err); err != nil {
					return err
				}
			}
			return nil
		},
		Names: func(h wal.History) find.Names { s.histories = append(s.histories, h); return s.names },
	}
}

// run looks for o.
func (s *scene) run(o find.Options) ([]find.Event, *find.Summary) {
	s.t.Helper()
	var list []find.Event
	sum, err := find.Run(s.t.Context(), s.source(), o, func(e find.Event) error {
		list = append(list, e)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list, sum
}

// brief is what most tests compare: kind, and the texts of actions.
func brief(list []find.Event) []string {
	var out []string
	for _, e := range list {
		if len(e.Actions) == 0 {
			out = append(out, string(e.Kind)+": "+e.Text)
		}
		for _, a := range e.Actions {
			text := string(a.Kind) + ": " + a.Text
			if a.Uncertain {
				text += " ?"
			}
			out = append(out, text)
		}
	}
	return out
}
