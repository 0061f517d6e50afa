package restore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/crc32c"
)

// piece is a run of a file's bytes that is written in one go.
type piece struct {
	at, length int64
	crc        uint32
}

// file is one file that is being restored.
type file struct {
	entry basebackup.FileEntry
	path  string
	// hollow: it gets its size and zeros, not its content.
	hollow bool

	mu      sync.Mutex
	pieces  []piece
	pending int    // pieces that are not written yet
	handle  handle // open; nil: closed
	created bool
	users   int // of handle
}

func (f *file) addPiece(at, length int64) int {
	f.pieces = append(f.pieces, piece{at: at, length: length})
	return len(f.pieces) - 1
}

// open makes the file usable for one writer.
func (f *file) open(d disk) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle == nil {
		var h handle
		var err error
		if f.created {
			h, err = d.Open(f.path)
		} else {
			h, err = d.Create(f.path, 0o600)
		}
		if errors.Is(err, fs.ErrExist) {
			return &FileError{Path: f.entry.Path, Reason: "the backup lists it twice, or something else makes files in " + f.path}
		}
		if err != nil {
			return err
		}
		f.handle, f.created = h, true
	}
	f.users++
	return nil
}

// written notes that a piece has been written by the one who opened the file.
// complete tells that it was the last one: the caller must then finish the file,
// which counts as in use until that is done.
func (f *file) written(index int, crc uint32) (complete, idle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pieces[index].crc = crc
	f.pending--
	if f.pending == 0 {
		return true, false
	}
	f.users--
	return false, f.users == 0
}

// park closes the file for the time being, unless it is in use. What was
// written is made durable first: a later fsync through another handle might not
// hear of an error.
func (f *file) park() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users > 0 || f.handle == nil {
		return nil
	}
	// A file that waits to be settled may be met here too: it is the same.
	err := errors.Join(f.handle.Sync(), f.handle.Close())
	f.handle = nil
	return err
}

// abandon closes the file after a failure.
func (f *file) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle != nil {
		_ = f.handle.Close() // the failure is told already
		f.handle = nil
	}
}

// finish verifies a file whose last piece has been written, or makes a hollow one as
// long as it should be, and gives it its mode, owner and time. It stays open until settle has made it durable: an fsync
// through another handle might not hear of an earlier error.
func (f *file) finish(d disk, own *owner, keys func([]basebackup.Extent) []string) error {
	defer func() {
		f.mu.Lock()
		f.users--
		f.mu.Unlock()
	}()
	if f.hollow {
		if err := f.handle.Truncate(f.entry.Size); err != nil {
			return err
		}
	} else if err := f.verify(keys); err != nil {
		return err
	}
	h := f.handle // ours: we have the file open
	mode := fs.FileMode(f.entry.Mode & 0o777)
	if mode == 0 {
		mode = 0o600
	}
	err := h.Chmod(mode | 0o600)
	if err == nil && own != nil {
		err = h.Chown(own.uid, own.gid)
	}
	if err == nil && !f.entry.ModTime.IsZero() {
		err = d.Chtimes(f.path, f.entry.ModTime)
	}
	h.StartSync()
	return err
}

// settle makes a finished file durable and closes it.
func (f *file) settle() error { return f.park() }

// verify combines the checksums of the pieces.
func (f *file) verify(keys func([]basebackup.Extent) []string) error {
	slices.SortFunc(f.pieces, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	crc, size := uint32(0), int64(0)
	for _, p := range f.pieces {
		crc = crc32c.Combine(crc, p.crc, p.length)
		size += p.length
	}
	if size != f.entry.Size || crc != f.entry.CRC {
		return &FileError{Path: f.entry.Path, Packs: keys(f.entry.Extents),
			Reason: fmt.Sprintf("its %d bytes have the CRC-32C %08x; it should be %d bytes with %08x", size, crc, f.entry.Size, f.entry.CRC)}
	}
	return nil
}
