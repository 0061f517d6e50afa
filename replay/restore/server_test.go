//go:build unix

package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/basebackup/protocol"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/restore"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// site is a server with a tablespace and a pg_hba.conf outside its data
// directory, one backup, and a directory with its WAL.
type site struct {
	*pgtest.Cluster
	repo     *repository.Repository
	inc      archive.Incarnation
	manifest *basebackup.Manifest
	space    string // the tablespace's location
	wal      string
}

func newSite(t *testing.T, major int) *site {
	t.Helper()
	base := pgtest.TempDir(t)
	hba := filepath.Join(base, "hba.conf")
	if err := os.WriteFile(hba, []byte("local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &site{space: filepath.Join(base, "space"), wal: filepath.Join(base, "wal")}
	pgtest.MkdirAll(t, s.space)
	pgtest.MkdirAll(t, s.wal)
	s.Cluster = pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, DataChecksums: true, Settings: map[string]string{
		"hba_file": hba, "wal_keep_size": "64MB", "synchronous_standby_names": "nobody", "synchronous_commit": "local",
	}})
	s.Exec("create tablespace space location '" + s.space + "'")
	s.Exec("create table t (n int)")
	s.Exec("create table apart (n int primary key) tablespace space")
	s.Exec("insert into apart select generate_series(1, 20000)")
	s.Exec("create unlogged table gone (n int)")
	s.backup(t)
	s.Exec("insert into t values (1)")
	s.Exec("select pg_create_restore_point('one')")
	s.Exec("insert into t values (2)")
	s.SwitchWAL()
	s.Run("sh", "-c", "cp "+s.DataDir()+"/pg_wal/0* "+s.wal)
	return s
}

func (s *site) backup(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if s.repo, _, err = repository.Init(ctx, mem.New(), repository.Options{}); err != nil {
		t.Fatal(err)
	}
	source, err := protocol.New(protocol.Options{Conninfo: s.Conninfo("")})
	if err != nil {
		t.Fatal(err)
	}
	id, err := source.Identify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.inc, _, err = archive.CreateIncarnation(ctx, s.repo, "main", id.SystemID, id.SegmentSize, s.Major()); err != nil {
		t.Fatal(err)
	}
	s.manifest, err = basebackup.Take(ctx, basebackup.Options{
		Repo: s.repo, Archive: archive.New(s.repo, s.inc), Incarnation: s.inc, Source: source, Server: source,
		Checkpoint: basebackup.CheckpointFast, WALTimeout: 30 * time.Second, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) plan(settings ...plan.Setting) *plan.Plan {
	return &plan.Plan{
		Cluster: "main", Incarnation: s.inc.Number, SystemID: s.inc.SystemID, Target: "a test's target",
		Backup: catalog.Backup{ID: s.manifest.ID}, Timeline: 1, Settings: settings,
	}
}

func (s *site) options(t *testing.T) restore.Options {
	base := pgtest.TempDir(t)
	return restore.Options{
		To: filepath.Join(base, "data"), Tablespaces: map[string]string{s.space: filepath.Join(base, "space")},
		RestoreCommand: "cp " + s.wal + "/%f %p",
	}
}

// A backup of a real server is restored, passes PostgreSQL's own verification,
// and recovers to where the plan says.
func TestAgainstServers(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, major)
			t.Run("name", func(t *testing.T) { s.testName(t) })
			t.Run("latest", func(t *testing.T) { s.testLatest(t) })
		})
	}
}

func (s *site) testName(t *testing.T) {
	o := s.options(t)
	got, err := restore.Run(t.Context(), s.repo, s.plan(plan.Setting{Name: "recovery_target_name", Value: "one"},
		plan.Setting{Name: "recovery_target_timeline", Value: "latest"}), o)
	if err != nil {
		t.Fatal(err)
	}
	s.With(t).Run("pg_verifybackup", "-n", got.Directory)
	if got.ConfigDirectory == "" || len(got.Tablespaces) != 1 || got.Tablespaces[0].From != s.space {
		t.Errorf("%+v", got)
	}
	outcome := s.recover(t, got)
	if outcome.State != recovery.PausedAtTarget || outcome.Stop.Name != "one" || !outcome.LSNExact {
		t.Errorf("%+v", outcome)
	}
	if rows := s.rows(t, outcome, "select string_agg(n::text, ',') from t"); rows != "1" {
		t.Errorf("rows %s", rows)
	}
	if rows := s.rows(t, outcome, "select count(*), sum(n) from apart"); rows != "20000|200010000" {
		t.Errorf("rows in the tablespace: %s", rows)
	}
	for setting, want := range map[string]string{
		"archive_mode": "off", "synchronous_standby_names": "", "hba_file": filepath.Join(got.ConfigDirectory, "pg_hba.conf"),
		"data_directory": got.Directory, "restore_command": o.RestoreCommand,
	} {
		if value := s.rows(t, outcome, "show "+setting); value != want {
			t.Errorf("%s is %q", setting, value)
		}
	}
	if _, err := restore.Run(t.Context(), s.repo, s.plan(), o); err == nil || !strings.Contains(err.Error(), "server is running") {
		t.Errorf("a restore over a running server: %v", err)
	}
}

func (s *site) testLatest(t *testing.T) {
	o := s.options(t)
	o.Action = restore.ActionPromote
	got, err := restore.Run(t.Context(), s.repo, s.plan(plan.Setting{Name: "recovery_target_timeline", Value: "latest"}), o)
	if err != nil {
		t.Fatal(err)
	}
	outcome := s.recover(t, got)
	if outcome.State != recovery.Promoted || outcome.NewTimeline != 2 {
		t.Errorf("%+v", outcome)
	}
	if rows := s.rows(t, outcome, "select string_agg(n::text, ',' order by n) from t"); rows != "1,2" {
		t.Errorf("rows %s", rows)
	}
	psql := s.With(t)
	psql.Run("pg_amcheck", "-h", outcome.Server.SocketDirectory, "-p", fmt.Sprint(outcome.Server.Port), "-U", "postgres",
		"--all", "--install-missing", "--heapallindexed")
}

func (s *site) recover(t *testing.T, restored *restore.Result) *recovery.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	t.Cleanup(func() {
		if v, alive := recovery.RunningServer(restored.Directory); alive {
			syscall.Kill(v.PID, syscall.SIGQUIT)
			for range 100 {
				if _, alive = recovery.RunningServer(restored.Directory); !alive {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		if t.Failed() {
			log, _ := os.ReadFile(restored.Directory + ".log")
			t.Logf("log of the server:\n%s", log)
		}
	})
	outcome, err := recovery.Run(ctx, recovery.Options{Directory: restored.Directory, BinDir: s.BinDir(), User: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

func (s *site) rows(t *testing.T, outcome *recovery.Outcome, query string) string {
	t.Helper()
	return strings.TrimSpace(s.With(t).Run("psql", "-h", outcome.Server.SocketDirectory, "-p", fmt.Sprint(outcome.Server.Port),
		"-U", "postgres", "-XAtc", query))
}
