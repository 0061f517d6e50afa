package overlay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/overlay"
)

func filled(t *testing.T) storage.Store {
	t.Helper()
	s := mem.New()
	for _, key := range []string{"a/1", "a/2", "b/1", "c/1"} {
		if err := s.Put(t.Context(), key, bytes.NewReader([]byte("content of "+key)), 14, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func read(t *testing.T, s storage.Store, key string, off, n int64) (string, error) {
	t.Helper()
	r, err := s.Open(t.Context(), key, off, n)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func list(ctx context.Context, s storage.Store, prefix string) (keys []string, err error) {
	for info, err := range s.List(ctx, prefix, "") {
		if err != nil {
			return keys, err
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

func TestHidden(t *testing.T) {
	s := overlay.New(filled(t), overlay.Damage{Hide: []string{"a/2", "c/"}})
	if _, err := read(t, s, "a/2", 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, err := s.Stat(t.Context(), "c/1"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	keys, err := list(t.Context(), s, "")
	if diff := cmp.Diff([]string{"a/1", "b/1"}, keys); diff != "" || err != nil {
		t.Errorf("list: %v %s", err, diff)
	}
	if got, err := read(t, s, "a/1", 0, -1); got != "content of a/1" || err != nil {
		t.Errorf("what is not hidden: %q, %v", got, err)
	}
}

func TestDown(t *testing.T) {
	s := overlay.New(filled(t), overlay.Damage{Fail: []string{"b/"}})
	for name, do := range map[string]func() error{
		"open": func() error { _, err := read(t, s, "b/1", 0, -1); return err },
		"stat": func() error { _, err := s.Stat(t.Context(), "b/1"); return err },
		"list": func() error { _, err := list(t.Context(), s, ""); return err },
	} {
		if err := do(); !errors.Is(err, overlay.ErrDown) || !storage.Retryable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys, err := list(t.Context(), s, "a/"); len(keys) != 2 || err != nil {
		t.Errorf("what can be reached: %v, %v", keys, err)
	}
}

func TestFlipped(t *testing.T) {
	s := overlay.New(filled(t), overlay.Damage{Flips: []overlay.Flip{{Key: "a/1", Offset: 3}}})
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, -1, "conuent of a/1"}, {3, 2, "ue"}, {4, -1, "ent of a/1"}, {0, 3, "con"}, {-11, -1, "uent of a/1"}, {-10, -1, "ent of a/1"}, {-100, -1, "conuent of a/1"}} {
		if got, err := read(t, s, "a/1", c.off, c.n); got != c.want || err != nil {
			t.Errorf("from %d, %d bytes: %q, %v, want %q", c.off, c.n, got, err, c.want)
		}
	}
	if got, _ := read(t, s, "a/2", 0, -1); got != "content of a/2" {
		t.Errorf("another object: %q", got)
	}
}

func TestNothingIsWritten(t *testing.T) {
	under := filled(t)
	s := overlay.New(under, overlay.Damage{})
	_, createErr := s.Create(t.Context(), "d/2", storage.PutOptions{})
	for name, err := range map[string]error{
		"put":    s.Put(t.Context(), "d/1", bytes.NewReader(nil), 0, storage.PutOptions{}),
		"create": createErr,
		"delete": s.Delete(t.Context(), "a/1"),
	} {
		if !errors.Is(err, overlay.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys, err := list(t.Context(), under, ""); len(keys) != 4 || err != nil {
		t.Errorf("underneath: %v, %v", keys, err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.json")
	want := overlay.Damage{Hide: []string{"a"}, Fail: []string{"b"}, Flips: []overlay.Flip{{Key: "c", Offset: 7}}}
	if err := overlay.Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := overlay.Read(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := overlay.Read(path + "x"); err == nil {
		t.Error("a file that is not there")
	}
}
