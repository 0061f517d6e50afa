//go:build unix

package recovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walden-pg/walden/wal"
)

// markUnfinished leaves a mark in the data directory for as long as the end of
// its recovery has not been told: by it a later run knows the server of one that
// was killed from a server that is meant to be there.
func (s *setup) markUnfinished() error {
	path := filepath.Join(s.directory, UnfinishedName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	return s.owner.give(path)
}

// newestHistory is the timeline that the last promotion of the directory began:
// the server writes its history file. 0: there is none.
func (s *setup) newestHistory() wal.TimelineID {
	files, _ := filepath.Glob(filepath.Join(s.directory, "pg_wal", "*.history")) // its only error is that of the pattern
	newest := wal.TimelineID(0)
	for _, path := range files {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".history"), 16, 32)
		if err == nil {
			newest = max(newest, wal.TimelineID(n))
		}
	}
	return newest
}

// stopRun is ShutDown and StopLeftBehind; mode is pg_ctl's.
func stopRun(ctx context.Context, o Options, mode string) error {
	running, alive := RunningServer(o.Directory)
	if !alive {
		return nil
	}
	conn, err := net.DialTimeout("unix", running.socket(), 5*time.Second)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil // the process id is another program's by now: nobody listens
	}
	if err == nil {
		_ = conn.Close() // nothing was said
	}
	s := &setup{directory: o.Directory}
	if s.major, err = Major(o.Directory); err != nil {
		return err
	}
	if s.owner, err = ownerOf(o.Directory); err != nil {
		return err
	}
	if s.owner != nil {
		s.owner.wrapped = o.Wrapped
	}
	if s.binDir, err = FindBinaries(ctx, s.major, o.BinDir); err != nil {
		return err
	}
	if err := s.endEarlier(ctx, mode, o.Wrapped); err != nil {
		return err
	}
	if s.runDir = running.SocketDirectory; strings.HasPrefix(filepath.Base(s.runDir), temporaryRun) {
		s.removeRunDirectory()
	}
	return nil
}

// socket is the path of the server's socket.
func (s *Server) socket() string {
	return filepath.Join(s.SocketDirectory, fmt.Sprintf(".s.PGSQL.%d", s.Port))
}

// endEarlier stops a server that a run which was killed has left behind. The
// error is a *RunningError if the server is another, or does not stop. mode is
// pg_ctl's.
func (s *setup) endEarlier(ctx context.Context, mode string, wrapped bool) error {
	running, alive := RunningServer(s.directory)
	if !alive {
		return nil
	}
	refused := &RunningError{s.directory, *running}
	if running.PID <= 1 && !wrapped {
		return refused // a server in a container, which pg_ctl would look for out here
	}
	if !exists(filepath.Join(s.directory, UnfinishedName)) {
		return refused
	}
	// The process id alone might be that of another program by now: a server of
	// ours has its socket where we put it, and listens there.
	ours := running.SocketDirectory == s.directory+".run" || strings.HasPrefix(filepath.Base(running.SocketDirectory), temporaryRun)
	conn, err := net.DialTimeout("unix", running.socket(), 5*time.Second)
	if err != nil || !ours {
		return errors.Join(refused, err)
	}
	_ = conn.Close() // nothing was said
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, "pg_ctl"), "-D", s.directory, "-m", mode, "-w", "-t", "60", "stop")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.directory, s.environment(), s.owner.attributes(false)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(refused, fmt.Errorf("it does not stop: %w: %s", err, strings.TrimSpace(string(out))))
	}
	s.warnings = append(s.warnings, fmt.Sprintf("an earlier run was cut off and had left its server behind (pid %d): it was stopped, and recovery went on", running.PID))
	return nil
}
