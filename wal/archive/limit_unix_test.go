//go:build unix

package archive_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal/archive"
)

// TestFetchToAFullDisk stands a limit on the size of files in for a full disk:
// both make a write fail in the midst of the file. The limit is on a process of
// its own: that of the test writes files on the side, a log of what it opens.
func TestFetchToAFullDisk(t *testing.T) {
	const child = "WALDEN_TEST_FULL_DISK"
	if os.Getenv(child) != "" {
		fetchWithinLimits(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFetchToAFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fetchWithinLimits(t *testing.T) {
	a := newArchive(t, mem.New())
	b := newWAL(1)
	seg := pushAll(t, a, b)[0]
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []uint64{0, 1, 300_000, uint64(size) - 1} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		_, err := fetch(t, a, seg.Name())
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		var delivery *archive.DeliveryError
		if !errors.As(err, &delivery) || !errors.Is(err, syscall.EFBIG) {
			t.Errorf("with %d bytes of room: %v", limit, err)
		}
	}
	if _, err := fetch(t, a, seg.Name()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
