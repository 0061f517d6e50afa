//go:build unix

package pgtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command returns a command that runs as the server user with PGHOST, PGPORT
// and PGUSER set to this cluster. A name without a slash is one of the
// major's programs if it has it, otherwise searched in PATH.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if !strings.ContainsRune(name, '/') {
		if _, err := os.Stat(c.Bin(name)); err == nil {
			name = c.Bin(name)
		}
	}
	cmd := Command(ctx, name, args...)
	cmd.Env = append(cmd.Env, "PGHOST="+c.socketDir, "PGPORT="+strconv.Itoa(c.port),
		"PGUSER=postgres", "PGDATABASE=postgres")
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd
}

func (c *Cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return c.Command(ctx, c.Bin(name), args...)
}

// run runs a command and returns what it wrote to standard output; if it
// fails, so does the test.
func (c *Cluster) run(cmd *exec.Cmd) string {
	c.t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), errOut.String())
	}
	return out.String()
}

// Run runs one of the major's programs (or one in PATH) against this cluster
// and returns its standard output; if it fails, so does the test.
func (c *Cluster) Run(name string, args ...string) string {
	c.t.Helper()
	return c.run(c.Command(context.Background(), name, args...))
}

// Psql runs a script of SQL and psql's own commands in the database postgres
// and returns its output, unaligned and without headers.
func (c *Cluster) Psql(script string) string {
	c.t.Helper()
	cmd := c.command(context.Background(), "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	return c.run(cmd)
}

// PgbenchInit makes pgbench's tables: 100,000 accounts, about 15 MB, for each
// unit of scale.
func (c *Cluster) PgbenchInit(scale int) {
	c.t.Helper()
	c.run(c.command(context.Background(), "pgbench", "-i", "-q", "-s", strconv.Itoa(scale)))
}

// Pgbench runs pgbench to its end and returns its report.
func (c *Cluster) Pgbench(args ...string) string {
	c.t.Helper()
	return c.run(c.command(context.Background(), "pgbench", append([]string{"-n"}, args...)...))
}

// A Load is a pgbench that runs in the background.
type Load struct {
	c    *Cluster
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{}
	err  error
}

// PgbenchStart starts pgbench in the background, for an hour unless args say
// otherwise. Call [Load.Stop]; the end of the test stops it too.
func (c *Cluster) PgbenchStart(args ...string) *Load {
	c.t.Helper()
	l := &Load{c: c, done: make(chan struct{})}
	l.cmd = c.command(context.Background(), "pgbench", append([]string{"-n", "-T", "3600"}, args...)...)
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	if err := l.cmd.Start(); err != nil {
		c.t.Fatalf("pgbench: %v", err)
	}
	go func() {
		l.err = l.cmd.Wait()
		close(l.done)
	}()
	c.t.Cleanup(l.kill)
	return l
}

// Stop ends the load. It fails the test if pgbench had ended by itself with an
// error before, since then there was less load than the test believes; after
// a server was killed on purpose use [Load.Abandon].
func (l *Load) Stop() {
	l.c.t.Helper()
	select {
	case <-l.done:
		if l.err != nil {
			l.c.t.Fatalf("pgbench ended before it was stopped: %v\n%s", l.err, tail(l.out.String(), 20))
		}
	default:
		l.kill()
	}
}

// Abandon ends the load and does not mind how it went.
func (l *Load) Abandon() { l.kill() }

func (l *Load) kill() {
	_ = l.cmd.Process.Kill() // an error means that it has ended
	<-l.done
}

// Tablespace makes a directory outside the data directory and a tablespace of
// this name in it, and returns the directory.
func (c *Cluster) Tablespace(name string) string {
	c.t.Helper()
	dir := filepath.Join(TempDir(c.t), name)
	MkdirAll(c.t, dir)
	c.Exec("CREATE TABLESPACE " + name + " LOCATION '" + dir + "'")
	return dir
}

// Standby makes a streaming standby of this cluster with pg_basebackup and
// starts it. Its tablespaces go to directories of its own.
func (c *Cluster) Standby(name string) *Cluster {
	c.t.Helper()
	s := Attach(c.t, c.major, "")
	s.dataDir = filepath.Join(s.socketDir, name)
	args := []string{"-D", s.dataDir, "-R", "-X", "stream", "-c", "fast", "--no-sync",
		"-d", c.Conninfo("") + " application_name=" + name}
	for _, row := range c.Query("SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''") {
		args = append(args, "-T", row[1]+"="+filepath.Join(s.socketDir, name+"-"+row[0]))
	}
	c.run(c.command(context.Background(), "pg_basebackup", args...))
	s.Start()
	return s
}

// WaitReplayed waits until a standby has replayed what its primary has
// written by now.
func (c *Cluster) WaitReplayed(primary *Cluster) {
	c.t.Helper()
	lsn := primary.QueryValue("SELECT pg_current_wal_flush_lsn()")
	c.WaitFor("replay of "+lsn, func() bool {
		return c.QueryValue("SELECT coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)", lsn) == "t"
	})
}

// Eventually waits until a function returns no error, and fails the test with
// its last error after the harness's time limit.
func (c *Cluster) Eventually(fn func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for {
		err := fn(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("waited %v in vain: %v", timeout, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
