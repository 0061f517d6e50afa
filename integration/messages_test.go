//go:build unix

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestMessages: what goes wrong in an installation is told with what to do.
func TestMessages(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.backup()

	with := func(t *testing.T, env ...string) *site {
		t.Helper()
		c := *s
		c.env = env
		c.t = t
		return &c
	}
	t.Run("wrong password", func(t *testing.T) {
		s.pg.Exec("CREATE ROLE secretive LOGIN REPLICATION PASSWORD 'right'")
		hba := filepath.Join(s.pg.DataDir(), "pg_hba.conf")
		old, err := os.ReadFile(hba)
		check(t, err)
		check(t, os.WriteFile(hba, append([]byte("host all secretive 127.0.0.1/32 scram-sha-256\nhost replication secretive 127.0.0.1/32 scram-sha-256\n"), old...), 0o600))
		s.pg.Reload()
		c := with(t, fmt.Sprintf("WALDEN_CLUSTERS_MAIN_CONNECTION=host=127.0.0.1 port=%d user=secretive password=pw-in-clear", s.pg.Port()))
		r := c.run("backup").exits(t, 1).says(t, "password", "hint:", "passfile")
		if strings.Contains(r.stderr, "pw-in-clear") {
			t.Errorf("the message shows the password: %s", r.stderr)
		}
	})
	t.Run("no replication right", func(t *testing.T) {
		s.pg.Exec("CREATE ROLE plain LOGIN")
		c := with(t, fmt.Sprintf("WALDEN_CLUSTERS_MAIN_CONNECTION=host=%s port=%d user=plain", s.pg.SocketDir(), s.pg.Port()))
		c.run("backup").exits(t, 1).says(t, "hint:", "REPLICATION")
	})
	t.Run("no server", func(t *testing.T) {
		with(t, "WALDEN_CLUSTERS_MAIN_CONNECTION=host=/nonexistent").run("backup").exits(t, 1).says(t, "/nonexistent", "hint:")
	})
	t.Run("no repository directory", func(t *testing.T) {
		with(t, "WALDEN_REPOSITORY_URL=file:///nonexistent/walden").run("list").exits(t, 1).says(t, "/nonexistent/walden", "hint:", "mounted")
	})
	t.Run("no repository in the directory", func(t *testing.T) {
		with(t, "WALDEN_REPOSITORY_URL=file://"+pgtest.TempDir(t)).run("list").exits(t, 4).says(t, "hint:")
	})
	t.Run("unreachable bucket", func(t *testing.T) {
		c := with(t, "WALDEN_REPOSITORY_URL=s3://bucket/x", "WALDEN_REPOSITORY_S3_ENDPOINT=http://127.0.0.1:1", "WALDEN_REPOSITORY_S3_PATH_STYLE=true",
			"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "WALDEN_REPOSITORY_RETRY=1s")
		c.run("list").exits(t, 1).says(t, "127.0.0.1:1", "hint:")
	})
	t.Run("unknown key", func(t *testing.T) {
		b, err := os.ReadFile(s.config)
		check(t, err)
		bad := filepath.Join(s.dir, "bad.yaml")
		check(t, os.WriteFile(bad, append(b, []byte("colour: red\n")...), 0o644))
		s.run("list", "--config", bad).exits(t, 1).says(t, bad, "line ", "column 1: unknown key \"colour\"")
	})
	t.Run("a time without an offset", func(t *testing.T) {
		s.run("plan", "--time", "2026-11-22 10:02:00").exits(t, 2).says(t, "offset", "hint:", "2026-11-22 10:02:00+00:00")
	})
	t.Run("no such backup", func(t *testing.T) {
		s.run("plan", "--immediate", "--backup", "20200101T000000Z-none").exits(t, 4).says(t, "20200101T000000Z-none", "hint:")
	})
	t.Run("no such cluster", func(t *testing.T) {
		s.run("list", "--cluster", "other").exits(t, 4).says(t, "other", "hint:")
	})
	t.Run("repository not writable", func(t *testing.T) {
		check(t, os.Chmod(filepath.Join(s.objects, "main"), 0o500))
		defer func() { check(t, os.Chmod(filepath.Join(s.objects, "main"), 0o700)) }()
		inc := onlyEntry(t, filepath.Join(s.objects, "main"))
		check(t, os.Chmod(inc, 0o500))
		defer func() { check(t, os.Chmod(inc, 0o700)) }()
		backups := filepath.Join(inc, "backups")
		check(t, os.Chmod(backups, 0o500))
		defer func() { check(t, os.Chmod(backups, 0o700)) }()
		s.run("backup", "--checkpoint", "fast").exits(t, 1).says(t, "permission denied", "hint:")
	})
	t.Run("target not writable", func(t *testing.T) {
		s.run("restore", "--immediate", "--to", "/proc/restored").exits(t, 1).says(t, "/proc/restored")
	})
}

func onlyEntry(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 {
		t.Fatalf("%s has %d entries", dir, len(entries))
	}
	return filepath.Join(dir, entries[0].Name())
}

// TestFullDisk fills a small filesystem: push, backup and restore say so,
// leave nothing that looks whole, and work once there is space.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small filesystem")
	}
	if _, err := exec.LookPath("mount"); err != nil {
		pgtest.Missing(t, "%v", err)
	}
	small := filepath.Join(pgtest.TempDir(t), "small")
	check(t, os.Mkdir(small, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=18m", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("a small filesystem cannot be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { check(t, exec.Command("umount", "-l", small).Run()) })
	pgtest.Chown(t, small)

	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.backup()
	dir := filepath.Join(small, "restored")
	s.run("restore", "--immediate", "--to", dir).exits(t, 1).says(t, "18 MiB free", "hint:")

	ballast := filepath.Join(small, "ballast")
	check(t, os.WriteFile(ballast, make([]byte, 16<<20), 0o644))
	c := *s
	c.env = []string{"WALDEN_REPOSITORY_URL=file://" + small + "/repo"}
	c.run("init").ok(t)
	c.run("backup", "--checkpoint", "fast").exits(t, 1).says(t, "no space left", "hint:")
	var list struct {
		Backups []struct{ ID string } `json:"backups"`
	}
	c.run("list", "--json").ok(t).json(t, &list)
	if len(list.Backups) != 0 {
		t.Errorf("a backup that met a full disk is listed: %+v", list.Backups)
	}
	check(t, os.Remove(ballast))
	c.run("backup", "--checkpoint", "fast", "--wal-timeout", "1s").ok(t)
}
