//go:build unix

package integration

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// killed starts walden and kills it with SIGKILL after a while; it reports
// whether it was still running.
func (s *site) killed(after time.Duration, args ...string) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	cmd := s.command(ctx, args...)
	_ = cmd.Run() // SIGKILL is the point
	return ctx.Err() != nil
}

// kills is how often each command is killed: seldom enough for every run of
// the tests, often in a soak.
func kills(t *testing.T) (n int, random *rand.Rand) {
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("WALDEN_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("WALDEN_SEED=%d", seed)
	return 6, rand.New(rand.NewPCG(seed, 1))
}

// TestKillPush kills wal-push at random moments: the next one succeeds, and what is
// delivered afterwards is what was pushed.
func TestKillPush(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16, settings: map[string]string{"archive_command": "/bin/false"}})
	s.pg.Exec("ALTER SYSTEM SET archive_command = '/bin/false'")
	s.pg.Reload()
	n, random := kills(t)
	for range n {
		s.pg.Exec("SELECT pg_logical_emit_message(true, 'fill', repeat('walden', 1000000))")
		name := s.pg.SwitchWAL()
		path := filepath.Join(s.pg.DataDir(), "pg_wal", name)
		for range 3 {
			s.killed(time.Duration(random.IntN(60))*time.Millisecond, "wal-push", path)
		}
		s.run("wal-push", path).ok(t)
		out := filepath.Join(s.dir, "got")
		s.killed(time.Duration(random.IntN(60))*time.Millisecond, "wal-get", name, out)
		s.run("wal-get", name, out).ok(t)
		want, err := os.ReadFile(path)
		check(t, err)
		got, err := os.ReadFile(out)
		check(t, err)
		if string(want) != string(got) {
			t.Fatalf("%s came back changed", name)
		}
	}
}

// TestKillBackup kills backups at random moments: none of them is listed, and
// the next one works.
func TestKillBackup(t *testing.T) {
	for _, st := range []store{fileStore, s3Store} {
		t.Run(string(st), func(t *testing.T) {
			s := newSite(t, siteOptions{major: pgtest.Newest(), store: st})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text); CREATE TABLE bulk AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i")
			began := time.Now()
			s.backup()
			whole := time.Since(began)
			n, random := kills(t)
			for range n {
				s.killed(time.Duration(random.Int64N(int64(whole))), "backup", "--checkpoint", "fast")
			}
			var list struct {
				Backups    []struct{ ID string }
				Incomplete []struct{ ID string }
			}
			s.run("list", "--json").ok(t).json(t, &list)
			// One that was killed in its last moment may be whole: what is listed
			// must be.
			for _, b := range list.Backups {
				s.run("plan", "--immediate", "--backup", b.ID).ok(t)
			}
			if len(list.Backups)+len(list.Incomplete) > n+1 {
				t.Errorf("%d backups and %d incomplete ones after %d runs", len(list.Backups), len(list.Incomplete), n+1)
			}
			s.mark(1)
			s.backup()
			s.mark(2)
			s.archiveAll()
			dir := s.restore("whole", "--latest", "--action", "promote")
			s.verifyBackup(dir)
			c := s.open(dir)
			if got := c.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != "1,2" {
				t.Errorf("markers %s, want 1,2", got)
			}
		})
	}
}

// TestKillRestore kills restores at random moments: no server can start on what is
// there, and the same command again succeeds.
func TestKillRestore(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text); CREATE TABLE bulk AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i")
	s.mark(1)
	s.backup()
	s.archiveAll()
	dir := filepath.Join(s.dir, "again")
	// Always the same command: one that was killed after its last step has done
	// what the next is asked for.
	command := []string{"restore", "--latest", "--to", dir, "--action", "promote"}
	began := time.Now()
	s.run(command...).ok(t)
	whole := time.Since(began)
	check(t, os.RemoveAll(dir))
	n, random := kills(t)
	for range n {
		if !s.killed(time.Duration(random.Int64N(int64(whole))), command...) {
			check(t, os.RemoveAll(dir))
		}
	}
	s.killed(whole/2, command...)
	s.run(command...).ok(t)
	s.verifyBackup(dir)
	c := s.open(dir)
	if n := c.QueryValue("SELECT count(*) FROM bulk"); n != "200000" {
		t.Errorf("%s rows, want 200000", n)
	}
}
