package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal/archive"
)

// failEach runs op against a store whose n-th operation fails, for each n until
// op no longer gets that far. prepare runs without faults. op tells how often
// its store was called before the faults are lifted, so that the loop ends.
func failEach(t *testing.T, prepare func(t *testing.T, s *faulty.Store) *archive.Archive, op func(t *testing.T, s *faulty.Store, a *archive.Archive, lost bool, injected func() bool)) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost reply %v", lost), func(t *testing.T) {
			for n := 0; ; n++ {
				s := faulty.New(mem.New())
				a := prepare(t, s)
				s.Clear()
				s.Inject(faulty.Fault{Skip: n, LostReply: lost})
				reached := false
				op(t, s, a, lost, func() bool {
					reached = s.Count(faulty.Any) > n
					s.Clear()
					return reached
				})
				if t.Failed() {
					t.Fatalf("with operation %d failing", n)
				}
				if !reached {
					if n < 2 {
						t.Errorf("only %d operations", n)
					}
					return
				}
			}
		})
	}
}

func TestPushFailsAtEachOperation(t *testing.T) {
	b := newWAL(1)
	b.Message(5000)
	child := b.Fork(2, "x")
	child.EndOfRecovery(1, noon)
	fill(child, 1)
	seg := child.Complete()[0]
	failEach(t, func(t *testing.T, s *faulty.Store) *archive.Archive {
		a := newArchive(t, s)
		mustPush(t, a, "00000002.history", child.History().Encode())
		return a
	}, func(t *testing.T, _ *faulty.Store, a *archive.Archive, _ bool, injected func() bool) {
		content := child.Bytes(seg)
		_, err := push(t, a, seg.Name(), content)
		failed := injected()
		if err != nil && (!failed || !errors.Is(err, faulty.ErrInjected)) {
			t.Errorf("push: %v", err)
		}
		// Whole, or not at all.
		got, fetchErr := fetch(t, a, seg.Name())
		var absent *archive.AbsentError
		if !errors.As(fetchErr, &absent) && (fetchErr != nil || !bytes.Equal(got, content)) {
			t.Errorf("after %v there is something else: %v", err, fetchErr)
		}
		if err == nil && fetchErr != nil {
			t.Errorf("push succeeded, and %v", fetchErr)
		}
		if res, err := push(t, a, seg.Name(), content); err != nil || res == archive.Stored && fetchErr == nil {
			t.Errorf("again: %v, %v", res, err)
		}
	})
}

func TestCreateIncarnationFailsAtEachOperation(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for n := 0; ; n++ {
			s := faulty.New(mem.New())
			repo := newRepository(t, s)
			create(t, repo, systemID, size)
			s.Clear()
			s.Inject(faulty.Fault{Skip: n, LostReply: lost})
			_, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 999, size, major)
			reached := s.Count(faulty.Any) > n
			s.Clear()
			if err != nil && !errors.Is(err, faulty.ErrInjected) {
				t.Fatalf("operation %d: %v", n, err)
			}
			inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 999, size, major)
			if err != nil || inc.Number != 2 {
				t.Fatalf("operation %d, again: %v, %v", n, inc, err)
			}
			if !reached {
				break
			}
		}
	}
}

func TestFetchFailsAtEachOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	b := newWAL(3)
	segs := b.Complete()
	prepare := func(t *testing.T, s *faulty.Store) *archive.Archive {
		a := newArchive(t, s)
		pushAll(t, a, b)
		if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), segs[1])); err != nil {
			t.Fatal(err)
		}
		return a
	}
	var (
		absent *archive.AbsentError
		hole   *archive.HoleError
	)
	for name, as := range map[string]func(content []byte, err error) bool{
		segs[0].Name():        func(content []byte, err error) bool { return err == nil && bytes.Equal(content, b.Bytes(segs[0])) },
		segs[1].Name():        func(_ []byte, err error) bool { return errors.As(err, &hole) },
		segs[2].Next().Name(): func(_ []byte, err error) bool { return errors.As(err, &absent) },
		"00000002.history":    func(_ []byte, err error) bool { return errors.As(err, &absent) },
	} {
		t.Run(name, func(t *testing.T) {
			failEach(t, prepare, func(t *testing.T, _ *faulty.Store, a *archive.Archive, lost bool, injected func() bool) {
				content, err := fetch(t, a, name)
				right := as(content, err)
				// Losing the reply that an object does not exist, or that it has
				// ended, takes nothing away.
				if failed := injected(); failed && !(lost && right) {
					var fault *storage.Error
					if !errors.Is(err, faulty.ErrInjected) || !errors.As(err, &fault) || errors.As(err, &absent) || errors.As(err, &hole) {
						t.Errorf("with a fault: %v", err)
					}
					if waits := archive.ForStandby(name, err); errors.As(waits, &absent) == (name == "00000002.history") {
						t.Errorf("a standby is told: %v", waits)
					}
				} else if !right {
					t.Errorf("without a fault: %v", err)
				}
				if content, err := fetch(t, a, name); !as(content, err) {
					t.Errorf("again: %v", err)
				}
			})
		})
	}
}

// TestDamageOnTheWay flips bits in what the store delivers: nothing wrong may
// be delivered, and the same call later succeeds.
func TestDamageOnTheWay(t *testing.T) {
	b := newWAL(1)
	seg := b.Complete()[0]
	s := faulty.New(mem.New())
	a := newArchive(t, s)
	pushAll(t, a, b)
	n := int64(len(stored(t, s, archive.SegmentKey(a.Incarnation(), seg))))
	for i := range int64(100) {
		s.Clear()
		damage := faulty.FlipBit((8*n - 1) * i / 99)
		if i%3 == 0 {
			damage = faulty.Truncate(n * i / 100)
		}
		s.Inject(faulty.Fault{Op: faulty.Open, Times: -1, Damage: damage})
		if _, err := fetch(t, a, seg.Name()); err == nil {
			t.Errorf("damage %d (%+v) was not noticed", i, *damage)
		}
	}
	s.Clear()
	if got, err := fetch(t, a, seg.Name()); err != nil || !bytes.Equal(got, b.Bytes(seg)) {
		t.Errorf("without damage: %v", err)
	}
}
