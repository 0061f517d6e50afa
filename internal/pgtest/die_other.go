//go:build unix && !linux

package pgtest

import "syscall"

// dieWithParent does nothing: only Linux signals the children of a dead process.
func dieWithParent(*syscall.SysProcAttr) {}
