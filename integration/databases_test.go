//go:build unix

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// busyTables fills a database with tables that have an index of every kind.
const busyTables = `
	CREATE TABLE busy (id int, n int, t text, p point, r int4range, a int[]);
	INSERT INTO busy SELECT i, i % 1000, md5(i::text), point(i % 100, i / 100), int4range(i, i + 5), ARRAY[i % 7, i % 11] FROM generate_series(1, 15000) i;
	CREATE INDEX busy_btree ON busy (id);
	CREATE INDEX busy_hash ON busy USING hash (n);
	CREATE INDEX busy_gin ON busy USING gin (a);
	CREATE INDEX busy_gist ON busy USING gist (r);
	CREATE INDEX busy_spgist ON busy USING spgist (p);
	CREATE INDEX busy_brin ON busy USING brin (id);
	CREATE TABLE still AS SELECT i, md5(i::text) t FROM generate_series(1, 15000) i;
	CREATE INDEX still_hash ON still USING hash (t);
	CREATE UNLOGGED TABLE fleeting AS SELECT i FROM generate_series(1, 1000) i;
	CREATE SEQUENCE counter;
	CREATE MATERIALIZED VIEW seen AS SELECT n, count(*) FROM busy GROUP BY n;
	VACUUM ANALYZE busy;`

// unimaged are tables whose pages WAL refers to after a backup without ever holding
// an image of them: by the visibility map where there are no checksums, and by the
// clean-up of a hash index whose buckets have overflow pages.
const unimaged = `
	CREATE TABLE unseen AS SELECT i, md5(i::text) t FROM generate_series(1, 40000) i;
	CREATE TABLE chain AS SELECT i % 3 AS k, i FROM generate_series(1, 30000) i;
	CREATE INDEX chain_hash ON chain USING hash (k);
	VACUUM chain`

const refer = "VACUUM unseen; DELETE FROM chain WHERE i > 29000; VACUUM chain"

// busyRounds are what is done to that database again and again.
var busyRounds = []string{
	"INSERT INTO busy SELECT i, i % 1000, md5(i::text), point(i % 100, i / 100), int4range(i, i + 5), ARRAY[i % 7, i % 11] FROM generate_series(1, 2000) i",
	"UPDATE busy SET n = n + 1, t = t || 'x' WHERE id % 40 = 3",
	"DELETE FROM busy WHERE id % 17 = 5",
	"VACUUM busy",
	"DELETE FROM still WHERE i % 3 = 0; INSERT INTO still SELECT i, md5(i::text) FROM generate_series(1, 500) i",
	"VACUUM still",
	"SELECT nextval('counter') FROM generate_series(1, 100)",
	"CREATE TABLE brief AS SELECT i, md5(i::text) FROM generate_series(1, 3000) i; CREATE INDEX ON brief (i); TRUNCATE brief; DROP TABLE brief",
	"REFRESH MATERIALIZED VIEW seen",
	"REINDEX TABLE busy",
	"VACUUM FULL still",
	"SELECT lo_unlink(lo_from_bytea(0, 'walden'))",
	"DELETE FROM busy WHERE id > 8000",
	"VACUUM (FREEZE, TRUNCATE) busy",
}

// load works in a database until stop is called, which tells how many rounds it did.
func (s *site) load(database string) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var rounds int
	var failed error
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil && failed == nil {
			for _, sql := range busyRounds {
				if err := s.pg.TryExec(ctx, database, sql); err != nil && ctx.Err() == nil {
					failed = fmt.Errorf("%s: %w", sql, err)
				}
			}
			rounds++
		}
	})
	return func() int {
		s.t.Helper()
		cancel()
		wait.Wait()
		if failed != nil {
			s.t.Fatal(failed)
		}
		return rounds
	}
}

// execIn runs statements in a database, one after the other.
func (s *site) execIn(database, sql string) {
	s.t.Helper()
	for part := range strings.SplitSeq(sql, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		if err := s.pg.TryExec(s.t.Context(), database, part); err != nil {
			s.t.Fatalf("%s: %v", part, err)
		}
	}
}

// partial is what is looked at in the result of a partial restore.
type partial struct {
	Partial struct {
		Restored, Templates, Hollow []struct {
			OID   uint32
			Name  string
			Bytes int64
		}
		HollowFiles int64 `json:"hollow_files"`
		HollowBytes int64 `json:"hollow_bytes"`
		Amount      struct {
			Files, Bytes int64
			Download     int64 `json:"download_bytes"`
		}
	} `json:"databases"`
	Files    int64
	Bytes    int64
	Warnings []string
	Recovery struct {
		State       string
		SocketDir   string `json:"socket_directory"`
		Port        int
		StopCommand string `json:"stop_command"`
	}
	Plan struct {
		Backup struct{ Files, Bytes int64 }
	}
}

// TestPartialRestore restores one database of a cluster whose others are changed in
// every way, during the backup and after it, with and without checksums: without
// them WAL refers to pages of which it has no image.
func TestPartialRestore(t *testing.T) {
	for _, major := range pgtest.Majors() {
		for _, checksums := range []bool{true, false} {
			if checksums && major != pgtest.Newest() {
				continue // without is the harder case
			}
			t.Run(fmt.Sprintf("%d/checksums=%v", major, checksums), func(t *testing.T) {
				s := newSite(t, siteOptions{major: major, noChecksums: !checksums, settings: map[string]string{"autovacuum": "off", "wal_keep_size": "0"}})
				space := filepath.Join(s.dir, "space")
				pgtest.MkdirAll(t, space)
				s.pg.Exec("CREATE TABLESPACE space LOCATION '" + space + "'")
				for _, name := range []string{"app", "busy", "elsewhere TABLESPACE space", "doomed", "renamed"} {
					s.pg.Exec("CREATE DATABASE " + name)
				}
				for _, name := range []string{"busy", "elsewhere", "doomed"} {
					s.execIn(name, busyTables)
				}
				s.execIn("busy", unimaged)
				s.execIn("app", "CREATE TABLE orders AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 5000) i; CREATE TABLE far (n int) TABLESPACE space; INSERT INTO far SELECT generate_series(1, 500); CREATE TABLE calm AS SELECT i FROM generate_series(1, 5000) i")
				stops := []func() int{s.load("busy"), s.load("elsewhere"), s.load("doomed")}
				s.backup()
				s.execIn("app", "INSERT INTO orders SELECT i, 'later' FROM generate_series(5001, 6000) i; VACUUM orders; VACUUM calm")
				time.Sleep(2 * time.Second)
				rounds := 0
				for _, stop := range stops {
					rounds += stop()
				}
				s.execIn("busy", refer)
				s.pg.Exec("DROP DATABASE doomed")
				s.pg.Exec("ALTER DATABASE renamed RENAME TO anew")
				s.pg.Exec("CREATE DATABASE fresh")
				if major >= 15 {
					s.pg.Exec("CREATE DATABASE copied STRATEGY file_copy")
				}
				s.execIn("fresh", "CREATE TABLE t AS SELECT 1 AS one")
				s.execIn("app", "SELECT pg_create_restore_point('here')")
				s.archiveAll()
				t.Logf("%d rounds", rounds)
				s.restorePartly(space)
				if !checksums {
					s.refusesZeros(space)
				}
				s.refersToHollowPages(filepath.Join(s.dir, "part.log"), !checksums)
			})
		}
	}
}

func (s *site) restorePartly(space string) {
	t := s.t
	var planned, got partial
	s.run("plan", "--name", "here", "--database", "app", "--json").ok(t).json(t, &planned)
	dir := filepath.Join(s.dir, "part")
	args := []string{"restore", "--name", "here", "--database", "app", "--to", dir, "--tablespace", space + "=" + dir + ".space",
		"--action", "promote", "--start", "--pg-bin", s.pg.BinDir(), "--json"}
	s.run(args...).ok(t).json(t, &got)
	t.Cleanup(func() { s.stopServer(dir) })
	if got.Recovery.State != "promoted" || len(got.Warnings) == 0 || !strings.Contains(got.Warnings[len(got.Warnings)-1], "no whole cluster") {
		t.Errorf("%+v", got)
	}
	p := got.Partial
	if len(p.Restored) != 1 || p.Restored[0].Name != "app" || len(p.Templates) != 2 || len(p.Hollow) < 4 {
		t.Fatalf("%+v", p)
	}
	if got.Bytes != planned.Partial.Amount.Bytes || got.Bytes+p.HollowBytes != got.Plan.Backup.Bytes || got.Files+p.HollowFiles != got.Plan.Backup.Files {
		t.Errorf("restored %d files and %d bytes, planned %+v, hollow %+v of %+v", got.Files, got.Bytes, planned.Partial.Amount, p, got.Plan)
	}
	psql := func(database, sql string) string {
		t.Helper()
		return strings.TrimSpace(s.pg.Run("psql", "-h", got.Recovery.SocketDir, "-p", fmt.Sprint(got.Recovery.Port), "-U", "postgres", "-d", database, "-XAtc", sql))
	}
	if rows := psql("app", "SELECT count(*), max(id), count(*) FILTER (WHERE note = 'later') FROM orders"); rows != "6000|6000|1000" {
		t.Errorf("orders: %s", rows)
	}
	if rows := psql("app", "SELECT count(*) FROM far"); rows != "500" {
		t.Errorf("a table in another tablespace: %s rows", rows)
	}
	if rows := psql("fresh", "SELECT one FROM t"); rows != "1" {
		t.Errorf("a database created after the backup: %s", rows)
	}
	s.pg.Run("pg_amcheck", "-h", got.Recovery.SocketDir, "-p", fmt.Sprint(got.Recovery.Port), "-U", "postgres",
		"-d", "app", "-d", "template1", "--install-missing", "--heapallindexed")
	// What takes no room was not written.
	for _, d := range p.Hollow {
		if d.Name == "postgres" {
			if used := blocks(t, filepath.Join(dir, "base", fmt.Sprint(d.OID))); used > d.Bytes/4 {
				t.Errorf("the hollow database %s takes %d bytes of %d", d.Name, used, d.Bytes)
			}
		}
	}
	for _, name := range []string{"busy", "elsewhere", "anew", "postgres"} {
		psql("app", "DROP DATABASE "+name)
	}
	psql("app", "ALTER SYSTEM RESET ignore_invalid_pages")
	if rows := psql("app", "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname <> 'copied'"); rows != "app,fresh,template0,template1" {
		t.Errorf("databases %s", rows)
	}
}

// refusesZeros makes a file of the database that is restored one of zeros, as if it had
// been left out by mistake: WAL refers to it, and recovery fails although PostgreSQL goes on.
func (s *site) refusesZeros(space string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "zeros")
	args := []string{"restore", "--name", "here", "--database", "app", "--to", dir, "--tablespace", space + "=" + dir + ".space", "--action", "promote"}
	s.run(args...).ok(s.t)
	file := s.pg.QueryIn("app", "SELECT pg_relation_filepath('calm')")[0][0]
	path := filepath.Join(dir, file)
	info, err := os.Stat(path)
	check(s.t, err)
	check(s.t, os.Truncate(path, 0))
	check(s.t, os.Truncate(path, info.Size()))
	s.run(append(args, "--start", "--pg-bin", s.pg.BinDir())...).exits(s.t, 1).says(s.t, "refers to pages of "+file, "not whole")
	if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); err == nil {
		s.t.Error("the server was left running")
		s.stopServer(dir)
	}
}

// refersToHollowPages makes sure that the test is one: WAL did refer to pages that
// are hollow, and PostgreSQL would have ended there.
func (s *site) refersToHollowPages(logFile string, visibility bool) {
	s.t.Helper()
	b, err := os.ReadFile(logFile)
	check(s.t, err)
	for kind, want := range map[string]bool{"for Hash/": true, "for Heap2/VISIBLE": visibility} {
		found := false
		for part := range strings.SplitSeq(string(b), "is uninitialized") {
			next, _, _ := strings.Cut(part, "WARNING:")
			found = found || strings.Contains(next, kind)
		}
		if found != want {
			s.t.Errorf("hollow pages were referred to %s: %v, want %v", kind, found, want)
		}
	}
}

// blocks is what the files in a directory occupy on disk.
func blocks(t *testing.T, dir string) (sum int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		info, err := e.Info()
		check(t, err)
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return sum
}

// stopServer ends the server on a directory that walden has started one on.
func (s *site) stopServer(dir string) {
	cmd := s.pg.Command(context.Background(), "pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Logf("stop the server on %s: %v: %s", dir, err, out)
	}
	if s.t.Failed() {
		log, _ := os.ReadFile(dir + ".log")
		s.t.Logf("log of the server on %s:\n%s", dir, lastOf(string(log), 8000))
	}
}

func lastOf(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
