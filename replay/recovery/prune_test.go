//go:build unix

package recovery

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/control"
)

// Replayed segments go where the server keeps them: only while it has unresolved
// references to pages, and never those that it is about to read.
func TestPruneWAL(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pg_wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	controlFile(t, dir, 0)
	names := []string{"00000002.history", "000000010000000000000003.partial", "RECOVERYXLOG"}
	for n := range 10 {
		names = append(names, fmt.Sprintf("0000000100000000000000%02X", n))
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, "pg_wal", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, "pg_wal"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	w := &watch{setup: &setup{directory: dir}}
	w.control.SegmentSize = 1 << 20
	w.seen.position = wal.LSN(7<<20 + 100)
	step := func(want int, what string) {
		t.Helper()
		w.lastPrune = time.Time{}
		if w.pruneWAL(); left() != want {
			t.Fatalf("%s: %d files are left, want %d", what, left(), want)
		}
	}
	step(13, "not asked for")
	w.options.Whole = func(string) bool { return true }
	step(13, "the server does it")
	w.seen.takeInvalid("page 1 of relation base/5/6 is uninitialized")
	w.seen.redoDone = true
	step(13, "recovery is over")
	w.seen.redoDone = false
	step(8, "segments 0 to 4 are replayed")
	step(8, "again")
	w.seen.position += 2 << 20
	controlFile(t, dir, 1)
	step(8, "transactions may be prepared")
	controlFile(t, dir, 0)
	step(6, "and may not")
}

// controlFile writes the pg_control of a PostgreSQL 17 cluster with that value of
// max_prepared_transactions.
func controlFile(t *testing.T, dir string, prepared uint32) {
	t.Helper()
	b := make([]byte, 8192)
	for at, v := range map[int]uint32{0: 7345, 8: 1700, 12: 202406281, 16: 6, 172 + 20: prepared, 216: 8192, 220: 131072, 224: 8192, 228: 1 << 20} {
		binary.LittleEndian.PutUint32(b[at:], v)
	}
	binary.LittleEndian.PutUint32(b[288:], crc32c.Checksum(b[:288]))
	if err := os.MkdirAll(filepath.Join(dir, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "global", "pg_control"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := control.ReadDirectory(dir); err != nil || c.Settings.MaxPreparedXacts != int32(prepared) {
		t.Fatalf("%+v, %v", c.Settings, err)
	}
}
