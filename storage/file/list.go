package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/walden-pg/walden/storage"
)

// List implements storage.Store. It reads one directory at a time, none that
// lies wholly outside prefix or before after.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.checkRoot(); err != nil {
			yield(storage.Info{}, s.fail("list", prefix, err))
			return
		}
		dir := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if dir != "" && storage.CheckKey(strings.TrimSuffix(dir, "/")) != nil {
			return // no key begins like this
		}
		l := lister{s: s, ctx: ctx, prefix: prefix, after: after, yield: yield}
		l.walk(dir)
	}
}

type lister struct {
	s             *Store
	ctx           context.Context
	prefix, after string
	yield         func(storage.Info, error) bool
}

// walk lists what lies in dir, "" or a path that ends in a slash. It returns
// false when the listing is over.
func (l *lister) walk(dir string) bool {
	if err := l.ctx.Err(); err != nil {
		return l.fail(err)
	}
	entries, err := l.read(dir)
	if err != nil {
		return l.fail(err)
	}
	for _, e := range entries {
		key := dir + e.name
		if !strings.HasPrefix(key, l.prefix) && !strings.HasPrefix(l.prefix, key) || len(key) > storage.MaxKeyLength {
			continue
		}
		switch {
		case strings.HasSuffix(e.name, "/"):
			if l.after > key && !strings.HasPrefix(l.after, key) {
				continue // all of it comes before
			}
			if !l.walk(key) {
				return false
			}
		case key > l.after && strings.HasPrefix(key, l.prefix):
			if !l.object(key, e.file) {
				return false
			}
		}
	}
	return true
}

func (l *lister) fail(err error) bool {
	l.yield(storage.Info{}, l.s.fail("list", l.prefix, err))
	return false
}

// object yields one file.
func (l *lister) object(key string, e fs.DirEntry) bool {
	if err := l.ctx.Err(); err != nil {
		return l.fail(err)
	}
	fi, err := e.Info()
	if err == nil {
		err = l.s.settle(key, fi)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true // deleted meanwhile
	}
	if err != nil {
		return l.fail(err)
	}
	return l.yield(info(key, fi), nil)
}

// entry is what lies in a directory. The name of a directory ends in a slash,
// so that the order of names is the order of whole keys: "a.b" comes before "a/x".
type entry struct {
	name string
	file fs.DirEntry
}

// read returns what may be an object or lead to one, in order.
func (l *lister) read(dir string) ([]entry, error) {
	path := filepath.Join(l.s.root, filepath.FromSlash(dir))
	list, err := l.s.fs.ReadDir(path)
	if err != nil {
		if err = l.s.absent(err); errors.Is(err, storage.ErrNotExist) {
			return nil, nil // never was, or was removed meanwhile
		}
		return nil, err
	}
	entries := make([]entry, 0, len(list))
	for _, e := range list {
		if !segment(e.Name()) {
			continue
		}
		name := e.Name()
		if e.Type()&fs.ModeSymlink != 0 {
			fi, err := l.s.fs.Stat(filepath.Join(path, name))
			if err != nil {
				// Something of ours may have been behind it. Its text only: this is no absence.
				return nil, fmt.Errorf("symbolic link in the repository leads nowhere: %s", err.Error())
			}
			e = fs.FileInfoToDirEntry(renamed{fi, name})
		}
		switch {
		case e.IsDir():
			name += "/"
		case !e.Type().IsRegular():
			continue
		}
		entries = append(entries, entry{name: name, file: e})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// renamed is what a symbolic link leads to, under the name of the link.
type renamed struct {
	fs.FileInfo
	name string
}

func (r renamed) Name() string { return r.name }
