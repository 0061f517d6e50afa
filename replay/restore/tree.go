package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// tree is the directories that have been made.
type tree struct {
	disk    disk
	own     *owner
	made    map[string]fs.FileMode // with the mode each shall have
	topMode fs.FileMode            // of the data directory
}

func newTree(d disk, own *owner) *tree {
	return &tree{disk: d, own: own, made: map[string]fs.FileMode{}, topMode: 0o700}
}

// directory makes a directory, and those between it and top, which exists.
func (t *tree) directory(path, top string, mode uint32) error {
	if path == top {
		return nil // has a mode of its own
	}
	if err := t.make(path, top); err != nil {
		return err
	}
	if m := fs.FileMode(mode & 0o777); m != 0 {
		t.made[path] = m | 0o700
	}
	return nil
}

// parents makes the directories that lead to path.
func (t *tree) parents(path, top string) error { return t.make(filepath.Dir(path), top) }

func (t *tree) make(path, top string) error {
	if path == top {
		return nil
	}
	if _, ok := t.made[path]; ok {
		return nil
	}
	if len(path) <= len(top) {
		return fmt.Errorf("%s is not inside %s", path, top)
	}
	if err := t.make(filepath.Dir(path), top); err != nil {
		return err
	}
	if err := t.disk.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &FileError{Path: path, Reason: "the backup has a file where it needs a directory, or something else writes there"}
		}
		return err
	}
	if t.own != nil {
		if err := t.disk.Chown(path, t.own.uid, t.own.gid); err != nil {
			return err
		}
	}
	t.made[path] = 0 // none wanted yet
	return nil
}

// finish gives the directories their modes and makes their entries durable.
func (t *tree) finish(tops ...string) error {
	paths := make([]string, 0, len(t.made))
	for path, mode := range t.made {
		paths = append(paths, path)
		if mode == 0 {
			mode = t.topMode
		}
		if mode != 0o700 {
			if err := t.disk.Chmod(path, mode); err != nil {
				return err
			}
		}
	}
	slices.Sort(paths)
	for _, path := range append(paths, tops...) {
		if err := t.disk.SyncDir(path); err != nil {
			return err
		}
	}
	return nil
}
