//go:build unix

package integration

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
)

// open opens the repository as walden does.
func (s *site) openRepository() (*repository.Repository, archive.Incarnation) {
	s.t.Helper()
	cfg, err := config.Load(s.config, nil)
	check(s.t, err)
	repo, err := cfg.Repository.Open(s.t.Context(), slog.New(slog.DiscardHandler), config.OpenOptions{})
	check(s.t, err)
	incs, err := archive.Incarnations(s.t.Context(), repo, "main")
	check(s.t, err)
	return repo, incs[len(incs)-1]
}

func (s *site) names() *names.Reader {
	s.t.Helper()
	repo, inc := s.openRepository()
	r, err := names.Open(s.t.Context(), repo, inc, 0)
	check(s.t, err)
	return r
}

// TestNamesInTheRepository: backup and stream leave snapshots of names when something
// has changed, and only then.
func TestNamesInTheRepository(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			kind := fileStore
			if major == pgtest.Newest() {
				kind = s3Store
			}
			s := newSite(t, siteOptions{major: major, store: kind, settings: map[string]string{"autovacuum": "off"}})
			s.pg.Exec("CREATE TABLE orders (id int PRIMARY KEY, note text)")
			s.backup()
			if n := len(s.names().List()); n != 1 {
				t.Fatalf("%d snapshots after a backup", n)
			}
			s.backup()
			if n := len(s.names().List()); n != 1 {
				t.Fatalf("%d snapshots after a backup that changed no name", n)
			}

			s.env = append(s.env, "WALDEN_CLUSTERS_MAIN_STREAM_NAMES_INTERVAL=1s")
			p := s.stream()
			p.attached(s.pg)
			s.pg.Exec("CREATE TABLE passing (id int)")
			s.pg.WaitFor("a snapshot with it", func() bool { return len(s.names().List()) == 2 })
			s.pg.Exec("INSERT INTO orders SELECT i, 'x' FROM generate_series(1, 1000) i")
			s.pg.Exec("CREATE TEMPORARY TABLE mine AS SELECT * FROM orders")
			s.pg.Exec("VACUUM ANALYZE orders")
			time.Sleep(3 * time.Second) // three looks
			if n := len(s.names().List()); n != 2 {
				t.Errorf("%d snapshots, without a change of names", n)
			}
			node, err := strconv.ParseUint(s.pg.QueryValue("SELECT relfilenode FROM pg_class WHERE relname = 'passing'"), 10, 32)
			check(t, err)
			s.pg.Exec("DROP TABLE passing")
			at, err := wal.ParseLSN(s.pg.LSN())
			check(t, err)
			s.pg.WaitFor("a snapshot without it", func() bool { return len(s.names().List()) == 3 })
			v := s.names().Resolver(t.Context(), wal.History{Timeline: 1})
			if n, ok := v.Relation(5, 1663, uint32(node), at); !ok || n.String() != "public.passing" || n.Database != "postgres" {
				t.Errorf("%+v, %v, %v", n, ok, v.Err())
			}
			p.stop(0)
			if text := p.stderr.String(); strings.Count(text, "a snapshot of names was stored") != 2 || strings.Contains(text, "level=WARN") {
				t.Error(text)
			}
		})
	}
}

// TestNamesAreNotNeeded: what cannot be read is told, and fails neither backup nor stream.
func TestNamesAreNotNeeded(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE DATABASE private")
	s.pg.Exec("CREATE ROLE walden LOGIN REPLICATION IN ROLE pg_monitor")
	s.pg.Exec("REVOKE CONNECT ON DATABASE private FROM PUBLIC")
	s.env = append(s.env, "WALDEN_CLUSTERS_MAIN_CONNECTION="+s.pg.Conninfo("postgres")+" user=walden", "WALDEN_CLUSTERS_MAIN_STREAM_NAMES_INTERVAL=1s")
	const want = `the names in database private cannot be read: permission denied for database "private"`
	var manifest struct{ Warnings []string }
	s.run("backup", "--checkpoint", "fast", "--json").ok(t).says(t, want).json(t, &manifest)
	if b, _ := json.Marshal(manifest.Warnings); !strings.Contains(string(b), "the names in database private cannot be read") {
		t.Errorf("%s", b)
	}
	var checked struct {
		Findings []struct{ Probe, Status, Detail, Hint string }
	}
	s.run("check", "--archive-timeout", "0", "--json").json(t, &checked)
	found := false
	for _, f := range checked.Findings {
		found = found || f.Probe == "names" && f.Status == "warn" && strings.HasPrefix(f.Detail, want) && f.Hint == "GRANT CONNECT ON DATABASE private TO walden"
	}
	if !found {
		t.Errorf("%+v", checked)
	}
	p := s.stream()
	p.attached(s.pg)
	time.Sleep(3 * time.Second)
	p.stop(0)
	if text := p.stderr.String(); strings.Count(text, "the names in database private cannot be read") != 1 {
		t.Error(text)
	}

	s.env = append(s.env, "WALDEN_CLUSTERS_MAIN_STREAM_NAMES_INTERVAL=off")
	n := len(s.names().List())
	s.pg.Exec("CREATE TABLE unseen (i int)")
	p = s.stream()
	p.attached(s.pg)
	time.Sleep(2 * time.Second)
	p.stop(0)
	if more := len(s.names().List()); more != n {
		t.Errorf("%d snapshots were taken with names_interval: off", more-n)
	}
}
