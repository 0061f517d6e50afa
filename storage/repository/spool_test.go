package repository

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
)

// TestSpoolError: that an object finds no room on this machine is told apart from a
// fault of the store.
func TestSpoolError(t *testing.T) {
	r, _, err := Init(t.Context(), mem.New(), Options{TempDir: filepath.Join(t.TempDir(), "missing"), Memory: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64<<10)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	_, err = r.PutReaderAt(t.Context(), "object", bytes.NewReader(raw), int64(len(raw)), ObjectOptions{Kind: frame.KindFragment})
	var e *SpoolError
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) || e.Hint() == "" {
		t.Errorf("%v", err)
	}
}
