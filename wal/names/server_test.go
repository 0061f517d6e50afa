package names_test

import (
	"strconv"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
)

// site is a server and a repository for its names.
type site struct {
	*pgtest.Cluster
	t     *testing.T
	repo  *repository.Repository
	inc   archive.Incarnation
	taker *names.Taker
}

func onAllMajors(t *testing.T, test func(t *testing.T, s *site)) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			test(t, newSite(t, pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1})))
		})
	}
}

func newSite(t *testing.T, c *pgtest.Cluster) *site {
	t.Helper()
	repo, _, err := repository.Init(t.Context(), mem.New(), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", c.SystemID(), 1<<20, c.Major())
	if err != nil {
		t.Fatal(err)
	}
	return &site{Cluster: c, t: t, repo: repo, inc: inc, taker: names.NewTaker(repo, inc)}
}

func (s *site) source() names.Source { return names.Source{Conninfo: s.Conninfo("postgres")} }

// take takes a snapshot, which must be stored.
func (s *site) take() names.Result {
	s.t.Helper()
	r, err := s.taker.Take(s.t.Context(), s.source())
	if err != nil {
		s.t.Fatal(err)
	}
	if !r.Written || len(r.Unread) > 0 {
		s.t.Fatalf("%+v", r)
	}
	return r
}

func (s *site) unchanged() {
	s.t.Helper()
	if r, err := s.taker.Take(s.t.Context(), s.source()); err != nil || r.Written {
		s.t.Fatalf("%+v, %v", r, err)
	}
}

func (s *site) reader() *names.Reader {
	s.t.Helper()
	r, err := names.Open(s.t.Context(), s.repo, s.inc, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) number(sql string) uint32 {
	s.t.Helper()
	n, err := strconv.ParseUint(s.QueryValue(sql), 10, 32)
	if err != nil {
		s.t.Fatal(err)
	}
	return uint32(n)
}

func (s *site) lsn() wal.LSN {
	s.t.Helper()
	l, err := wal.ParseLSN(s.LSN())
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// resolver knows what has been stored so far, on timeline 1.
func (s *site) resolver() *names.Resolver {
	s.t.Helper()
	return s.reader().Resolver(s.t.Context(), wal.History{Timeline: 1})
}

// file is the RelFileLocator of a relation of database postgres.
type file struct{ database, tablespace, node uint32 }

func (s *site) file(relation string) file {
	s.t.Helper()
	return file{
		s.number("SELECT oid FROM pg_database WHERE datname = current_database()"),
		s.number("SELECT coalesce(nullif(c.reltablespace, 0), d.dattablespace) FROM pg_class c, pg_database d WHERE datname = current_database() AND c.oid = '" + relation + "'::regclass"),
		s.number("SELECT pg_relation_filenode('" + relation + "')"),
	}
}

// is checks what a file was called at a position.
func (s *site) is(at wal.LSN, f file, want string) {
	s.t.Helper()
	v := s.resolver()
	n, ok := v.Relation(f.database, f.tablespace, f.node, at)
	got := "unknown"
	if ok {
		got = n.String()
	}
	if got != want || v.Err() != nil {
		s.t.Errorf("file %+v at %s: %s (%+v), want %s; %v", f, at, got, n, want, v.Err())
	}
}

func TestWhatThingsWereCalled(t *testing.T) {
	onAllMajors(t, func(t *testing.T, s *site) {
		space := s.Tablespace("elsewhere")
		s.Exec(`CREATE SCHEMA "Order Book"`)
		s.Exec(`CREATE TABLE orders (id int PRIMARY KEY, note text)`)
		s.Exec(`CREATE TABLE "Order Book"."it's" (i int)`)
		s.Exec(`CREATE SEQUENCE numbers`)
		s.Exec(`CREATE MATERIALIZED VIEW m AS SELECT * FROM orders`)
		s.Exec(`CREATE VIEW v AS SELECT * FROM orders`)
		s.Exec(`CREATE TABLE parts (i int PRIMARY KEY) PARTITION BY RANGE (i)`)
		s.Exec(`CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10)`)
		s.take()
		before := s.lsn()
		orders := s.file("orders")
		s.is(before, orders, "public.orders")
		s.is(before, s.file(`"Order Book"."it''s"`), `"Order Book"."it's"`)
		for relation, want := range map[string]string{
			"orders_pkey": "public.orders_pkey", "numbers": "public.numbers", "m": "public.m", "part": "public.part", "part_pkey": "public.part_pkey",
			"pg_class": "pg_catalog.pg_class", "pg_proc": "pg_catalog.pg_proc",
		} {
			s.is(before, s.file(relation), want)
		}
		db := orders.database
		for relation, kind := range map[string]names.Kind{"v": names.View, "parts": names.PartitionedTable, "parts_pkey": names.PartitionedIndex, "part": names.Table, "orders": names.Table, "m": names.MaterializedView} {
			n, ok := s.resolver().RelationByOID(db, s.number("SELECT '"+relation+"'::regclass::oid"), before)
			if !ok || n.Name != relation || n.Kind != kind || n.Schema != "public" || n.Database != "postgres" {
				t.Errorf("%s: %+v, %v", relation, n, ok)
			}
		}
		toast := s.QueryValue("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'orders'")
		index := s.QueryValue("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '" + toast + "'::regclass")
		s.is(before, s.file(toast), "TOAST of public.orders")
		s.is(before, s.file(index), "TOAST index of public.orders")
		// A shared catalogue: the WAL says database 0.
		shared := s.file("pg_authid")
		s.is(before, file{0, 1664, shared.node}, "pg_catalog.pg_authid")
		s.is(before, file{0, 1664, orders.node}, "unknown")
		s.unchanged()

		s.Exec("ALTER TABLE orders RENAME TO old_orders")
		s.take()
		s.is(before, orders, "public.orders")
		s.is(s.lsn(), orders, "public.old_orders")
		s.Exec("TRUNCATE old_orders")
		s.is(s.lsn(), s.file("old_orders"), "unknown")
		truncated := s.lsn()
		s.take()
		s.is(truncated, s.file("old_orders"), "public.old_orders") // the one after has it
		s.is(truncated, orders, "public.old_orders")
		s.Exec("ALTER TABLE old_orders SET TABLESPACE elsewhere")
		s.take()
		moved := s.file("old_orders")
		if moved.tablespace != s.number("SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere'") {
			t.Fatal(space, moved)
		}
		s.is(s.lsn(), moved, "public.old_orders")
		s.is(s.lsn(), file{db, 1663, moved.node}, "unknown")
		if name, ok := s.resolver().Tablespace(moved.tablespace, s.lsn()); name != "elsewhere" || !ok {
			t.Error(name, ok)
		}
		s.Exec("DROP TABLE old_orders CASCADE")
		dropped := s.lsn()
		s.take()
		s.is(dropped, moved, "public.old_orders")
		s.is(s.lsn(), moved, "public.old_orders") // a few snapshots before are looked at too
		s.Exec("VACUUM FULL pg_class")
		s.take()
		s.is(s.lsn(), s.file("pg_class"), "pg_catalog.pg_class")
		s.Exec(`ALTER SCHEMA "Order Book" RENAME TO books`)
		s.take()
		s.is(s.lsn(), s.file(`books."it''s"`), `books."it's"`)
		s.unchanged()
	})
}

func TestDatabases(t *testing.T) {
	onAllMajors(t, func(t *testing.T, s *site) {
		s.Tablespace("elsewhere")
		s.Exec(`CREATE DATABASE "A""b" TABLESPACE elsewhere`)
		s.Exec(`CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0`)
		s.Exec(`CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0`)
		for db, sql := range map[string]string{`A"b`: "CREATE TABLE t (i int)", "latin": `CREATE TABLE "Größe" (i int)`, "bytes": `DO $$ BEGIN EXECUTE format('CREATE TABLE %I (i int)', convert_from('\x61ff', 'SQL_ASCII')); END $$`} {
			if err := s.TryExec(t.Context(), db+" client_encoding=UTF8", sql); err != nil {
				t.Fatal(db, err)
			}
		}
		first := s.take()
		if first.Databases != 5 {
			t.Errorf("%+v", first)
		}
		before := s.lsn()
		oid := func(db string) uint32 { return s.number("SELECT oid FROM pg_database WHERE datname = '" + db + "'") }
		for db, want := range map[string]string{`A"b`: "public.t", "latin": `public."Größe"`, "bytes": `public."a\xff"`} {
			rows := s.QueryIn(db+" client_encoding=UTF8", "SELECT oid, pg_relation_filenode(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
			relation, err := strconv.ParseUint(rows[0][0], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			n, ok := s.resolver().RelationByOID(oid(db), uint32(relation), before)
			if !ok || n.String() != want || n.Database != db {
				t.Errorf("%s: %+v %s, want %s", db, n, n, want)
			}
			if db == `A"b` {
				node, err := strconv.ParseUint(rows[0][1], 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				s.is(before, file{oid(db), s.number("SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere'"), uint32(node)}, "public.t")
			}
		}
		ab := oid(`A"b`)
		s.Exec(`DROP DATABASE "A""b"`)
		at := s.lsn()
		s.take()
		if name, ok := s.resolver().Database(ab, at); name != `A"b` || !ok {
			t.Error(name, ok)
		}
		// What a session keeps to itself, and housekeeping, change nothing.
		s.Exec("CREATE TEMPORARY TABLE mine (i int, t text)")
		s.Exec("VACUUM ANALYZE")
		s.unchanged()
	})
}

func TestStandby(t *testing.T) {
	onAllMajors(t, func(t *testing.T, s *site) {
		s.Exec("CREATE TABLE kept (i int)")
		standby := newSite(t, s.Standby("names"))
		standby.WaitReplayed(s.Cluster)
		r := standby.take()
		if r.ID.Timeline != 1 {
			t.Errorf("%+v", r)
		}
		standby.is(r.ID.LSN, standby.file("kept"), "public.kept")
		standby.Promote()
		// The same names, and another timeline: this is where its history begins.
		r = standby.take()
		if r.ID.Timeline != 2 || r.Chunks != 0 {
			t.Errorf("%+v", r)
		}
		s.Exec("CREATE TABLE here (i int)")
		standby.Exec("CREATE TABLE there (i int)")
		standby.take()
		there := standby.file("there")
		v := standby.reader().Resolver(t.Context(), wal.History{Timeline: 1})
		if n, ok := v.Relation(there.database, there.tablespace, there.node, standby.lsn()); ok {
			t.Errorf("on timeline 1 it is %s", n)
		}
		h, err := wal.ParseHistory(2, []byte("1\t"+r.ID.LSN.String()+"\tpromoted\n"))
		if err != nil {
			t.Fatal(err)
		}
		v = standby.reader().Resolver(t.Context(), h)
		if n, ok := v.Relation(there.database, there.tablespace, there.node, standby.lsn()); n.Name != "there" {
			t.Errorf("on timeline 2: %v %v", n, ok)
		}
	})
}

func TestWhatCannotBeRead(t *testing.T) {
	onAllMajors(t, func(t *testing.T, s *site) {
		s.Exec("CREATE ROLE plain LOGIN")
		s.Exec("CREATE DATABASE shut")
		s.Exec("CREATE DATABASE open")
		if err := s.TryExec(t.Context(), "shut", "CREATE TABLE inside (i int)"); err != nil {
			t.Fatal(err)
		}
		src := names.Source{Conninfo: s.Conninfo("postgres") + " user=plain"}
		// No more rights than everybody has are needed.
		r, err := s.taker.Take(t.Context(), src)
		if err != nil || !r.Written || len(r.Unread) > 0 || r.Databases != 4 {
			t.Fatalf("%+v, %v", r, err)
		}
		s.Exec("REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
		unread, err := names.Probe(t.Context(), src)
		if err != nil || len(unread) != 1 || unread[0].Database != "shut" || unread[0].Hint() != `GRANT CONNECT ON DATABASE shut TO plain` {
			t.Fatalf("%+v, %v, %v", unread, err, unread[0].Hint())
		}
		r, err = s.taker.Take(t.Context(), src)
		if err != nil || !r.Written || len(r.Unread) != 1 || r.Databases != 3 || r.Chunks != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if r, err = s.taker.Take(t.Context(), src); err != nil || r.Written || len(r.Unread) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		// What was known of it is still referred to.
		shut := s.number("SELECT oid FROM pg_database WHERE datname = 'shut'")
		rows := s.QueryIn("shut", "SELECT 'inside'::regclass::oid")
		inside, err := strconv.ParseUint(rows[0][0], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := s.resolver().RelationByOID(shut, uint32(inside), s.lsn()); !ok || n.Name != "inside" {
			t.Errorf("%+v, %v", n, ok)
		}
		s.Exec("GRANT CONNECT ON DATABASE shut TO PUBLIC")
		if r, err = s.taker.Take(t.Context(), src); err != nil || !r.Written || len(r.Unread) > 0 || r.Chunks != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

// TestDatabasesComeAndGo: nobody's DROP DATABASE fails because names are read, and no
// snapshot fails because a database has gone.
func TestDatabasesComeAndGo(t *testing.T) {
	s := newSite(t, pgtest.New(t, pgtest.Options{SegmentSizeMB: 1}))
	stop := make(chan struct{})
	ended := make(chan error)
	go func() {
		for i := 0; ; i++ {
			for _, sql := range []string{"CREATE DATABASE brief", "DROP DATABASE brief"} {
				if err := s.TryExec(t.Context(), "postgres", sql); err != nil {
					ended <- err
					return
				}
			}
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
		}
	}()
	written := 0
	for range 40 {
		r, err := s.taker.Take(t.Context(), s.source())
		if err != nil {
			t.Error(err)
			break
		}
		if r.Written {
			written++
		}
		for _, u := range r.Unread {
			if u.Database != "brief" {
				t.Error(u)
			}
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if written < 2 {
		t.Errorf("%d snapshots", written)
	}
	for _, id := range s.reader().List() {
		snapshot, err := s.reader().Snapshot(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range snapshot.Databases {
			if _, _, err := s.reader().Relations(t.Context(), snapshot, d.OID); err != nil {
				t.Error(err)
			}
		}
	}
}
