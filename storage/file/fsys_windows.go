package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

func (osFS) Unlink(name string) error {
	p, err := windows.UTF16PtrFromString(name)
	if err == nil {
		err = windows.DeleteFile(p)
	}
	if err != nil {
		return &fs.PathError{Op: "DeleteFile", Path: name, Err: err}
	}
	return nil
}

func (osFS) Rmdir(name string) error {
	p, err := windows.UTF16PtrFromString(name)
	if err == nil {
		err = windows.RemoveDirectory(p)
	}
	if err != nil {
		return &fs.PathError{Op: "RemoveDirectory", Path: name, Err: err}
	}
	return nil
}

// SyncDir does nothing: Windows has no fsync of directories, NTFS keeps a
// journal of their changes.
func (osFS) SyncDir(string) error { return nil }

// Hold is not needed where SyncDir costs nothing, and would keep directories from
// being removed.
func (osFS) Hold(string) (heldDir, error) { return nil, errors.ErrUnsupported }

func (osFS) RenameNew(name, to string) error {
	from, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	dest, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	// Without MOVEFILE_REPLACE_EXISTING the name must be new.
	if err := windows.MoveFileEx(from, dest, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &fs.PathError{Op: "MoveFileEx", Path: to, Err: err}
	}
	return nil
}

func (osFS) Links(fs.FileInfo) uint64 { return 1 }

// checkPath refuses keys that Windows takes for something else.
func checkPath(key string) error {
	for part := range strings.SplitSeq(key, "/") {
		if strings.HasSuffix(part, ".") || !filepath.IsLocal(part) {
			return fmt.Errorf("illegal key %q: %q cannot be a file name on Windows", key, part)
		}
	}
	return nil
}

func isAbsent(err error) bool {
	return errors.Is(err, syscall.ERROR_PATH_NOT_FOUND) || errors.Is(err, windows.ERROR_FILENAME_EXCED_RANGE) ||
		errors.Is(err, windows.ERROR_DIRECTORY)
}

func isNotDir(err error) bool { return errors.Is(err, windows.ERROR_DIRECTORY) }

func isNoLinks(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_FUNCTION) || errors.Is(err, windows.ERROR_NOT_SUPPORTED)
}

func isTemporary(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) ||
		errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES)
}

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isReadOnly(err error) bool    { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
func isOtherDevice(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }
