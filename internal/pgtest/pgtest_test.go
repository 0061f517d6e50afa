//go:build unix

package pgtest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestMajors starts every major and asks it what it is.
func TestMajors(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{
				Major:         major,
				SegmentSizeMB: 1,
				DataChecksums: true,
				Settings:      map[string]string{"cluster_name": "it's"},
			})
			for sql, want := range map[string]string{
				"SELECT current_setting('server_version_num')::int / 10000": strconv.Itoa(major),
				"SHOW wal_segment_size": "1MB",
				"SHOW data_checksums":   "on",
				"SHOW cluster_name":     "it's",
				"SHOW data_directory":   c.DataDir(),
				"SELECT $1::int + 1":    "42",
			} {
				var args []any
				if strings.Contains(sql, "$1") {
					args = append(args, 41)
				}
				if got := c.QueryValue(sql, args...); got != want {
					t.Errorf("%s: got %q, want %q", sql, got, want)
				}
			}
			if got := c.Psql("\\echo hello\nSELECT 1;"); got != "hello\n1\n" {
				t.Errorf("psql: got %q", got)
			}
			for _, tool := range []string{"pg_waldump", "pg_verifybackup", "pg_amcheck", "pg_basebackup", "pg_controldata", "pgbench"} {
				if out := c.Run(tool, "--version"); !strings.Contains(out, fmt.Sprintf(") %d", major)) {
					t.Errorf("%s --version: %q", tool, out)
				}
			}
		})
	}
}

func TestDefaultsAreAlikeOnAllMajors(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major})
			if got := c.QueryValue("SHOW data_checksums"); got != "off" {
				t.Errorf("data_checksums: %s", got)
			}
			if got := c.QueryValue("SHOW wal_segment_size"); got != "16MB" {
				t.Errorf("wal_segment_size: %s", got)
			}
		})
	}
}

// TestKillLosesNothingCommitted kills a loaded server and starts it again.
func TestKillLosesNothingCommitted(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1})
	c.PgbenchInit(1)
	load := c.PgbenchStart("-c", "4", "-N")
	c.WaitFor("the first transactions", func() bool {
		return c.QueryValue("SELECT count(*) > 20 FROM pgbench_history") == "t"
	})
	c.Exec("CREATE TABLE kept AS SELECT 1 AS i")
	pid := c.PID()
	c.Kill()
	load.Abandon()
	if c.Running() || pid == 0 {
		t.Fatalf("running after the kill; pid was %d", pid)
	}
	c.Start()
	if got := c.QueryValue("SELECT i FROM kept"); got != "1" {
		t.Errorf("got %q", got)
	}
	if log := c.Log(); !strings.Contains(log, "automatic recovery in progress") {
		t.Errorf("no crash recovery in the log:\n%s", log)
	}
}

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	p := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1})
	dir := p.Tablespace("fast")
	p.Exec("CREATE TABLE t (i int) TABLESPACE fast")
	s := p.Standby("one")
	p.Exec("INSERT INTO t VALUES (7)")
	s.WaitReplayed(p)
	if got := s.QueryValue("SELECT i FROM t"); got != "7" {
		t.Errorf("on the standby: %q", got)
	}
	if got := s.QueryValue("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'"); got == dir {
		t.Errorf("the standby uses the primary's tablespace %s", got)
	}
	s.Promote()
	s.Exec("INSERT INTO t VALUES (8)")
	if got := s.Timeline(); got != 2 {
		t.Errorf("timeline %d after promotion", got)
	}
}

// TestArchiving uses an archive_command and reads its result as another user.
func TestArchiving(t *testing.T) {
	archive := pgtest.TempDir(t)
	c := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1, Settings: map[string]string{
		"archive_mode":    "on",
		"archive_command": "cp %p " + archive + "/%f",
	}})
	name := c.SwitchWAL()
	c.WaitArchived(name)
	st, err := os.Stat(filepath.Join(archive, name))
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != 1<<20 {
		t.Errorf("%s has %d bytes", name, st.Size())
	}
}

func TestStoppedServerSaysSo(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{NoStart: true})
	if c.Running() {
		t.Fatal("runs although NoStart")
	}
	c.Configure(map[string]string{"no_such_setting": "1"})
	c.Launch()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.WaitReady(ctx); err == nil || ctx.Err() != nil {
		t.Fatalf("a server with a wrong setting: %v", err)
	}
	if log := c.Log(); !strings.Contains(log, "no_such_setting") {
		t.Errorf("log: %s", log)
	}
}

// TestShare runs a program that lies where the server user cannot enter.
func TestShare(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("words"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := pgtest.Command(t.Context(), "cat", pgtest.Share(t, secret)).CombinedOutput()
	if err != nil || string(out) != "words" {
		t.Fatalf("cat: %v: %s", err, out)
	}
}
