//go:build unix

package basebackup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/basebackup/protocol"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// site is a real server and a repository.
type site struct {
	t      *testing.T
	server *pgtest.Cluster
	source *protocol.Server
	repo   *repository.Repository
	inc    archive.Incarnation
	wal    *archive.Archive
}

func newSite(t *testing.T, server *pgtest.Cluster, conninfo string) *site {
	t.Helper()
	ctx := context.Background()
	repo, _, err := repository.Init(ctx, mem.New(), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, server: server, repo: repo}
	s.connect(conninfo)
	id, err := s.source.Identify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.inc, _, err = archive.CreateIncarnation(ctx, repo, "main", id.SystemID, id.SegmentSize, id.ServerVersion/10000)
	if err != nil {
		t.Fatal(err)
	}
	s.wal = archive.New(repo, s.inc)
	return s
}

func (s *site) connect(conninfo string) {
	s.t.Helper()
	var err error
	if s.source, err = protocol.New(protocol.Options{Conninfo: conninfo}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) options() basebackup.Options {
	return basebackup.Options{
		Repo: s.repo, Archive: s.wal, Incarnation: s.inc, Source: s.source, Server: s.source,
		Checkpoint: basebackup.CheckpointFast, WALTimeout: 20 * time.Second, Version: "test",
	}
}

func (s *site) take(o basebackup.Options) *basebackup.Manifest {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	m, err := basebackup.Take(ctx, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// restore writes the backup to a directory, tablespaces and all, and the WAL
// it needs to pg_wal. It returns the directory and the configuration files.
func (s *site) restore(m *basebackup.Manifest) (dir string, configs map[string]string) {
	s.t.Helper()
	ctx := context.Background()
	dir = filepath.Join(pgtest.TempDir(s.t), "restored")
	pgtest.MkdirAll(s.t, dir)
	pgtest.MkdirAll(s.t, filepath.Join(dir, "pg_tblspc"))
	for _, space := range m.Tablespaces {
		if space.InPlace {
			continue
		}
		if err := os.Symlink(pgtest.TempDir(s.t), filepath.Join(dir, "pg_tblspc", fmt.Sprint(space.OID))); err != nil {
			s.t.Fatal(err)
		}
	}
	configs = map[string]string{}
	for e, err := range basebackup.ReadFiles(ctx, s.repo, s.inc, m) {
		if err != nil {
			s.t.Fatal(err)
		}
		s.restoreEntry(m, dir, e, configs)
	}
	for _, r := range m.WALRanges {
		for n := m.SegmentSize.Number(r.Start); n <= m.SegmentSize.PrevNumber(r.End); n++ {
			name := wal.Segment{Timeline: r.Timeline, Number: n, Size: m.SegmentSize}.Name()
			if err := s.wal.Fetch(ctx, name, filepath.Join(dir, "pg_wal", name)); err != nil {
				s.t.Fatal(err)
			}
			pgtest.Chown(s.t, filepath.Join(dir, "pg_wal", name))
		}
	}
	return dir, configs
}

func (s *site) restoreEntry(m *basebackup.Manifest, dir string, e basebackup.FileEntry, configs map[string]string) {
	s.t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(e.Path))
	var err error
	switch e.Kind {
	case basebackup.KindDir:
		pgtest.MkdirAll(s.t, path)
		err = os.Chmod(path, os.FileMode(e.Mode))
	case basebackup.KindSymlink:
		// The tablespace's own files come before its link.
		if _, err = os.Readlink(path); err == nil && !slices.ContainsFunc(m.Tablespaces, func(t basebackup.Tablespace) bool { return t.Location == e.Target }) {
			err = fmt.Errorf("no tablespace is at %s", e.Target)
		}
	default:
		r := basebackup.OpenFile(context.Background(), s.repo, s.inc, m, e)
		defer r.Close()
		var b []byte
		if b, err = io.ReadAll(r); err != nil {
			break
		}
		if e.Kind == basebackup.KindConfig {
			configs[e.Path] = string(b)
			return
		}
		pgtest.MkdirAll(s.t, filepath.Dir(path))
		err = os.WriteFile(path, b, os.FileMode(e.Mode))
		pgtest.Chown(s.t, path)
	}
	if err != nil {
		s.t.Fatalf("restore %s: %v", e.Path, err)
	}
}

// verify restores the backup and lets PostgreSQL judge it: pg_verifybackup,
// then a server that recovers from it. The server is returned.
func (s *site) verify(m *basebackup.Manifest) *pgtest.Cluster {
	s.t.Helper()
	dir, _ := s.restore(m)
	restored := s.server.With(s.t).AttachRestored(dir)
	restored.Run("pg_verifybackup", "-n", "-e", dir)
	restored.Start()
	return restored
}

func forAllMajors(t *testing.T, f func(t *testing.T, major int)) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) { f(t, major) })
	}
}

// forEdgeMajors is for what hardly depends on the major: the oldest and the newest.
func forEdgeMajors(t *testing.T, f func(t *testing.T, major int)) {
	majors := pgtest.Majors()
	for _, major := range slices.Compact([]int{majors[0], majors[len(majors)-1]}) {
		t.Run(fmt.Sprint(major), func(t *testing.T) { f(t, major) })
	}
}

// TestBackupOfServer: archive_mode off, a tablespace, files that span packs,
// configuration files elsewhere, writes going on all the while.
func TestBackupOfServer(t *testing.T) {
	forAllMajors(t, func(t *testing.T, major int) {
		etc := pgtest.TempDir(t)
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, DataChecksums: true, NoStart: true})
		hba := moveAway(t, filepath.Join(c.DataDir(), "pg_hba.conf"), etc)
		ident := moveAway(t, filepath.Join(c.DataDir(), "pg_ident.conf"), etc)
		extra := filepath.Join(etc, "extra.conf")
		writeFile(t, extra, "work_mem = '5MB'\n")
		c.Configure(map[string]string{"hba_file": hba, "ident_file": ident, "archive_mode": "off"})
		appendFile(t, filepath.Join(c.DataDir(), "postgresql.conf"), "include '"+extra+"'\n")
		c.Start()
		c.Tablespace("fast")
		c.PgbenchInit(2)
		c.Exec("CREATE TABLE elsewhere TABLESPACE fast AS SELECT g, md5(g::text) FROM generate_series(1, 1000) g")
		c.Exec("CREATE UNLOGGED TABLE fleeting AS SELECT 1")
		load := c.PgbenchStart("-c", "2")
		defer load.Stop()

		s := newSite(t, c, c.Conninfo(""))
		o := s.options().WithPackSize(4 << 20)
		var last basebackup.Progress
		o.Progress = func(p basebackup.Progress) { last = p }
		m := s.take(o)
		if len(m.Packs) < 5 || m.Files < 900 || last.Done != m.Bytes || last.Total == 0 || last.Files != m.Files {
			t.Errorf("%d packs, %d files, progress %+v", len(m.Packs), m.Files, last)
		}
		if len(m.Warnings) != 0 {
			t.Errorf("warnings %q", m.Warnings)
		}
		if m.FromStandby || m.Major != major || m.Settings["data_checksums"] != "on" || m.Settings["max_connections"] == "" || len(m.Tablespaces) != 1 {
			t.Errorf("manifest %+v", m)
		}
		if !slices.Equal(m.ConfigFiles, slices.Sorted(slices.Values([]string{extra, hba, ident}))) {
			t.Errorf("configuration files %q", m.ConfigFiles)
		}
		if slots := c.Query("SELECT slot_name FROM pg_replication_slots"); len(slots) != 0 {
			t.Errorf("slots are left: %v", slots)
		}
		dir, configs := s.restore(m)
		if configs[extra] != "work_mem = '5MB'\n" || !strings.Contains(configs[hba], "trust") {
			t.Errorf("configuration files %v", configs)
		}
		restored := c.AttachRestored(dir)
		restored.Run("pg_verifybackup", "-n", "-e", dir)
		restored.Start()
		if n := restored.QueryValue("SELECT count(*) FROM elsewhere"); n != "1000" {
			t.Errorf("%s rows in the tablespace", n)
		}
		if n := restored.QueryValue("SELECT count(*) FROM pgbench_accounts"); n != "200000" {
			t.Errorf("%s accounts", n)
		}
		restored.Run("pg_amcheck", "-d", "postgres", "--install-missing", "--heapallindexed", "-h", restored.SocketDir(), "-p", fmt.Sprint(restored.Port()), "-U", "postgres")
	})
}

func moveAway(t *testing.T, path, dir string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(path))
	writeFile(t, to, string(b))
	return to
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Chown(t, path)
}

func appendFile(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
}

// TestBackupWithArchiving: the WAL comes through the archive, late, or not at all.
func TestBackupWithArchiving(t *testing.T) {
	forEdgeMajors(t, func(t *testing.T, major int) {
		out := pgtest.TempDir(t)
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
			"archive_mode": "on", "archive_command": "test -e " + out + "/go && cp %p " + out + "/part && mv " + out + "/part " + out + "/%f",
		}})
		c.PgbenchInit(1)
		s := newSite(t, c, c.Conninfo(""))

		// archive_command fails: in the end the WAL is fetched.
		o := s.options()
		o.WALTimeout = 3 * time.Second
		waited := false
		o.Progress = func(p basebackup.Progress) {
			waited = waited || strings.Contains(p.Message, "to be archived")
		}
		m := s.take(o)
		if !waited {
			t.Error("nothing was said about the wait for the archive")
		}
		s.verify(m)

		// archive_command works.
		writeFile(t, filepath.Join(out, "go"), "")
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.pushAll(ctx, out) }()
		m = s.take(s.options())
		cancel()
		<-done
		s.verify(m)
	})
}

// pushAll archives what archive_command leaves in dir, until ctx is done.
func (s *site) pushAll(ctx context.Context, dir string) {
	pushed := map[string]bool{}
	for ctx.Err() == nil {
		names, _ := filepath.Glob(filepath.Join(dir, "0*"))
		for _, name := range names {
			if pushed[name] {
				continue
			}
			if _, err := s.wal.Push(context.WithoutCancel(ctx), name, archive.PushOptions{}); err != nil {
				s.t.Errorf("push %s: %v", name, err)
			}
			pushed[name] = true
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestBackupOfStandby: the last segment is complete only when the primary says so.
func TestBackupOfStandby(t *testing.T) {
	forAllMajors(t, func(t *testing.T, major int) {
		c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{"archive_mode": "off"}})
		c.Tablespace("fast")
		c.PgbenchInit(1)
		standby := c.Standby("mirror")
		c.Exec("CREATE TABLE late TABLESPACE fast AS SELECT 42 AS answer")
		c.Exec("CHECKPOINT")
		standby.WaitReplayed(c)
		standby.Exec("CHECKPOINT")
		s := newSite(t, c, standby.Conninfo(""))

		if id, err := s.source.Identify(context.Background()); err != nil || !id.InRecovery || id.Archives() {
			t.Errorf("identity %+v, %v", id, err)
		}
		o := s.options()
		o.WALTimeout = 2 * time.Second
		var failed *basebackup.WALError
		if _, err := basebackup.Take(context.Background(), o); !errors.As(err, &failed) || !strings.Contains(failed.Hint(), "pg_switch_wal") {
			t.Errorf("on an idle primary: error %v", err)
		}

		o.WALTimeout = 30 * time.Second
		switched := false
		wanted := make(chan struct{})
		o.Progress = func(p basebackup.Progress) {
			if p.Phase == basebackup.PhaseWAL && strings.Contains(p.Message, "pg_switch_wal") && !switched {
				switched = true
				close(wanted)
			}
		}
		go func() {
			<-wanted
			_ = c.TryExec(context.Background(), "postgres", "SELECT pg_switch_wal()")
		}()
		m := s.take(o)
		if !m.FromStandby || m.StopLSN <= m.StartLSN {
			t.Errorf("manifest %+v", m)
		}
		restored := s.verify(m)
		if got := restored.QueryValue("SELECT answer FROM late"); got != "42" {
			t.Errorf("the table holds %q", got)
		}
	})
}

// TestBackupAfterPromotion: a timeline with a history that the archive lacks.
func TestBackupAfterPromotion(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Newest(), SegmentSizeMB: 1})
	standby := c.Standby("heir")
	c.Exec("CREATE TABLE t AS SELECT 1")
	standby.WaitReplayed(c)
	c.Stop(pgtest.StopMode(2)) // fast
	standby.Promote()
	s := newSite(t, standby, standby.Conninfo(""))
	m := s.take(s.options())
	histories, err := s.wal.Histories(context.Background())
	if err != nil || len(histories) != 1 || m.Timeline != 2 || histories[2].Timeline != 2 {
		t.Errorf("histories %+v, %v; timeline %d", histories, err, m.Timeline)
	}
	s.verify(m)
}
