package file

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

func (osFS) RenameNew(name, to string) error {
	err := ignoreEINTR(func() error { return unix.RenamexNp(name, to, unix.RENAME_EXCL) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		return fmt.Errorf("renamex_np %s: %w: %w", to, errors.ErrUnsupported, err)
	}
	return &fs.PathError{Op: "renamex_np", Path: to, Err: err}
}
