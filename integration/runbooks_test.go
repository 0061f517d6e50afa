//go:build unix

package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// runbookMajor is the major whose paths the runbooks name.
const runbookMajor = 17

// runbookBegins makes, by the name of a page, what has happened when the page is
// opened.
var runbookBegins = map[string]func(*runbook){
	"lost-primary":       (*runbook).losePrimary,
	"dropped-table":      (*runbook).dropTable,
	"corrupted-pages":    (*runbook).corruptPages,
	"damaged-repository": (*runbook).damageRepository,
	"failover":           (*runbook).failOver,
	"wrong-restore":      (*runbook).restoreWrongly,
	"full-disk":          (*runbook).fillDisk,
	"new-bucket":         (*runbook).outgrowBucket,
}

// TestRunbooks runs every command of docs/runbooks as it is written, but for the
// paths, where the page begins, and holds exit codes and output against the page.
func TestRunbooks(t *testing.T) {
	dir := filepath.Join(pgtest.ModuleRoot(t), "docs", "runbooks")
	pages, err := filepath.Glob(filepath.Join(dir, "*.md"))
	check(t, err)
	found := map[string]bool{}
	for _, path := range pages {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		steps := stepsOf(t, path)
		if name == "README" {
			if len(steps) > 0 {
				t.Errorf("%s: nobody runs its commands", path)
			}
			continue
		}
		begin := runbookBegins[name]
		if begin == nil || len(steps) == 0 {
			t.Errorf("%s: no commands, or nothing that its commands are run upon", path)
			continue
		}
		found[name] = true
		t.Run(name, func(t *testing.T) {
			if name != "new-bucket" { // which sets the environment of the process
				t.Parallel() // mostly it waits for servers
			}
			r := newRunbook(t, name)
			begin(r)
			for _, st := range steps {
				r.run(st)
			}
			if *update {
				r.rewrite(path)
			}
		})
	}
	for name := range runbookBegins {
		if !found[name] {
			t.Errorf("docs/runbooks/%s.md is missing", name)
		}
	}
}

// runbook is the installation that a page's commands are run upon.
type runbook struct {
	*site
	// services is where the stand-in of systemctl keeps what it has started.
	services string
	// places are what a page writes and what it is here, in pairs; longer ones first.
	places []string
	// seen is what stood in the output where the page has something else: a
	// position, a time, an id. Further commands use it.
	seen map[string]string
	// printed is what the lines of the page are in this run.
	printed map[int]string
	env     []string
}

func newRunbook(t *testing.T, name string) *runbook {
	t.Helper()
	o := siteOptions{major: runbookMajor, segmentMB: 16, noArchiving: true, settings: map[string]string{
		"track_commit_timestamp": "off", "wal_keep_size": "0", "log_timezone": "UTC", "timezone": "UTC", "wal_retrieve_retry_interval": "200ms",
	}}
	if name == "new-bucket" {
		o.store = s3Store
	}
	r := &runbook{site: newSite(t, o), seen: map[string]string{}, printed: map[int]string{}}
	r.services = filepath.Join(r.dir, "services")
	pgtest.MkdirAll(t, r.services)
	pgtest.MkdirAll(t, filepath.Join(r.dir, "postgresql", "17"))
	pgtest.MkdirAll(t, filepath.Join(r.dir, "mnt"))
	r.places = []string{
		"/var/lib/postgresql/17/main", r.pg.DataDir(),
		"/var/lib/postgresql", filepath.Join(r.dir, "postgresql"),
		"/var/run/postgresql", r.pg.SocketDir(),
		"/var/lib/walden", r.objects,
		"/usr/lib/postgresql/17/bin", r.pg.BinDir(),
		"/mnt", filepath.Join(r.dir, "mnt"),
		"/etc/walden", r.dir,
	}
	b, err := os.ReadFile(r.config)
	check(t, err)
	check(t, os.WriteFile(r.config, append(b, "    stream: {}\n"...), 0o644))
	r.script("systemctl", systemctl)
	check(t, os.Symlink(r.walden, filepath.Join(r.services, "walden")))
	r.environment("PATH="+r.services+":"+r.pg.BinDir()+":"+os.Getenv("PATH"), "WALDEN_CONFIG="+r.config,
		"PGHOST="+r.pg.SocketDir(), "PGUSER=postgres", "PGPORT="+r.portOf(r.pg), "HOME="+r.dir)
	t.Cleanup(r.end)
	r.load()
	return r
}

func (r *runbook) environment(set ...string) { r.env = append(r.env, set...) }

// script makes a program that the page's commands find first.
func (r *runbook) script(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.services, name)
	check(r.t, os.WriteFile(path, []byte(text), 0o755))
	check(r.t, os.Chmod(path, 0o755))
}

// systemctl stands in for the real one: it starts and stops the stream.
const systemctl = `#!/bin/bash
set -eu
dir=$(dirname "$0")
[ "$2" = walden-stream ] || { echo "Unit $2.service not found." >&2; exit 5; }
case $1 in
start) setsid walden stream </dev/null >>"$dir/stream.log" 2>&1 & echo $! >"$dir/stream.pid" ;;
stop)
	pid=$(cat "$dir/stream.pid")
	kill -TERM "$pid" 2>/dev/null || exit 0
	while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done ;;
*) exit 2 ;;
esac
`

// end stops what the page's commands have started.
func (r *runbook) end() {
	if r.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(r.services, "stream.log"))
		r.t.Logf("the stream's log:\n%s", log)
	}
	_, _ = r.shell("systemctl stop walden-stream")
	for _, dir := range []string{filepath.Dir(r.pg.DataDir()), filepath.Join(r.dir, "postgresql", "17")} {
		running, _ := filepath.Glob(filepath.Join(dir, "*", "postmaster.pid"))
		for _, pid := range running {
			_, _ = r.shell("pg_ctl -m immediate stop -D " + filepath.Dir(pid))
		}
	}
}

// shell runs a command as the server's user, in the place of the configuration.
func (r *runbook) shell(command string) (out string, code int) {
	file, err := os.CreateTemp("", "runbook")
	check(r.t, err)
	defer func() { file.Close(); os.Remove(file.Name()) }()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout) // while cleaning up too
	defer cancel()
	cmd := pgtest.Command(ctx, "bash", "-c", command)
	// A file, for a server that the command starts keeps what it was given open.
	cmd.Stdout, cmd.Stderr, cmd.Dir = file, file, r.dir
	cmd.Env = append(cmd.Env, r.env...)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		r.t.Errorf("%s: %v", command, err)
	}
	b, err := os.ReadFile(file.Name())
	check(r.t, err)
	return string(b), cmd.ProcessState.ExitCode()
}

// run runs a command of the page and compares.
func (r *runbook) run(st step) {
	r.t.Helper()
	began := time.Now()
	command := r.substitute(st.command)
	for i, line := range strings.Split("$ "+command, "\n") {
		r.printed[st.line+i] = line
	}
	out, code := r.shell(strings.NewReplacer(r.places...).Replace(command))
	out = r.asWritten(out)
	r.t.Logf("%.1f s, exit code %d\n$ %s\n%s", time.Since(began).Seconds(), code, st.command, out)
	if code != st.code {
		r.t.Fatalf("line %d: %s: exit code %d, and the page says %d", st.line, st.command, code, st.code)
	}
	if missing := r.compare(st.output, strings.Split(out, "\n")); missing != "" {
		r.t.Fatalf("line %d: %s: the page has a line that was not printed, or not in this order:\n%s", st.line, st.command, missing)
	}
}
