package storetest

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
)

func testIllegalKeys(t *testing.T, s storage.Store) {
	put(t, s, "legal/object", []byte("x"))
	for _, key := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "../legal/object", "legal/./object", "legal/../legal/object", ".tmp/x",
		".hidden", "a/.hidden", "a b", "a\x00b", "a\\b", "ä", "a:b", "a*", "a\n", "a%2f", "legal/object/",
		strings.Repeat("a", storage.MaxKeyLength+1),
	} {
		_, openErr := s.Open(t.Context(), key, 0, -1)
		_, statErr := s.Stat(t.Context(), key)
		_, createErr := s.Create(t.Context(), key, storage.PutOptions{})
		for op, err := range map[string]error{
			"put":  storage.PutBytes(t.Context(), s, key, []byte("x"), storage.PutOptions{}),
			"open": openErr, "stat": statErr, "create": createErr, "delete": s.Delete(t.Context(), key),
		} {
			if err == nil || errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExist) || storage.Retryable(err) {
				t.Errorf("%s of the illegal key %.40q: %v", op, key, err)
			}
		}
	}
	diffKeys(t, "after illegal keys", keys(t, s, "", ""), []string{"legal/object"})
}

func testLongestKey(t *testing.T, s storage.Store) {
	segment := strings.Repeat("k", 127) + "/"
	key := strings.Repeat(segment, 3) + strings.Repeat("l", 128)
	if len(key) != storage.MaxKeyLength {
		t.Fatalf("test is wrong: %d", len(key))
	}
	put(t, s, key, []byte("x"))
	want(t, s, key, []byte("x"))
	diffKeys(t, "longest key", keys(t, s, "kkk", ""), []string{key})
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// testNestedKeys: a driver may refuse a key that is a directory of another,
// but must not say that it exists, nor harm what does.
func testNestedKeys(t *testing.T, s storage.Store) {
	put(t, s, "nested/a", []byte("1"))
	put(t, s, "nested/b/c", []byte("2"))
	for _, key := range []string{"nested/a/x", "nested/a/x/y", "nested/b", "nested"} {
		for _, err := range []error{
			storage.PutBytes(t.Context(), s, key, []byte("x"), storage.PutOptions{}),
			create(t.Context(), s, key+"-", []byte("x")),
		} {
			if errors.Is(err, storage.ErrExist) || errors.Is(err, storage.ErrNotExist) {
				t.Errorf("%s: %v", key, err)
			}
		}
		if err := create(t.Context(), s, key, []byte("x")); err != nil && storage.Retryable(err) {
			t.Errorf("%s: %v", key, err)
		}
	}
	want(t, s, "nested/a", []byte("1"))
	want(t, s, "nested/b/c", []byte("2"))
}

// testErrors: every error is a *storage.Error that tells what was done to what.
func testErrors(t *testing.T, s storage.Store) {
	put(t, s, "errors/a", []byte("x"))
	_, openErr := s.Open(t.Context(), "errors/b", 0, -1)
	_, statErr := s.Stat(t.Context(), "errors/b")
	for op, err := range map[string]error{
		"open": openErr, "stat": statErr,
		"put": storage.PutBytes(t.Context(), s, "errors/a", nil, storage.PutOptions{}),
	} {
		var e *storage.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: %T is no *storage.Error: %v", op, err, err)
		}
		if e.Op != op || !strings.HasPrefix(e.Key, "errors/") || e.Temporary || storage.Retryable(err) {
			t.Errorf("%s: %+v", op, e)
		}
		if !strings.HasPrefix(err.Error(), op+" "+e.Key+": ") {
			t.Errorf("%s: message %q", op, err)
		}
	}
	if !errors.Is(openErr, fs.ErrNotExist) || errors.Is(openErr, fs.ErrExist) {
		t.Errorf("open: %v", openErr)
	}
}
