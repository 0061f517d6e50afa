package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/storetest"
)

// TestHarmless: without a fault the decorator keeps the contract.
func TestHarmless(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return faulty.New(mem.New()) }, storetest.ManyKeys(50))
}

// TestRetried: with faults on everything that is retried, WithRetry keeps it.
func TestRetried(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store {
		f := faulty.New(mem.New())
		for i, op := range []faulty.Op{faulty.Put, faulty.Create, faulty.Open, faulty.Read, faulty.Stat, faulty.List, faulty.Next, faulty.Delete} {
			f.Inject(faulty.Fault{Op: op, Every: 2 + i%3, Times: -1})
		}
		return storage.WithRetry(f, storage.RetryOptions{MaxInterval: time.Microsecond})
	}, storetest.ManyKeys(50))
}

func put(t *testing.T, s storage.Store, key string, b []byte) {
	t.Helper()
	if err := storage.PutBytes(t.Context(), s, key, b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// steps does one of everything, as long as nothing fails.
func steps(ctx context.Context, s storage.Store) (done int, err error) {
	var w storage.Writer
	var r io.ReadCloser
	for _, step := range []func() error{
		func() error { return storage.PutBytes(ctx, s, "a", []byte("a"), storage.PutOptions{}) },
		func() error { w, err = s.Create(ctx, "b", storage.PutOptions{}); return err },
		func() error { _, err := w.Write([]byte("b")); return err },
		func() error { return w.Commit() },
		func() error { _, err := s.Stat(ctx, "a"); return err },
		func() error { r, err = s.Open(ctx, "a", 0, -1); return err },
		func() error { _, err := r.Read(make([]byte, 1)); return err },
		func() error { return s.Delete(ctx, "a") },
	} {
		if err := step(); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// TestFailOperationN fails operation 0, 1, 2 … until none is left.
func TestFailOperationN(t *testing.T) {
	const all = 8
	for n := 0; ; n++ {
		s := faulty.New(mem.New())
		s.Inject(faulty.Fault{Skip: n})
		done, err := steps(t.Context(), s)
		if err == nil {
			if n != all {
				t.Fatalf("nothing failed with n = %d, want %d", n, all)
			}
			return
		}
		if done != n || !errors.Is(err, faulty.ErrInjected) || !storage.Retryable(err) || s.Count(faulty.Any) != n+1 {
			t.Fatalf("n = %d: step %d failed: %v", n, done, err)
		}
	}
}

func TestFaults(t *testing.T) {
	s := faulty.New(mem.New())
	put(t, s, "a", []byte("0123456789"))
	ctx := t.Context()

	s.Inject(faulty.Fault{Op: faulty.Put, LostReply: true, Key: func(k string) bool { return k == "lost" }})
	err := storage.PutBytes(ctx, s, "lost", []byte("x"), storage.PutOptions{})
	if !storage.Retryable(err) {
		t.Fatalf("lost reply: %v", err)
	}
	if err = storage.PutBytes(ctx, s, "lost", []byte("x"), storage.PutOptions{}); !errors.Is(err, storage.ErrExist) {
		t.Fatalf("after a lost reply: %v", err)
	}

	s.Clear()
	s.Inject(faulty.Fault{Op: faulty.Stat, Permanent: true, Err: io.ErrNoProgress, Times: 2})
	for i := range 3 {
		_, err := s.Stat(ctx, "a")
		if (i < 2) != errors.Is(err, io.ErrNoProgress) || storage.Retryable(err) {
			t.Fatalf("stat %d: %v", i, err)
		}
	}
	if s.Count(faulty.Stat) != 3 || s.Count(faulty.Any) != 3 || s.Count(faulty.Put) != 0 {
		t.Fatalf("%d stats of %d operations", s.Count(faulty.Stat), s.Count(faulty.Any))
	}

	s.Clear()
	s.Inject(faulty.Fault{Op: faulty.Stat, Delay: time.Hour})
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("delay: %v", err)
	}
	start := time.Now()
	s.Clear()
	s.Inject(faulty.Fault{Op: faulty.Stat, Delay: 20 * time.Millisecond})
	if _, err := s.Stat(t.Context(), "a"); err != nil || time.Since(start) < 20*time.Millisecond {
		t.Fatalf("delay of %v: %v", time.Since(start), err)
	}
}

func TestDamage(t *testing.T) {
	s := faulty.New(mem.New())
	b := []byte("0123456789")
	put(t, s, "a", b)
	for bit := range int64(80) {
		s.Clear()
		s.Inject(faulty.Fault{Damage: faulty.FlipBit(bit), Times: -1})
		want := bytes.Clone(b)
		want[bit/8] ^= 1 << (bit % 8)
		for _, off := range []int64{0, 3, -4, 9} {
			r, err := s.Open(t.Context(), "a", off, -1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			start, n, _ := storage.Range(10, off, -1)
			if err != nil || !bytes.Equal(got, want[start:start+n]) {
				t.Fatalf("bit %d from %d: %q, %v", bit, off, got, err)
			}
		}
	}
	for size := range int64(12) {
		s.Clear()
		s.Inject(faulty.Fault{Damage: faulty.Truncate(size), Times: -1})
		got, err := storage.ReadAll(t.Context(), s, "a", 100)
		info, statErr := s.Stat(t.Context(), "a")
		if want := b[:min(size, 10)]; err != nil || statErr != nil || !bytes.Equal(got, want) || info.Size != int64(len(want)) {
			t.Fatalf("truncated to %d: %q, %v, %+v, %v", size, got, err, info, statErr)
		}
	}
}
