//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A StopMode is one of PostgreSQL's ways to shut down.
type StopMode syscall.Signal

// The modes of pg_ctl stop.
const (
	Smart     = StopMode(syscall.SIGTERM) // waits for clients to leave
	Fast      = StopMode(syscall.SIGINT)  // ends sessions, writes a checkpoint
	Immediate = StopMode(syscall.SIGQUIT) // no checkpoint: recovery at the next start
)

// server is a running postmaster, a child of the test process.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the postmaster has been waited for
	err  error         // how it ended; read after done
}

// Start starts the server and waits until it answers queries. It also
// succeeds on a standby and in recovery, once hot standby lets clients in.
func (c *Cluster) Start() {
	c.t.Helper()
	c.Launch()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		c.t.Fatalf("start PostgreSQL %d: %v\n%s", c.major, err, tail(c.Log(), 40))
	}
}

// Launch starts the server and does not wait for it.
func (c *Cluster) Launch() {
	c.t.Helper()
	if c.Running() {
		c.t.Fatal("start: the server runs already")
	}
	args := []string{"-D", c.dataDir}
	for _, k := range slices.Sorted(maps.Keys(c.overrides)) {
		args = append(args, "-c", k+"="+c.overrides[k])
	}
	log, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatalf("start: %v", err)
	}
	defer log.Close()
	cmd := c.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that an interrupt at the terminal reaches the
	// test alone, which then stops its servers in order.
	cmd.SysProcAttr.Setpgid = true
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("start: %v", err)
	}
	s := &server{cmd: cmd, done: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	c.server = s
}

// Running reports whether the server's main process is alive.
func (c *Cluster) Running() bool {
	if c.server == nil {
		return false
	}
	select {
	case <-c.server.done:
		return false
	default:
		return true
	}
}

// Exited returns a channel that is closed when the server's main process has
// ended; nil if it was never started.
func (c *Cluster) Exited() <-chan struct{} {
	if c.server == nil {
		return nil
	}
	return c.server.done
}

// PID returns the process id of the server's main process, 0 if not running.
func (c *Cluster) PID() int {
	if !c.Running() {
		return 0
	}
	return c.server.cmd.Process.Pid
}

// WaitReady waits until the server answers a query or has ended.
func (c *Cluster) WaitReady(ctx context.Context) error {
	s := c.server
	if s == nil {
		return errors.New("the server was not started")
	}
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended: %w", endError(s.err))
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ping asks whether the server is up as PQping does: one that wants a password
// or knows no such role is up.
func (c *Cluster) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.Conninfo(""))
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "28") {
			return nil
		}
		return err
	}
	return conn.Close(ctx)
}

func endError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Stop stops the server and waits for its end. Stopping one that does not run
// does nothing.
func (c *Cluster) Stop(mode StopMode) {
	c.t.Helper()
	if err := c.stop(mode); err != nil {
		c.t.Fatalf("stop: %v\n%s", err, tail(c.Log(), 40))
	}
}

func (c *Cluster) stop(mode StopMode) error {
	if !c.Running() {
		return nil
	}
	s := c.server
	if err := s.cmd.Process.Signal(syscall.Signal(mode)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("the server did not stop within %v", timeout)
	}
}

// Restart stops the server (fast) and starts it again.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Stop(Fast)
	c.Start()
}

// Reload makes the server read its configuration files again.
func (c *Cluster) Reload() {
	c.t.Helper()
	if c.QueryValue("SELECT pg_reload_conf()") != "t" {
		c.t.Fatal("reload: pg_reload_conf() failed")
	}
}

// Kill kills every process of the server at once with SIGKILL, as a power cut
// does: nothing is flushed and nothing is told to the clients. Commands that
// the archiver runs die too.
func (c *Cluster) Kill() {
	c.t.Helper()
	if !c.Running() {
		return
	}
	if err := c.kill(); err != nil {
		c.t.Fatalf("kill: %v", err)
	}
}

func (c *Cluster) kill() error {
	s := c.server
	pid := s.cmd.Process.Pid
	// Held still first, so that it starts no child while they are being
	// counted. (It is stopped, not yet dead: its pid cannot be reused.)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	children := descendants(pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for _, child := range children {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	<-s.done
	return waitGone(children)
}

// waitGone waits until the processes have ended: while one lives, a new
// server would find the old one's shared memory in use.
func waitGone(pids []int) error {
	deadline := time.Now().Add(timeout)
	for _, pid := range pids {
		for !gone(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d outlived SIGKILL", pid)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

// gone reports whether the process has ended; a zombie, which only its new
// parent can bury, counts as gone.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	_, state, ok := procStat(pid)
	return ok && (state == "Z" || state == "X")
}

// descendants lists the processes below pid, children before grandchildren,
// from /proc. Where there is none it is empty: the server's children then end
// by themselves soon after the main process.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ppid, _, ok := procStat(id); ok {
			children[ppid] = append(children[ppid], id)
		}
	}
	all := slices.Clone(children[pid])
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// procStat reads a process's parent and state from /proc/PID/stat, whose
// second field is a name in parentheses that may hold anything.
func procStat(pid int) (ppid int, state string, ok bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, "", false
	}
	_, rest, found := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !found || len(f) < 2 {
		return 0, "", false
	}
	ppid, err = strconv.Atoi(f[1])
	return ppid, f[0], err == nil
}

// end stops the server whatever state it is in, for clean-up.
func (c *Cluster) end() {
	if !c.Running() {
		return
	}
	s := c.server
	// SIGQUIT makes the server signal its own children and wait for them; a
	// stopped process needs SIGCONT to notice.
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-s.done:
	case <-time.After(15 * time.Second):
		if err := c.kill(); err != nil {
			c.t.Errorf("stop the server: %v", err)
		}
	}
}

// Promote promotes a standby or a cluster paused in recovery, and waits until
// it accepts writes.
func (c *Cluster) Promote() {
	c.t.Helper()
	if c.QueryValue("SELECT pg_promote(true, 60)") != "t" {
		c.t.Fatal("promote: pg_promote() timed out")
	}
	c.WaitFor("the end of recovery", func() bool {
		return c.QueryValue("SELECT pg_is_in_recovery()") == "f"
	})
}
