//go:build unix

package integration

import (
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestRestoreBesideTablespace restores on the machine of the original, on which the WAL creates a tablespace at a place
// where the original's files are: they are not touched. Before the record, and where no cluster has files, all is well.
func TestRestoreBesideTablespace(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest(), store: fileStore})
	s.pg.Psql("CREATE TABLE near AS SELECT 1 AS i;")
	s.backup()
	space := filepath.Join(s.dir, "space")
	pgtest.MkdirAll(t, space)
	s.pg.Psql("INSERT INTO near VALUES (2); SELECT pg_create_restore_point('before');")
	s.pg.Psql("CREATE TABLESPACE space LOCATION '" + space + "';")
	s.pg.Psql("CREATE TABLE far TABLESPACE space AS SELECT generate_series(1, 1000) AS i; SELECT pg_create_restore_point('there');")
	s.pg.Psql("TRUNCATE far; INSERT INTO far VALUES (1); CHECKPOINT; SELECT pg_create_restore_point('after');")
	s.archiveAll()
	files := tree(t, space)

	dir := filepath.Join(s.dir, "refused")
	s.run("restore", "--start", "--pg-bin", s.pg.BinDir(), "--name", "after", "--to", dir).exits(t, 1).says(t, "creates tablespace", space, "--take-tablespaces")
	if now := tree(t, space); now != files {
		t.Fatalf("the original's tablespace has changed:\n%s\nit was\n%s", now, files)
	}
	if got := s.pg.QueryValue("SELECT count(*) FROM far"); got != "1" {
		t.Errorf("the original's table has %s rows", got)
	}
	if got := s.countAt("before", "--name before", "postgres", "SELECT count(*) FROM near"); got != "2" {
		t.Errorf("before the tablespace: %q rows", got)
	}

	s.pg.Psql("DROP TABLE far;")
	s.pg.Psql("DROP TABLESPACE space;")
	const count = "SELECT count(*) FROM far"
	if got := s.countAt("there", "--name there", "postgres", count); got != "1000" {
		t.Errorf("where no cluster has files: %q rows", got)
	}
	// The server that has created it replays the record again when it is started again.
	there := filepath.Join(s.dir, "there")
	s.pg.Run("pg_ctl", "-D", there, "-w", "-o", "-c listen_addresses='' -c unix_socket_directories='"+there+"'", "-l", there+".again", "start")
	s.pg.Run("pg_ctl", "-D", there, "-m", "immediate", "-w", "stop")
	s.run("restore", "--start", "--pg-bin", s.pg.BinDir(), "--name", "there", "--to", filepath.Join(s.dir, "third")).exits(t, 1).says(t, "creates tablespace")
	if got := s.countAt("taken", "--take-tablespaces --name there", "postgres", count); got != "1000" {
		t.Errorf("in a tablespace that is taken: %q rows", got)
	}
}
