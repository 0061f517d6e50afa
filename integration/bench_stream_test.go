//go:build unix

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// streamMemory is the resident memory that a receiver may take at full speed.
const streamMemory = 64 << 20

// backlogBytes is how much WAL a receiver has to catch up with.
const backlogBytes = 2 << 30

// resident is the peak of a process's resident memory.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			check(t, err)
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// receivewal starts pg_receivewal.
func (s *site) receivewal(args ...string) *exec.Cmd {
	s.t.Helper()
	dir := filepath.Join(s.dir, "receivewal")
	pgtest.MkdirAll(s.t, dir)
	cmd := s.pg.Command(context.Background(), "pg_receivewal", append([]string{"-D", dir, "-d", s.pg.Conninfo("") + " application_name=walden", "--no-loop"}, args...)...)
	check(s.t, cmd.Start())
	return cmd
}

func (s *site) dropSlots() {
	s.pg.WaitFor("slots to be let go", func() bool {
		return s.pg.QueryValue("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
	})
	s.pg.Exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
}

// catchUp measures how long a receiver takes until all is flushed.
func (s *site) catchUp(begin func() *exec.Cmd, all func() bool) (time.Duration, int64) {
	s.t.Helper()
	began := time.Now()
	cmd := begin()
	for !all() {
		time.Sleep(20 * time.Millisecond)
		if time.Since(began) > 5*time.Minute {
			s.t.Fatal("it does not catch up")
		}
	}
	took := time.Since(began)
	peak := resident(s.t, cmd.Process.Pid)
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	return took, peak
}

// TestBenchStreamBacklog receives the same backlog with walden stream and with
// pg_receivewal, in turn.
func TestBenchStreamBacklog(t *testing.T) {
	benchOnly(t)
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16, noArchiving: true, settings: map[string]string{
		"wal_keep_size": "8GB", "max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h"}})
	const slot = "SELECT pg_create_physical_replication_slot($1, true)"
	s.pg.Exec(slot, "hold") // the backlog begins here
	held := s.pg.QueryValue("SELECT restart_lsn FROM pg_replication_slots")
	s.pg.PgbenchInit(20)
	for {
		s.pg.Pgbench("-c", "4", "-T", "10", "-n")
		n, err := strconv.ParseInt(s.pg.QueryValue("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)::bigint", held), 10, 64)
		check(t, err)
		if n >= backlogBytes {
			break
		}
		s.pg.PgbenchInit(40)
	}
	last := s.pg.SwitchWAL()
	end := s.pg.QueryValue("SELECT pg_current_wal_lsn()")
	backlog := s.pg.QueryValue("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)::bigint", held)
	take := func(name string) { // a slot that begins where the backlog does
		s.pg.Exec("SELECT pg_copy_physical_replication_slot('hold', $1)", name)
	}
	drop := func(name string) {
		s.pg.WaitFor("the slot to be let go", func() bool {
			return s.pg.QueryValue("SELECT active FROM pg_replication_slots WHERE slot_name = $1", name) == "f"
		})
		s.pg.Exec("SELECT pg_drop_replication_slot($1)", name)
	}
	var rival, none, lz4 []time.Duration
	repo := s.repo
	walden := func(compression string, round int) time.Duration {
		s.env = []string{"WALDEN_REPOSITORY_URL=" + repo + fmt.Sprintf("-%s-%d", compression, round), "WALDEN_REPOSITORY_COMPRESSION=" + compression}
		s.run("init", "--json").ok(t)
		take("walden")
		took, peak := s.catchUp(func() *exec.Cmd {
			cmd := s.command(context.Background(), "stream")
			cmd.Stderr = os.Stderr
			check(t, cmd.Start())
			return cmd
		}, func() bool {
			return s.pg.QueryValue("SELECT coalesce(bool_or(flush_lsn >= $1::pg_lsn), false) FROM pg_stat_replication", end) == "t"
		})
		drop("walden")
		t.Logf("walden stream, %s: %s, peak of resident memory %d MiB", compression, took, peak>>20)
		if peak > streamMemory {
			t.Errorf("resident memory of %d MiB", peak>>20)
		}
		check(t, os.RemoveAll(s.objects+fmt.Sprintf("-%s-%d", compression, round)))
		return took
	}
	for round := range 3 {
		take("rival")
		// It says what is flushed seldom, but gives a segment its name then.
		took, _ := s.catchUp(func() *exec.Cmd { return s.receivewal("--slot", "rival") }, func() bool {
			_, err := os.Stat(filepath.Join(s.dir, "receivewal", last))
			return err == nil
		})
		drop("rival")
		check(t, os.RemoveAll(filepath.Join(s.dir, "receivewal")))
		rival = append(rival, took)
		none = append(none, walden("none", round))
		lz4 = append(lz4, walden("lz4", round))
	}
	base := median(rival)
	t.Logf("%s bytes of WAL: pg_receivewal %v; walden stream with compression none %v (%.2f times), lz4 %v (%.2f times)", backlog,
		base, median(none), float64(median(none))/float64(base), median(lz4), float64(median(lz4))/float64(base))
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// commits measures commits a second with so many clients.
func (s *site) commits(clients int) float64 {
	s.t.Helper()
	out := s.pg.Pgbench("-c", strconv.Itoa(clients), "-j", "2", "-T", "8", "-n", "-N")
	m := tps.FindStringSubmatch(out)
	if m == nil {
		s.t.Fatalf("no tps in:\n%s", out)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	check(s.t, err)
	return v
}

func (s *site) synchronous(names string) {
	s.pg.Exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	s.pg.Reload()
	s.pg.WaitFor("the setting", func() bool { return s.pg.QueryValue("SHOW synchronous_standby_names") == names })
	time.Sleep(2 * time.Second) // the receiver looks at it once a second
}

// TestBenchStreamSynchronous compares commits that wait for a receiver.
func TestBenchStreamSynchronous(t *testing.T) {
	benchOnly(t)
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16, noArchiving: true, settings: map[string]string{
		"max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h", "max_connections": "120"}})
	s.pg.PgbenchInit(10)
	with := func(begin func() *exec.Cmd, clients int) float64 {
		cmd := begin()
		s.pg.WaitFor("the receiver", func() bool {
			return s.pg.QueryValue("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden' AND state = 'streaming'") == "1"
		})
		s.synchronous("walden")
		v := s.commits(clients)
		s.synchronous("")
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		return v
	}
	walden := func() *exec.Cmd {
		cmd := s.command(context.Background(), "stream")
		check(t, cmd.Start())
		return cmd
	}
	for _, clients := range []int{1, 16, 64} {
		var ratios []float64
		for range 3 {
			a := with(walden, clients)
			b := with(func() *exec.Cmd { return s.receivewal("--synchronous") }, clients)
			ratios = append(ratios, a/b)
			t.Logf("%d clients: walden stream %.0f commits a second, pg_receivewal --synchronous %.0f, ratio %.2f", clients, a, b, a/b)
		}
		slices.Sort(ratios)
		t.Logf("%d clients: median ratio %.2f", clients, ratios[len(ratios)/2])
	}
	s.dropSlots()
}

// TestBenchStreamS3 reports commits a second against S3 with 20 ms a request.
func TestBenchStreamS3(t *testing.T) {
	benchOnly(t)
	s := newSite(t, siteOptions{major: pgtest.Newest(), store: s3Store, segmentMB: 16, noArchiving: true, settings: map[string]string{
		"max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h", "max_connections": "120"}})
	s.pg.PgbenchInit(10)
	proxy := newFaultProxy(t, s.s3.Endpoint)
	proxy.latency.Store(int64(20 * time.Millisecond))
	s.env = []string{"WALDEN_REPOSITORY_S3_ENDPOINT=" + proxy.url}
	p := s.stream()
	p.attached(s.pg)
	s.synchronous("walden")
	for _, clients := range []int{1, 16, 64} {
		before := proxy.requests.Load()
		v := s.commits(clients)
		t.Logf("%d clients, 20 ms a request: %.0f commits a second, %.2f requests for each", clients, v, float64(proxy.requests.Load()-before)/(v*8))
	}
	s.synchronous("")
	p.stop(0)
}

// TestBenchStreamShutdown compares fast shutdowns with a receiver attached.
func TestBenchStreamShutdown(t *testing.T) {
	benchOnly(t)
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16, noArchiving: true})
	measure := func(begin func() *exec.Cmd) time.Duration {
		cmd := begin()
		s.pg.WaitFor("the receiver", func() bool {
			return s.pg.QueryValue("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden' AND state = 'streaming'") == "1"
		})
		s.pg.Exec("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000))")
		began := time.Now()
		s.pg.Stop(pgtest.Fast)
		took := time.Since(began)
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		s.pg.Start()
		return took
	}
	var ours, theirs []time.Duration
	for range 5 {
		ours = append(ours, measure(func() *exec.Cmd {
			cmd := s.command(context.Background(), "stream")
			check(t, cmd.Start())
			return cmd
		}))
		theirs = append(theirs, measure(func() *exec.Cmd { return s.receivewal() }))
	}
	t.Logf("fast shutdown with walden stream attached %v, with pg_receivewal %v (medians of %d)", median(ours), median(theirs), len(ours))
}
