//go:build unix

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/s3test"
)

// commandTimeout bounds one run of walden; nothing here takes a tenth of it.
const commandTimeout = 3 * time.Minute

var builtBinary = sync.OnceValues(func() (string, error) {
	if p := os.Getenv("WALDEN_BINARY"); p != "" {
		return filepath.Abs(p)
	}
	dir, err := os.MkdirTemp("", "walden-bin")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "walden")
	cmd := exec.Command("go", "build", "-o", out, "github.com/walden-pg/walden/cmd/walden")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, b)
	}
	return out, errors.Join(os.Chmod(dir, 0o755), os.Chmod(out, 0o755))
})

// store names the kinds of repositories that tests run with.
type store string

const (
	fileStore store = "file"
	s3Store   store = "s3"
)

// site is one DBA's installation: a server, a repository and the walden that
// connects them.
type site struct {
	t      *testing.T
	pg     *pgtest.Cluster
	walden string // path of the binary
	dir    string // configuration, restored directories
	config string
	repo   string // URL
	// objects is the directory that holds the repository's objects, for
	// tests that damage them.
	objects string
	s3      *s3test.Server
	env     []string // for walden alone, NAME=VALUE
}

type siteOptions struct {
	major    int
	store    store
	settings map[string]string
	// noArchiving leaves archive_mode off.
	noArchiving bool
	segmentMB   int
	noChecksums bool
	initArgs    []string
}

// newSite starts a server, runs `walden init` and applies what it asks for.
func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	s := prepareSite(t, o)
	if o.segmentMB == 0 {
		o.segmentMB = 1
	}
	settings := map[string]string{
		"track_commit_timestamp": "on",
		"archive_mode":           "on",
		"wal_level":              "replica",
		"wal_keep_size":          "1GB",        // for pg_waldump, which reads the server's own
		"archive_command":        "/bin/false", // until init has said which
	}
	if o.noArchiving {
		settings["archive_mode"] = "off"
	}
	for k, v := range o.settings {
		settings[k] = v
	}
	s.pg = pgtest.New(t, pgtest.Options{Major: o.major, SegmentSizeMB: o.segmentMB, DataChecksums: !o.noChecksums, Settings: settings})
	s.init(o.initArgs...)
	return s
}

// prepareSite makes everything but the server.
func prepareSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	bin, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, walden: pgtest.Share(t, bin), dir: pgtest.TempDir(t)}
	s.config = filepath.Join(s.dir, "walden.yaml")
	switch o.store {
	case s3Store:
		srv := s3test.Start(t)
		s.s3 = srv
		s.repo = "s3://" + srv.Bucket + "/backups"
		// The hooks run with the servers' environment, which is this process's.
		t.Setenv("AWS_ACCESS_KEY_ID", srv.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", srv.SecretKey)
	default:
		s.objects = filepath.Join(s.dir, "repo")
		s.repo = "file://" + s.objects
	}
	return s
}

// init runs `walden init` and applies the settings that it prints.
func (s *site) init(args ...string) {
	s.t.Helper()
	all := append([]string{"init", "--json", "--repository", s.repo, "--connection", s.pg.Conninfo("postgres")}, args...)
	if s.s3 != nil {
		all = append(all, "--endpoint", s.s3.Endpoint, "--path-style")
	}
	var rep struct {
		Apply struct {
			Settings []struct{ Name, Value string }
		}
	}
	s.run(all...).ok(s.t).json(s.t, &rep)
	for _, set := range rep.Apply.Settings {
		if set.Name == "archive_command" {
			s.pg.Exec("ALTER SYSTEM SET archive_command = '" + strings.ReplaceAll(set.Value, "'", "''") + "'")
		}
	}
	s.pg.Reload()
}

// result is one finished run of walden.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

func (s *site) run(args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := s.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("walden %s: %v", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		s.t.Fatalf("walden %s: still running after %s\n%s%s", strings.Join(args, " "), commandTimeout, out.String(), errOut.String())
	}
	return result{args: args, stdout: out.String(), stderr: errOut.String(), code: cmd.ProcessState.ExitCode()}
}

// command returns walden with this site's configuration, as the server's user.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := pgtest.Command(ctx, s.walden, append([]string{"--config", s.config}, args...)...)
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Dir = s.dir
	return cmd
}

// ok fails the test unless the run ended with exit code 0.
func (r result) ok(t *testing.T) result {
	t.Helper()
	return r.exits(t, 0)
}

// exits fails the test unless the run ended with that exit code.
func (r result) exits(t *testing.T, code int) result {
	t.Helper()
	if strings.Contains(r.stderr, "panic:") || strings.Contains(r.stderr, "goroutine ") {
		t.Fatalf("walden %s: panic\n%s", strings.Join(r.args, " "), r.stderr)
	}
	if r.code != code {
		t.Fatalf("walden %s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(r.args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// says fails the test unless standard error contains all of the words.
func (r result) says(t *testing.T, words ...string) result {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Fatalf("walden %s: standard error lacks %q:\n%s", strings.Join(r.args, " "), w, r.stderr)
		}
	}
	return r
}

// json decodes the one document on standard output.
func (r result) json(t *testing.T, v any) result {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("walden %s: not one JSON document: %v\n%s", strings.Join(r.args, " "), err, r.stdout)
	}
	return r
}

// backup takes a base backup and returns its id.
func (s *site) backup(args ...string) string {
	s.t.Helper()
	var b struct {
		ID string `json:"id"`
	}
	s.run(append([]string{"backup", "--checkpoint", "fast", "--json"}, args...)...).ok(s.t).json(s.t, &b)
	if b.ID == "" {
		s.t.Fatal("backup printed no id")
	}
	return b.ID
}

// archiveAll ends the current segment and waits until it is archived.
func (s *site) archiveAll() {
	s.t.Helper()
	s.pg.WaitArchived(s.pg.SwitchWAL())
}

// restore restores to a target into a new directory.
func (s *site) restore(name string, target ...string) (dir string) {
	s.t.Helper()
	dir = filepath.Join(s.dir, name)
	s.run(append([]string{"restore", "--json", "--to", dir}, target...)...).ok(s.t)
	return dir
}

// open starts a server on a restored directory and waits until recovery has
// ended; the restored cluster was told to promote.
func (s *site) open(dir string) *pgtest.Cluster {
	s.t.Helper()
	c := s.pg.AttachRestored(dir)
	c.Start()
	c.WaitFor("the end of recovery", func() bool { return c.QueryValue("SELECT pg_is_in_recovery()") == "f" })
	return c
}

// verifyBackup runs PostgreSQL's own judge over a restored directory that no
// server has touched.
func (s *site) verifyBackup(dir string) {
	s.t.Helper()
	s.pg.Run("pg_verifybackup", "-n", dir)
}

// amcheck runs pg_amcheck over all of a running cluster.
func (s *site) amcheck(c *pgtest.Cluster) {
	s.t.Helper()
	c.Exec("CREATE EXTENSION IF NOT EXISTS amcheck")
	c.Run("pg_amcheck", "--heapallindexed", "-d", "postgres")
}

// on is the same site, which reports to another test.
func (s *site) on(t *testing.T) *site {
	other := *s
	other.t = t
	return &other
}
