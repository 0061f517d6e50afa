//go:build unix

package integration

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestDrillKilled kills drills at random moments: the next one clears up and works. A drill
// that is told to end clears up itself, and says in its record that it was interrupted.
func TestDrillKilled(t *testing.T) {
	d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
	d.backup()
	d.pg.Exec("INSERT INTO orders VALUES (10000, 'later')")
	d.archiveAll()
	whole := time.Duration(d.proven("--latest").Seconds * float64(time.Second))
	n, random := kills(t)
	for range n {
		after := time.Duration(random.Int64N(int64(whole)))
		was := d.killed(after, d.arguments()...)
		left, err := os.ReadDir(d.scratch)
		check(t, err)
		r := d.proven()
		t.Logf("killed after %s (%t), %d directories left: %q", after, was, len(left), r.Warnings)
		if told := strings.Contains(strings.Join(r.Warnings, " "), "removed what a drill that was killed had left"); told != (len(left) > 0) {
			t.Errorf("%d directories were left, and it tells %q", len(left), r.Warnings)
		}
	}
	for _, sign := range []string{".walden-restore", "postmaster.pid"} {
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			d.interrupted(s, filepath.Join(d.scratch, "*", "data", sign))
			d.clean()
		}
	}
	d.proven()
}

// interrupted starts a drill, waits until a file is there whose name has a pattern, and sends the signal.
func (d *drillSite) interrupted(s syscall.Signal, sign string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), commandTimeout)
	defer cancel()
	cmd := d.command(ctx, d.arguments()...)
	var said bytes.Buffer
	cmd.Stderr = &said
	check(d.t, cmd.Start())
	for {
		if list, _ := filepath.Glob(sign); len(list) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	check(d.t, cmd.Process.Signal(s))
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		d.t.Fatalf("after %s: exit code %d: %s", s, code, said.String())
	}
}

// TestDrillUnderLoad makes a few drills to random moments while the source is under load.
func TestDrillUnderLoad(t *testing.T) {
	_, random := kills(t)
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) { drillsUnderLoad(t, random, major, 2) })
	}
}

// TestSoakDrill makes 20 drills to random moments in a run, on each major, while the
// source is under load, some of them after one that was killed.
func TestSoakDrill(t *testing.T) {
	until := time.Now().Add(soakFor(t))
	_, random := kills(t)
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		for _, major := range pgtest.Majors() {
			t.Run(fmt.Sprintf("%d on %d", round, major), func(t *testing.T) { drillsUnderLoad(t, random, major, 20) })
		}
	}
}

func drillsUnderLoad(t *testing.T, random *rand.Rand, major, count int) {
	d := newDrillSite(t, siteOptions{major: major})
	d.pg.PgbenchInit(1)
	d.backup()
	load := d.pg.PgbenchStart("-c", "2", "-T", "3600", "-R", "100")
	time.Sleep(2 * time.Second)
	d.archiveAll()
	for i := range count {
		if i == count/2 {
			d.backup()
		}
		if count > 5 && random.IntN(4) == 0 {
			d.killed(time.Duration(random.IntN(4000))*time.Millisecond, d.arguments()...)
		}
		r := d.proven("--pick", []string{"random-time", "random-xid"}[i%2], "--database", "postgres",
			"--assert", "SELECT count(*) = 100000 FROM pgbench_accounts",
			"--assert", "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)")
		t.Logf("%d: %s in %.1f s", i+1, r.Target, r.Seconds)
	}
	load.Abandon()
	if n := d.pg.QueryValue("SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s replication slots are left", n)
	}
}
