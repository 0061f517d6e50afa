package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
)

func testPut(t *testing.T, s storage.Store) {
	b := content(1, 100_000)
	put(t, s, "main/a-1/wal/put", b)
	want(t, s, "main/a-1/wal/put", b)
	put(t, s, "main/a-1/wal/empty", nil)
	want(t, s, "main/a-1/wal/empty", nil)

	short := bytes.NewReader(b[:10])
	if err := s.Put(t.Context(), "short", short, 11, storage.PutOptions{}); err == nil {
		t.Fatal("put of a source that is shorter than said succeeded")
	}
	wantAbsent(t, s, "short")
	if err := s.Put(t.Context(), "negative", short, -1, storage.PutOptions{}); err == nil {
		t.Fatal("put of a negative size succeeded")
	}
	// Of a longer source only size bytes are taken.
	if err := s.Put(t.Context(), "part", bytes.NewReader(b), 77, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	want(t, s, "part", b[:77])
}

func testPutRefuses(t *testing.T, s storage.Store) {
	for i, first := range [][]byte{content(1, 5000), nil} {
		key := fmt.Sprintf("refuse/%d", i)
		put(t, s, key, first)
		for _, second := range [][]byte{content(2, 5000), first, nil, content(3, 1)} {
			err := storage.PutBytes(t.Context(), s, key, second, storage.PutOptions{})
			wantErr(t, err, storage.ErrExist, "second put of %d bytes", len(second))
			want(t, s, key, first)
		}
	}
}

// race lets 24 writers create one object, each with its own content, and
// checks that one of them wins.
func race(t *testing.T, s storage.Store, key string, size int, write func(i int, b []byte) error) {
	t.Helper()
	const writers = 24
	errs := make([]error, writers)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range writers {
		done.Go(func() {
			start.Wait()
			errs[i] = write(i, content(uint64(i), size))
		})
	}
	start.Done()
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Fatalf("writers %d and %d of one key both succeeded", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, storage.ErrExist) && !storage.Retryable(err):
			t.Fatalf("writer %d: %v", i, err)
		}
	}
	if winner < 0 {
		t.Fatalf("no writer succeeded: %v", errs[0])
	}
	want(t, s, key, content(uint64(winner), size))
}

func testPutRaces(t *testing.T, s storage.Store) {
	for round := range 3 {
		key := fmt.Sprintf("race/put-%d/deep/er/object", round)
		race(t, s, key, 70_000, func(_ int, b []byte) error {
			return storage.PutBytes(t.Context(), s, key, b, storage.PutOptions{})
		})
	}
}

func testCommitRaces(t *testing.T, s storage.Store) {
	for round := range 2 {
		key := fmt.Sprintf("race/commit-%d/object", round)
		race(t, s, key, 70_000, func(_ int, b []byte) error { return create(t.Context(), s, key, b) })
	}
	key := "race/staged"
	race(t, s, key, 1000, func(_ int, b []byte) error { return stage(t, s, key, b) })
}

func testMixedRaces(t *testing.T, s storage.Store) {
	key := "race/mixed"
	race(t, s, key, 1000, func(i int, b []byte) error {
		switch i % 3 {
		case 0:
			return storage.PutBytes(t.Context(), s, key, b, storage.PutOptions{})
		case 1:
			return create(t.Context(), s, key, b)
		}
		return stage(t, s, key, b)
	})
}

// stage creates an object as if it were a large one.
func stage(t *testing.T, s storage.Store, key string, b []byte) error {
	w, err := s.Create(t.Context(), key, storage.PutOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return err
	}
	if st, ok := w.(storage.Stager); ok {
		if err := st.Stage(); err != nil {
			return err
		}
	}
	return w.Commit()
}

func testCreate(t *testing.T, s storage.Store) {
	for i, size := range []int{0, 1, 100, 65_536, 1_000_003} {
		key := fmt.Sprintf("create/%d", i)
		b := content(uint64(i), size)
		if err := create(t.Context(), s, key, b); err != nil {
			t.Fatalf("create of %d bytes: %v", size, err)
		}
		want(t, s, key, b)
	}
	// A writer may change its buffer as soon as Write returns.
	w, err := s.Create(t.Context(), "create/reused", storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	buf := []byte("aaaa")
	for _, c := range []byte("xyz") {
		for i := range buf {
			buf[i] = c
		}
		if _, err := w.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, s, "create/reused", []byte("xxxxyyyyzzzz"))
	if err := w.Abort(); err != nil {
		t.Fatalf("abort after commit: %v", err)
	}
	want(t, s, "create/reused", []byte("xxxxyyyyzzzz"))
	if err := w.Commit(); err == nil {
		t.Fatal("second commit succeeded")
	}
	if _, err := w.Write(buf); err == nil {
		t.Fatal("write after commit succeeded")
	}
}

func testCommitRefuses(t *testing.T, s storage.Store) {
	first := content(1, 3000)
	put(t, s, "refuse/commit", first)
	for _, second := range [][]byte{content(2, 3000), first, nil} {
		err := create(t.Context(), s, "refuse/commit", second)
		wantErr(t, err, storage.ErrExist, "commit of %d bytes", len(second))
		wantErr(t, stage(t, s, "refuse/commit", second), storage.ErrExist, "staged commit of %d bytes", len(second))
		want(t, s, "refuse/commit", first)
	}
	// The object can come into being while the writer is at work.
	w, err := s.Create(t.Context(), "refuse/late", storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(content(3, 10)); err != nil {
		t.Fatal(err)
	}
	put(t, s, "refuse/late", first)
	wantErr(t, w.Commit(), storage.ErrExist, "commit after another's put")
	if err := w.Abort(); err != nil {
		t.Fatalf("abort after a failed commit: %v", err)
	}
	want(t, s, "refuse/late", first)
}

func testAbort(t *testing.T, s storage.Store) {
	for i, size := range []int{0, 10, 300_000} {
		key := fmt.Sprintf("abort/%d", i)
		w, err := s.Create(t.Context(), key, storage.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content(uint64(i), size)); err != nil {
			t.Fatal(err)
		}
		if st, ok := w.(storage.Stager); ok && i > 0 {
			if err := st.Stage(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Abort(); err != nil {
			t.Fatalf("abort: %v", err)
		}
		if err := w.Abort(); err != nil {
			t.Fatalf("second abort: %v", err)
		}
		if err := w.Commit(); err == nil {
			t.Fatal("commit after abort succeeded")
		}
		wantAbsent(t, s, key)
		put(t, s, key, []byte("after"))
		want(t, s, key, []byte("after"))
	}
}

func testInvisible(t *testing.T, s storage.Store) {
	b := content(1, 200_000)
	w, err := s.Create(t.Context(), "invisible/a/b", storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for part := range 4 {
		wantAbsent(t, s, "invisible/a/b")
		if list := keys(t, s, "", ""); len(list) != 0 {
			t.Fatalf("listed before commit: %q", list)
		}
		if _, err := w.Write(b[part*50_000 : (part+1)*50_000]); err != nil {
			t.Fatal(err)
		}
	}
	wantAbsent(t, s, "invisible/a/b")
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	want(t, s, "invisible/a/b", b)
	diffKeys(t, "after commit", keys(t, s, "", ""), []string{"invisible/a/b"})
}

// testLarge writes an object of several parts, as S3 counts them, both ways.
func testLarge(t *testing.T, s storage.Store) {
	b := content(9, 20<<20+12_345)
	if err := create(t.Context(), s, "large/create", b); err != nil {
		t.Fatal(err)
	}
	want(t, s, "large/create", b)
	wantErr(t, create(t.Context(), s, "large/create", b[1:]), storage.ErrExist, "second large create")
	want(t, s, "large/create", b)
	put(t, s, "large/put", b)
	want(t, s, "large/put", b)
	got, err := read(t.Context(), s, "large/create", 8<<20-5, 10)
	if err != nil || !bytes.Equal(got, b[8<<20-5:8<<20+5]) {
		t.Fatalf("range across parts: %v", err)
	}
}

// testConcurrent reads and writes distinct objects at once.
func testConcurrent(t *testing.T, s storage.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	base := content(1, 300_000)
	put(t, s, "concurrent/base", base)
	var wg sync.WaitGroup
	var failure atomic.Value
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprintf("concurrent/%d/object", i)
			b := content(uint64(i), 10_000+i)
			for _, err := range []error{
				storage.PutBytes(ctx, s, key, b, storage.PutOptions{}),
				compare(ctx, s, "concurrent/base", base),
				compare(ctx, s, key, b),
				create(ctx, s, key+"-created", b),
				compare(ctx, s, key+"-created", b),
				s.Delete(ctx, key),
			} {
				if err != nil {
					failure.Store(err)
				}
			}
			if _, err := s.Stat(ctx, key); !errors.Is(err, storage.ErrNotExist) {
				failure.Store(fmt.Errorf("stat after delete: %w", err))
			}
		})
	}
	wg.Wait()
	if err := failure.Load(); err != nil {
		t.Fatal(err)
	}
}

func compare(ctx context.Context, s storage.Store, key string, b []byte) error {
	got, err := read(ctx, s, key, 0, -1)
	if err == nil && !bytes.Equal(got, b) {
		err = fmt.Errorf("%s: content differs", key)
	}
	return err
}

func testOptions(t *testing.T, s storage.Store) {
	o := storage.PutOptions{Tags: map[string]string{"purpose": "a test of + - = . _ : / @", "cluster": "main"}}
	if err := storage.PutBytes(t.Context(), s, "options/tags", []byte("x"), o); err != nil {
		t.Fatalf("tags: %v", err)
	}
	want(t, s, "options/tags", []byte("x"))

	// Retention is honoured or refused, never ignored. (Where it is refused the
	// object may be there nevertheless: some servers find that out too late.)
	o = storage.PutOptions{RetainUntil: time.Now().Add(3 * time.Second)}
	if err := storage.PutBytes(t.Context(), s, "options/retained", []byte("x"), o); err != nil {
		if storage.Retryable(err) || errors.Is(err, storage.ErrExist) || errors.Is(err, storage.ErrNotExist) {
			t.Fatalf("refused retention: %v", err)
		}
		return
	}
	if err := s.Delete(t.Context(), "options/retained"); err == nil {
		t.Fatal("an object under retention was deleted")
	}
	want(t, s, "options/retained", []byte("x"))
}

func testDelete(t *testing.T, s storage.Store) {
	put(t, s, "delete/a/b/c", []byte("1"))
	put(t, s, "delete/a/b/d", []byte("2"))
	for range 2 {
		if err := s.Delete(t.Context(), "delete/a/b/c"); err != nil {
			t.Fatalf("delete: %v", err)
		}
		wantAbsent(t, s, "delete/a/b/c")
	}
	want(t, s, "delete/a/b/d", []byte("2"))
	for _, key := range []string{"never", "never/was", "delete/a", "delete/a/b", "delete/a/b/d/e"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatalf("delete of the absent %s: %v", key, err)
		}
	}
	want(t, s, "delete/a/b/d", []byte("2"))
	put(t, s, "delete/a/b/c", []byte("3"))
	want(t, s, "delete/a/b/c", []byte("3"))
	for _, key := range []string{"delete/a/b/c", "delete/a/b/d"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if list := keys(t, s, "", ""); len(list) != 0 {
		t.Fatalf("left over: %q", list)
	}
	// What was a directory may become an object, once it is empty.
	put(t, s, "delete/a", []byte("4"))
	want(t, s, "delete/a", []byte("4"))
}

func testProbe(t *testing.T, s storage.Store) {
	if err := storage.ProbeConditional(t.Context(), s, "probes/"); err != nil {
		t.Fatal(err)
	}
	if list := keys(t, s, "", ""); len(list) != 0 {
		t.Fatalf("the probe left %q", list)
	}
}

func testDeleteAll(t *testing.T, s storage.Store) {
	if err := storage.DeleteAll(t.Context(), s, nil); err != nil {
		t.Fatalf("delete of nothing: %v", err)
	}
	for _, key := range []string{"many/a/1", "many/a/2", "many/b/1", "many/stays"} {
		put(t, s, key, []byte("x"))
	}
	list := []string{"many/a/1", "many/never/was", "many/b/1", "many/a", "many/a/2", "many/b/1"}
	if err := storage.DeleteAll(t.Context(), s, list); err != nil {
		t.Fatalf("delete: %v", err)
	}
	for _, key := range list {
		wantAbsent(t, s, key)
	}
	want(t, s, "many/stays", []byte("x"))
	put(t, s, "many/a/1", []byte("again"))
	err := storage.DeleteAll(t.Context(), s, []string{"many//", "many/a/1"})
	if err == nil || !strings.Contains(err.Error(), "illegal key") {
		t.Fatalf("delete of an illegal key: %v", err)
	}
	wantAbsent(t, s, "many/a/1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, storage.DeleteAll(ctx, s, []string{"many/stays"}), context.Canceled, "delete after the end of the context")
	want(t, s, "many/stays", []byte("x"))
}
