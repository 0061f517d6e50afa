package names_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestBenchNames measures what docs/guide.md claims of a database of 10,000 tables.
func TestBenchNames(t *testing.T) {
	pgtest.Bench(t)
	s := newSite(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"max_locks_per_transaction": "20000", "autovacuum": "off"}}))
	s.Exec(`DO $$ BEGIN FOR i IN 1..10000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$`)
	measure := func(what string, f func()) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		f()
		took := time.Since(began)
		runtime.GC()
		runtime.ReadMemStats(&after)
		t.Logf("%s: %v, allocated %d KiB, kept %d KiB", what, took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>10, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
	}
	measure("the first snapshot", func() { t.Logf("%+v", s.take()) })
	for range 3 {
		measure("a look without a change", s.unchanged)
	}
	s.Exec("CREATE TABLE one (i int)")
	measure("one table more", func() { t.Logf("%+v", s.take()) })

	db := s.number("SELECT oid FROM pg_database WHERE datname = current_database()")
	node := s.number("SELECT relfilenode FROM pg_class WHERE relname = 't77_pkey'")
	at := s.lsn()
	v := s.resolver()
	measure("the first name", func() {
		if n, ok := v.Relation(db, 1663, node, at); !ok || n.Name != "t77_pkey" {
			t.Error(n, ok)
		}
	})
	measure("100,000 names", func() {
		for range 100_000 {
			v.Relation(db, 1663, node, at)
		}
	})
	measure("100,000 numbers without a name", func() {
		for range 100_000 {
			if n, ok := v.Relation(db, 1663, 77, at); ok {
				t.Fatal(n)
			}
		}
	})
}
