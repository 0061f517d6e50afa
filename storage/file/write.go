package file

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/walden-pg/walden/storage"
)

const (
	// tempDir is below the root. No key has a segment that begins with a dot.
	tempDir = ".tmp"
	// tempAge is how long a temporary file that nobody writes to is left alone.
	tempAge = 24 * time.Hour
	// copySize is the unit in which Put copies, in bytes.
	copySize = 1 << 20
	// publishTries bounds how often a writer makes a directory that others remove.
	publishTries = 20
)

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	if size < 0 {
		return s.fail("put", key, fmt.Errorf("negative size %d", size))
	}
	w, err := s.begin(ctx, "put", key, o)
	if err != nil {
		return err
	}
	defer w.Abort()
	buf := make([]byte, max(1, min(copySize, size)))
	n, err := io.CopyBuffer(w, io.NewSectionReader(r, 0, size), buf)
	if err == nil && n != size {
		err = fmt.Errorf("source ends after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return s.fail("put", key, err)
	}
	return w.Commit()
}

// Create implements storage.Store.
func (s *Store) Create(ctx context.Context, key string, o storage.PutOptions) (storage.Writer, error) {
	w, err := s.begin(ctx, "create", key, o)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (s *Store) begin(ctx context.Context, op, key string, o storage.PutOptions) (*writer, error) {
	if err := s.check(ctx, op, key); err != nil {
		return nil, err
	}
	if !o.RetainUntil.IsZero() {
		return nil, s.fail(op, key, fmt.Errorf("retention in a file repository: %w", errors.ErrUnsupported))
	}
	// Whoever creates what exists already learns it before he has written it.
	if fi, err := s.fs.Stat(s.path(key)); err == nil {
		return nil, s.fail(op, key, s.exists(key, fi))
	}
	name, f, err := s.temp()
	if err != nil {
		return nil, s.fail(op, key, err)
	}
	commit := "commit"
	if op == "put" {
		commit = op
	}
	return &writer{s: s, ctx: ctx, key: key, op: commit, temp: name, f: f}, nil
}

// temp creates a temporary file.
func (s *Store) temp() (string, writeFile, error) {
	dir := filepath.Join(s.root, tempDir)
	if err := s.makeTempDir(dir); err != nil {
		return "", nil, err
	}
	s.sweep.Do(func() { s.sweepTemp(dir) })
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", nil, err
	}
	name := filepath.Join(dir, hex.EncodeToString(id))
	f, err := s.fs.Create(name)
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		err = fmt.Errorf("%w: %s is gone", errNoRoot, dir)
	}
	return name, f, err
}

// makeTempDir makes the directory of temporary files before the first one is
// created, and only then, and never the root above it: when a disk is unmounted under a
// running process, nothing may be written to what is left of the path.
func (s *Store) makeTempDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	if _, err := s.fs.Stat(dir); err != nil {
		if err := s.checkRoot(); err != nil {
			return err
		}
		// The root may be the last work of a process that was killed before its fsync.
		if err := s.syncIfAllowed(filepath.Dir(s.root)); err != nil {
			return err
		}
		if err := s.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.syncIfAllowed(s.root); err != nil {
			return err
		}
	}
	s.ready = true
	return nil
}

// makeRoot creates the root and whatever is missing above it.
func (s *Store) makeRoot() error {
	dir := s.root
	if _, err := s.fs.Stat(dir); err == nil {
		return nil
	}
	var missing []string
	for {
		_, err := s.fs.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
		missing = append(missing, dir)
		dir = filepath.Dir(dir)
	}
	// From the top down, each one durable before the next. The one that exists
	// may be the last work of a process that was killed before its fsync.
	if err := s.syncIfAllowed(filepath.Dir(dir)); err != nil {
		return err
	}
	for _, dir := range slices.Backward(missing) {
		if err := s.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.syncIfAllowed(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// sweepTemp removes what writers that died have left behind. It is a courtesy: errors
// are met again by who really needs the directory.
func (s *Store) sweepTemp(dir string) {
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > tempAge {
			_ = s.fs.Unlink(filepath.Join(dir, e.Name()))
		}
	}
}

// writer fills a temporary file.
type writer struct {
	s    *Store
	ctx  context.Context
	key  string
	op   string // what Commit's errors are called
	temp string
	f    writeFile // nil: closed
	err  error     // the first failure; sticky
	keep bool      // the temporary name must stay, or is gone
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && w.f == nil {
		return 0, w.s.fail("write", w.key, fs.ErrClosed)
	}
	if w.err != nil {
		return 0, w.s.fail("write", w.key, w.err)
	}
	n, err := w.f.Write(p)
	w.err = err
	return n, w.s.fail("write", w.key, err)
}

func (w *writer) Commit() error {
	if w.f == nil {
		return w.s.fail(w.op, w.key, fs.ErrClosed)
	}
	defer w.Abort()
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil {
		w.err = w.f.Sync()
	}
	err := w.f.Close()
	w.f = nil
	if w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.err = w.publish()
	}
	return w.s.fail(w.op, w.key, w.err)
}

// publish gives the finished file its name.
func (w *writer) publish() error {
	s, name := w.s, w.s.path(w.key)
	for try := range publishTries {
		if try > 0 { // mostly the directories are there
			err := s.makeDirs(w.key)
			if errors.Is(err, fs.ErrNotExist) {
				continue // Delete was faster: it removes directories that are empty
			}
			if err != nil {
				return err
			}
		}
		linked, err := s.link(w.temp, name)
		switch {
		case err == nil:
			return w.settle(linked)
		case errors.Is(err, fs.ErrExist):
			fi, err := s.fs.Stat(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted again at this moment
			}
			if err != nil {
				return err
			}
			return s.exists(w.key, fi)
		case isNotDir(err):
			return errNested
		case isRefused(err):
			return err
		case !errors.Is(err, fs.ErrNotExist):
			w.keep = true // whether the name was made nobody knows
			return unsynced{err}
		}
	}
	return fmt.Errorf("its directory was removed %d times while it was created", publishTries)
}

// settle makes the new name durable and removes the old one. If the fsync
// fails the old name stays, and tells whoever meets the object that it is not
// known to be durable. The object stays too: someone may have made it durable
// in the meantime, and rely on it.
func (w *writer) settle(linked bool) error {
	w.keep = true
	if err := w.s.syncUp(w.key); err != nil {
		return unsynced{err}
	}
	if linked {
		_ = w.s.fs.Unlink(w.temp) // if it cannot be removed, a sweep will
	}
	return nil
}

// link gives the file temp the name name, which must be new. linked tells that temp is a
// name still.
func (s *Store) link(temp, name string) (linked bool, err error) {
	err = s.fs.Link(temp, name)
	if err == nil || !isNoLinks(err) {
		return true, err
	}
	renameErr := s.fs.RenameNew(temp, name)
	if errors.Is(renameErr, errors.ErrUnsupported) {
		return false, fmt.Errorf("%w: %w", errNoLink, err)
	}
	return false, renameErr
}

// exists is the answer to who would create what is there already. He may take
// it for his own success, so it has to be durable.
func (s *Store) exists(key string, fi fs.FileInfo) error {
	if !fi.Mode().IsRegular() {
		return errNested
	}
	if err := s.syncUp(key); err != nil {
		return err
	}
	return storage.ErrExist
}

// makeDirs creates the directories of key below the root.
func (s *Store) makeDirs(key string) error {
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		err := s.fs.Mkdir(s.path(key[:i]))
		if isNotDir(err) {
			return errNested
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Abort removes the temporary file.
func (w *writer) Abort() error {
	var err error
	if w.f != nil {
		err = w.f.Close()
		w.f = nil
	}
	if w.keep {
		return nil
	}
	w.keep = true
	if unlinkErr := w.s.fs.Unlink(w.temp); unlinkErr != nil && !errors.Is(unlinkErr, fs.ErrNotExist) {
		err = unlinkErr
	}
	return w.s.fail("abort", w.key, err)
}
