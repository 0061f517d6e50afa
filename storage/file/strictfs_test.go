package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// strictFS is a file system in memory that forgets, in a crash, whatever was
// not fsynced: bytes of files and entries of directories. Every call is a
// step; a step can be made to fail, or to be the last one of the process.
type strictFS struct {
	mu      *sync.Mutex
	top     *node
	steps   *int
	failAt  int  // this step fails, before it does anything; -1: none
	after   bool // it is done nevertheless
	dieAt   int  // from this step on nothing is done; -1: never
	noLinks bool
	trace   []string
}

type node struct {
	dir             bool
	data, synced    []byte
	entries, stable map[string]*node
	links           uint64
	mod             time.Time
}

var (
	errStep = &fs.PathError{Op: "step", Path: "x", Err: syscall.EIO}
	errDead = errors.New("the process is dead")
)

func newDir() *node {
	return &node{dir: true, entries: map[string]*node{}, stable: map[string]*node{}, links: 1, mod: time.Now()}
}

// newStrictFS has a durable directory /data, and nothing else.
func newStrictFS() *strictFS {
	top := newDir()
	top.entries["data"] = newDir()
	top.stable["data"] = top.entries["data"]
	return &strictFS{mu: new(sync.Mutex), top: top, steps: new(int), failAt: -1, dieAt: -1}
}

// step counts a call. do tells whether it is to be done, err what it returns
// if it otherwise succeeds.
func (s *strictFS) step(what, name string) (do bool, err error) {
	n := *s.steps
	*s.steps++
	s.trace = append(s.trace, what+" "+name)
	switch {
	case s.dieAt >= 0 && n >= s.dieAt:
		return false, errDead
	case n == s.failAt:
		return s.after, errStep
	}
	return true, nil
}

// run makes one step of do.
func (s *strictFS) run(what, name string, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	do, err := s.step(what, name)
	if do {
		if doErr := f(); doErr != nil {
			return doErr
		}
	}
	return err
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (s *strictFS) find(name string) (*node, error) {
	n := s.top
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(name), "/"), "/") {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, pathErr("find", name, syscall.ENOTDIR)
		}
		next := n.entries[part]
		if next == nil {
			return nil, pathErr("find", name, syscall.ENOENT)
		}
		n = next
	}
	return n, nil
}

func (s *strictFS) parent(name string) (*node, string, error) {
	n, err := s.find(filepath.Dir(name))
	if err == nil && !n.dir {
		err = pathErr("find", name, syscall.ENOTDIR)
	}
	return n, filepath.Base(name), err
}

func (s *strictFS) Create(name string) (writeFile, error) {
	var f *strictFile
	err := s.run("create", name, func() error {
		dir, base, err := s.parent(name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return pathErr("create", name, syscall.EEXIST)
		}
		f = &strictFile{s: s, n: &node{links: 1, mod: time.Now()}, name: name}
		dir.entries[base] = f.n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (s *strictFS) Open(name string) (readFile, error) {
	var f *strictFile
	err := s.run("open", name, func() error {
		n, err := s.find(name)
		f = &strictFile{s: s, n: n, name: name}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (s *strictFS) Link(name, second string) error {
	return s.run("link", second, func() error {
		n, err := s.find(name)
		if err != nil {
			return err
		}
		if s.noLinks {
			return pathErr("link", second, syscall.EPERM)
		}
		return s.enter(n, second)
	})
}

func (s *strictFS) enter(n *node, name string) error {
	dir, base, err := s.parent(name)
	if err != nil {
		return err
	}
	if dir.entries[base] != nil {
		return pathErr("link", name, syscall.EEXIST)
	}
	dir.entries[base] = n
	n.links++
	return nil
}

func (s *strictFS) RenameNew(name, to string) error {
	return s.run("rename", to, func() error {
		n, err := s.find(name)
		if err == nil {
			err = s.enter(n, to)
		}
		if err == nil {
			err = s.drop(name, false)
		}
		return err
	})
}

func (s *strictFS) drop(name string, wantDir bool) error {
	dir, base, err := s.parent(name)
	if err != nil {
		return err
	}
	n := dir.entries[base]
	switch {
	case n == nil:
		return pathErr("remove", name, syscall.ENOENT)
	case n.dir != wantDir:
		return pathErr("remove", name, syscall.EISDIR)
	case len(n.entries) > 0:
		return pathErr("remove", name, syscall.ENOTEMPTY)
	}
	delete(dir.entries, base)
	n.links--
	return nil
}

func (s *strictFS) Unlink(name string) error {
	return s.run("unlink", name, func() error { return s.drop(name, false) })
}

func (s *strictFS) Rmdir(name string) error {
	return s.run("rmdir", name, func() error { return s.drop(name, true) })
}

func (s *strictFS) Mkdir(name string) error {
	return s.run("mkdir", name, func() error {
		dir, base, err := s.parent(name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return pathErr("mkdir", name, syscall.EEXIST)
		}
		dir.entries[base] = newDir()
		return nil
	})
}

func (s *strictFS) Hold(name string) (heldDir, error) {
	var h strictDir
	err := s.run("hold", name, func() error {
		n, err := s.find(name)
		h = strictDir{s, n}
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

type strictDir struct {
	s *strictFS
	n *node
}

func (h strictDir) Is(name string) bool {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	n, err := h.s.find(name)
	return err == nil && n == h.n
}

func (strictDir) Close() error { return nil }

func (s *strictFS) SyncDir(name string) error {
	return s.run("syncdir", name, func() error {
		n, err := s.find(name)
		if err == nil {
			n.stable = maps.Clone(n.entries)
		}
		return err
	})
}

func (s *strictFS) Stat(name string) (fi fs.FileInfo, err error) {
	err = s.run("stat", name, func() error {
		n, err := s.find(name)
		fi = nodeInfo{n, filepath.Base(name), len(nodeData(n))}
		return err
	})
	return fi, err
}

func nodeData(n *node) []byte {
	if n == nil {
		return nil
	}
	return n.data
}

func (s *strictFS) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = s.run("readdir", name, func() error {
		n, err := s.find(name)
		if err != nil {
			return err
		}
		if !n.dir {
			return pathErr("readdir", name, syscall.ENOTDIR)
		}
		for _, base := range slices.Sorted(maps.Keys(n.entries)) {
			e := n.entries[base]
			list = append(list, fs.FileInfoToDirEntry(nodeInfo{e, base, len(e.data)}))
		}
		return nil
	})
	return list, err
}

func (s *strictFS) Links(fi fs.FileInfo) uint64 { return fi.(nodeInfo).n.links }

type nodeInfo struct {
	n    *node
	name string
	size int
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return int64(i.size) }
func (i nodeInfo) ModTime() time.Time { return i.n.mod }
func (i nodeInfo) IsDir() bool        { return i.n.dir }
func (i nodeInfo) Sys() any           { return nil }
func (i nodeInfo) Mode() fs.FileMode {
	if i.n.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

type strictFile struct {
	s    *strictFS
	n    *node
	name string
}

func (f *strictFile) Write(p []byte) (int, error) {
	n := len(p)
	err := f.s.run("write", f.name, func() error {
		f.n.data = append(f.n.data, p...)
		return nil
	})
	if err != nil {
		n = 0
	}
	return n, err
}

func (f *strictFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.s.run("read", f.name, func() (err error) {
		n, err = bytes.NewReader(f.n.data).ReadAt(p, off)
		if err == io.EOF && n > 0 {
			err = nil
		}
		return err
	})
	return n, err
}

func (f *strictFile) Sync() error {
	return f.s.run("sync", f.name, func() error {
		f.n.synced = bytes.Clone(f.n.data)
		return nil
	})
}

func (f *strictFile) Stat() (fs.FileInfo, error) { return f.s.Stat(f.name) }
func (f *strictFile) Close() error {
	return f.s.run("close", f.name, func() error { return nil })
}

// killed returns the file system as the next process finds it.
func (s *strictFS) killed() *strictFS {
	return &strictFS{mu: new(sync.Mutex), top: s.top, steps: new(int), failAt: -1, dieAt: -1, noLinks: s.noLinks}
}

// powerLoss returns the file system as the next boot finds it. What was fsynced
// is there; of everything else r decides, or nothing is there if r is nil.
func (s *strictFS) powerLoss(r *rand.Rand) *strictFS {
	seen := map[*node]*node{}
	var survive func(n *node) *node
	survive = func(n *node) *node {
		if c := seen[n]; c != nil {
			return c
		}
		c := &node{dir: n.dir, mod: n.mod, links: 1}
		seen[n] = c
		if !n.dir {
			c.data = bytes.Clone(n.synced)
			if r != nil && len(n.data) > len(n.synced) {
				c.data = bytes.Clone(n.data[:len(n.synced)+r.IntN(len(n.data)-len(n.synced)+1)])
			}
			c.synced = c.data
			return c
		}
		kept := maps.Clone(n.stable)
		if r != nil {
			for name := range n.stable {
				if n.entries[name] != n.stable[name] && r.IntN(2) == 0 {
					delete(kept, name)
				}
			}
			for name, e := range n.entries {
				if n.stable[name] != e && r.IntN(2) == 0 {
					kept[name] = e
				}
			}
		}
		c.entries = map[string]*node{}
		for name, e := range kept {
			c.entries[name] = survive(e)
		}
		c.stable = maps.Clone(c.entries)
		return c
	}
	k := s.killed()
	k.top = survive(s.top)
	k.countLinks(k.top, map[*node]bool{})
	return k
}

func (s *strictFS) countLinks(n *node, seen map[*node]bool) {
	for _, e := range n.entries {
		if !seen[e] {
			seen[e], e.links = true, 0
		}
		e.links++
		s.countLinks(e, seen)
	}
}
