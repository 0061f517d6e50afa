package file

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

func (osFS) RenameNew(name, to string) error {
	err := ignoreEINTR(func() error {
		return unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("renameat2 %s: %w: %w", to, errors.ErrUnsupported, err)
	}
	return &fs.PathError{Op: "renameat2", Path: to, Err: err}
}
