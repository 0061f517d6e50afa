//go:build unix

package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// newExtraction is a site of PostgreSQL 17 with nothing in scratch. base are the
// arguments of an extraction to the restore point "here".
func newExtraction(t *testing.T, o siteOptions) (r *rescue, base []string) {
	t.Helper()
	o.major, o.store = 17, fileStore
	r = &rescue{site: newSite(t, o)}
	r.scratch = filepath.Join(r.dir, "scratch")
	pgtest.MkdirAll(t, r.scratch)
	return r, []string{"extract", "--scratch", r.scratch, "--pg-bin", r.pg.BinDir(), "--name", "here"}
}

// here sets the restore point and archives it.
func (r *rescue) here() {
	r.t.Helper()
	r.pg.Exec("SELECT pg_create_restore_point('here')")
	r.archiveAll()
}

// TestExtractChildren: the rows of a partitioned table, and of one that others inherit from,
// are in its dump, from the backup and from the WAL, without the whole database being restored for it.
func TestExtractChildren(t *testing.T) {
	r, base := newExtraction(t, siteOptions{})
	r.pg.Exec("CREATE DATABASE app")
	r.execIn("app", `CREATE SCHEMA far;
		CREATE TABLE orders (id int, t text) PARTITION BY RANGE (id);
		CREATE TABLE early PARTITION OF orders FOR VALUES FROM (0) TO (30000);
		CREATE TABLE late PARTITION OF orders FOR VALUES FROM (30000) TO (90000) PARTITION BY RANGE (id);
		CREATE TABLE far."Very ""late""" PARTITION OF late FOR VALUES FROM (30000) TO (60000);
		CREATE INDEX ON orders (id);
		INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 59999) i;
		CREATE TABLE cities (name text); INSERT INTO cities VALUES ('Bern');
		CREATE TABLE capitals (country text) INHERITS (cities); INSERT INTO capitals VALUES ('Roma', 'it');
		CREATE UNLOGGED TABLE passing AS SELECT 1 AS n;
		CREATE TABLE other AS SELECT i, md5(i::text) FROM generate_series(1, 60000) i; VACUUM FULL pg_catalog.pg_inherits`)
	r.backup()
	r.execIn("app", `CREATE TABLE far.newer PARTITION OF late FOR VALUES FROM (60000) TO (90000);
		INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(60000, 61000) i; UPDATE orders SET t = 'changed' WHERE id % 100 = 0`)
	r.here()
	base = append(base, "--database", "app")
	out := filepath.Join(r.dir, "out")
	var d struct {
		Children []string
		LeftOut  int64 `json:"left_out_bytes"`
		Warnings []string
	}
	got := r.run(append(base, "--table", "orders", "--table", "cities", "--output", out, "--format", "custom", "--json")...).ok(t)
	got.json(t, &d)
	if strings.Contains(got.stderr, "restoring all") || d.LeftOut < 1<<20 {
		t.Errorf("all was restored: %+v\n%s", d, got.stderr)
	}
	if want := []string{`"far"."Very ""late"""`, `"far"."newer"`, `"public"."capitals"`, `"public"."early"`, `"public"."late"`}; !slices.Equal(d.Children, want) || len(d.Warnings) > 0 {
		t.Errorf("%+v, want children %v", d, want)
	}
	r.pg.Exec("CREATE DATABASE back")
	r.execIn("back", "CREATE SCHEMA far")
	r.pg.Run("pg_restore", "--exit-on-error", "-d", r.pg.Conninfo("back"), out)
	for _, sql := range []string{"SELECT count(*) || ' ' || md5(string_agg(id || t, ',' ORDER BY id)) FROM orders", "SELECT string_agg(name, ',' ORDER BY name) FROM cities"} {
		if got, want := r.pg.QueryIn("back", sql)[0][0], r.pg.QueryIn("app", sql)[0][0]; got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
	// What is excluded stays excluded, and what cannot be in a dump is said.
	got = r.run(append(base, "--table", "cities", "--", "--exclude-table=capitals")...).ok(t)
	if !strings.Contains(got.stdout, "Bern") || strings.Contains(got.stdout, "Roma") {
		t.Errorf("without capitals:\n%s", got.stdout)
	}
	r.run(append(base, "--schema", "public")...).ok(t).says(t, "other schemas", `"far"."newer"`, "unlogged", `"public"."passing"`)
	r.run(append(base, "--table", "passing")...).ok(t).says(t, "unlogged", `"public"."passing"`)
	r.clean()
}

// TestExtractOfOneDatabase: tables can be left out where there is no other database, and
// WAL changes pages of theirs without bringing them.
func TestExtractOfOneDatabase(t *testing.T) {
	r, base := newExtraction(t, siteOptions{noChecksums: true})
	r.pg.Exec("CREATE TABLE orders AS SELECT i FROM generate_series(1, 1000) i")
	r.pg.Exec("CREATE TABLE huge AS SELECT i, md5(i::text) FROM generate_series(1, 60000) i")
	r.backup()
	r.pg.Exec("VACUUM huge") // sets pages all-visible, without their images
	r.pg.Exec("DELETE FROM orders WHERE i > 900")
	r.here()
	if s := r.run(append(base, "--table", "orders")...).ok(t).stdout; !strings.Contains(s, "\n900\n") || strings.Contains(s, "\n901\n") {
		t.Errorf("the dump:\n%s", s)
	}
	r.clean()
}

// TestExtractWhichDatabase: without --database nothing is dumped where two could be meant, by
// what the backup has, what it had, and what came later.
func TestExtractWhichDatabase(t *testing.T) {
	r, base := newExtraction(t, siteOptions{})
	r.pg.Exec("CREATE DATABASE app")
	r.execIn("app", "CREATE TABLE orders AS SELECT 42 AS n")
	r.pg.Exec("CREATE TABLE strays (n int)")
	r.pg.Exec("DROP TABLE strays") // its row in pg_class is dead
	r.backup()
	r.here()
	if s := r.run(append(base, "--table", "orders")...).ok(t).says(t, `of database "app"`).stdout; !strings.Contains(s, "\n42\n") {
		t.Errorf("the dump:\n%s", s)
	}
	got := r.run(append(base, "--table", "strays")...).exits(t, 2).says(t, "which database? strays may be in any of postgres, app", "--database")
	// The table of the database that came later may be the one that is meant.
	r.pg.Exec("CREATE DATABASE later")
	r.execIn("later", "CREATE TABLE orders AS SELECT 43 AS n; SELECT pg_create_restore_point('after')")
	r.archiveAll()
	base[6] = "after"
	late := r.run(append(base, "--table", "orders")...).exits(t, 2).says(t, "which database? at the moment", "app, later", "--database")
	if s := got.stdout + late.stdout; s != "" {
		t.Errorf("a database was guessed:\n%s", s)
	}
	if s := r.run(append(base, "--table", "orders", "--database", "later")...).ok(t).stdout; !strings.Contains(s, "\n43\n") {
		t.Errorf("the dump:\n%s", s)
	}
	r.clean()
}

// TestExtractInserts: to write INSERT pg_dump plans a query on the table, for which its
// indexes must be there, and those of its children.
func TestExtractInserts(t *testing.T) {
	r, base := newExtraction(t, siteOptions{})
	r.pg.Exec("CREATE DATABASE app")
	r.execIn("app", `CREATE TABLE orders (id int PRIMARY KEY, t text); INSERT INTO orders SELECT i, 't' || i FROM generate_series(1, 60000) i;
		CREATE TABLE older () INHERITS (orders); INSERT INTO older SELECT i, 't' || i FROM generate_series(60001, 120000) i; CREATE INDEX ON older (id);
		CREATE TABLE other AS SELECT i, md5(i::text) FROM generate_series(1, 60000) i; CREATE INDEX ON other (i)`)
	if n := r.pg.QueryIn("app", "SELECT least(pg_relation_size('orders_pkey'), pg_relation_size('older_id_idx')) > 1024 * 1024")[0][0]; n != "t" {
		t.Fatal("the indexes are too small to be left out")
	}
	r.backup()
	r.execIn("app", "DELETE FROM orders WHERE id % 2 = 0")
	r.here()
	base = append(base, "--database", "app", "--table", "orders")
	for option, want := range map[string]int{"--inserts": 60000, "--rows-per-insert=1000": 60, "--no-owner": 0} {
		got := r.run(append(base, "--", option)...).ok(t)
		if n := strings.Count(got.stdout, "INSERT INTO"); n < want || n > want+1 || strings.Contains(got.stderr, "restoring all") {
			t.Errorf("%s: %d statements, want %d:\n%s", option, n, want, got.stderr)
		}
		if !strings.Contains(got.stdout, "t119999") || strings.Contains(got.stdout, "t59998") || strings.Contains(got.stdout, "CREATE TABLE public.other") {
			t.Errorf("%s: rows that were there are not in the dump, or others are", option)
		}
	}
	r.clean()
}
