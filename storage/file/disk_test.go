package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/file"
)

// TestMissingRoot: a disk that is not mounted is no empty repository.
func TestMissingRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "mounted")
	s := open(t, root)
	_, openErr := s.Open(t.Context(), "a/b", 0, -1)
	_, statErr := s.Stat(t.Context(), "a")
	var listErr error
	for _, listErr = range s.List(t.Context(), "", "") {
	}
	_, createErr := s.Create(t.Context(), "a", storage.PutOptions{})
	for op, err := range map[string]error{
		"open": openErr, "stat": statErr, "list": listErr, "delete": s.Delete(t.Context(), "a"), "create": createErr,
		// What is written below the mount point is out of sight when the disk is back.
		"put": storage.PutBytes(t.Context(), s, "a", []byte("x"), storage.PutOptions{}),
	} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || storage.Retryable(err) || !strings.Contains(err.Error(), root) {
			t.Errorf("%s: %v", op, err)
		}
		if !strings.Contains(storage.Hint(err), "mounted") {
			t.Errorf("%s: hint %q", op, storage.Hint(err))
		}
	}
	for range 2 {
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.PutBytes(t.Context(), s, "a", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	// A file where the directory should be is no repository either.
	if _, err := open(t, filepath.Join(root, "a")).Stat(t.Context(), "b"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("root is a file: %v", err)
	}
	if _, err := file.New("", file.Options{}); err == nil {
		t.Fatal("an empty path was accepted")
	}
}

// TestUnmounted: the disk goes away under a store that is in use, and leaves
// an empty directory, or none.
func TestUnmounted(t *testing.T) {
	for name, leave := range map[string]func(root string) error{
		"the mount point": func(root string) error { return os.Mkdir(root, 0o700) },
		"nothing":         func(string) error { return nil },
	} {
		root := filepath.Join(t.TempDir(), "mounted")
		s := open(t, root)
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := storage.PutBytes(t.Context(), s, "before", nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(root, root+"-away"), leave(root)); err != nil {
			t.Fatal(err)
		}
		err := storage.PutBytes(t.Context(), s, "object", []byte("x"), storage.PutOptions{})
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(storage.Hint(err), "mounted") {
			t.Errorf("%s is left: %v; hint %q", name, err, storage.Hint(err))
		}
		if err := errors.Join(os.RemoveAll(root), os.Rename(root+"-away", root)); err != nil {
			t.Fatal(err)
		}
		if err := storage.PutBytes(t.Context(), s, "object", []byte("x"), storage.PutOptions{}); err != nil {
			t.Errorf("%s was left: the disk is back: %v", name, err)
		}
	}
}

// TestModes: what is created has the modes that were asked for.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	for _, c := range []struct {
		o         file.Options
		dir, file os.FileMode
	}{
		{file.Options{}, 0o700, 0o600},
		{file.Options{DirMode: 0o770, FileMode: 0o666}, 0o770, 0o666},
	} {
		root := filepath.Join(t.TempDir(), "repo")
		s, err := file.New(root, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := storage.PutBytes(t.Context(), s, "a/b", []byte("x"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]os.FileMode{root: c.dir, root + "/a": c.dir, root + "/.tmp": c.dir, root + "/a/b": c.file} {
			fi, err := os.Stat(path)
			if err != nil || fi.Mode().Perm() != want {
				t.Errorf("%s: %v, want %v: %v", path, fi.Mode().Perm(), want, err)
			}
		}
	}
}

func temps(t *testing.T, root string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, ".tmp"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestSweep: what dead writers left is removed by the first write of a later
// process, when it is a day old.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, ".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": 23 * time.Hour} {
		path := filepath.Join(root, ".tmp", name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, root)
	for range s.List(t.Context(), "", "") {
	}
	if len(temps(t, root)) != 2 {
		t.Fatal("a reader swept")
	}
	if err := storage.PutBytes(t.Context(), s, "a", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := temps(t, root); len(left) != 1 || left[0] != "young" {
		t.Fatalf("left: %q", left)
	}
}

// TestNoTempsLeft: writers that end in whatever way leave nothing.
func TestNoTempsLeft(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if err := storage.PutBytes(t.Context(), s, "a", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_ = storage.PutBytes(t.Context(), s, "a", []byte("x"), storage.PutOptions{})
	_ = s.Put(t.Context(), "short", bytes.NewReader(nil), 10, storage.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	for _, end := range []func(w storage.Writer) error{
		storage.Writer.Abort, storage.Writer.Commit,
		func(w storage.Writer) error { cancel(); _ = w.Commit(); return w.Abort() },
	} {
		w, err := s.Create(ctx, "b", storage.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := end(w); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if left := temps(t, root); len(left) != 0 {
		t.Fatalf("left: %q", left)
	}
}

// TestShrinks: a file that becomes shorter while it is read is an error.
func TestShrinks(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if err := storage.PutBytes(t.Context(), s, "a", make([]byte, 100_000), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(root, "a"), 50_000); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || storage.Retryable(err) {
		t.Fatalf("got %v", err)
	}
}

// TestForeignFiles: what lies about in the directory is passed over, what a
// symbolic link leads to is not.
func TestForeignFiles(t *testing.T) {
	root, other := t.TempDir(), t.TempDir()
	s := open(t, root)
	if err := storage.PutBytes(t.Context(), s, "dir/a", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"lost+found", "dir/.snapshot", "my files"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(other, "b"), []byte("yy"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"linked": other, "dir/link": filepath.Join(other, "b")} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Skip(err)
		}
	}
	list := func() (keys string, last error) {
		for info, err := range s.List(t.Context(), "", "") {
			last = err
			keys += fmt.Sprintf("%s:%d ", info.Key, info.Size)
		}
		return keys, last
	}
	if keys, err := list(); err != nil || keys != "dir/a:1 dir/link:2 linked/b:2 " {
		t.Fatalf("listed %q, %v", keys, err)
	}
	// What it leads to is not mounted: nobody knows what would be listed.
	if err := os.RemoveAll(other); err != nil {
		t.Fatal(err)
	}
	if _, err := list(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a link that leads nowhere: %v", err)
	}
}

// TestPutWhileEmptied: directories that vanish under a writer are made again.
func TestPutWhileEmptied(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 150 {
				key := fmt.Sprintf("a/b/c/%d-%d", g, i)
				if err := storage.PutBytes(t.Context(), s, key, []byte(key), storage.PutOptions{}); err != nil {
					t.Error(err)
				}
				if b, err := storage.ReadAll(t.Context(), s, key, 100); err != nil || string(b) != key {
					t.Errorf("%s: %q, %v", key, b, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(s.Root())
	if err != nil || len(entries) != 1 {
		t.Fatalf("left: %v, %v", entries, err)
	}
}
