//go:build unix

package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is a postmaster that we have started.
type server struct {
	process *os.Process
	log     *os.File      // read side
	ended   chan struct{} // closed when the process has ended
	exit    string        // how; valid once ended is closed
}

// start starts the server with its output appended to the log file.
func (s *setup) start() (*server, error) {
	out, err := s.openLog()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	begin, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	in, err := os.Open(s.logPath)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	if _, err := in.Seek(begin, io.SeekStart); err != nil {
		_ = in.Close()
		return nil, fmt.Errorf("recovery: %w", err)
	}
	cmd := exec.Command(filepath.Join(s.binDir, "postgres"), s.arguments()...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.directory, s.environment(), s.owner.attributes(true)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		_ = in.Close()
		return nil, fmt.Errorf("recovery: start the server: %w", err)
	}
	v := &server{process: cmd.Process, log: in, ended: make(chan struct{})}
	go func() {
		// Whether the server ends under our eyes or long after, its process
		// must be waited for as long as we live.
		state, err := cmd.Process.Wait()
		if err != nil {
			v.exit = err.Error()
		} else {
			v.exit = state.String()
		}
		close(v.ended)
	}()
	return v, nil
}

// openLog opens the log for appending. A link is not followed: root may run
// this in a directory where others can write.
func (s *setup) openLog() (*os.File, error) {
	f, err := os.OpenFile(s.logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("recovery: log of the server: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", s.logPath)
	}
	if err == nil && s.owner != nil {
		err = f.Chown(int(s.owner.uid), int(s.owner.gid))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("recovery: log of the server: %w", err)
	}
	return f, nil
}

// hasEnded tells whether the process is gone.
func (v *server) hasEnded() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}

// How long a server may take for a fast and for an immediate shutdown.
const (
	fastShutdown      = 60 * time.Second
	immediateShutdown = 10 * time.Second
)

// stop ends the server: a fast shutdown first, which leaves a restartpoint to
// go on from; then less polite ways. The data directory stays restartable in
// each case.
func (v *server) stop() {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastShutdown}, {syscall.SIGQUIT, immediateShutdown}, {syscall.SIGKILL, immediateShutdown}} {
		if v.hasEnded() || v.process.Signal(step.signal) != nil {
			return
		}
		select {
		case <-v.ended:
			return
		case <-time.After(step.wait):
		}
	}
}

// readLog returns what the server has written since the last call, at most
// about a megabyte.
func (v *server) readLog() ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(v.log, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("recovery: log of the server: %w", err)
	}
	return b, nil
}

// close frees what watching needed. The process is not touched.
func (v *server) close() { _ = v.log.Close() }

// waitStatus waits until postmaster.pid says that the server is up: the log
// says so a moment earlier.
func (s *setup) waitStatus(ctx context.Context, v *server, limit time.Duration) *Server {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	path := filepath.Join(s.directory, "postmaster.pid")
	for {
		found, err := readPidFile(path)
		if err == nil && (found.Status == "ready" || found.Status == "standby") {
			return found
		}
		select {
		case <-v.ended:
			return nil
		case <-ctx.Done():
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return found
		case <-time.After(20 * time.Millisecond):
		}
	}
}
