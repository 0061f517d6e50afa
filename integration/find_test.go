//go:build unix

package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// foundEvent is what the tests read of an event of `walden find --json`.
type foundEvent struct {
	Kind       string
	Timeline   uint32
	LSN        string
	XID        uint32
	Database   string
	Name       string
	Text       string
	Restorable bool
	Incomplete bool
	Actions    []struct {
		Kind, Text, Database string
		Rows                 uint64
		Uncertain            bool
		Relation             *struct{ Schema, Name, Type, Text string }
	}
	Before, After struct {
		Flags  string
		Locked bool
	}
}

// says are the event's texts.
func (e foundEvent) says() string {
	words := []string{e.Text}
	for _, a := range e.Actions {
		words = append(words, a.Text)
	}
	return strings.Join(words, "; ")
}

type foundDocument struct {
	Events        []foundEvent
	Segments      int
	NameSnapshots int `json:"name_snapshots"`
}

// find runs walden find.
func (s *site) find(args ...string) foundDocument {
	s.t.Helper()
	var d foundDocument
	s.run(append([]string{"find", "--json"}, args...)...).ok(s.t).json(s.t, &d)
	return d
}

// only is the one event whose texts contain the words.
func (d foundDocument) only(t *testing.T, kind, words string) foundEvent {
	t.Helper()
	var list []foundEvent
	for _, e := range d.Events {
		if e.Kind == kind && strings.Contains(e.says(), words) {
			list = append(list, e)
		}
	}
	if len(list) != 1 {
		t.Fatalf("%d events of kind %s say %q among %+v", len(list), kind, words, d.Events)
	}
	return list[0]
}

// accidents is a life with one accident of each kind, with the tables as they were.
const accidents = `
CREATE TABLE orders (id serial PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT repeat(md5(i::text), 100) FROM generate_series(1, 300) i;
CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items SELECT generate_series(1, 500);
CREATE TABLE customers (id int); INSERT INTO customers SELECT generate_series(1, 700);
CREATE TABLE prices (id int, x int); INSERT INTO prices SELECT i, i FROM generate_series(1, 400) i;
CREATE TABLE "Odd.Name" (id int); INSERT INTO "Odd.Name" SELECT generate_series(1, 40);
CREATE TABLE wide (id int, x text); INSERT INTO wide SELECT i, 'x' FROM generate_series(1, 50) i;
CREATE SCHEMA sales;
CREATE TABLE sales.north (id int); INSERT INTO sales.north SELECT generate_series(1, 11);
CREATE TABLE sales.south (id int); INSERT INTO sales.south SELECT generate_series(1, 22);
CREATE VIEW sales.all AS SELECT * FROM sales.north UNION ALL SELECT * FROM sales.south;
`

// TestFind: each accident is named, and the moment just before it has the data, on
// every major.
func TestFind(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) { findAccidents(t, major) })
	}
}

func findAccidents(t *testing.T, major int) {
	s := newSite(t, siteOptions{major: major, settings: map[string]string{"max_prepared_transactions": "5", "autovacuum": "off", "wal_compression": "on"}})
	s.pg.Psql(accidents)
	s.pg.Exec("CREATE DATABASE shop")
	s.pg.QueryIn("shop", "CREATE TABLE stock AS SELECT generate_series(1, 123) AS id")
	s.backup()
	for _, sql := range []string{
		"SELECT pg_create_restore_point('before-release')",
		"DROP TABLE orders",
		"TRUNCATE items",
		"BEGIN; SAVEPOINT a; DELETE FROM customers; RELEASE a; COMMIT",
		"UPDATE prices SET x = 0",
		"ALTER TABLE wide ALTER id TYPE bigint",
		"DELETE FROM wide", // whose file no snapshot of names has
		`DELETE FROM "Odd.Name"`,
		"DROP SCHEMA sales CASCADE",
		"VACUUM",
		"DROP DATABASE shop",
		"BEGIN; INSERT INTO items VALUES (1); PREPARE TRANSACTION 'left'",
	} {
		s.pg.Psql(sql + ";")
	}
	s.archiveAll()
	d := s.find()
	if d.NameSnapshots == 0 {
		t.Error("the backup took no snapshot of names")
	}
	checks := []struct {
		kind, words string
		database    string
		query, want string
		gone        string // the query just after; "": it fails
	}{
		{"restore-point", `"before-release"`, "postgres", "SELECT count(*) FROM orders", "300", "300"},
		{"drop", "dropped table public.orders", "postgres", "SELECT count(*) FROM orders", "300", ""},
		{"truncate", "truncated table public.items", "postgres", "SELECT count(*) FROM items", "500", "0"},
		{"delete", "deleted 700 rows from public.customers", "postgres", "SELECT count(*) FROM customers", "700", "0"},
		{"update", "updated 400 rows of public.prices", "postgres", "SELECT sum(x) FROM prices", "80200", "0"},
		{"drop", "dropped table sales.south", "postgres", "SELECT count(*) FROM sales.all", "33", ""},
		{"drop-database", "dropped database shop", "shop", "SELECT count(*) FROM stock", "123", ""},
	}
	for i, c := range checks {
		e := d.only(t, c.kind, c.words)
		if !e.Restorable || e.Incomplete {
			t.Errorf("%s: %+v", c.words, e)
		}
		if got := s.countAt(fmt.Sprintf("before%d", i), e.Before.Flags, c.database, c.query); got != c.want {
			t.Errorf("just before %q: %s is %q, not %s", c.words, c.query, got, c.want)
		}
		if c.kind == "truncate" || c.kind == "drop-database" { // each restore takes a second or two
			if got := s.countAt(fmt.Sprintf("after%d", i), e.After.Flags, c.database, c.query); got != c.gone {
				t.Errorf("just after %q: %s is %q, not %q", c.words, c.query, got, c.gone)
			}
		}
	}
	d.only(t, "prepared", "neither committed nor rolled back")
	var told []string
	for _, e := range d.Events {
		if e.Restorable {
			told = append(told, e.Kind+": "+e.says())
		}
	}
	if len(told) != len(checks)+1 {
		t.Errorf("%d events instead of %d:\n%s", len(told), len(checks)+1, strings.Join(told, "\n"))
	}
	s.findFilters(d)
}

// countAt restores to a target and asks a query there; "" if that fails.
func (s *site) countAt(name, flags, database, query string) string {
	s.t.Helper()
	var doc struct {
		Directory string
		Recovery  struct {
			SocketDirectory string `json:"socket_directory"`
			Port            int
		}
	}
	dir := s.dir + "/" + name
	args := append([]string{"restore", "--json", "--start", "--pg-bin", s.pg.BinDir(), "--to", dir}, strings.Fields(flags)...)
	s.run(args...).ok(s.t).json(s.t, &doc)
	cmd := s.pg.Command(s.t.Context(), "psql", "-X", "-A", "-t", "-h", doc.Recovery.SocketDirectory, "-p", strconv.Itoa(doc.Recovery.Port), "-d", database, "-c", query)
	out, err := cmd.Output()
	s.pg.Run("pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// TestFindUnderLoad finds a drop in a segment that is archived in fragments, while others
// commit between the drop and its commit: just before it nothing of theirs is lost, and the
// table, which recovery finds locked, can be read.
func TestFindUnderLoad(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest(), segmentMB: 16})
	s.pg.Psql("CREATE TABLE orders AS SELECT generate_series(1, 300) AS id; CREATE TABLE other (id int);")
	s.backup()
	s.archiveAll()
	s.pg.Psql("BEGIN; DROP TABLE orders; \\! psql -X -q -h " + s.pg.SocketDir() + " -p " + strconv.Itoa(s.pg.Port()) + " -d postgres -c 'INSERT INTO other VALUES (1)'\nCOMMIT;")
	s.pg.Exec("INSERT INTO other VALUES (2)")
	_, cuts, _ := s.storeFragments()
	drop := s.find().only(t, "drop", "dropped table public.orders")
	if !drop.Before.Locked || !strings.HasSuffix(drop.Before.Flags, "--action promote") {
		t.Errorf("%+v", drop.Before)
	}
	if got := s.countAt("before", drop.Before.Flags, "postgres", "SELECT (SELECT count(*) FROM orders), count(*) FROM other"); got != "300|1" {
		t.Errorf("just before there are %q, not 300|1", got)
	}
	s.warnsOfLocks(strings.TrimSuffix(drop.Before.Flags, " --action promote"))
	s.removeFragment(cuts[1])
	if r := s.run("find").exits(t, 1); !strings.Contains(r.stdout, "GAP on timeline 1") {
		t.Errorf("find tells of no gap:\n%s", r.stdout)
	}
}

// warnsOfLocks: who pauses where a table is locked is told so.
func (s *site) warnsOfLocks(flags string) {
	s.t.Helper()
	var doc struct{ Recovery struct{ Warnings []string } }
	dir := s.dir + "/paused"
	s.run(append([]string{"restore", "--json", "--start", "--pg-bin", s.pg.BinDir(), "--to", dir}, strings.Fields(flags)...)...).ok(s.t).json(s.t, &doc)
	s.pg.Run("pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop")
	if w := doc.Recovery.Warnings; len(w) != 1 || !strings.Contains(w[0], "relations are locked") {
		s.t.Errorf("warnings %q", w)
	}
}

// findFilters asks for less, and for more.
func (s *site) findFilters(all foundDocument) {
	t := s.t
	t.Helper()
	drop := all.only(t, "drop", "public.orders")
	texts := func(d foundDocument) []string {
		var list []string
		for _, e := range d.Events {
			for _, a := range e.Actions {
				list = append(list, e.Kind+" "+a.Text)
			}
		}
		return list
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"table": {[]string{"--table", "orders", "--kind", "drop"}, []string{"drop dropped table public.orders"}},
		"part":  {[]string{"--table", "postgres.sales.north", "--kind", "drop,truncate"}, []string{"drop dropped table sales.north"}},
		"odd":   {[]string{"--table", `"Odd.Name"`, "--kind", "delete"}, []string{`delete deleted 40 rows from public."Odd.Name"`}},
		"new":   {[]string{"--table", "wide", "--kind", "delete"}, []string{"delete deleted 50 rows from public.wide"}},
		"kind":  {[]string{"--kind", "rewrite"}, []string{"rewrite wrote anew table public.wide"}},
		"rows":  {[]string{"--kind", "delete,update", "--min-rows", "500"}, []string{"delete deleted 700 rows from public.customers"}},
		"shop":  {[]string{"--database", "shop", "--kind", "drop-database,drop"}, []string{"drop-database dropped database shop"}},
		"none":  {[]string{"--to", "2020-01-01 00:00:00Z"}, nil},
		"old":   {[]string{"--from", "-1d", "--table", "items", "--kind", "truncate"}, []string{"truncate truncated table public.items"}},
		"xid":   {[]string{"--xid", strconv.FormatUint(uint64(drop.XID), 10), "--kind", "drop"}, []string{"drop dropped table public.orders", "drop dropped sequence public.orders_id_seq"}},
	} {
		got := texts(s.find(c.args...))
		if slices.Sort(got); !slices.Equal(got, sorted(c.want)) {
			t.Errorf("%s: %q instead of %q", name, got, c.want)
		}
	}
	last := s.find("--limit", "2", "--kind", "delete,drop-database,drop")
	if len(last.Events) != 2 || last.Events[1].Kind != "drop-database" || last.Events[0].Kind != "drop" {
		t.Errorf("the last two: %+v", last.Events)
	}
	if commits := s.find("--kind", "commit,checkpoint,backup"); len(commits.Events) < 9 {
		t.Errorf("%d commits and checkpoints", len(commits.Events))
	}
	r := s.run("find").ok(t)
	for _, words := range []string{"dropped database shop", drop.Before.Flags, "To restore: walden restore", "fewer than 100 rows"} {
		if !strings.Contains(r.stdout, words) {
			t.Errorf("the text lacks %q:\n%s", words, r.stdout)
		}
	}
	s.run("find", "--timeline", "7").exits(t, 4)
	s.run("find", "--kind", "dropp").exits(t, 2).says(t, "there is no kind", "restore-point")
	s.run("find", "--from", "2026-01-01 10:00").exits(t, 2).says(t, "offset")
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
