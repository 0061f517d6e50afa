//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func (osFS) Unlink(name string) error {
	if err := ignoreEINTR(func() error { return syscall.Unlink(name) }); err != nil {
		return &fs.PathError{Op: "unlink", Path: name, Err: err}
	}
	return nil
}

func (osFS) Rmdir(name string) error {
	if err := ignoreEINTR(func() error { return syscall.Rmdir(name) }); err != nil {
		return &fs.PathError{Op: "rmdir", Path: name, Err: err}
	}
	return nil
}

// Hold keeps the directory open: while it is, its inode is not given to another.
func (osFS) Hold(name string) (heldDir, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return openDir{f, fi}, nil
}

type openDir struct {
	*os.File
	fi os.FileInfo
}

func (d openDir) Is(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && os.SameFile(fi, d.fi)
}

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	// Some network file systems know no fsync of directories: there the
	// server answers for what it has acknowledged.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

func (osFS) Links(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // Nlink is narrower on other systems
	}
	return 1
}

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// checkPath refuses keys that cannot be file names; here there are none.
func checkPath(string) error { return nil }

// isAbsent: no file can be there, because a directory of its path is a file,
// or its name is longer than names can be.
func isAbsent(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

func isNoLinks(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

func isTemporary(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ESTALE) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ETIMEDOUT)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isReadOnly(err error) bool    { return errors.Is(err, syscall.EROFS) }
func isOtherDevice(err error) bool { return errors.Is(err, syscall.EXDEV) }
