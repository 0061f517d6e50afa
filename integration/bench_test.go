//go:build unix

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// memoryLimit is the resident memory that a backup or restore may take, whatever
// the size of the cluster.
const memoryLimit = 256 << 20

// benchOnly skips what `make bench` alone runs.
func benchOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("WALDEN_BENCH") == "" {
		t.Skip("a benchmark: make bench runs it")
	}
}

// measured runs walden and returns its time and its peak of resident memory.
func (s *site) measured(args ...string) (time.Duration, int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	cmd := s.command(ctx, args...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		s.t.Fatalf("walden %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		s.t.Fatal("no resource usage on this system")
	}
	peak := usage.Maxrss
	if runtime.GOOS == "linux" {
		peak <<= 10 // KiB there, bytes on macOS
	}
	return took, peak
}

// TestBenchMemory backs up and restores a cluster with a table of 4 GiB.
func TestBenchMemory(t *testing.T) {
	benchOnly(t)
	for _, st := range []store{fileStore, s3Store} {
		t.Run(string(st), func(t *testing.T) {
			s := newSite(t, siteOptions{major: pgtest.Newest(), store: st, segmentMB: 64, settings: map[string]string{"max_wal_size": "4GB", "autovacuum": "off"}})
			s.big(4 << 30)
			s.archiveAll()
			took, peak := s.measured("backup", "--checkpoint", "fast")
			report(t, "backup", took, peak)
			dir := filepath.Join(s.dir, "restored")
			took, peak = s.measured("restore", "--immediate", "--to", dir, "--action", "promote")
			report(t, "restore", took, peak)
			s.verifyBackup(dir)
		})
	}
}

func report(t *testing.T, what string, took time.Duration, peak int64) {
	t.Helper()
	t.Logf("%-8s of 4 GiB: %.1f s, peak of resident memory %d MiB", what, took.Seconds(), peak>>20)
	if peak > memoryLimit {
		t.Errorf("%s took %d MiB, the limit is %d", what, peak>>20, memoryLimit>>20)
	}
}

// big makes a table of at least that many bytes, half of it hard to compress.
func (s *site) big(bytes int64) {
	s.t.Helper()
	s.pg.Exec("CREATE UNLOGGED TABLE seed AS SELECT i, repeat(md5(i::text), 20) || repeat('x', 360) AS filler FROM generate_series(1, 100000) i")
	s.pg.Exec("CREATE TABLE big (i int, filler text)")
	for {
		s.pg.Exec("INSERT INTO big SELECT i, filler FROM seed")
		var n int64
		if _, err := fmt.Sscan(s.pg.QueryValue("SELECT pg_table_size('big')"), &n); err != nil {
			s.t.Fatal(err)
		}
		if n >= bytes {
			s.pg.Exec("DROP TABLE seed")
			return
		}
	}
}

// TestBenchStartup compares what archive_command costs with pgbackrest's
// bare start, in turn on one machine: at most twice as much is wanted.
func TestBenchStartup(t *testing.T) {
	benchOnly(t)
	rival, err := exec.LookPath("pgbackrest")
	if err != nil {
		t.Skip("pgbackrest is not installed: there is nothing to compare with")
	}
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16})
	s.pg.Exec("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 10000000))")
	name := s.pg.SwitchWAL()
	s.pg.WaitArchived(name)
	segment := filepath.Join(s.pg.DataDir(), "pg_wal", name)
	const rounds = 30
	var version, push, other []time.Duration
	once := func(cmd *exec.Cmd) time.Duration {
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
		return time.Since(began)
	}
	for range rounds {
		version = append(version, once(s.command(t.Context(), "version")))
		push = append(push, once(s.command(t.Context(), "wal-push", segment)))
		other = append(other, once(pgtest.Command(t.Context(), rival, "version")))
	}
	base := median(other)
	for what, d := range map[string]time.Duration{"walden version": median(version), "walden wal-push of an archived 16 MiB segment": median(push)} {
		t.Logf("%s: %v, %.2f times pgbackrest version (%v)", what, d, float64(d)/float64(base), base)
		if d > 2*base {
			t.Errorf("%s takes more than twice what pgbackrest version takes", what)
		}
	}
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Clone(d)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
