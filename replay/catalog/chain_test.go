package catalog_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
	"github.com/walden-pg/walden/wal/waltest"
)

// rolledWorld is an archive over the end of a log, with roll-ups.
type rolledWorld struct {
	*world
	faults *faulty.Store
	rolls  *rollup.Store
	all    []wal.Segment
}

// perLog is the number of segments of a log.
const perLog = 4096

func newRolledWorld(t *testing.T, seed uint64) *rolledWorld {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	b := waltest.NewBuilder(17, systemID, 1, size)
	b.Seek(perLog-12, wal.LSN(perLog-12)*wal.LSN(size)-64)
	for i := 0; b.Position() < wal.LSN(perLog+12)*wal.LSN(size); i++ {
		at := noon.Add(time.Duration(i) * time.Second)
		if room := int(wal.SegmentAt(1, b.Position(), size).End()-b.Position()) * 8168 / 8192; room > 400 && r.IntN(3) > 0 {
			b.Message(room - 150 - r.IntN(120))
		}
		switch r.IntN(5) {
		case 0, 1:
			b.Commit(700+uint32(i), at)
		case 2:
			b.RestorePoint("point", at)
		case 3:
			b.Message(r.IntN(3 << 20))
		default:
			b.Message(r.IntN(20000))
		}
	}
	b.Switch()
	w := &rolledWorld{world: &world{t: t, store: mem.New(), Builder: b}}
	w.faults = faulty.New(w.store)
	repo, _, err := repository.Init(t.Context(), w.faults, repository.Options{})
	w.ok(err)
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", systemID, size, 17)
	w.ok(err)
	w.arch, w.rolls = archive.New(repo, inc), rollup.NewStore(repo, inc)
	w.reader = catalog.NewReader(repo, w.arch, 4)
	for _, seg := range w.Complete() {
		w.seal(seg.Number)
		w.all = append(w.all, seg)
	}
	_, err = rollup.Update(t.Context(), w.arch, w.rolls, rollup.UpdateOptions{})
	w.ok(err)
	return w
}

// details joins the segments, and counts how many objects were read for it.
func (w *rolledWorld) details(segs []wal.Segment) (catalog.Details, int) {
	w.t.Helper()
	s := w.load()
	w.faults.Clear()
	w.ok(w.reader.Fill(w.t.Context(), s, catalog.Needs{Chains: [][]wal.Segment{segs}}))
	return s.Details, w.faults.Count(faulty.Open)
}

// TestChainsByRollups: a chain is the same whether roll-ups tell of its segments, or
// of some of them, or none. Only what it costs differs.
func TestChainsByRollups(t *testing.T) {
	saved := 0
	for seed := range uint64(8) {
		w := newRolledWorld(t, seed)
		r := rand.New(rand.NewPCG(seed, 1))
		switch seed % 4 {
		case 1: // a few segments are stored anew: what was known of them is stale
			for range 3 {
				seg := w.all[r.IntN(len(w.all))]
				w.ok(w.store.Delete(t.Context(), archive.SegmentKey(w.arch.Incarnation(), seg)))
				w.seal(seg.Number)
			}
		case 2: // one log has none
			w.ok(w.rolls.Delete(t.Context(), rollup.Log{Timeline: 1, Number: uint32(seed / 4)}, 1))
		case 3: // one is damaged
			key := w.rolls.Key(rollup.Log{Timeline: 1, Number: uint32(seed / 4)}, 1)
			w.ok(w.store.Delete(t.Context(), key))
			w.ok(storage.PutBytes(t.Context(), w.store, key, []byte("damaged"), storage.PutOptions{}))
		}
		from := r.IntN(4)
		segs := w.all[from : len(w.all)-r.IntN(4)]
		got, reads := w.details(segs)
		for i := range uint32(2) {
			w.ok(w.rolls.Delete(t.Context(), rollup.Log{Timeline: 1, Number: i}, 1))
		}
		want, all := w.details(segs)
		if all < len(segs) || len(want.Links) != len(segs)-1 {
			t.Fatalf("seed %d: %d reads of %d segments, %d links", seed, all, len(segs), len(want.Links))
		}
		saved += all - reads
		if !reflect.DeepEqual(got.Unreadable, want.Unreadable) {
			t.Errorf("seed %d: unreadable %v, want %v", seed, got.Unreadable, want.Unreadable)
		}
		for i, seg := range segs {
			if !reflect.DeepEqual(got.Indexes[seg], want.Indexes[seg]) {
				t.Errorf("seed %d, %s:\n%+v, want\n%+v", seed, seg, got.Indexes[seg], want.Indexes[seg])
			}
			if i == 0 {
				continue
			}
			l := catalog.Link{From: segs[i-1], To: seg}
			if g, w := got.Links[l], want.Links[l]; !reflect.DeepEqual(g, w) && w.Joined.LSN != 0 {
				t.Errorf("seed %d, %s: link %+v %+v, want %+v %+v", seed, seg, g, g.Joined, w, w.Joined)
			}
		}
	}
	if saved < 80 {
		t.Errorf("only %d reads were saved: the roll-ups are not used", saved)
	}
}

// A roll-up is never believed over a listing: what is not there is missing.
func TestRollupsDoNotTellWhatExists(t *testing.T) {
	w := newRolledWorld(t, 1)
	lost := w.all[5]
	w.ok(w.store.Delete(t.Context(), archive.SegmentKey(w.arch.Incarnation(), lost)))
	s := w.load()
	if s.Has(lost) || len(s.Gaps()) != 1 {
		t.Errorf("gaps %v", s.Gaps())
	}
	// A segment of another history was put in its place.
	stranger := newRolledWorld(t, 2)
	_, err := w.arch.PutSegment(t.Context(), lost, bytes.NewReader(stranger.Bytes(lost)))
	w.ok(err)
	d, _ := w.details(w.all[:10])
	broken := d.Links[catalog.Link{From: w.all[4], To: lost}].Broken
	if !strings.Contains(broken, "join segments") {
		t.Errorf("a segment of another history was accepted: %q", broken)
	}
}

// Faults of the store end a chain, whatever they hit; they are never taken for damage.
func TestChainsFailAnywhere(t *testing.T) {
	w := newRolledWorld(t, 3)
	for n := 0; ; n++ {
		s := w.load()
		w.faults.Clear()
		w.faults.Inject(faulty.Fault{Skip: n, Permanent: true})
		err := w.reader.Fill(t.Context(), s, catalog.Needs{Chains: [][]wal.Segment{w.all}})
		failed := w.faults.Count(faulty.Any) > n
		w.faults.Clear()
		if failed != (err != nil) || len(s.Details.Unreadable) > 0 {
			t.Fatalf("operation %d, failed %v: error %v, unreadable %v", n, failed, err, s.Details.Unreadable)
		}
		if !failed {
			if n < 4 {
				t.Errorf("there were only %d operations: the test tests nothing", n)
			}
			return
		}
	}
}
