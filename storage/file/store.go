// Package file is the storage driver for a directory: a local disk, or a
// network file system.
//
// An object is a file whose path below the root is the object's key. It is
// born as a temporary file in <root>/.tmp, written and fsynced there, and
// becomes visible by link(2), which fails if the name exists. Then the directories up
// to the root are fsynced, and only after that the temporary name is removed.
// So a file that has one name is durable; one that still has two belongs to a
// writer that has not finished, or never will, and whoever meets it fsyncs the
// directories on the writer's behalf before he believes in it.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/walden-pg/walden/storage"
)

// Options are the permissions of what the store creates.
type Options struct {
	// DirMode and FileMode are set whatever the umask; 0: 0700 and 0600,
	// less what the umask takes away.
	DirMode, FileMode os.FileMode
}

// Store is a storage.Store in a directory. It cannot forbid deletion: a
// PutOptions.RetainUntil is an error. Storage classes and tags are ignored.
type Store struct {
	root  string
	fs    fsys
	sweep sync.Once

	durable durableDirs

	mu    sync.Mutex
	ready bool // the directory of temporary files has been there
}

// New returns the store below the directory root, a path that is made
// absolute. It touches nothing. Prepare creates root if it is missing; to
// every other operation a missing root is an error, and not ErrNotExist: a
// disk that is not mounted must not look like an empty repository, and must not
// be written to either.
func New(root string, o Options) (*Store, error) {
	if root == "" {
		return nil, errors.New("open file repository: the directory's path is empty")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open file repository: %w", err)
	}
	return &Store{root: abs, fs: newOSFS(o)}, nil
}

// Root returns the absolute path of the store's directory.
func (s *Store) Root() string { return s.root }

// path is where the object key lies.
func (s *Store) path(key string) string {
	return filepath.Join(s.root, filepath.FromSlash(key))
}

// check is what every operation on one key begins with.
func (s *Store) check(ctx context.Context, op, key string) error {
	err := storage.CheckKey(key)
	if err == nil {
		err = checkPath(key)
	}
	if err == nil {
		err = ctx.Err()
	}
	return s.fail(op, key, err)
}

// Open implements storage.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.check(ctx, "open", key); err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.path(key))
	if err != nil {
		return nil, s.fail("open", key, s.absent(err))
	}
	r, err := s.reader(ctx, f, key, off, n)
	if err != nil {
		_ = f.Close()
		return nil, s.fail("open", key, err)
	}
	return r, nil
}

func (s *Store) reader(ctx context.Context, f readFile, key string, off, n int64) (*reader, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, storage.ErrNotExist
	}
	if err := s.settle(key, fi); err != nil {
		return nil, err
	}
	start, length, err := storage.Range(fi.Size(), off, n)
	if err != nil {
		return nil, err
	}
	return &reader{s: s, ctx: ctx, f: f, key: key, pos: start, left: length}, nil
}

// reader delivers a range of a file.
type reader struct {
	s         *Store
	ctx       context.Context
	f         readFile
	key       string
	pos, left int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, r.s.fail("read", r.key, err)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), r.left)], r.pos)
	r.pos += int64(n)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if r.left > 0 {
			err = fmt.Errorf("file ends at byte %d, %d more were expected: %w", r.pos, r.left, io.ErrUnexpectedEOF)
		}
	}
	return n, r.s.fail("read", r.key, err)
}

func (r *reader) Close() error { return r.f.Close() }

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := s.check(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	fi, err := s.fs.Stat(s.path(key))
	switch {
	case err != nil:
		err = s.absent(err)
	case !fi.Mode().IsRegular():
		err = storage.ErrNotExist
	default:
		err = s.settle(key, fi)
	}
	if err != nil {
		return storage.Info{}, s.fail("stat", key, err)
	}
	return info(key, fi), nil
}

func info(key string, fi fs.FileInfo) storage.Info {
	return storage.Info{Key: key, Size: fi.Size(), ModTime: fi.ModTime()}
}

// settle makes the file durable under its key where its writer may not have
// got round to that: its temporary name is still there.
func (s *Store) settle(key string, fi fs.FileInfo) error {
	if s.fs.Links(fi) < 2 {
		return nil
	}
	return s.syncUp(key)
}

// syncUp makes the names durable that lead from the root to the object key: it
// fsyncs the object's directory, and every one above it up to the root that is not known to
// hold the next one durably. Others may have made a directory a moment ago and
// been killed before they came to the fsync, so that each process sees for
// itself, once. The root's own entry was made durable before anything was put into it.
func (s *Store) syncUp(key string) error {
	below := ""
	for dir := filepath.Dir(s.path(key)); ; dir, below = filepath.Dir(dir), dir {
		if below == "" || !s.durable.known(below) {
			if err := s.syncEntry(dir, below); err != nil {
				return err
			}
		}
		if dir == s.root {
			return nil
		}
	}
}

// syncEntry fsyncs a directory, and remembers that below, a directory in it, has
// a durable name; "": an object.
func (s *Store) syncEntry(dir, below string) error {
	var held heldDir
	if below != "" {
		// Before the fsync: what is made under the name after it is another.
		held, _ = s.fs.Hold(below) // without, it is synced again the next time
	}
	err := s.fs.SyncDir(dir)
	if held != nil {
		if err == nil {
			s.durable.add(below, held)
		} else {
			_ = held.Close() // it was only read
		}
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case dir == s.root:
		return fmt.Errorf("%w: %s", errNoRoot, s.root)
	}
	return nil // deleted again, object and all
}

// syncIfAllowed fsyncs a directory that is not ours: one may be allowed to
// enter it and not to read it, and then not to open it either.
func (s *Store) syncIfAllowed(dir string) error {
	if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// absent turns the error of a file that cannot be there into ErrNotExist,
// unless it is the whole repository that is missing.
func (s *Store) absent(err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !isAbsent(err) {
		return err
	}
	if rootErr := s.checkRoot(); rootErr != nil {
		return rootErr
	}
	return storage.ErrNotExist
}

// errNoRoot deliberately does not wrap fs.ErrNotExist.
var errNoRoot = errors.New("the repository directory is missing")

func (s *Store) checkRoot() error {
	fi, err := s.fs.Stat(s.root)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir():
		return fmt.Errorf("%w: %s", errNoRoot, s.root)
	case err != nil:
		return err
	}
	return nil
}

// segment reports whether name may be a segment of a key: whatever else lies
// in the directories is not ours.
func segment(name string) bool {
	return !strings.Contains(name, "/") && storage.CheckKey(name) == nil
}
