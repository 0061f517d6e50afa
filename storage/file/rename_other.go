//go:build unix && !linux && !darwin

package file

import "errors"

func (osFS) RenameNew(string, string) error { return errors.ErrUnsupported }
