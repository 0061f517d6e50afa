//go:build unix

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// background is a walden that runs until it is told to stop.
type background struct {
	s        *site
	cmd      *exec.Cmd
	out, log string // files
}

func (s *site) background(args ...string) *background {
	s.t.Helper()
	dir := s.t.TempDir()
	b := &background{s: s, cmd: s.command(s.t.Context(), args...), out: filepath.Join(dir, "out"), log: filepath.Join(dir, "log")}
	out, err := os.Create(b.out)
	check(s.t, err)
	defer out.Close()
	log, err := os.Create(b.log)
	check(s.t, err)
	defer log.Close()
	b.cmd.Stdout, b.cmd.Stderr = out, log
	check(s.t, b.cmd.Start())
	return b
}

// logged waits until the log holds the words so many times.
func (b *background) logged(words string, times int) {
	b.s.t.Helper()
	b.s.pg.WaitFor(words+" in the log", func() bool { return strings.Count(b.read(b.log), words) >= times })
}

func (b *background) read(path string) string {
	b.s.t.Helper()
	text, err := os.ReadFile(path)
	check(b.s.t, err)
	return string(text)
}

// stop sends SIGTERM, and returns standard output; it must end soon, and with that code.
func (b *background) stop(code int) string {
	b.s.t.Helper()
	began := time.Now()
	check(b.s.t, b.cmd.Process.Signal(syscall.SIGTERM))
	_ = b.cmd.Wait() // the exit code is looked at
	if got := b.cmd.ProcessState.ExitCode(); got != code || time.Since(began) > 5*time.Second {
		b.s.t.Errorf("SIGTERM: exit code %d, want %d, after %s\n%s", got, code, time.Since(began), b.read(b.log))
	}
	return b.read(b.out)
}

// TestBackupEvery: backups are taken on the interval, through an outage of the
// server, and none more than that.
func TestBackupEvery(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	b := s.background("backup", "--every", "3s", "--checkpoint", "fast", "--json")
	const due, failed = "the next backup is due", "it is not known whether a backup is due"
	b.logged(due, 2)
	s.pg.Stop(pgtest.Fast)
	b.logged(failed, 2)
	s.pg.Start()
	n := strings.Count(b.read(b.log), due)
	b.logged(due, n+1)
	var d struct {
		Cluster  string
		Seconds  float64 `json:"every_seconds"`
		Backups  []string
		Failures int
		Overdue  *string
	}
	out := b.stop(0)
	if err := json.Unmarshal([]byte(out), &d); err != nil || d.Cluster != "main" || d.Seconds != 3 || len(d.Backups) < 3 || d.Failures < 2 || d.Overdue != nil {
		t.Errorf("%v: %s", err, out)
	}
	var l struct {
		Backups []struct {
			ID    string
			Start time.Time `json:"start_time"`
			Stop  time.Time `json:"stop_time"`
		}
	}
	s.run("list", "--json").ok(t).json(t, &l)
	for i, backup := range l.Backups {
		if !slices.Contains(d.Backups, backup.ID) {
			t.Errorf("backup %s is listed, but was not told of: %v", backup.ID, d.Backups)
		}
		// PostgreSQL tells these times in whole seconds.
		if i > 0 && backup.Start.Sub(l.Backups[i-1].Stop) < 2*time.Second {
			t.Errorf("backup %s began at %s, the one before ended at %s", backup.ID, backup.Start, l.Backups[i-1].Stop)
		}
	}

	b = s.background("backup", "--every", "1h")
	b.logged(due, 1)
	if out := b.stop(0); out != "" {
		t.Errorf("a backup was taken although the newest one is young:\n%s", out)
	}
	s.pg.Stop(pgtest.Fast)
	b = s.background("backup", "--every", "1s")
	b.logged(failed, 1)
	b.stop(1)
	if log := b.read(b.log); !strings.Contains(log, "stopped while a backup was overdue") || !strings.Contains(log, "hint=") {
		t.Errorf("%s", log)
	}
}
