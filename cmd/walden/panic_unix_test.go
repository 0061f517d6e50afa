//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// panics is a stream on which nothing can be written.
type panics struct{}

func (panics) Write([]byte) (int, error) { panic("a defect") }

// TestHooksAbortOnAPanic: a Go panic exits 2, which PostgreSQL reads as "no
// such file"; an abort stops recovery.
func TestHooksAbortOnAPanic(t *testing.T) {
	const child = "WALDEN_TEST_PANICKING_HOOK"
	args := map[string][]string{
		"wal-get":  {"wal-get", "--config", "/nonexistent.yaml", "000000010000000000000001", "x"},
		"wal-push": {"wal-push", "--config", "/nonexistent.yaml", "000000010000000000000001"},
	}
	if hook := os.Getenv(child); hook != "" {
		run(t.Context(), args[hook], nil, panics{}, panics{})
		return
	}
	for hook := range args {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHooksAbortOnAPanic$")
		cmd.Env = append(os.Environ(), child+"="+hook)
		cmd.Dir = t.TempDir() // of a core dump, too
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) {
			t.Fatalf("%s: %v", hook, err)
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGABRT {
			t.Errorf("%s ends with %v", hook, exit)
		}
	}
}
