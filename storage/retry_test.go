package storage_test

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

func quick() storage.RetryOptions { return storage.RetryOptions{MaxInterval: time.Microsecond} }

func TestRetryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return storage.WithRetry(mem.New(), storage.RetryOptions{}) }, storetest.ManyKeys(300))
}

// each does every retried operation on a store with the object "a".
func each(ctx context.Context, s storage.Store) map[faulty.Op]error {
	_, createErr := s.Create(ctx, "c", storage.PutOptions{})
	_, openErr := s.Open(ctx, "a", 0, -1)
	_, statErr := s.Stat(ctx, "a")
	var listErr error
	for _, listErr = range s.List(ctx, "", "") {
	}
	return map[faulty.Op]error{
		faulty.Put:    storage.PutBytes(ctx, s, "b", []byte("x"), storage.PutOptions{}),
		faulty.Create: createErr, faulty.Open: openErr, faulty.Stat: statErr, faulty.List: listErr,
		faulty.Delete: s.Delete(ctx, "b"),
	}
}

func newFaulty(t *testing.T, content []byte) *faulty.Store {
	t.Helper()
	s := faulty.New(mem.New())
	if err := storage.PutBytes(t.Context(), s, "a", content, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Clear()
	return s
}

func TestRetryTemporary(t *testing.T) {
	s := newFaulty(t, []byte("x"))
	notified := map[string]int{}
	o := quick()
	o.Notify = func(err error, op, key string, wait time.Duration) {
		if !errors.Is(err, faulty.ErrInjected) || key == "" && op != "list" || wait > time.Second {
			t.Errorf("notified of %v, %s %s, %v", err, op, key, wait)
		}
		notified[op]++
	}
	for _, op := range []faulty.Op{faulty.Put, faulty.Create, faulty.Open, faulty.Stat, faulty.List, faulty.Delete} {
		s.Inject(faulty.Fault{Op: op, Times: 3})
	}
	for op, err := range each(t.Context(), storage.WithRetry(s, o)) {
		if err != nil || s.Count(op) != 4 || notified[string(op)] != 3 {
			t.Errorf("%s: %v after %d attempts, %d notices", op, err, s.Count(op), notified[string(op)])
		}
	}
}

func TestRetryPermanent(t *testing.T) {
	for name, cause := range map[string]error{"other": errors.New("broken"), "absent": storage.ErrNotExist, "exists": storage.ErrExist, "cancelled": context.Canceled} {
		s := newFaulty(t, []byte("x"))
		s.Inject(faulty.Fault{Times: -1, Permanent: name == "other", Err: cause})
		for op, err := range each(t.Context(), storage.WithRetry(s, quick())) {
			if !errors.Is(err, cause) || s.Count(op) != 1 {
				t.Errorf("%s: %s: %v after %d attempts", name, op, err, s.Count(op))
			}
		}
	}
}

// TestRetryGivesUp: the last error comes back when the time is up.
func TestRetryGivesUp(t *testing.T) {
	s := newFaulty(t, []byte("x"))
	s.Inject(faulty.Fault{Times: -1})
	o := storage.RetryOptions{MaxElapsed: 500 * time.Millisecond, MaxInterval: 10 * time.Millisecond}
	start := time.Now()
	for op, err := range each(t.Context(), storage.WithRetry(s, o)) {
		if !errors.Is(err, faulty.ErrInjected) || !storage.Retryable(err) || s.Count(op) < 2 {
			t.Errorf("%s: %v after %d attempts", op, err, s.Count(op))
		}
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}
}

// TestRetryCancelled: a context that ends during a pause ends the operation,
// and the error tells both stories.
func TestRetryCancelled(t *testing.T) {
	for _, elapsed := range []time.Duration{0, -1} {
		s := newFaulty(t, []byte("x"))
		s.Inject(faulty.Fault{Times: -1})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		o := storage.RetryOptions{MaxElapsed: elapsed, MaxInterval: time.Hour}
		o.Notify = func(_ error, _, _ string, wait time.Duration) {
			if wait > 20*time.Millisecond {
				time.AfterFunc(10*time.Millisecond, cancel)
			}
		}
		_, err := storage.WithRetry(s, o).Stat(ctx, "a")
		if !errors.Is(err, context.Canceled) || !errors.Is(err, faulty.ErrInjected) || storage.Retryable(err) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Fatalf("it took %v", d)
		}
	}
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>7)
	}
	return b
}

// TestReaderResumes breaks every second read, and the opening too.
func TestReaderResumes(t *testing.T) {
	b := content(300_000)
	for _, r := range [][2]int64{{0, -1}, {0, 100_000}, {77, 200_000}, {100_000, 1 << 40}, {-200_000, 5}, {-1 << 40, 0}, {300_000, -1}, {5, 0}} {
		for _, lost := range []bool{false, true} {
			s := newFaulty(t, b)
			s.Inject(faulty.Fault{Op: faulty.Read, Every: 2, Times: -1, LostReply: lost})
			s.Inject(faulty.Fault{Op: faulty.Open, Every: 3, Times: -1})
			s.Inject(faulty.Fault{Op: faulty.Stat, Every: 2, Times: -1})
			body, err := storage.WithRetry(s, quick()).Open(t.Context(), "a", r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			start, n, rangeErr := storage.Range(int64(len(b)), r[0], r[1])
			if err != nil || rangeErr != nil || !bytes.Equal(got, b[start:start+n]) {
				t.Fatalf("%v: %d bytes of %d, %v", r, len(got), n, err)
			}
			if err := body.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := body.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Fatalf("read after close: %v", err)
			}
		}
	}
}

// TestReaderFails: what cannot be mended ends the reading, and stays an error.
func TestReaderFails(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, s *faulty.Store, m *mem.Store)
		is   error
	}{
		"damaged": {func(_ *testing.T, s *faulty.Store, _ *mem.Store) {
			s.Inject(faulty.Fault{Op: faulty.Read, Permanent: true, Err: io.ErrUnexpectedEOF, Times: -1})
		}, io.ErrUnexpectedEOF},
		"for ever": {func(_ *testing.T, s *faulty.Store, _ *mem.Store) {
			s.Inject(faulty.Fault{Op: faulty.Read, Times: -1})
		}, faulty.ErrInjected},
		"deleted": {func(t *testing.T, s *faulty.Store, m *mem.Store) {
			s.Inject(faulty.Fault{Op: faulty.Read})
			if err := m.Delete(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrNotExist},
		"replaced": {func(_ *testing.T, s *faulty.Store, m *mem.Store) {
			s.Inject(faulty.Fault{Op: faulty.Read})
			m.Replace("a", content(200_000))
		}, nil},
	} {
		m := mem.New()
		m.Replace("a", content(200_000))
		s := faulty.New(m)
		o := quick()
		o.MaxElapsed = 30 * time.Millisecond
		body, err := storage.WithRetry(s, o).Open(t.Context(), "a", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		c.harm(t, s, m)
		_, err = io.ReadAll(body)
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := body.Read(make([]byte, 1)); again == nil || again == io.EOF {
			t.Errorf("%s: the next read: %v", name, again)
		}
		body.Close()
	}
}

// TestListResumes: every object once, whatever breaks.
func TestListResumes(t *testing.T) {
	s := newFaulty(t, nil)
	want := []string{"a"}
	for _, key := range []string{"b/1", "b/2", "c", "d/e/f", "g"} {
		want = append(want, key)
		if err := storage.PutBytes(t.Context(), s, key, nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.Inject(faulty.Fault{Op: faulty.Next, Every: 2, Times: -1})
	s.Inject(faulty.Fault{Op: faulty.List, Every: 2, Times: -1})
	r := storage.WithRetry(s, quick())
	for stop := 1; stop <= len(want)+1; stop++ {
		var got []string
		for info, err := range r.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Key); len(got) == stop {
				break
			}
		}
		if len(got) != min(stop, len(want)) {
			t.Fatalf("got %q", got)
		}
		for i, key := range got {
			if key != want[i] {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	s.Clear()
	s.Inject(faulty.Fault{Op: faulty.Next, Skip: 2, Permanent: true})
	n, last := 0, error(nil)
	for _, err := range r.List(t.Context(), "", "") {
		n, last = n+1, err
	}
	if n != 3 || !errors.Is(last, faulty.ErrInjected) {
		t.Fatalf("%d pairs, the last with %v", n, last)
	}
}

// TestDirectoriesLeap: one listing a directory, whatever lies in it.
func TestDirectoriesLeap(t *testing.T) {
	s := newFaulty(t, nil)
	for _, dir := range []string{"x/1/", "x/2/", "x/3/"} {
		for i := range 100 {
			if err := storage.PutBytes(t.Context(), s, dir+string(rune('A'+i%26))+"/"+string(rune('a'+i/26)), nil, storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Clear()
	n := 0
	for e, err := range storage.Directories(t.Context(), s, "x/") {
		if err != nil || !e.IsDir {
			t.Fatal(e, err)
		}
		n++
	}
	if n != 3 || s.Count(faulty.List) != 4 || s.Count(faulty.Next) != 3 {
		t.Fatalf("%d directories by %d listings of %d objects", n, s.Count(faulty.List), s.Count(faulty.Next))
	}
	s.Inject(faulty.Fault{Op: faulty.List, Skip: 1, Permanent: true})
	var last error
	for _, last = range storage.Directories(t.Context(), s, "x/") {
	}
	if !errors.Is(last, faulty.ErrInjected) {
		t.Fatalf("got %v", last)
	}
	for _, last = range storage.Directories(t.Context(), s, "x") {
	}
	if last == nil {
		t.Fatal("a prefix without a slash was accepted")
	}
}

// replacing is a store that breaks the promise.
type replacing struct{ *mem.Store }

func (r replacing) Put(ctx context.Context, key string, src io.ReaderAt, size int64, o storage.PutOptions) error {
	_ = r.Delete(ctx, key)
	return r.Store.Put(ctx, key, src, size, o)
}

// lying is one that refuses, and replaces nevertheless.
type lying struct{ *mem.Store }

func (l lying) Put(ctx context.Context, key string, src io.ReaderAt, size int64, o storage.PutOptions) error {
	err := l.Store.Put(ctx, key, src, size, o)
	if errors.Is(err, storage.ErrExist) {
		l.Replace(key, []byte("other"))
	}
	return err
}

func TestProbe(t *testing.T) {
	for name, s := range map[string]storage.Store{"replacing": replacing{mem.New()}, "lying": lying{mem.New()}} {
		err := storage.ProbeConditional(t.Context(), s, "")
		if !errors.Is(err, storage.ErrReplaces) || storage.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A fault is an error, but not that verdict.
	for n := range 12 {
		s := faulty.New(mem.New())
		s.Inject(faulty.Fault{Skip: n, Permanent: true})
		if err := storage.ProbeConditional(t.Context(), s, ""); errors.Is(err, storage.ErrReplaces) {
			t.Errorf("operation %d failed: %v", n, err)
		}
	}
	// Neither is a retry that meets its own object.
	s := faulty.New(mem.New())
	s.Inject(faulty.Fault{Op: faulty.Put, LostReply: true})
	if err := storage.ProbeConditional(t.Context(), storage.WithRetry(s, quick()), ""); err != nil {
		t.Errorf("lost reply: %v", err)
	}
}

func TestRange(t *testing.T) {
	for _, c := range []struct{ size, off, n, start, length int64 }{
		{10, 0, -1, 0, 10}, {10, 3, 4, 3, 4}, {10, 3, 100, 3, 7}, {10, 10, 5, 10, 0}, {10, -3, 99, 7, 3},
		{10, -30, 0, 0, 10}, {0, 0, -1, 0, 0}, {0, -1, -1, 0, 0}, {10, 4, 0, 4, 0}, {10, 9, 1<<63 - 1, 9, 1}, {10, -1 << 63, 0, 0, 10},
	} {
		start, length, err := storage.Range(c.size, c.off, c.n)
		if err != nil || start != c.start || length != c.length {
			t.Errorf("%+v: %d, %d, %v", c, start, length, err)
		}
	}
	if _, _, err := storage.Range(10, 11, 1); !errors.Is(err, storage.ErrOffset) {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestCheckKeyAndHint(t *testing.T) {
	for _, key := range []string{"a", "A-z_0.9/b", "walden.json", "main/1-7345/wal/00000001/00000000/000000010000000000000001"} {
		if err := storage.CheckKey(key); err != nil {
			t.Error(err)
		}
	}
	err := errors.Join(errors.New("outer"), &storage.Error{Op: "put", Key: "k", Err: io.EOF, Hint: "do this"})
	if storage.Hint(err) != "do this" || storage.Hint(io.EOF) != "" || storage.Retryable(nil) {
		t.Error("hint or retryable")
	}
}
