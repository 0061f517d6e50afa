package file

import (
	"context"
	"errors"
	"io/fs"

	"github.com/walden-pg/walden/storage"
)

var (
	errNested = errors.New("the key is a directory of another object's key, or the other way round")
	errNoLink = errors.New("the file system offers no way to create a file under a name that must be new")
)

// fail makes err, which may be nil, a *storage.Error with the advice that fits.
func (s *Store) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var e *storage.Error
	if errors.As(err, &e) {
		return err
	}
	return &storage.Error{Op: op, Key: key, Err: err, Temporary: temporary(err), Hint: s.hint(err)}
}

func temporary(err error) bool {
	var u unsynced
	return errors.As(err, &u) || isTemporary(err)
}

// unsynced is a failure after the object became, or may have become, visible: it
// may be there for good, and it may not. Trying again decides.
type unsynced struct{ error }

func (u unsynced) Unwrap() error { return u.error }

// isRefused reports whether the system has said no, so that nothing was done.
func isRefused(err error) bool {
	return errors.Is(err, errNoLink) || errors.Is(err, fs.ErrPermission) || isFull(err) || isReadOnly(err) || isOtherDevice(err)
}

func (s *Store) hint(err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, storage.ErrExist), errors.Is(err, storage.ErrNotExist):
		return ""
	case errors.Is(err, errNoRoot):
		return "is the disk mounted, and is the path right? a new repository is made by: walden init"
	case errors.Is(err, errNoLink):
		return "put the repository on a file system with hard links (ext4, xfs, zfs, btrfs, apfs, ntfs, nfs)"
	case isReadOnly(err):
		return "the file system of " + s.root + " is mounted read-only: look for disk errors in the system's log, then remount it"
	case isFull(err):
		return "the file system or quota of " + s.root + " is full: free space, make it larger, or shorten the retention"
	case isOtherDevice(err):
		return "everything below " + s.root + " must lie on one file system: move what is mounted or linked into it"
	case errors.Is(err, fs.ErrPermission):
		return "the user that runs walden must own " + s.root + " and everything in it, and be allowed to enter the directories above it"
	}
	return ""
}
