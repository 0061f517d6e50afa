package names

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

const (
	shopDB = 16401
	base   = 1663
)

// shelf is a repository into which tests put snapshots.
type shelf struct {
	t     *testing.T
	store storage.Store
	repo  *repository.Repository
	inc   archive.Incarnation
	print byte
}

func newShelf(t *testing.T, store storage.Store) *shelf {
	t.Helper()
	repo, _, err := repository.Init(t.Context(), store, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 1, 1<<20, 17)
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{t: t, store: store, repo: repo, inc: inc}
}

// id is a snapshot at that position, taken that many minutes after noon.
func id(tli wal.TimelineID, lsn wal.LSN) ID {
	return ID{noon.Add(time.Duration(lsn) * time.Minute), tli, lsn}
}

// rel is a table of schema 2200 whose file has its OID's number.
func rel(oid uint32, name string) Relation {
	return Relation{OID: oid, Kind: Table, Schema: 2200, Filenode: oid, Name: name}
}

// put stores a snapshot with one database that has these relations; nil: it was not read.
func (s *shelf) put(at ID, relations []Relation) *Snapshot {
	s.t.Helper()
	snapshot := &Snapshot{ID: at, Until: at.LSN + 1, ServerVersion: 170000, Databases: []Database{{OID: shopDB, Name: "shop", Tablespace: base}}}
	var raw []byte
	chunks := map[uint32]*chunk{0: {schemas: []Schema{{2200, "public"}}}}
	for _, r := range relations {
		n := r.OID >> chunkShift
		if chunks[n] == nil {
			chunks[n] = &chunk{number: n}
		}
		chunks[n].relations = append(chunks[n].relations, r)
	}
	if relations == nil {
		snapshot.Databases[0].State, snapshot.Databases[0].Reason = Unread, "away"
		chunks = nil
	}
	numbers := []uint32{}
	for n := range chunks {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		b, err := chunks[n].encode()
		if err != nil {
			s.t.Fatal(err)
		}
		s.print++
		snapshot.chunks = append(snapshot.chunks, chunkRef{content{n, fingerprint{s.print}}, at, int64(len(raw)), int64(len(b))})
		snapshot.Databases[0].chunks = append(snapshot.Databases[0].chunks, i)
		raw = append(raw, b...)
	}
	s.store1(at, snapshot, raw)
	return snapshot
}

func (s *shelf) store1(at ID, snapshot *Snapshot, raw []byte) {
	s.t.Helper()
	_, err := s.repo.Put(s.t.Context(), at.Key(s.inc), raw, repository.ObjectOptions{Kind: frame.KindNames}, frame.Section{Type: SectionDirectory, Data: snapshot.encode()})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) open(memory int64) *Reader {
	s.t.Helper()
	r, err := Open(s.t.Context(), s.repo, s.inc, memory)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// called is what a number was called on timeline 1; "" if that is not known.
func called(v *Resolver, oid uint32, at wal.LSN) string {
	n, _ := v.Relation(shopDB, base, oid, at)
	m, _ := v.RelationByOID(shopDB, oid, at)
	if n != m {
		return fmt.Sprintf("%v and %v", n, m)
	}
	return n.Name
}

var first = wal.History{Timeline: 1}

func TestWhichSnapshotAnswers(t *testing.T) {
	s := newShelf(t, mem.New())
	s.put(id(1, 100), []Relation{rel(20000, "a"), rel(90000, "x")})
	s.put(id(1, 200), []Relation{rel(20000, "b"), rel(20001, "c")})
	s.put(id(1, 300), nil)
	s.put(id(1, 400), []Relation{rel(20001, "c2"), rel(20002, "d")})
	for _, memory := range []int64{0, 1} { // with next to no memory everything is read again and again
		v := s.open(memory).Resolver(t.Context(), first)
		for _, c := range []struct {
			oid  uint32
			at   wal.LSN
			want string
		}{
			{20000, 100, "a"}, {20000, 199, "a"}, {20000, 200, "b"}, {20000, 399, "b"},
			{20000, 50, "a"},  // before the first: the one after
			{20000, 450, "b"}, // dropped since: the last that had it
			{90000, 250, "x"}, {20001, 100, "c"}, {20001, 350, "c"}, {20001, 400, "c2"},
			{20002, 10, "d"}, {20002, 1 << 40, "d"}, {20003, 200, ""}, {0, 200, ""},
		} {
			if got := called(v, c.oid, c.at); got != c.want {
				t.Errorf("%d at %d with memory %d: %q, want %q", c.oid, c.at, memory, got, c.want)
			}
		}
		if n, ok := v.Relation(shopDB, base+1, 20000, 100); ok {
			t.Errorf("in another tablespace: %v", n)
		}
		if n, ok := v.Relation(5, base, 20000, 100); ok {
			t.Errorf("in another database: %v", n)
		}
		if db, ok := v.Database(shopDB, 1); !ok || db != "shop" {
			t.Error(db, ok)
		}
		if db, ok := v.Database(4, 1); ok {
			t.Error(db)
		}
		if err := v.Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestTimelines(t *testing.T) {
	s := newShelf(t, mem.New())
	s.put(id(1, 100), []Relation{rel(20000, "old")})
	s.put(id(1, 200), []Relation{rel(20000, "old"), rel(20001, "one")})
	s.put(id(2, 160), []Relation{rel(20000, "old"), rel(20001, "two")})
	r := s.open(0)
	two, err := wal.ParseHistory(2, []byte("1\t0/96\tbranch\n")) // at 150
	if err != nil {
		t.Fatal(err)
	}
	for h, want := range map[*wal.History]string{&first: "one", &two: "two"} {
		v := r.Resolver(t.Context(), *h)
		if got := called(v, 20001, 250); got != want || called(v, 20000, 120) != "old" {
			t.Errorf("on timeline %d: %q, %q", h.Timeline, got, called(v, 20000, 120))
		}
	}
}

func TestDamagedSnapshotsArePassedOver(t *testing.T) {
	store := mem.New()
	s := newShelf(t, store)
	s.put(id(1, 100), []Relation{rel(20000, "a")})
	bad := id(1, 200)
	if err := storage.PutBytes(t.Context(), store, bad.Key(s.inc), []byte("nonsense"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	v := s.open(0).Resolver(t.Context(), first)
	if got := called(v, 20000, 250); got != "a" {
		t.Error(got)
	}
	var damage *frame.Error
	if err := v.Err(); !errors.As(err, &damage) || strings.Count(err.Error(), bad.String()) != 1 {
		t.Error(err)
	}
	// One that refers to a chunk that its holder does not have.
	liar := s.put(id(1, 300), []Relation{rel(20000, "b")})
	liar.ID, liar.Until = id(1, 400), 401
	for i := range liar.chunks {
		liar.chunks[i].holder = id(1, 100)
	}
	s.store1(liar.ID, liar, nil)
	v = s.open(0).Resolver(t.Context(), first)
	var format *FormatError
	if got := called(v, 20000, 450); got != "b" || !errors.As(v.Err(), &format) {
		t.Error(got, v.Err())
	}
	// One under another's name.
	other := *liar
	s.store1(id(1, 500), &other, nil)
	if _, err := s.open(0).Snapshot(t.Context(), id(1, 500)); !errors.As(err, &format) || !strings.Contains(format.Error(), "it is snapshot") {
		t.Error(err)
	}
}

func TestStoreErrorsAreTold(t *testing.T) {
	store := faulty.New(mem.New())
	s := newShelf(t, store)
	s.put(id(1, 100), []Relation{rel(20000, "a")})
	s.put(id(1, 200), []Relation{rel(20000, "b")})
	r := s.open(0)
	store.Inject(faulty.Fault{Op: faulty.Open, Key: func(key string) bool { return strings.Contains(key, id(1, 200).String()) }, Permanent: true, Times: -1})
	v := r.Resolver(t.Context(), first)
	if got := called(v, 20000, 250); got != "a" || !errors.Is(v.Err(), faulty.ErrInjected) {
		t.Error(got, v.Err())
	}
	store.Inject(faulty.Fault{Op: faulty.List, Permanent: true})
	if _, err := Open(t.Context(), s.repo, s.inc, 0); !errors.Is(err, faulty.ErrInjected) {
		t.Error(err)
	}
}

// TestRequests holds what reading costs: each snapshot that is looked at is one request, if
// it is small, whatever is looked for and however often.
func TestRequests(t *testing.T) {
	store := faulty.New(mem.New())
	s := newShelf(t, store)
	for n := range wal.LSN(100) {
		s.put(id(1, 1000+10*n), []Relation{rel(20000+uint32(n), "t")})
	}
	r := s.open(0)
	store.Clear()
	v := r.Resolver(t.Context(), first)
	if called(v, 20050, 1505) != "t" || called(v, 20050, 1500) != "t" || called(v, 20049, 1500) != "t" {
		t.Error("not found")
	}
	if n := store.Count(faulty.Open); n != 2 {
		t.Errorf("%d requests for two snapshots", n)
	}
	for range 10 {
		if got := called(v, 30000, 1505); got != "" {
			t.Error(got)
		}
	}
	if n := store.Count(faulty.Open); n > before+after {
		t.Errorf("%d requests for what is nowhere", n)
	}
	if n := store.Count(faulty.List); n != 0 {
		t.Errorf("%d listings", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100)
	for i := range 50 {
		c.put(i, i, 30)
		c.put(i, i, 20) // again: not counted twice
		if c.used > 100 || c.order.Len() != len(c.entries) {
			t.Fatal(c.used, c.order.Len())
		}
	}
	if _, ok := c.get(44); ok || len(c.entries) != 4 {
		t.Error(len(c.entries))
	}
	c.get(46)
	c.put(50, 50, 20)
	c.put(51, 51, 20)
	if v, ok := c.get(46); !ok || v != 46 {
		t.Error("what was used last is gone")
	}
	c.put("large", 1, 1000)
	if _, ok := c.get("large"); !ok || len(c.entries) != 1 {
		t.Error("what is larger than the cache is not kept until the next")
	}
}

func TestWhatIsStoredAgain(t *testing.T) {
	at := ID{noon, 1, 1000}
	old := content{1, fingerprint{1}}
	young := content{2, fingerprint{2}}
	last := &Snapshot{ID: ID{noon.Add(-2 * time.Hour), 1, 900}, Databases: []Database{{OID: 5, Name: "a", chunks: []int{0, 1}}, {OID: 6, Name: "b", State: Unread}},
		chunks: []chunkRef{{old, ID{noon.Add(-25 * time.Hour), 1, 100}, 0, 10}, {young, ID{noon.Add(-23 * time.Hour), 1, 200}, 0, 10}}}
	l := &look{header: header{ID: at}, databases: []Database{{OID: 5, Name: "a"}, {OID: 6, Name: "b", State: Unread}}, prints: [][]content{{old, young}, nil}}
	if !l.unchanged(last) {
		t.Error("what is the same is stored again because it is old")
	}
	s := &storing{look: l, refs: map[content]chunkRef{}}
	s.reuse(last)
	if _, ok := s.refs[young]; !ok || len(s.refs) != 1 {
		t.Errorf("%v", s.refs)
	}
	if list := s.before(5); len(list) != 1 || list[0] != young {
		t.Errorf("%v", list)
	}
	for name, change := range map[string]func(){
		"timeline":   func() { l.Timeline = 2 },
		"database":   func() { l.databases[0].Name = "c" },
		"state":      func() { l.databases[1].State = Closed },
		"chunk":      func() { l.prints[0] = []content{old, {2, fingerprint{3}}} },
		"fewer":      func() { l.prints[0] = []content{old} },
		"tablespace": func() { l.tablespaces = []Tablespace{{1, "x"}} },
		"dropped":    func() { l.databases = l.databases[:1] },
	} {
		l = &look{header: header{ID: at}, databases: []Database{{OID: 5, Name: "a"}, {OID: 6, Name: "b", State: Unread}}, prints: [][]content{{old, young}, nil}}
		if change(); l.unchanged(last) {
			t.Errorf("another %s is no change", name)
		}
	}
}
