package catalog_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	systemID = 7000000000000000001
	size     = wal.SegmentSize(1 << 20)
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is an archive of which the test stores every piece itself.
type world struct {
	t *testing.T
	*waltest.Builder
	store  storage.Store
	arch   *archive.Archive
	reader *catalog.Reader
}

// newWorld has one sealed segment, and commits up to 12:05 in the next.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), Builder: waltest.NewBuilder(17, systemID, 1, size)}
	repo, _, err := repository.Init(t.Context(), w.store, repository.Options{})
	w.ok(err)
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", systemID, size, 17)
	w.ok(err)
	w.arch = archive.New(repo, inc)
	w.reader = catalog.NewReader(repo, w.arch, 0)
	w.FillSegment()
	w.seal(1)
	for i := range 5 {
		w.Message(5000)
		w.Commit(700+uint32(i), noon.Add(time.Duration(i+1)*time.Minute))
	}
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) segment(number uint64) wal.Segment {
	return wal.Segment{Timeline: w.Timeline(), Number: number, Size: size}
}

func (w *world) seal(number uint64) {
	w.t.Helper()
	_, err := w.arch.PutSegment(w.t.Context(), w.segment(number), bytes.NewReader(w.Bytes(w.segment(number))))
	w.ok(err)
}

// put stores the pieces of a segment between offsets.
func (w *world) put(number uint64, offsets ...int64) {
	w.t.Helper()
	seg := w.segment(number)
	for i, to := range offsets[1:] {
		_, err := w.arch.PutFragment(w.t.Context(), archive.Fragment{Segment: seg, From: offsets[i], To: to}, bytes.NewReader(w.Bytes(seg)))
		w.ok(err)
	}
}

func (w *world) remove(number uint64, from, to int64) {
	w.t.Helper()
	w.ok(w.arch.DeleteFragments(w.t.Context(), archive.Fragment{Segment: w.segment(number), From: from, To: to}))
}

// written is how much of the segment with a number is.
func (w *world) written(number uint64) int64 { return int64(w.Position() - w.segment(number).Start()) }

func (w *world) load() *catalog.Snapshot {
	w.t.Helper()
	s, err := w.reader.Load(w.t.Context())
	w.ok(err)
	return s
}

// ends joins the two segments and says where the WAL ends.
func (w *world) ends(s *catalog.Snapshot) wal.LSN {
	w.t.Helper()
	w.ok(w.reader.Fill(w.t.Context(), s, catalog.Needs{Chains: [][]wal.Segment{{w.segment(1), w.segment(2)}}}))
	if len(s.Details.Unreadable) > 0 || len(s.Details.Links) != 1 {
		w.t.Fatalf("unreadable %v, links %v", s.Details.Unreadable, s.Details.Links)
	}
	for _, l := range s.Details.Links {
		if l.Broken != "" {
			w.t.Fatal(l.Broken)
		}
	}
	p, err := s.Path(1)
	w.ok(err)
	return s.EndOfWAL(p, 1, 2)
}

func TestFragmentsAreListed(t *testing.T) {
	w := newWorld(t)
	n := w.written(2)
	w.put(2, 0, 100, 9000, n)
	w.put(1, 0, 500) // outranked: its segment is sealed
	s := w.load()
	tl := s.Timelines[0]
	if len(tl.Live) != 1 || len(tl.Ranges) != 1 || len(s.Problems) != 0 || len(s.Gaps()) != 0 {
		t.Fatalf("timeline %+v, problems %v, gaps %v", tl, s.Problems, s.Gaps())
	}
	l, r := tl.Live[0], tl.Ranges[0]
	if l.Segment != "000000010000000000000002" || l.End != w.Position() || l.Fragments != 3 || l.StoredBytes == 0 || l.Complete || l.Stranded || l.Broken != "" {
		t.Errorf("live segment %+v", l)
	}
	if r.Segments != 2 || r.LastName != l.Segment || r.End != w.Position() || r.StoredBytes <= l.StoredBytes {
		t.Errorf("range %+v", r)
	}
	if !s.IsOpen(w.segment(2)) || s.IsOpen(w.segment(1)) || s.Has(w.segment(3)) {
		t.Error("it is not told which segment is open")
	}
	if end := w.ends(s); end != w.Position() {
		t.Errorf("the WAL ends at %s, want %s", end, w.Position())
	}
	if ix := s.Details.Indexes[w.segment(2)]; ix.Commits != 5 || ix.LastTime != noon.Add(5*time.Minute) {
		t.Errorf("%d commits until %s", ix.Commits, ix.LastTime)
	}
}

func TestMissingDownToTheByte(t *testing.T) {
	w := newWorld(t)
	w.put(2, 0, w.written(2))
	s := w.load()
	p, err := s.Path(1)
	w.ok(err)
	from, to := w.segment(1).Start(), w.Position()
	if gaps := s.Missing(p, from, to); len(gaps) != 0 {
		t.Errorf("to the end of the fragments: %v", gaps)
	}
	gaps := s.Missing(p, from, to+8)
	if len(gaps) != 1 || gaps[0].Start != to || gaps[0].End != w.segment(2).End() {
		t.Errorf("beyond: %v", gaps)
	}
	if gaps = s.Missing(p, from, w.segment(4).End()); len(gaps) != 1 || gaps[0].Start != to || gaps[0].Segments != 3 {
		t.Errorf("far beyond: %v", gaps)
	}
}

// A segment begins by saying that the record which should go on in it was lost: as
// long as nothing follows, the WAL ends before that record.
func TestOverwrittenAndCutOff(t *testing.T) {
	w := newWorld(t)
	w.ok(w.store.Delete(t.Context(), archive.SegmentKey(w.arch.Incarnation(), w.segment(1))))
	w.Builder = waltest.NewBuilder(17, systemID, 1, size)
	w.FillTo(w.segment(1).End() - 1000)
	lost, _ := w.Overwritten(5000, 0, noon)
	w.seal(1)
	w.put(2, 0, 64)
	if end := w.ends(w.load()); end != lost {
		t.Errorf("the WAL ends at %s, want %s", end, lost)
	}
}

// What was listed is replaced before it is read.
func TestFragmentsAreReplaced(t *testing.T) {
	for name, replace := range map[string]func(*world){
		"by a longer one": func(w *world) {
			w.put(2, 0, w.written(2))
			w.remove(2, 0, 9000)
		},
		"by the segment": func(w *world) {
			w.FillSegment()
			w.seal(2)
			w.remove(2, 0, 9000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(2, 0, 9000)
			s := w.load()
			replace(w)
			if end := w.ends(s); end != w.Position() {
				t.Errorf("the WAL ends at %s, want %s", end, w.Position())
			}
		})
	}
	w := newWorld(t)
	w.put(2, 0, 9000)
	s := w.load()
	w.remove(2, 0, 9000)
	w.ok(w.reader.Fill(t.Context(), s, catalog.Needs{Segments: []wal.Segment{w.segment(2)}}))
	if why := s.Details.Unreadable[w.segment(2)]; !strings.Contains(why, "have gone") {
		t.Errorf("fragments that have gone: %q", why)
	}
}

func TestHolesAmongFragments(t *testing.T) {
	w := newWorld(t)
	w.put(2, 0, 9000)
	w.put(2, 9100, w.written(2))
	s := w.load()
	at := w.segment(2).Start() + 9000
	gaps := s.Gaps()
	if len(gaps) != 1 || gaps[0].Start != at || gaps[0].End != w.segment(2).End() {
		t.Errorf("gaps %+v", gaps)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Object, "live/00000001/000000010000000000000002/0000238C-") ||
		!strings.Contains(s.Problems[0].Problem, "bytes 9000 to 9100 of segment") {
		t.Errorf("problems %+v", s.Problems)
	}
	if s.Has(w.segment(2)) || s.Timelines[0].Live[0].Broken == "" {
		t.Errorf("timeline %+v", s.Timelines[0])
	}
	// A later segment makes the end that is missing a gap, but nothing has gone.
	w = newWorld(t)
	w.put(2, 0, 9000)
	w.FillSegment()
	w.FillSegment()
	w.seal(3)
	s = w.load()
	if gaps = s.Gaps(); len(gaps) != 1 || gaps[0].Start != at || len(s.Problems) != 0 || s.Has(w.segment(2)) {
		t.Errorf("gaps %+v, problems %+v", gaps, s.Problems)
	}
	// All of it in fragments: no gap.
	w.put(2, 9000, size.Bytes())
	if s = w.load(); len(s.Gaps()) != 0 || len(s.Timelines[0].Ranges) != 1 || !s.Timelines[0].Live[0].Complete {
		t.Errorf("gaps %+v, timeline %+v", s.Gaps(), s.Timelines[0])
	}
}

// A later listing is believed, not the one during which fragments were replaced.
func TestHoleThatPasses(t *testing.T) {
	w := newWorld(t)
	w.put(2, 0, 9000)
	w.put(2, 9100, w.written(2))
	r := &healing{Store: w.store, heal: func() { w.put(2, 0, 9100) }}
	repo, err := repository.Open(t.Context(), r, repository.Options{})
	w.ok(err)
	s, err := catalog.NewReader(repo, archive.New(repo, w.arch.Incarnation()), 0).Load(t.Context())
	w.ok(err)
	if len(s.Gaps()) != 0 || len(s.Problems) != 0 || s.Timelines[0].Live[0].End != w.Position() {
		t.Errorf("gaps %+v, problems %+v", s.Gaps(), s.Problems)
	}
}

// The tail of a timeline that was left is told apart.
func TestStrandedTail(t *testing.T) {
	w := newWorld(t)
	fork := w.Position()
	child := w.Fork(2, "no recovery target specified")
	w.Commit(800, noon.Add(time.Hour))
	w.put(2, 0, w.written(2))
	_, err := w.arch.PutHistory(t.Context(), 2, []byte("1\t"+fork.String()+"\tno recovery target specified\n"))
	w.ok(err)
	end := w.Position()
	w.Builder = child
	w.Commit(801, noon.Add(2*time.Hour))
	w.put(2, 0, w.written(2))
	s := w.load()
	one, two := s.Timelines[0], s.Timelines[1]
	if len(one.Live) != 1 || !one.Live[0].Stranded || one.Live[0].End != end || len(two.Live) != 1 || two.Live[0].Stranded || len(s.Gaps()) != 0 {
		t.Errorf("timelines %+v and %+v, gaps %+v", one, two, s.Gaps())
	}
	p, err := s.Path(2)
	w.ok(err)
	if last, ok := s.RunEnd(p, 1); !ok || last != 2 || s.EndOf(p.Segment(2)) != w.Position() {
		t.Errorf("the way to timeline 2 ends with %d", last)
	}
}
