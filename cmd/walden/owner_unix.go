//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// fileOwner is the number of the user who owns a file.
func fileOwner(info fs.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}
