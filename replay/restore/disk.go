package restore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
)

// disk is everything that a restore changes in the file system. Tests make its
// steps fail one by one. Paths are those of the system.
type disk interface {
	Mkdir(path string, mode fs.FileMode) error
	// Create makes a file that must not exist; Open opens one for writing.
	Create(path string, mode fs.FileMode) (handle, error)
	Open(path string) (handle, error)
	Symlink(target, path string) error
	Chmod(path string, mode fs.FileMode) error
	Chown(path string, uid, gid int) error // of a link itself
	Chtimes(path string, t time.Time) error
	Rename(from, to string) error
	// Remove removes a file, a link or an empty directory, RemoveAll a tree;
	// what is absent is no error.
	Remove(path string) error
	RemoveAll(path string) error
	// SyncDir makes a directory's entries durable.
	SyncDir(path string) error
}

// handle is a file that is being written.
type handle interface {
	io.WriterAt
	io.Closer
	Chmod(mode fs.FileMode) error
	Chown(uid, gid int) error
	// Truncate sets the length; what it adds reads as zeros and takes no room
	// where the file system knows holes.
	Truncate(size int64) error
	// StartSync lets the system begin to write what it has buffered, where that
	// can be asked for. Sync waits for it, and makes the file durable.
	StartSync()
	Sync() error
}

// osFile is a handle on the real disk.
type osFile struct{ *os.File }

func (f osFile) StartSync() { startWriteback(f.File) }

// osDisk is the real one.
type osDisk struct{}

func (osDisk) Mkdir(path string, mode fs.FileMode) error { return os.Mkdir(path, mode) }

func (osDisk) Create(path string, mode fs.FileMode) (handle, error) {
	return openFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

func (osDisk) Open(path string) (handle, error) { return openFile(path, os.O_WRONLY, 0) }

func openFile(path string, flags int, mode fs.FileMode) (handle, error) {
	f, err := os.OpenFile(path, flags, mode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Symlink(target, path string) error { return os.Symlink(target, path) }

func (osDisk) Chmod(path string, mode fs.FileMode) error { return os.Chmod(path, mode) }

func (osDisk) Chown(path string, uid, gid int) error { return os.Lchown(path, uid, gid) }

func (osDisk) Chtimes(path string, t time.Time) error { return os.Chtimes(path, t, t) }

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (osDisk) RemoveAll(path string) error { return os.RemoveAll(path) }

func (osDisk) SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	// Some file systems (of networks, mostly) do not know this and say so.
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
