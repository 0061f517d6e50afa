//go:build unix

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// rescue is a cluster whose database app has lost a table.
type rescue struct {
	*site
	scratch string
	// digest is what the table was when the transaction dropped that dropped it.
	digest, dropped string
}

const orderDigest = "SELECT count(*) || ' ' || md5(string_agg(id || note || coalesce(big, ''), ',' ORDER BY id)) FROM orders"

func newRescue(t *testing.T, o siteOptions) *rescue {
	t.Helper()
	if o.settings == nil {
		o.settings = map[string]string{}
	}
	o.settings["max_prepared_transactions"] = "5"
	r := &rescue{site: newSite(t, o)}
	r.scratch = filepath.Join(r.dir, "scratch")
	pgtest.MkdirAll(t, r.scratch)
	for _, name := range []string{"app", "bulk", "renamed"} {
		r.pg.Exec("CREATE DATABASE " + name)
	}
	r.execIn("bulk", "CREATE TABLE bulk AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i")
	r.execIn("renamed", "CREATE TABLE kept AS SELECT 42 AS n")
	r.execIn("app", `CREATE TABLE orders (id int PRIMARY KEY, note text, big text);
		INSERT INTO orders SELECT i, 'n' || i, CASE WHEN i % 100 = 0 THEN (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 200) j) END FROM generate_series(1, 20000) i;
		CREATE SCHEMA sales; CREATE TABLE sales.items AS SELECT i FROM generate_series(1, 100) i;
		CREATE TABLE "odd, name's" (a int);
		CREATE TABLE huge AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i; CREATE INDEX ON huge (i);
		CREATE TABLE moving AS SELECT i, md5(i::text) AS t FROM generate_series(1, 60000) i;
		CREATE TABLE rewritten AS SELECT i, md5(i::text) AS t FROM generate_series(1, 60000) i;
		VACUUM FULL pg_catalog.pg_class; VACUUM FULL pg_catalog.pg_constraint; VACUUM FULL pg_catalog.pg_attribute`)
	r.backup()
	r.execIn("app", "UPDATE orders SET note = 'changed' WHERE id % 10 = 0")
	// A lock that pg_dump would wait for, for ever.
	check(t, r.pg.TryExec(t.Context(), "app", "BEGIN; ALTER TABLE sales.items ADD COLUMN undecided int; PREPARE TRANSACTION 'waiting'"))
	r.execIn("app", "ALTER TABLE moving RENAME TO moved; VACUUM FULL rewritten; DELETE FROM rewritten WHERE i > 50000")
	r.pg.Exec("ALTER DATABASE renamed RENAME TO anew")
	r.pg.Exec("CREATE DATABASE fresh")
	r.execIn("fresh", "CREATE TABLE young AS SELECT 7 AS n")
	r.digest = r.pg.QueryIn("app", orderDigest)[0][0]
	r.dropped = r.drop()
	return r
}

// drop drops the table and returns the transaction that did.
func (r *rescue) drop() string {
	conn, err := r.pg.Connect(r.t.Context(), "app")
	check(r.t, err)
	var xid string
	_, err = conn.Exec(r.t.Context(), "BEGIN")
	check(r.t, err)
	check(r.t, conn.QueryRow(r.t.Context(), "SELECT pg_current_xact_id()::text").Scan(&xid))
	_, err = conn.Exec(r.t.Context(), "DROP TABLE orders; COMMIT")
	check(r.t, err)
	r.execIn("app", "CREATE TABLE after (n int)")
	r.archiveAll()
	return xid
}

// arguments are those of an extraction from just before the drop.
func (r *rescue) arguments(more ...string) []string {
	return append([]string{"extract", "--scratch", r.scratch, "--pg-bin", r.pg.BinDir(), "--xid", r.dropped, "--exclusive"}, more...)
}

func (r *rescue) extract(more ...string) result { return r.run(r.arguments(more...)...) }

// clean fails the test if scratch is not empty.
func (r *rescue) clean() {
	r.t.Helper()
	entries, err := os.ReadDir(r.scratch)
	check(r.t, err)
	if len(entries) > 0 {
		r.t.Fatalf("scratch holds %v", entries)
	}
	if out, err := exec.Command("pgrep", "-f", r.scratch).Output(); err == nil {
		r.t.Fatalf("processes are left: %s", out)
	}
}

// psql runs a script in a new database of the server and returns its name.
func (r *rescue) psql(database string, script []byte) {
	r.t.Helper()
	r.pg.Exec("CREATE DATABASE " + database)
	cmd := r.pg.Command(r.t.Context(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", r.pg.Conninfo(database))
	cmd.Stdin = bytes.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("psql: %v\n%s", err, out)
	}
}

// same fails the test unless a database has the table as it was.
func (r *rescue) same(database string) {
	r.t.Helper()
	if got := r.pg.QueryIn(database, orderDigest)[0][0]; got != r.digest {
		r.t.Errorf("database %s: the table is %s, and was %s", database, got, r.digest)
	}
}

// TestExtract rescues a table that was dropped, in every format of pg_dump.
func TestExtract(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			r := newRescue(t, siteOptions{major: major, store: fileStore})
			got := r.extract("--table", "public.orders", "--database", "app").ok(t).says(t, "extracted public.orders", "waiting")
			r.psql("plain", []byte(got.stdout))
			r.same("plain")
			r.clean()
			for _, format := range []string{"custom", "directory", "tar"} {
				out := filepath.Join(r.dir, "dump."+format)
				var d struct {
					Database      string
					Bytes         int64
					OutputBytes   int64    `json:"output_bytes"`
					DownloadBytes int64    `json:"download_bytes"`
					LeftOutBytes  int64    `json:"left_out_bytes"`
					RolledBack    []string `json:"rolled_back"`
				}
				r.extract("-t", "orders", "--database", "app", "--format", format, "--output", out, "--jobs", "2", "--json", "--", "--no-owner").ok(t).json(t, &d)
				if d.Database != "app" || d.OutputBytes == 0 || d.DownloadBytes == 0 || d.LeftOutBytes < 40<<20 || len(d.RolledBack) != 1 {
					t.Errorf("%+v", d)
				}
				r.pg.Exec("CREATE DATABASE from_" + format)
				r.pg.Run("pg_restore", "--exit-on-error", "-d", r.pg.Conninfo("from_"+format), out)
				r.same("from_" + format)
				r.clean()
			}
			leftovers, err := filepath.Glob(filepath.Join(r.dir, ".*"))
			if err != nil || len(leftovers) > 0 {
				t.Errorf("left: %v, %v", leftovers, err)
			}
		})
	}
}

// TestExtractWhatIsMeant names databases and relations that are there, and that are not.
func TestExtractWhatIsMeant(t *testing.T) {
	r := newRescue(t, siteOptions{major: pgtest.Newest(), store: fileStore})
	out := filepath.Join(r.dir, "out")
	none := func() {
		t.Helper()
		r.clean()
		if _, err := os.Lstat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is an output: %v", err)
		}
		if list, _ := filepath.Glob(filepath.Join(r.dir, ".out*")); len(list) > 0 {
			t.Errorf("left: %v", list)
		}
	}
	r.extract("--table", "public.orders", "--output", out).exits(t, 2).says(t, "which database", "app", "renamed", "--database")
	r.extract("--output", out).exits(t, 2).says(t, "which database", "bulk", "--database")
	none()
	r.extract("--table", "nothing", "--database", "app", "--output", out).exits(t, 1).says(t, "there was no table nothing", "walden find")
	none()
	r.extract("--table", "orders", "--table", "nothing", "--database", "app", "--output", out).exits(t, 1).says(t, "no table")
	none()
	r.extract("--schema", "nothing", "--database", "app", "--output", out).exits(t, 1).says(t, "there was no schema nothing")
	none()
	r.extract("--database", "never", "--output", out).exits(t, 1).says(t, `there was no database "never"`, "anew")
	none()
	r.extract("--database", "app", "--output", out, "--", "--on-conflict-do-nothing").exits(t, 1).says(t, "pg_dump failed", "on-conflict")
	none()
	r.run("extract", "--scratch", r.scratch, "--pg-bin", r.pg.BinDir(), "--latest", "--table", "orders", "--database", "app", "--output", out).
		exits(t, 1).says(t, "there was no table orders")
	none()
	r.extract("--table", "orders", "--database", "app", "--output", filepath.Join(r.dir, "absent", "out")).exits(t, 1).says(t, "parent")
	r.extract("--table", "orders", "--database", "app", "--output", r.config).exits(t, 1).says(t, "exists already", "nothing is ever overwritten")
	r.extract("--database", "app", "--output", out, "--", "--file=x").exits(t, 2).says(t, "for walden to say")
	r.extract("--database", "app", "--json").exits(t, 2).says(t, "--output")
	none()

	r.extract("--schema", "sales", "--table", "orders", "--database", "app", "--output", out).exits(t, 2).says(t, "do not go together", "SCHEMA.*")
	none()
	r.extract("--table", "sales.*", "--table", `"odd, name's"`, "--database", "app", "--output", out).ok(t)
	script, err := os.ReadFile(out)
	check(t, err)
	if s := string(script); !strings.Contains(s, "odd, name's") || !strings.Contains(s, "sales.items") || strings.Contains(s, "orders") {
		t.Errorf("the dump is not what was asked for:\n%.2000s", s)
	}
	check(t, os.Remove(out))
	// Tables that were renamed, and rewritten, since the backup.
	got := r.extract("--table", "moved", "--database", "app").ok(t).says(t, "restoring all of the database")
	r.psql("moved", []byte(got.stdout))
	got = r.extract("--table", "rewrit*", "--database", "app").ok(t)
	if strings.Contains(got.stderr, "restoring all") {
		t.Errorf("what the WAL brings whole was not left out: %s", got.stderr)
	}
	r.psql("rewritten", []byte(got.stdout))
	for _, table := range []string{"moved", "rewritten"} {
		const digest = "SELECT count(*) || ' ' || md5(string_agg(i || t, ',' ORDER BY i)) FROM "
		if got, want := r.pg.QueryIn(table, digest+table)[0][0], r.pg.QueryIn("app", digest+table)[0][0]; got != want {
			t.Errorf("table %s is %s, want %s", table, got, want)
		}
	}
	// A database that was renamed since the backup, and one that was created since.
	if s := r.extract("--database", "anew").ok(t).says(t, "had another name").stdout; !strings.Contains(s, "kept") {
		t.Errorf("the renamed database:\n%.2000s", s)
	}
	if s := r.extract("--database", "fresh").ok(t).stdout; !strings.Contains(s, "young") {
		t.Errorf("the database that is new:\n%.2000s", s)
	}
	oid := r.pg.QueryValue("SELECT oid::text FROM pg_database WHERE datname = 'anew'")
	if s := r.extract("--database", oid).ok(t).stdout; !strings.Contains(s, "kept") {
		t.Errorf("a database by its OID:\n%.2000s", s)
	}
	r.clean()
}

// TestExtractTablespace: WAL that creates a tablespace is not replayed in scratch, where
// its location would be that of the original; from a backup that has it all is well.
func TestExtractTablespace(t *testing.T) {
	r := newRescue(t, siteOptions{major: pgtest.Newest(), store: fileStore})
	space := filepath.Join(r.dir, "space")
	pgtest.MkdirAll(t, space)
	r.pg.Exec("CREATE TABLESPACE space LOCATION '" + space + "'")
	r.execIn("app", "CREATE TABLE far TABLESPACE space AS SELECT i FROM generate_series(1, 100000) i; INSERT INTO far SELECT 1; SELECT pg_create_restore_point('there'); CHECKPOINT")
	r.archiveAll()
	before := tree(t, space)
	args := []string{"extract", "--scratch", r.scratch, "--pg-bin", r.pg.BinDir(), "--name", "there", "--database", "app", "--table", "far"}
	r.run(args...).exits(t, 1).says(t, "creates tablespace", "at "+space)
	r.clean()
	if after := tree(t, space); after != before {
		t.Errorf("the original's tablespace has changed:\n%s\nit was\n%s", after, before)
	}
	r.backup()
	r.execIn("app", "UPDATE far SET i = 0 WHERE i = 1; SELECT pg_create_restore_point('later'); CHECKPOINT")
	r.archiveAll()
	before = tree(t, space)
	args[6] = "later"
	if s := r.run(args...).ok(t).stdout; strings.Count(s, "\n") < 100000 {
		t.Errorf("the table in the tablespace is not whole: %d bytes", len(s))
	}
	r.clean()
	if after := tree(t, space); after != before {
		t.Errorf("the original's tablespace has changed:\n%s\nit was\n%s", after, before)
	}
}

// tree lists what is below a directory, with sizes and times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	}))
	return b.String()
}

// TestExtractInterrupted ends extractions by signals in every stage: nothing is left.
// After a SIGKILL the next run removes it.
func TestExtractInterrupted(t *testing.T) {
	r := newRescue(t, siteOptions{major: pgtest.Newest(), store: fileStore})
	out := filepath.Join(r.dir, "out")
	args := r.arguments("--table", "orders", "--database", "app", "--output", out)
	stages := map[string]string{
		"restoring": filepath.Join(r.scratch, "*", "data", ".walden-restore"),
		"replaying": filepath.Join(r.scratch, "*", "data", "postmaster.pid"),
		"dumping":   filepath.Join(r.dir, ".out*"),
	}
	for stage, sign := range stages {
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
			t.Run(stage+"/"+s.String(), func(t *testing.T) {
				if !r.signalled(s, sign, args) {
					t.Skip("the stage was over before it was seen")
				}
				if s != syscall.SIGKILL {
					r.clean()
					return
				}
				if entries, err := os.ReadDir(r.scratch); err != nil || len(entries) != 1 {
					t.Fatalf("a run that was killed has left %v in scratch, %v", entries, err)
				}
				if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
				r.run(args...).ok(t)
				r.clean()
				if list, _ := filepath.Glob(filepath.Join(r.dir, ".out*")); len(list) > 0 {
					t.Errorf("left beside the output: %v", list)
				}
				check(t, os.Remove(out))
			})
		}
	}
}

// signalled runs walden until a file is there whose name has a pattern, and sends the
// signal. False: it was done before.
func (r *rescue) signalled(s syscall.Signal, sign string, args []string) bool {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), commandTimeout)
	defer cancel()
	cmd := r.command(ctx, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	check(r.t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				r.t.Fatalf("extract: %v: %s", err, said.String())
			}
			check(r.t, os.Remove(filepath.Join(r.dir, "out")))
			return false
		case <-time.After(time.Millisecond):
		}
		if list, _ := filepath.Glob(sign); len(list) > 0 {
			break
		}
	}
	check(r.t, cmd.Process.Signal(s))
	<-done
	code := cmd.ProcessState.ExitCode()
	if s != syscall.SIGKILL && code != 130 {
		if code != 0 {
			r.t.Fatalf("after %s: exit code %d: %s", s, code, said.String())
		}
		check(r.t, os.Remove(filepath.Join(r.dir, "out")))
		return false
	}
	return true
}
