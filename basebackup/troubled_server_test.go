//go:build unix

package basebackup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/pgtest"
)

func TestDamagedPages(t *testing.T) {
	forEdgeMajors(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, DataChecksums: true})
		c.PgbenchInit(1)
		path := c.QueryValue("SELECT pg_relation_filepath('pgbench_accounts')")
		c.Stop(pgtest.StopMode(2))
		f, err := os.OpenFile(filepath.Join(c.DataDir(), path), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("damage"), 3*8192+4000); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		c.Start()
		s := newSite(t, c, c.Conninfo(""))
		var damaged *basebackup.ChecksumError
		_, err = basebackup.Take(context.Background(), s.options())
		if !errors.As(err, &damaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "block 3") {
			t.Errorf("error %v", err)
		}
		list, err := basebackup.List(context.Background(), s.repo, s.inc)
		if err != nil || len(list.Backups)+len(list.Incomplete) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestHumbleRole: with REPLICATION alone a backup works, and says what it lacks.
func TestHumbleRole(t *testing.T) {
	forEdgeMajors(t, func(t *testing.T, major int) {
		etc := pgtest.TempDir(t)
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, NoStart: true})
		ident := moveAway(t, filepath.Join(c.DataDir(), "pg_ident.conf"), etc)
		c.Configure(map[string]string{"ident_file": ident})
		c.Start()
		c.Exec("CREATE ROLE humble LOGIN REPLICATION")
		conninfo := fmt.Sprintf("host=%s port=%d user=humble sslmode=disable", c.SocketDir(), c.Port())
		s := newSite(t, c, conninfo)
		m := s.take(s.options())
		if got := strings.Join(m.Warnings, "\n"); !strings.Contains(got, `GRANT pg_read_all_settings TO "humble"`) || len(m.ConfigFiles) != 0 {
			t.Errorf("warnings %s", got)
		}
		if m.Settings["max_connections"] == "" {
			t.Errorf("settings %v", m.Settings)
		}
		c.Exec("GRANT pg_read_all_settings TO humble")
		m = s.take(s.options())
		grants := grantsIn(m.Warnings)
		if len(grants) == 0 {
			t.Fatalf("warnings %q", m.Warnings)
		}
		for range 4 { // what the warnings say is what helps
			for _, g := range grants {
				c.Exec(g)
			}
			m = s.take(s.options())
			if grants = grantsIn(m.Warnings); len(grants) == 0 {
				break
			}
		}
		if len(m.Warnings) != 0 || !slices.Equal(m.ConfigFiles, []string{ident}) {
			t.Errorf("warnings %q, files %q", m.Warnings, m.ConfigFiles)
		}
		s.verify(m)
	})
}

// grantsIn finds the statements that warnings recommend.
func grantsIn(warnings []string) []string {
	var grants []string
	for _, w := range warnings {
		_, commands, _ := strings.Cut(w, "run: ")
		commands, _, _ = strings.Cut(commands, " (in database")
		for g := range strings.SplitSeq(commands, "; ") {
			if strings.HasPrefix(g, "GRANT ") {
				grants = append(grants, g)
			}
		}
	}
	return grants
}

// TestInPlaceTablespace is a directory within pg_tblspc.
func TestInPlaceTablespace(t *testing.T) {
	forEdgeMajors(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{"allow_in_place_tablespaces": "on"}})
		c.Exec("CREATE TABLESPACE here LOCATION ''")
		c.Exec("CREATE TABLE t TABLESPACE here AS SELECT 42 AS answer")
		s := newSite(t, c, c.Conninfo(""))
		m := s.take(s.options())
		// PostgreSQL 15 does not name it: it sends a directory like any other.
		if major > 15 && (len(m.Tablespaces) != 1 || !m.Tablespaces[0].InPlace) {
			t.Errorf("tablespaces %+v", m.Tablespaces)
		}
		restored := s.verify(m)
		if got := restored.QueryValue("SELECT answer FROM t"); got != "42" {
			t.Errorf("the table holds %q", got)
		}
	})
}

// TestSlotIsLost: the connection that holds the slot is cut while files are
// copied, by an administrator or a firewall.
func TestSlotIsLost(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1, Settings: map[string]string{"idle_session_timeout": "100ms"}})
	c.PgbenchInit(1)
	// The limit is for Walden's connections: the test's own must not be cut
	// on a machine that is busy.
	c.Exec("ALTER ROLE postgres SET idle_session_timeout = 0; CREATE ROLE walden SUPERUSER LOGIN")
	s := newSite(t, c, fmt.Sprintf("host=%s port=%d user=walden dbname=postgres sslmode=disable", c.SocketDir(), c.Port()))
	o := s.options()
	cut := false
	o.Progress = func(p basebackup.Progress) {
		if p.Phase == basebackup.PhaseVerifying && !cut {
			cut = true
			if n := c.QueryValue("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots"); n != "1" {
				t.Errorf("%s slots", n)
			}
			c.WaitFor("the end of the slot", func() bool { return c.QueryValue("SELECT count(*) FROM pg_replication_slots") == "0" })
		}
	}
	s.verify(s.take(o))
	if !cut {
		t.Error("nothing was cut")
	}
}

// TestCancelOnServer: the server is left clean.
func TestCancelOnServer(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1})
	c.PgbenchInit(3)
	s := newSite(t, c, c.Conninfo(""))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := s.options()
	o.MaxRate = 1024
	var begin time.Time
	o.Progress = func(p basebackup.Progress) {
		if p.Done > 1<<20 && begin.IsZero() {
			begin = time.Now()
			cancel()
		}
	}
	if _, err := basebackup.Take(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("it took %s", d)
	}
	c.WaitFor("the end of all walsenders", func() bool {
		return c.QueryValue("SELECT (SELECT count(*) FROM pg_stat_replication) + (SELECT count(*) FROM pg_replication_slots)") == "0"
	})
	s.verify(s.take(s.options()))
}
