package file

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// fsys is what the driver needs of a file system, one method a step, so that
// tests can make each step fail, or be the last one before a crash.
type fsys interface {
	// Create creates a file that must be new, for writing.
	Create(name string) (writeFile, error)
	// Open opens a file for reading.
	Open(name string) (readFile, error)
	// Link gives the file a second name, which must be new (fs.ErrExist).
	Link(name, second string) error
	// RenameNew renames the file; the new name must be new (fs.ErrExist).
	// errors.ErrUnsupported where the system cannot promise that.
	RenameNew(name, to string) error
	// Unlink removes a file, never a directory.
	Unlink(name string) error
	// Mkdir creates a directory; fs.ErrExist if the name exists.
	Mkdir(name string) error
	// Rmdir removes a directory that is empty, never a file.
	Rmdir(name string) error
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// Hold takes hold of a directory, so that it can be told from one that is
	// made later under its name. errors.ErrUnsupported where that cannot be done.
	Hold(name string) (heldDir, error)
	// Stat describes what name leads to, ReadDir what lies in the directory.
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	// Links returns how many names the file has; 1 if that is unknown.
	Links(fi fs.FileInfo) uint64
}

// heldDir is a directory that is held on to.
type heldDir interface {
	// Is reports whether name leads to the directory now.
	Is(name string) bool
	Close() error
}

type writeFile interface {
	io.Writer
	Sync() error
	Close() error
}

type readFile interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Close() error
}

// osFS is the file system of the machine.
type osFS struct {
	dirMode, fileMode os.FileMode
	chmod             Options // modes that were asked for
}

func newOSFS(o Options) osFS {
	f := osFS{dirMode: 0o700, fileMode: 0o600, chmod: o}
	if o.DirMode != 0 {
		f.dirMode = o.DirMode
	}
	if o.FileMode != 0 {
		f.fileMode = o.FileMode
	}
	return f
}

func (o osFS) Create(name string) (writeFile, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, o.fileMode)
	if err != nil {
		return nil, err
	}
	if o.chmod.FileMode != 0 {
		if err := f.Chmod(o.fileMode); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(name))
		}
	}
	return f, nil
}

func (osFS) Open(name string) (readFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Link(name, second string) error {
	err := os.Link(name, second)
	if os.IsExist(err) {
		// Over NFS the answer to a link that was made can be lost, and the
		// request sent again meets its own first success.
		a, aErr := os.Lstat(name)
		b, bErr := os.Lstat(second)
		if aErr == nil && bErr == nil && os.SameFile(a, b) {
			return nil
		}
	}
	return err
}

func (o osFS) Mkdir(name string) error {
	err := os.Mkdir(name, o.dirMode)
	if err == nil && o.chmod.DirMode != 0 {
		err = os.Chmod(name, o.dirMode)
	}
	return err
}

func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
