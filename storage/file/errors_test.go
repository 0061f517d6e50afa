//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/storetest"
)

// refusing is a file system on which one kind of step is refused.
type refusing struct {
	*strictFS
	create, link, rename error
}

func (r refusing) Create(name string) (writeFile, error) {
	if r.create != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: r.create}
	}
	return r.strictFS.Create(name)
}

func (r refusing) Link(name, second string) error {
	if r.link != nil {
		return &os.LinkError{Op: "link", Old: name, New: second, Err: r.link}
	}
	return r.strictFS.Link(name, second)
}

func (r refusing) RenameNew(name, to string) error {
	if r.rename != nil {
		return r.rename
	}
	return r.strictFS.RenameNew(name, to)
}

// TestHints: what the system refuses is explained, and leaves nothing behind.
func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		fs        refusing
		is        error
		retryable bool
		hint      string
	}{
		"full":          {refusing{create: syscall.ENOSPC}, syscall.ENOSPC, false, "full"},
		"quota":         {refusing{create: syscall.EDQUOT}, syscall.EDQUOT, false, "full"},
		"full at link":  {refusing{link: syscall.ENOSPC}, syscall.ENOSPC, false, "full"},
		"read-only":     {refusing{create: syscall.EROFS}, syscall.EROFS, false, "read-only"},
		"permission":    {refusing{create: syscall.EACCES}, fs.ErrPermission, false, "must own " + storeOn(nil).root},
		"other device":  {refusing{link: syscall.EXDEV}, syscall.EXDEV, false, "one file system"},
		"no way":        {refusing{link: syscall.EPERM, rename: errors.ErrUnsupported}, errNoLink, false, "hard links"},
		"too many open": {refusing{create: syscall.EMFILE}, syscall.EMFILE, true, ""},
		"stale handle":  {refusing{link: syscall.ESTALE}, syscall.ESTALE, true, ""},
	} {
		c.fs.strictFS = newStrictFS()
		s := &Store{root: crashRoot, fs: c.fs}
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := putWhole(t.Context(), s)
		if !errors.Is(err, c.is) || storage.Retryable(err) != c.retryable || !strings.Contains(storage.Hint(err), c.hint) || c.hint == "" != (storage.Hint(err) == "") {
			t.Errorf("%s: %v; hint %q", name, err, storage.Hint(err))
		}
		if _, err := storeOn(c.fs.strictFS).Stat(t.Context(), crashKey); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: stat: %v", name, err)
		}
		if left := s.temps(t); len(left) != 0 && !c.retryable {
			t.Errorf("%s: left: %q", name, left)
		}
	}
}

// TestRenameNew: the way without links refuses a name that exists, on the real
// file system.
func TestRenameNew(t *testing.T) {
	dir := t.TempDir()
	s := &Store{root: dir, fs: noLinkFS{newOSFS(Options{})}}
	if err := putWhole(t.Context(), s); errors.Is(err, errNoLink) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) storage.Store {
		return &Store{root: t.TempDir(), fs: noLinkFS{newOSFS(Options{})}}
	}, storetest.ManyKeys(50))
	// The early look is passed by.
	w, err := s.Create(t.Context(), "other", storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("other")); err != nil {
		t.Fatal(err)
	}
	w.(*writer).key = crashKey
	if err := w.Commit(); !errors.Is(err, storage.ErrExist) {
		t.Fatalf("got %v", err)
	}
	b, err := storage.ReadAll(t.Context(), s, crashKey, 100)
	if err != nil || string(b) != string(crashContent) {
		t.Fatalf("%q, %v", b, err)
	}
	if left := s.temps(t); len(left) != 0 {
		t.Fatalf("left: %q", left)
	}
}

type noLinkFS struct{ osFS }

func (noLinkFS) Link(name, second string) error {
	return &os.LinkError{Op: "link", Old: name, New: second, Err: syscall.EPERM}
}
