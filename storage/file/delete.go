package file

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/walden-pg/walden/storage"
)

// Delete implements storage.Store. Directories that it empties go too.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.DeleteAll(ctx, []string{key})
}

// DeleteAll implements storage.BatchDeleter: a directory that several objects
// leave is fsynced once.
func (s *Store) DeleteAll(ctx context.Context, keys []string) error {
	left := map[string][]string{} // the keys that leave a directory
	emptied := map[string]bool{}  // whether a file did
	var errs []error
	for _, key := range keys {
		dir, removed, err := s.unlink(ctx, key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if dir != "" {
			left[dir] = append(left[dir], key)
			emptied[dir] = emptied[dir] || removed
		}
	}
	for dir, keys := range left {
		if err := s.settleDeletion(dir, emptied[dir]); err != nil {
			for _, key := range keys {
				errs = append(errs, s.fail("delete", key, err))
			}
		}
	}
	return errors.Join(errs...)
}

// unlink removes the file of an object, and returns the directory that has to be
// fsynced then; "": none. removed tells whether there was a file.
func (s *Store) unlink(ctx context.Context, key string) (dir string, removed bool, err error) {
	if err := s.check(ctx, "delete", key); err != nil {
		return "", false, err
	}
	name := s.path(key)
	if fi, err := s.fs.Stat(name); err == nil && fi.IsDir() {
		return "", false, nil // the directory of other objects
	}
	err = s.fs.Unlink(name)
	if err != nil {
		if err = s.absent(err); !errors.Is(err, storage.ErrNotExist) {
			return "", false, s.fail("delete", key, err)
		}
	}
	// Even if it was absent: a Delete before this one may have failed, or been
	// killed, before it came to the fsync.
	return filepath.Dir(name), err == nil, nil
}

// settleDeletion makes it durable that files have left a directory, and removes it and
// those above it if they are empty.
func (s *Store) settleDeletion(dir string, removed bool) error {
	if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !isAbsent(err) {
		return err
	}
	if !removed {
		return nil
	}
	for ; dir != s.root && s.fs.Rmdir(dir) == nil; dir = filepath.Dir(dir) {
		// A writer that has just made sure of this directory makes it anew.
	}
	return nil
}
