package stream

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

const testSize = wal.MinSegmentSize

// world plays shipper and repository to a journal: jobs end in any order, and
// what is stored is kept apart from what the journal believes.
type world struct {
	t       *testing.T
	r       *rand.Rand
	j       *journal
	now     time.Time
	running []job
	stored  map[archive.Fragment]bool
	sealed  map[wal.Segment]bool
	most    int // fragments of one segment at once
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 0)), now: time.Now(),
		stored: map[archive.Fragment]bool{}, sealed: map[wal.Segment]bool{},
	}
	w.j = newJournal(testSize, 200*testSize.Bytes(), func(seg wal.Segment) (*segmentFile, error) { return newTemporarySegment(seg.Size.Bytes()) })
	w.j.begin(1, wal.LSN(testSize), true)
	return w
}

// live is what the repository has of a segment in fragments.
func (w *world) live(seg wal.Segment) archive.LiveSegment {
	l := archive.LiveSegment{Segment: seg}
	for f := range w.stored {
		if f.Segment == seg {
			l.Fragments = append(l.Fragments, archive.StoredFragment{Fragment: f})
		}
	}
	slices.SortFunc(l.Fragments, func(x, y archive.StoredFragment) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(y.To, x.To))
	})
	return l
}

// begin begins whatever can be begun.
func (w *world) begin(p policy) {
	for {
		p.uploads = 4 - len(w.running)
		p.seals = p.uploads
		w.j.mu.Lock()
		next, _ := w.j.next(p, w.now)
		files := w.j.popDone()
		w.j.mu.Unlock()
		for _, f := range files {
			_ = f.discard()
		}
		if next.kind == noJob {
			return
		}
		if f := next.fragment; next.kind == fragmentJob && f.From > next.segment.durable {
			w.t.Fatalf("%s begins behind what is durable (%d)", f, next.segment.durable)
		}
		w.running = append(w.running, next)
	}
}

// end lets one of the running jobs end.
func (w *world) end() {
	if len(w.running) == 0 {
		return
	}
	i := w.r.IntN(len(w.running))
	next := w.running[i]
	w.running = slices.Delete(w.running, i, i+1)
	switch next.kind {
	case fragmentJob:
		w.stored[next.fragment.Fragment] = true
		w.check(next.segment.seg)
		for _, f := range next.segment.stored(next) {
			delete(w.stored, f)
		}
		w.check(next.segment.seg)
	case sealJob, housekeepingJob:
		s := next.segment
		w.sealed[s.seg] = true
		s.sealed, s.sealing, s.durable, s.scheduled = true, false, s.have, s.have
		for _, f := range s.fragments {
			delete(w.stored, f.Fragment)
		}
	}
}

// check holds what a reader would find after a crash now against what the
// journal has promised.
func (w *world) check(seg wal.Segment) {
	l := w.live(seg)
	w.most = max(w.most, len(l.Fragments))
	if l.HasHole() {
		w.t.Fatalf("a crash now would leave a hole between fragments: %+v", l.Fragments)
	}
	for _, s := range w.j.segments {
		if s.seg == seg && !w.sealed[seg] && l.Covered() < s.durable {
			w.t.Fatalf("%d bytes of %s are said to be durable, %d are", s.durable, seg.Name(), l.Covered())
		}
	}
}

func (w *world) write(n int) {
	_, tip := w.j.position()
	if err := w.j.append(context.Background(), tip, make([]byte, n)); err != nil {
		w.t.Fatal(err)
	}
}

func TestNoHoleWhateverTheOrder(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			sizes := []int{40, 400, 30_000, 300_000}
			n := sizes[w.r.IntN(len(sizes))]
			p := policy{delay: time.Second, eager: w.r.IntN(2) == 0, behind: w.r.IntN(4) == 0}
			for range 400 {
				w.now = w.now.Add(time.Duration(w.r.IntN(400)) * time.Millisecond)
				switch w.r.IntN(3) {
				case 0:
					w.write(1 + w.r.IntN(n))
				case 1:
					w.end()
				}
				w.begin(p)
				if w.r.IntN(50) == 0 {
					w.j.need()
				}
			}
			w.j.need()
			for w.begin(p); len(w.running) > 0; w.begin(p) {
				w.end()
			}
			tip, durable, _ := w.j.positions()
			if pending, _ := w.j.pending(); pending != 0 || durable != tip {
				t.Errorf("received %s, durable %s, %d bytes pending", tip, durable, pending)
			}
			for seg := range w.sealed {
				if len(w.live(seg).Fragments) > 0 {
					t.Errorf("%s is sealed and has fragments", seg.Name())
				}
			}
			for _, s := range w.j.segments {
				_ = s.file.discard()
			}
		})
	}
}

// TestQuietClusterKeepsFewObjects: a little WAL every second for a day.
func TestQuietClusterKeepsFewObjects(t *testing.T) {
	w := newWorld(t, 1)
	uploaded, n := int64(0), 0
	for range 24 * 3600 / 10 {
		w.write(100)
		w.now = w.now.Add(2 * time.Second)
		w.begin(policy{delay: time.Second})
		for _, next := range w.running {
			if next.kind == fragmentJob {
				uploaded += next.fragment.To - next.fragment.From
				n++
			}
		}
		for len(w.running) > 0 {
			w.end()
		}
	}
	_, tip := w.j.position()
	written := int64(tip - wal.LSN(testSize))
	t.Logf("%d uploads of %d bytes for %d bytes of WAL, at most %d fragments of a segment at once", n, uploaded, written, w.most)
	if w.most > 70 {
		t.Errorf("%d fragments of a segment at once", w.most)
	}
	if uploaded > 6*written {
		t.Errorf("every byte was uploaded %d times", uploaded/written)
	}
	if len(w.sealed) != 0 && len(w.stored) > 70 {
		t.Errorf("%d fragments are left", len(w.stored))
	}
}

// TestPolicy: when pieces are uploaded.
func TestPolicy(t *testing.T) {
	later := func(w *world, d time.Duration) { w.now = time.Now().Add(d) }
	w := newWorld(t, 1)
	later(w, 0)
	w.write(1000)
	if w.begin(policy{delay: time.Second}); len(w.running) != 0 {
		t.Error("nobody waits, and it was uploaded at once")
	}
	later(w, 2*time.Second)
	if w.begin(policy{delay: time.Second}); len(w.running) != 1 {
		t.Error("it was not uploaded after its delay")
	}
	w.end()
	later(w, 0)
	w.write(1000)
	if w.begin(policy{delay: time.Second, eager: true}); len(w.running) != 1 {
		t.Error("a commit waits, and it was not uploaded at once")
	}
	w.end()
	w.write(1000)
	w.j.need()
	if w.begin(policy{delay: time.Hour}); len(w.running) != 1 {
		t.Error("the server waits, and it was not uploaded at once")
	}
	w.end()
	// A backlog is uploaded in whole segments, several at a time.
	w = newWorld(t, 1)
	later(w, 0)
	w.write(int(3*testSize.Bytes()) + 500)
	w.begin(policy{delay: time.Second, behind: true, eager: true})
	if len(w.running) != 3 || w.running[0].kind != sealJob || w.running[2].kind != sealJob {
		t.Errorf("%d jobs: %+v", len(w.running), w.running)
	}
}

// TestJournalIsBounded: a receiver whose repository is away stops reading.
func TestJournalIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	w.j.limit = 2 * testSize.Bytes()
	w.write(int(2 * testSize.Bytes()))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, tip := w.j.position()
	if err := w.j.append(ctx, tip, make([]byte, 100)); err != context.DeadlineExceeded { //nolint:errorlint // as it is
		t.Fatalf("append to a full journal: %v", err)
	}
	go func() {
		w.begin(policy{})
		w.end()
		w.begin(policy{}) // lets go of the sealed one
		w.j.update(func() {})
	}()
	if err := w.j.append(t.Context(), tip, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := w.j.append(t.Context(), tip, make([]byte, 100)); err == nil {
		t.Error("WAL of the wrong place was taken")
	}
}

// TestTimelineSwitch: the tail of the timeline that was left stays in
// fragments, and must be durable before anything of the next one is reported.
func TestTimelineSwitch(t *testing.T) {
	w := newWorld(t, 1)
	w.now = time.Now()
	w.write(int(testSize.Bytes()) + 5000)
	p := policy{delay: time.Hour}
	w.begin(p)
	for len(w.running) > 0 {
		w.end()
	}
	// The next timeline begins in the segment that is open.
	w.j.begin(2, wal.LSN(2*testSize), true)
	w.write(9000)
	if _, durable, _ := w.j.positions(); durable != 0 {
		t.Errorf("%s is reported on the new timeline", durable)
	}
	w.j.need()
	for w.begin(p); len(w.running) > 0; w.begin(p) {
		w.end()
	}
	tip, durable, _ := w.j.positions()
	if tip != durable || tip != wal.LSN(2*testSize)+9000 {
		t.Errorf("received %s, durable %s", tip, durable)
	}
	old := wal.Segment{Timeline: 1, Number: 2, Size: testSize}
	if l := w.live(old); l.Covered() != 5000 {
		t.Errorf("%d bytes of the old timeline's tail are there", l.Covered())
	}
	if len(w.j.segments) != 1 {
		t.Errorf("%d segments are held", len(w.j.segments))
	}
}

// TestHoleStaysNear: while the upload of a segment takes for ever, those behind
// it are sealed only as far as a receiver looks back for holes.
func TestHoleStaysNear(t *testing.T) {
	w := newWorld(t, 1)
	p := policy{delay: time.Second, behind: true}
	for range lookBack + 10 {
		w.write(int(testSize.Bytes()))
		w.begin(p)
		for i := len(w.running) - 1; i >= 0; i-- {
			if next := w.running[i]; next.segment.seg.Number != 1 {
				next.segment.sealed, next.segment.sealing = true, false
				w.running = slices.Delete(w.running, i, i+1)
			}
		}
		w.begin(p)
	}
	for _, s := range w.j.segments {
		if s.sealed && s.seg.Number >= lookBack {
			t.Fatalf("%s is sealed, the first one is not", s.seg.Name())
		}
	}
	for _, s := range w.j.segments {
		if s.file != nil {
			_ = s.file.discard()
		}
	}
}
