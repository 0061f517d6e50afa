package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
)

func testSizes(t *testing.T, s storage.Store) {
	for _, size := range []int{0, 1, 2, 511, 512, 4095, 4096, 4097, 32_767, 32_768, 65_537, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		key := fmt.Sprintf("sizes/%d", size)
		b := content(uint64(size), size)
		put(t, s, key, b)
		want(t, s, key, b)
		info, err := s.Stat(t.Context(), key)
		if err != nil || info.Size != int64(size) {
			t.Fatalf("stat: %+v, %v", info, err)
		}
	}
}

// testRanges tries every kind of range around every boundary.
func testRanges(t *testing.T, s storage.Store) {
	for _, size := range []int64{0, 1, 2, 1000} {
		key := fmt.Sprintf("ranges/%d", size)
		b := content(uint64(size), int(size))
		put(t, s, key, b)
		around := []int64{0, 1, 2, 499, 998, 999, 1000, 1001, 5000}
		for _, off := range around {
			for _, n := range append([]int64{-1, -7, 3}, around...) {
				testRange(t, s, key, b, off, n)
			}
			for _, n := range []int64{-1, 0, 1, 10} {
				if off > 0 {
					testRange(t, s, key, b, -off, n)
				}
			}
		}
	}
}

func testRange(t *testing.T, s storage.Store, key string, b []byte, off, n int64) {
	t.Helper()
	got, err := read(t.Context(), s, key, off, n)
	size := int64(len(b))
	if off > size {
		if !errors.Is(err, storage.ErrOffset) {
			t.Fatalf("%s [%d, %d]: got error %v, want %v", key, off, n, err, storage.ErrOffset)
		}
		if storage.Retryable(err) || errors.Is(err, storage.ErrNotExist) {
			t.Fatalf("%s [%d, %d]: wrong kind of error: %v", key, off, n, err)
		}
		return
	}
	from, to := max(0, off), size
	if off < 0 {
		from = max(0, size+off)
	} else if n >= 0 {
		to = min(size, off+n)
	}
	if err != nil || !bytes.Equal(got, b[from:to]) {
		t.Fatalf("%s [%d, %d]: got %d bytes, %v; want %d", key, off, n, len(got), err, to-from)
	}
}

func testAbsent(t *testing.T, s storage.Store) {
	put(t, s, "absent/there", []byte("x"))
	for _, key := range []string{"absent", "absent/not", "absent/there/not", "absent/the", "absent/there2", "other/dir/object"} {
		wantAbsent(t, s, key)
		for _, off := range []int64{-5, 0, 5} {
			for _, n := range []int64{-1, 0, 5} {
				_, err := s.Open(t.Context(), key, off, n)
				wantErr(t, err, storage.ErrNotExist, "open %s [%d, %d]", key, off, n)
			}
		}
	}
}

func testStat(t *testing.T, s storage.Store) {
	before := time.Now().Add(-time.Minute)
	put(t, s, "stat/a", content(1, 1234))
	info, err := s.Stat(t.Context(), "stat/a")
	if err != nil {
		t.Fatal(err)
	}
	if info.Key != "stat/a" || info.Size != 1234 || info.ModTime.Before(before) || info.ModTime.After(time.Now().Add(time.Minute)) {
		t.Fatalf("stat: %+v", info)
	}
	again, err := s.Stat(t.Context(), "stat/a")
	if err != nil || again.Version != info.Version {
		t.Fatalf("version changed: %+v, %+v, %v", info, again, err)
	}
	for listed, err := range s.List(t.Context(), "stat/", "") {
		if err != nil || listed.Key != info.Key || listed.Size != info.Size {
			t.Fatalf("list says %+v, %v; stat says %+v", listed, err, info)
		}
		if d := listed.ModTime.Sub(info.ModTime).Abs(); d > 2*time.Second {
			t.Fatalf("list says %v, stat says %v", listed.ModTime, info.ModTime)
		}
	}
	r, err := s.Open(t.Context(), "stat/a", 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if v, ok := r.(storage.Versioned); ok && v.Version() != "" && v.Version() != info.Version {
		t.Fatalf("reader says version %q, stat says %q", v.Version(), info.Version)
	}
}

// tricky are keys whose order is not that of their directories.
var tricky = []string{
	"a-b/x", "a.b", "a.b.c/x", "a/b", "a/b-c", "a/c/d", "a/c.d", "a0", "a_b", "aa/b", "A", "Z/z", "_", "-/-",
	"0", "00", "0-", "0.", "z", "b/0/0", "b/0-0/0", "b/0.0/0", "b/00", "b/-", "b/_/z", "c", "c-/a", "c-a", "c.", "c0", "d/e/f/g/h/i",
}

func putTricky(t *testing.T, s storage.Store) []string {
	t.Helper()
	for _, key := range tricky {
		put(t, s, key, []byte(key))
	}
	return slices.Sorted(slices.Values(tricky))
}

func testListOrder(t *testing.T, s storage.Store) {
	if list := keys(t, s, "", ""); len(list) != 0 {
		t.Fatalf("a new store lists %q", list)
	}
	sorted := putTricky(t, s)
	diffKeys(t, "all", keys(t, s, "", ""), sorted)
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil || info.Size != int64(len(info.Key)) {
			t.Fatalf("list: %+v, %v", info, err)
		}
	}
}

func testListPrefixAfter(t *testing.T, s storage.Store) {
	sorted := putTricky(t, s)
	prefixes := []string{"", "a", "a/", "a/b", "a/b-c", "a/c", "a.", "a.b", "b/", "b/0", "b/0/", "c", "c-", "d/e/f", "d/e/f/g/h/i/", "nothing", "zz", "/", "a//", "./", "../", "~", ".tmp"}
	afters := append([]string{"", "a", "a/", "a/b/", "a/~", "b/0/~", "b/0~", "zzz", "~", "-", "a/c/", "d/e/f/g/h/i/j", "!", "/"}, sorted...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			var expected []string
			for _, key := range sorted {
				if len(key) >= len(prefix) && key[:len(prefix)] == prefix && key > after {
					expected = append(expected, key)
				}
			}
			diffKeys(t, fmt.Sprintf("prefix %q after %q", prefix, after), keys(t, s, prefix, after), expected)
		}
	}
}

func testListStops(t *testing.T, s storage.Store) {
	sorted := putTricky(t, s)
	for stop := range len(sorted) {
		var got []string
		for info, err := range s.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, info.Key); len(got) > stop {
				break
			}
		}
		diffKeys(t, "stopped listing", got, sorted[:stop+1])
	}
}

func (c *suite) testListMany(t *testing.T, s storage.Store) {
	var expected []string
	todo := make(chan string)
	errs := make(chan error, 8)
	for range 8 {
		go func() {
			var failed error
			for key := range todo {
				if err := storage.PutBytes(t.Context(), s, key, nil, storage.PutOptions{}); err != nil {
					failed = err
				}
			}
			errs <- failed
		}()
	}
	for i := range c.many {
		key := fmt.Sprintf("many/%d/%05d", i/500, i)
		expected = append(expected, key)
		todo <- key
	}
	close(todo)
	for range 8 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(expected)
	diffKeys(t, "many", keys(t, s, "", ""), expected)
	diffKeys(t, "many below a prefix", keys(t, s, "many/", ""), expected)
	half := len(expected) / 2
	diffKeys(t, "second half", keys(t, s, "many", expected[half]), expected[half+1:])
	diffKeys(t, "the last", keys(t, s, "many", expected[len(expected)-2]), expected[len(expected)-1:])
}

// testListWhileWriting checks that what is there all the time is listed once,
// in order, whatever else comes and goes.
func testListWhileWriting(t *testing.T, s storage.Store) {
	var stay []string
	for i := range 40 {
		stay = append(stay, fmt.Sprintf("busy/%02d/stay", i))
		put(t, s, stay[i], []byte("x"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var failed error
		for i := 0; ctx.Err() == nil; i++ {
			key := fmt.Sprintf("busy/%02d/go", i%40)
			if err := errors.Join(storage.PutBytes(ctx, s, key, nil, storage.PutOptions{}), s.Delete(ctx, key)); err != nil && ctx.Err() == nil {
				failed = err
			}
		}
		done <- failed
	}()
	for range 10 {
		var got []string
		last := ""
		for _, key := range keys(t, s, "busy/", "") {
			if key <= last {
				t.Errorf("%q listed after %q", key, last)
			}
			if last = key; key[len("busy/00/"):] == "stay" {
				got = append(got, key)
			}
		}
		if !slices.Equal(got, stay) {
			t.Errorf("listed %d of %d objects", len(got), len(stay))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func testDirectories(t *testing.T, s storage.Store) {
	putTricky(t, s)
	for prefix, expected := range map[string][]string{
		"":     {"-/", "0", "0-", "00", "0.", "A", "Z/", "_", "a-b/", "a.b", "a.b.c/", "a/", "a0", "a_b", "aa/", "b/", "c", "c-/", "c-a", "c.", "c0", "d/", "z"},
		"a/":   {"b", "b-c", "c.d", "c/"},
		"b/":   {"-", "0-0/", "0.0/", "0/", "00", "_/"},
		"d/e/": {"f/"},
		"x/":   nil,
	} {
		var got []string
		for e, err := range storage.Directories(t.Context(), s, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			name := e.Name
			if e.IsDir {
				name += "/"
			} else if e.Info.Key != prefix+name {
				t.Fatalf("%q: info of %q", prefix+name, e.Info.Key)
			}
			got = append(got, name)
		}
		slices.Sort(expected)
		diffKeys(t, "directories below "+prefix, got, expected)
	}
}

func testCancelled(t *testing.T, s storage.Store) {
	put(t, s, "cancel/there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	w, createErr := s.Create(ctx, "cancel/created", storage.PutOptions{})
	if createErr != nil {
		t.Fatal(createErr)
	}
	defer w.Abort()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, createErr = s.Create(ctx, "cancel/new", storage.PutOptions{})
	_, openErr := s.Open(ctx, "cancel/there", 0, -1)
	_, statErr := s.Stat(ctx, "cancel/there")
	var listErr error
	for _, listErr = range s.List(ctx, "", "") {
	}
	for op, err := range map[string]error{
		"commit": w.Commit(),
		"put":    storage.PutBytes(ctx, s, "cancel/new", []byte("x"), storage.PutOptions{}),
		"open":   openErr, "stat": statErr, "list": listErr, "delete": s.Delete(ctx, "cancel/there"),
	} {
		wantErr(t, err, context.Canceled, "%s", op)
		if storage.Retryable(err) {
			t.Errorf("%s: a cancelled operation is said to be retryable: %v", op, err)
		}
	}
	if createErr != nil {
		wantErr(t, createErr, context.Canceled, "create")
	}
	wantAbsent(t, s, "cancel/new")
	wantAbsent(t, s, "cancel/created")
	want(t, s, "cancel/there", []byte("x"))
}

func testCancelledRead(t *testing.T, s storage.Store) {
	put(t, s, "cancel/read", content(1, 8<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Open(ctx, "cancel/read", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, r)
	wantErr(t, err, context.Canceled, "read")
}

func testReadAll(t *testing.T, s storage.Store) {
	b := content(1, 1000)
	put(t, s, "read/all", b)
	for _, limit := range []int64{1000, 1001, 1 << 40} {
		if got, err := storage.ReadAll(t.Context(), s, "read/all", limit); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("limit %d: %v", limit, err)
		}
	}
	for _, limit := range []int64{0, 1, 999} {
		_, err := storage.ReadAll(t.Context(), s, "read/all", limit)
		wantErr(t, err, storage.ErrTooLarge, "limit %d", limit)
	}
	_, err := storage.ReadAll(t.Context(), s, "read/nothing", 10)
	wantErr(t, err, storage.ErrNotExist, "absent")
}
