package rollup_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
	"github.com/walden-pg/walden/wal/waltest"
)

// world is an archive with WAL at the end of one log and the beginning of the next.
type world struct {
	t *testing.T
	*waltest.Builder
	store storage.Store
	repo  *repository.Repository
	arch  *archive.Archive
	rolls *rollup.Store
}

func newWorld(t *testing.T, segments int) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), Builder: randomWAL(7, perLog-4, segments)}
	_, _, err := repository.Init(t.Context(), w.store, repository.Options{})
	w.ok(err)
	w.open(w.store)
	for _, seg := range w.Complete() {
		w.put(seg)
	}
	return w
}

// open opens the repository as another store shows it.
func (w *world) open(s storage.Store) {
	w.t.Helper()
	var err error
	w.repo, err = repository.Open(w.t.Context(), s, repository.Options{})
	w.ok(err)
	inc, _, err := archive.CreateIncarnation(w.t.Context(), w.repo, "main", systemID, size, 17)
	w.ok(err)
	w.arch, w.rolls = archive.New(w.repo, inc), rollup.NewStore(w.repo, inc)
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(seg wal.Segment) {
	w.t.Helper()
	_, err := w.arch.PutSegment(w.t.Context(), seg, bytes.NewReader(w.Bytes(seg)))
	w.ok(err)
}

func (w *world) key(seg wal.Segment) string { return archive.SegmentKey(w.arch.Incarnation(), seg) }

func (w *world) update(o rollup.UpdateOptions) *rollup.Report {
	w.t.Helper()
	r, err := rollup.Update(w.t.Context(), w.arch, w.rolls, o)
	w.ok(err)
	return r
}

// actions are what was done, by log, and how many logs were in order.
func actions(r *rollup.Report) (text string, current int) {
	var parts []string
	for _, l := range r.Logs {
		parts = append(parts, l.Log+" "+string(l.Action))
	}
	return strings.Join(parts, ", "), r.Current
}

func (w *world) expect(o rollup.UpdateOptions, want string, current, findings int) *rollup.Report {
	w.t.Helper()
	r := w.update(o)
	if text, n := actions(r); text != want || n != current || len(r.Findings) != findings || len(r.Undeleted) > 0 {
		w.t.Fatalf("%+v: %q and %d in order, findings %v, undeleted %v; want %q, %d and %d findings", o, text, n, r.Findings, r.Undeleted, want, current, findings)
	}
	return r
}

// rollups are all there are.
func (w *world) rollups() []rollup.Ref {
	w.t.Helper()
	refs, err := w.rolls.List(w.t.Context(), 1, 0, 1<<32-1)
	w.ok(err)
	return refs
}

// covers checks that the roll-ups hold for every segment there is, and say what it says.
func (w *world) covers() {
	w.t.Helper()
	segments, err := w.arch.Segments(w.t.Context(), 1, 0, archive.LastSegment)
	w.ok(err)
	held := map[rollup.Log]*rollup.Rollup{}
	for _, ref := range w.rollups() {
		held[ref.Log], err = w.rolls.Load(w.t.Context(), ref)
		w.ok(err)
		if len(ref.Older) > 0 {
			w.t.Errorf("log %s: older generations %v are left", ref.Log, ref.Older)
		}
	}
	for _, e := range segments {
		r := held[rollup.LogOf(e.Segment)]
		if r == nil {
			w.t.Fatalf("%s: its log has no roll-up", e.Segment)
		}
		x, ok := r.Lookup(e.Segment.Number, rollup.Fingerprint(e))
		if !ok {
			w.t.Fatalf("%s: the roll-up does not hold for it", e.Segment)
		}
		got, err := x.Index()
		w.ok(err)
		want, err := w.arch.Index(w.t.Context(), e.Segment)
		w.ok(err)
		if !bytes.Equal(got.EncodeCompact(), want.EncodeCompact()) {
			w.t.Errorf("%s: the roll-up says something else", e.Segment)
		}
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t, 9)
	const both = "00000000 built, 00000001 built"
	w.expect(rollup.UpdateOptions{DryRun: true}, both, 0, 0)
	if refs := w.rollups(); len(refs) > 0 {
		t.Fatalf("a dry run left %v", refs)
	}
	w.expect(rollup.UpdateOptions{}, both, 0, 0)
	w.covers()
	w.expect(rollup.UpdateOptions{}, "", 2, 0)

	// The last log grows.
	w.Commit(9000, noon)
	w.FillSegment()
	list := w.Complete()
	w.put(list[len(list)-1])
	w.expect(rollup.UpdateOptions{MinNew: 2}, "00000001 left", 1, 0)
	r := w.expect(rollup.UpdateOptions{MinNew: 1}, "00000001 built", 1, 0)
	if l := r.Logs[0]; l.New != 1 || l.Segments != len(list)-4 || l.Generation != 2 || l.StoredBytes == 0 {
		t.Errorf("report %+v", l)
	}
	w.covers()

	// A segment was stored anew: what was known of the object before does not count.
	w.ok(w.store.Delete(t.Context(), w.key(list[1])))
	w.put(list[1])
	w.expect(rollup.UpdateOptions{}, "00000000 built", 1, 0)
	w.covers()
	w.expect(rollup.UpdateOptions{All: true}, both, 0, 0)
	w.covers()

	// The first log is pruned.
	for _, seg := range list[:4] {
		w.ok(w.store.Delete(t.Context(), w.key(seg)))
	}
	w.expect(rollup.UpdateOptions{DryRun: true}, "00000000 removed", 1, 0)
	w.expect(rollup.UpdateOptions{Recent: 1}, "00000000 removed", 1, 0)
	if refs := w.rollups(); len(refs) != 1 {
		t.Errorf("roll-ups %v", refs)
	}
}

func TestUpdateRecent(t *testing.T) {
	w := newWorld(t, 9)
	w.expect(rollup.UpdateOptions{Recent: 1}, "00000001 built", 0, 0)
	w.expect(rollup.UpdateOptions{Recent: 2}, "00000000 built", 1, 0)
	w.covers()
}

// Damage is found every time, and the rest is rolled up all the same.
func TestUpdateFindsDamage(t *testing.T) {
	w := newWorld(t, 9)
	list := w.Complete()
	w.replace(w.key(list[2]), []byte("no segment at all"))
	for range 2 {
		r := w.update(rollup.UpdateOptions{})
		if len(r.Findings) != 1 || r.Findings[0].Object != w.key(list[2]) {
			t.Fatalf("findings %v", r.Findings)
		}
	}
	w.expect(rollup.UpdateOptions{}, "", 2, 1)
	w.ok(w.store.Delete(t.Context(), w.key(list[2])))
	w.put(list[2])
	w.expect(rollup.UpdateOptions{}, "00000000 built", 1, 0)
	w.covers()

	// A roll-up that is damaged is made again.
	key := w.rolls.Key(rollup.Log{Timeline: 1, Number: 1}, 1)
	b, err := storage.ReadAll(t.Context(), w.store, key, 1<<20)
	w.ok(err)
	b[10] ^= 1
	w.replace(key, b)
	w.expect(rollup.UpdateOptions{DryRun: true}, "00000001 built", 1, 1)
	w.expect(rollup.UpdateOptions{}, "00000001 built", 1, 1)
	w.expect(rollup.UpdateOptions{}, "", 2, 0)
	w.covers()
}

// A roll-up of another version is no damage: it is made again.
func TestUpdateReplacesOtherVersions(t *testing.T) {
	w := newWorld(t, 6)
	w.update(rollup.UpdateOptions{})
	l := rollup.Log{Timeline: 1, Number: 1}
	_, err := w.repo.Put(t.Context(), w.rolls.Key(l, 2), []byte{9, 1, 1, 2, 3}, repository.ObjectOptions{Kind: frame.KindRollup})
	w.ok(err)
	w.expect(rollup.UpdateOptions{}, "00000001 built", 1, 0)
	w.covers()
}

func (w *world) replace(key string, b []byte) {
	w.t.Helper()
	w.ok(w.store.Delete(w.t.Context(), key))
	w.ok(storage.PutBytes(w.t.Context(), w.store, key, b, storage.PutOptions{}))
}

// Segments that do not fit together are found every time.
func TestUpdateFindsMisfits(t *testing.T) {
	w := newWorld(t, 9)
	list := w.Complete()
	stranger := randomWAL(8, perLog-4, 9)
	w.ok(w.store.Delete(t.Context(), w.key(list[2])))
	_, err := w.arch.PutSegment(t.Context(), list[2], bytes.NewReader(stranger.Bytes(list[2])))
	w.ok(err)
	first := w.expect(rollup.UpdateOptions{}, "00000000 built, 00000001 built", 0, 2)
	again := w.expect(rollup.UpdateOptions{}, "", 2, 2)
	for i, f := range first.Findings {
		if again.Findings[i] != f || !strings.Contains(f.Problem, "join segments") {
			t.Errorf("at first %v, then %v", f, again.Findings[i])
		}
	}
}

// A roll-up that says something else of an object than the object itself is found by --all.
func TestUpdateFindsContradictions(t *testing.T) {
	w := newWorld(t, 9)
	entries, err := w.arch.Segments(t.Context(), 1, 0, perLog-1)
	w.ok(err)
	stranger := indexes(t, randomWAL(8, perLog-4, 9))
	b := rollup.NewBuilder(rollup.Log{Timeline: 1}, size, systemID)
	for i, e := range entries {
		if _, err := b.Add(stranger[i], rollup.Fingerprint(e)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.rolls.Put(t.Context(), b.Finish(), 5)
	w.ok(err)
	r := w.expect(rollup.UpdateOptions{All: true}, "00000000 built, 00000001 built", 0, 4)
	if f := r.Findings[0]; !strings.HasSuffix(f.Object, "index/00000001/00000000/00000005") || r.Logs[0].Generation != 6 {
		t.Errorf("finding %v, generation %d", f, r.Logs[0].Generation)
	}
	w.covers()
}

// Several at once do not get into each other's way.
func TestUpdateConcurrently(t *testing.T) {
	w := newWorld(t, 9)
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, err := rollup.Update(context.Background(), w.arch, w.rolls, rollup.UpdateOptions{All: true})
			if err != nil || len(r.Findings) > 0 || len(r.Undeleted) > 0 {
				t.Errorf("report %+v, error %v", r, err)
			}
		}()
	}
	wg.Wait()
	w.update(rollup.UpdateOptions{All: true})
	w.covers()
}

// Whatever operation fails, before or after it was done, somebody is told, and the next
// run puts everything in order.
func TestUpdateFailsAnywhere(t *testing.T) {
	w := newWorld(t, 6)
	w.update(rollup.UpdateOptions{})
	seg := w.Complete()[1]
	f := faulty.New(w.store)
	w.open(f)
	for _, lost := range []bool{false, true} {
		for n := 0; ; n++ {
			w.ok(w.store.Delete(t.Context(), w.key(seg)))
			f.Clear()
			w.put(seg)
			f.Clear()
			f.Inject(faulty.Fault{Skip: n, LostReply: lost, Permanent: true})
			r, err := rollup.Update(t.Context(), w.arch, w.rolls, rollup.UpdateOptions{All: n%2 == 0, Parallel: 1})
			failed := f.Count(faulty.Any) > n
			f.Clear()
			// A reply that says that the end has come cannot get lost.
			if failed && !lost && err == nil && len(r.Undeleted) != 1 || err != nil && !errors.Is(err, faulty.ErrInjected) {
				t.Fatalf("operation %d, lost reply %v: report %+v, error %v", n, lost, r, err)
			}
			w.update(rollup.UpdateOptions{All: true}) // what could not be deleted goes as well
			w.covers()
			if !failed {
				if n < 20 {
					t.Errorf("there were only %d operations: the test tests nothing", n)
				}
				break
			}
		}
	}
}
