package file

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/storage"
)

const crashRoot, crashKey = "/data/below/repo", "main/wal/0001/object"

var crashContent = bytes.Repeat([]byte("whole or absent "), 3)

// A crashCase is a durable operation, and how the world looks before it.
type crashCase struct {
	name    string
	noLinks bool
	before  func(t *testing.T, s *Store)
	do      func(ctx context.Context, s *Store) error
}

func putWhole(ctx context.Context, s *Store) error {
	return storage.PutBytes(ctx, s, crashKey, crashContent, storage.PutOptions{})
}

func createWhole(ctx context.Context, s *Store) error {
	w, err := s.Create(ctx, crashKey, storage.PutOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, b := range [][]byte{crashContent[:5], crashContent[5:]} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Commit()
}

// prepared makes the repository's directory first.
func prepared(do func(ctx context.Context, s *Store) error) func(ctx context.Context, s *Store) error {
	return func(ctx context.Context, s *Store) error {
		if err := s.Prepare(ctx); err != nil {
			return err
		}
		return do(ctx, s)
	}
}

func neighbour(t *testing.T, s *Store) {
	t.Helper()
	if err := storage.PutBytes(t.Context(), s, "main/wal/neighbour", []byte("stays"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

var crashCases = []crashCase{
	{name: "put, new repository", do: prepared(putWhole)},
	{name: "put", before: neighbour, do: putWhole},
	{name: "create", before: neighbour, do: createWhole},
	{name: "put, no links", noLinks: true, before: neighbour, do: putWhole},
	{name: "create, no links, new repository", noLinks: true, do: prepared(createWhole)},
}

func (c crashCase) start(t *testing.T) *strictFS {
	t.Helper()
	fs := newStrictFS()
	fs.noLinks = c.noLinks
	if c.before != nil {
		s := storeOn(fs)
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.before(t, s)
	}
	*fs.steps = 0
	return fs
}

func storeOn(fs *strictFS) *Store { return &Store{root: filepath.FromSlash(crashRoot), fs: fs} }

// look returns whether the object is there, and fails if it is neither whole
// nor absent, or if the neighbour suffered.
func (c crashCase) look(t *testing.T, fs *strictFS) bool {
	t.Helper()
	s := storeOn(fs)
	if c.before != nil {
		b, err := storage.ReadAll(t.Context(), s, "main/wal/neighbour", 100)
		if err != nil || string(b) != "stays" {
			t.Fatalf("neighbour: %q, %v", b, err)
		}
	}
	b, err := storage.ReadAll(t.Context(), s, crashKey, 1000)
	switch {
	case err == nil && bytes.Equal(b, crashContent):
		return true
	case err == nil:
		t.Fatalf("the object is neither whole nor absent: %q", b)
	case !errors.Is(err, storage.ErrNotExist) && !errors.Is(err, errNoRoot):
		t.Fatalf("look: %v", err)
	}
	return false
}

// again does the operation once more: it must succeed, or meet the object that
// is there already; and then the object must be there for good.
func (c crashCase) again(t *testing.T, fs *strictFS) {
	t.Helper()
	there := c.look(t, fs)
	err := c.do(t.Context(), storeOn(fs))
	if there != errors.Is(err, storage.ErrExist) || err != nil && !there {
		t.Fatalf("the operation tried again: %v (object was there: %v)", err, there)
	}
	if !c.look(t, fs.powerLoss(nil)) {
		t.Fatal("the operation succeeded, or met its object, and the object is lost in a power loss")
	}
}

// steps returns how many steps the operation takes when nothing fails.
func (c crashCase) steps(t *testing.T) int {
	fs := c.start(t)
	if err := c.do(t.Context(), storeOn(fs)); err != nil {
		t.Fatal(err)
	}
	if n := len(storeOn(fs).temps(t)); n != 0 {
		t.Fatalf("%d temporary files are left", n)
	}
	return *fs.steps
}

func (s *Store) temps(t *testing.T) []string {
	t.Helper()
	entries, err := s.fs.ReadDir(filepath.Join(s.root, tempDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestFailStep lets each step in turn fail: done or not done.
func TestFailStep(t *testing.T) {
	for _, c := range crashCases {
		t.Run(c.name, func(t *testing.T) {
			failed := 0
			for step := range c.steps(t) {
				for _, after := range []bool{false, true} {
					fs := c.start(t)
					fs.failAt, fs.after = step, after
					err := c.do(t.Context(), storeOn(fs))
					if err != nil {
						failed++
						c.checkError(t, fs, err)
					} else if !c.look(t, fs.powerLoss(nil)) {
						t.Fatalf("step %d (%s) failed, the operation succeeded, and the object is lost", step, fs.trace[len(fs.trace)-1])
					}
					fs.failAt = -1
					c.again(t, fs)
				}
			}
			if failed < 10 {
				t.Fatalf("only %d failures reached the caller: is the file system asked at all?", failed)
			}
		})
	}
}

// checkError: an operation that failed left nothing, or says that it may have.
func (c crashCase) checkError(t *testing.T, fs *strictFS, err error) {
	t.Helper()
	var e *storage.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is no *storage.Error: %v", err, err)
	}
	if !c.look(t, fs.killed()) {
		return
	}
	if !storage.Retryable(err) {
		t.Fatalf("the object is there, but the error is final: %v", err)
	}
	if !c.noLinks && !c.look(t, fs.powerLoss(nil)) {
		t.Fatal("the object was visible after the failure, and is lost")
	}
}

// TestCrashStep lets the process die before each step, and the machine too.
func TestCrashStep(t *testing.T) {
	for _, c := range crashCases {
		t.Run(c.name, func(t *testing.T) {
			for step := range c.steps(t) + 1 {
				c.crash(t, step, nil)
				for seed := range uint64(20) {
					c.crash(t, step, rand.New(rand.NewPCG(seed, uint64(step))))
				}
			}
		})
	}
}

func (c crashCase) crash(t *testing.T, step int, r *rand.Rand) {
	t.Helper()
	fs := c.start(t)
	fs.dieAt = step
	err := c.do(t.Context(), storeOn(fs))
	lost := fs.powerLoss(r)
	if there := c.look(t, lost); err == nil && !there {
		t.Fatalf("step %d: acknowledged and lost", step)
	}
	c.again(t, lost)

	// The process was killed, the machine goes on. Whoever sees the object may
	// rely on it, unless the file system has no links to tell by.
	killed := fs.killed()
	if c.look(t, killed) && !c.noLinks && !c.look(t, killed.powerLoss(r)) {
		t.Fatalf("step %d: the object was visible and is lost", step)
	}
	c.again(t, killed)
}

// TestVisibleIsDurable does the same for the other ways to see an object.
func TestVisibleIsDurable(t *testing.T) {
	c := crashCases[1]
	see := map[string]func(s *Store) bool{
		"stat": func(s *Store) bool {
			_, err := s.Stat(t.Context(), crashKey)
			return err == nil
		},
		"list": func(s *Store) bool {
			for info := range s.List(t.Context(), "main/wal/0001/", "") {
				return info.Key == crashKey
			}
			return false
		},
	}
	for name, seen := range see {
		visible := 0
		for step := range c.steps(t) + 1 {
			fs := c.start(t)
			fs.dieAt = step
			_ = c.do(t.Context(), storeOn(fs))
			if killed := fs.killed(); seen(storeOn(killed)) {
				visible++
				if !c.look(t, killed.powerLoss(nil)) {
					t.Fatalf("%s: step %d: the object was seen and is lost", name, step)
				}
			}
		}
		if visible < 3 {
			t.Fatalf("%s: seen %d times only", name, visible)
		}
	}
}

// TestDeleteStep: fail and die at each step of a Delete.
func TestDeleteStep(t *testing.T) {
	c := crashCase{name: "delete", before: func(t *testing.T, s *Store) {
		neighbour(t, s)
		if err := putWhole(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}, do: func(ctx context.Context, s *Store) error { return s.Delete(ctx, crashKey) }}
	steps := func() int {
		fs := c.start(t)
		if err := c.do(t.Context(), storeOn(fs)); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.find(filepath.Dir(filepath.Join(crashRoot, crashKey))); err == nil {
			t.Fatal("the directory that became empty is still there")
		}
		return *fs.steps
	}()
	for step := range steps + 1 {
		for _, die := range []bool{false, true} {
			fs := c.start(t)
			if fs.failAt = step; die {
				fs.failAt, fs.dieAt = -1, step
			}
			err := c.do(t.Context(), storeOn(fs))
			if lost := c.look(t, fs.powerLoss(nil)); err == nil && lost {
				t.Fatalf("step %d: deleted, and back after a power loss", step)
			}
			again := fs.killed()
			if err := c.do(t.Context(), storeOn(again)); err != nil {
				t.Fatalf("step %d: delete again: %v", step, err)
			}
			if c.look(t, again) {
				t.Fatalf("step %d: still there", step)
			}
			if c.look(t, again.powerLoss(nil)) {
				t.Fatalf("step %d: deleted once more, and back after a power loss", step)
			}
			if err := putWhole(t.Context(), storeOn(again)); err != nil {
				t.Fatalf("step %d: put after delete: %v", step, err)
			}
		}
	}
}

// TestReadStep: every step of a reading operation that fails is an error, and
// never absence or a shorter object.
func TestReadStep(t *testing.T) {
	for name, op := range map[string]func(s *Store) error{
		"open": func(s *Store) error {
			r, err := s.Open(t.Context(), crashKey, 0, -1)
			if err != nil {
				return err
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(b, crashContent) {
				t.Fatalf("wrong content %q", b)
			}
			return err
		},
		"stat": func(s *Store) error {
			_, err := s.Stat(t.Context(), crashKey)
			return err
		},
		"list": func(s *Store) error {
			n := 0
			for _, err := range s.List(t.Context(), "", "") {
				if err != nil {
					return err
				}
				n++
			}
			if n != 2 {
				t.Fatalf("listed %d objects", n)
			}
			return nil
		},
	} {
		failed := 0
		for step := 0; ; step++ {
			fs := crashCases[1].start(t)
			if err := putWhole(t.Context(), storeOn(fs)); err != nil {
				t.Fatal(err)
			}
			*fs.steps, fs.failAt = 0, step
			err := op(storeOn(fs))
			if *fs.steps <= step {
				break
			}
			if err != nil {
				failed++
			}
			if errors.Is(err, storage.ErrNotExist) {
				t.Fatalf("%s: step %d: a fault looks like absence: %v", name, step, err)
			}
		}
		if failed == 0 {
			t.Fatalf("%s: no failure reached the caller", name)
		}
	}
}
