// Package storetest is the conformance suite of storage.Store: the contract of
// the interface, sentence by sentence. Every driver and every decorator runs it.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
)

// An Option adapts the suite to a driver.
type Option func(*suite)

// ManyKeys sets how many objects the long listing has; the default is 1100,
// more than a page of S3.
func ManyKeys(n int) Option { return func(s *suite) { s.many = n } }

type suite struct {
	open func(t *testing.T) storage.Store
	many int
}

// Run checks that the stores that open returns keep the contract of
// storage.Store. Each call of open returns an empty store, or one whose
// earlier objects lie outside what its keys can reach.
func Run(t *testing.T, open func(t *testing.T) storage.Store, options ...Option) {
	s := &suite{open: open, many: 1100}
	for _, o := range options {
		o(s)
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s storage.Store)
	}{
		{"put", testPut},
		{"put refuses", testPutRefuses},
		{"put races", testPutRaces},
		{"create", testCreate},
		{"commit refuses", testCommitRefuses},
		{"commit races", testCommitRaces},
		{"put and commit race", testMixedRaces},
		{"abort", testAbort},
		{"invisible until commit", testInvisible},
		{"large", testLarge},
		{"sizes", testSizes},
		{"ranges", testRanges},
		{"absent", testAbsent},
		{"stat", testStat},
		{"list order", testListOrder},
		{"list prefix and after", testListPrefixAfter},
		{"list stops early", testListStops},
		{"list many", s.testListMany},
		{"list while writing", testListWhileWriting},
		{"directories", testDirectories},
		{"delete", testDelete},
		{"delete many", testDeleteAll},
		{"illegal keys", testIllegalKeys},
		{"longest key", testLongestKey},
		{"nested keys", testNestedKeys},
		{"cancelled", testCancelled},
		{"cancelled while reading", testCancelledRead},
		{"concurrent", testConcurrent},
		{"options", testOptions},
		{"errors", testErrors},
		{"probe", testProbe},
		{"read all", testReadAll},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, s.open(t)) })
	}
}

// content returns n bytes that no other seed yields.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	_, _ = r.Read(b)
	return b
}

func put(t *testing.T, s storage.Store, key string, b []byte) {
	t.Helper()
	if err := storage.PutBytes(t.Context(), s, key, b, storage.PutOptions{}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// create writes b through a Writer, in pieces, and returns Commit's error.
func create(ctx context.Context, s storage.Store, key string, b []byte) error {
	w, err := s.Create(ctx, key, storage.PutOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	for piece := 1; len(b) > 0; piece = piece*3 + 1 {
		n := min(piece, len(b))
		if m, err := w.Write(b[:n]); err != nil || m != n {
			return fmt.Errorf("write of %d bytes: %d, %w", n, m, err)
		}
		b = b[n:]
	}
	return w.Commit()
}

func read(ctx context.Context, s storage.Store, key string, off, n int64) ([]byte, error) {
	r, err := s.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return b, err
}

// want checks that the object key is there, with the content b.
func want(t *testing.T, s storage.Store, key string, b []byte) {
	t.Helper()
	got, err := read(t.Context(), s, key, 0, -1)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	if !bytes.Equal(got, b) {
		t.Fatalf("%s: content differs: %d bytes, want %d", key, len(got), len(b))
	}
}

func wantErr(t *testing.T, err, target error, format string, a ...any) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want %v", fmt.Sprintf(format, a...), err, target)
	}
}

// wantAbsent checks that nothing can be seen of key.
func wantAbsent(t *testing.T, s storage.Store, key string) {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	wantErr(t, err, storage.ErrNotExist, "stat %s", key)
	_, err = s.Open(t.Context(), key, 0, -1)
	wantErr(t, err, storage.ErrNotExist, "open %s", key)
	for _, k := range keys(t, s, key, "") {
		if k == key {
			t.Fatalf("%s is listed", key)
		}
	}
}

func keys(t *testing.T, s storage.Store, prefix, after string) []string {
	t.Helper()
	var list []string
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		list = append(list, info.Key)
	}
	return list
}

func diffKeys(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%s: got %d keys %.400q, want %d keys %.400q", what, len(got), got, len(want), want)
	}
}
