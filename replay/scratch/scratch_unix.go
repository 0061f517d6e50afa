//go:build unix

package scratch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walden-pg/walden/replay/recovery"
)

// OutputMark is in the name of an output that is not complete.
const OutputMark = ".walden-extract-"

const (
	lockName  = "lock"
	stateName = "state.json"
	// DataName is the data directory of the server, of which remains are stopped.
	DataName = "data"
	// TablespacesName is where its tablespaces are put.
	TablespacesName = "tablespaces"
)

// prefixOf begins the name of a scratch directory of a kind.
func prefixOf(kind string) string { return "walden-" + kind + "-" }

// Dir is a directory that one run works in.
type Dir struct {
	dir        string
	lock       *os.File
	output     string
	containers bool
}

// state is what a later run must know of one that was killed.
type state struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Output is the temporary name of the output; it lies outside of scratch.
	Output string `json:"output,omitempty"`
	// Containers may work there, with the directory's name in their label.
	Containers bool `json:"containers,omitempty"`
}

// Make makes a scratch directory of a kind, such as "extract", in parent, and takes its
// lock. Remove must be called.
func Make(parent, kind string) (*Dir, error) {
	dir, err := os.MkdirTemp(parent, prefixOf(kind))
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	s := &Dir{dir: dir}
	// As root it is ours, so that nobody else can tell us what to clear away; the
	// server's user may pass through it.
	if os.Geteuid() == 0 {
		err = os.Chmod(dir, 0o711)
	}
	if err == nil {
		s.lock, err = os.OpenFile(s.Path(lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err == nil {
		err = unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Mkdir(s.Path(TablespacesName), 0o711)
	}
	if err == nil {
		err = s.Note("")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("scratch: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

// Path is that of something in the directory; of itself with "".
func (s *Dir) Path(name string) string { return filepath.Join(s.dir, name) }

// Note tells whoever has to clear up after this process of an output outside of the
// directory that is not complete; "": there is none.
func (s *Dir) Note(output string) error {
	s.output = output
	return s.write()
}

// NoteContainers tells whoever has to clear up that containers with the label ContainerLabel
// may work in the directory.
func (s *Dir) NoteContainers() error {
	s.containers = true
	return s.write()
}

// write writes what a later run must know.
func (s *Dir) write() error {
	b, err := json.Marshal(state{PID: os.Getpid(), Started: time.Now().UTC(), Output: s.output, Containers: s.containers})
	if err == nil {
		err = os.WriteFile(s.Path(stateName+".tmp"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(s.Path(stateName+".tmp"), s.Path(stateName))
	}
	if err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

// Remove stops what runs in the directory and removes it, and an output that is
// not complete. It takes its own time: the caller's may be over.
func (s *Dir) Remove(binDir string) error {
	// The time for it is not the caller's, who may have been interrupted.
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var st state
	if b, err := os.ReadFile(s.Path(stateName)); err == nil {
		_ = json.Unmarshal(b, &st) // it is written as a whole
	}
	if st.Containers {
		endProcesses(s.dir) // a docker command that is about to start one
		if err := s.removeContainers(ctx); err != nil {
			return errors.Join(fmt.Errorf("scratch: %s cannot be removed: %w", s.dir, err), s.lock.Close())
		}
	}
	if err := recovery.StopLeftBehind(ctx, recovery.Options{Directory: s.Path(DataName), BinDir: binDir}); err != nil {
		return errors.Join(fmt.Errorf("scratch: %s cannot be removed: %w", s.dir, err), s.lock.Close())
	}
	endProcesses(s.dir)
	var errs []error
	if strings.Contains(filepath.Base(st.Output), OutputMark) {
		errs = append(errs, os.RemoveAll(st.Output))
	}
	// The lock goes last, and is held until then: without it a later run would not
	// know what the rest is.
	entries, err := os.ReadDir(s.dir)
	errs = append(errs, err)
	for _, e := range entries {
		if e.Name() != lockName {
			errs = append(errs, os.RemoveAll(s.Path(e.Name())))
		}
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	errs = append(errs, s.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("scratch: remove: %w", err)
	}
	return nil
}

// Sweep removes what runs that were killed have left in parent: directories of the
// kind, of this user's, whose lock nobody holds. It returns their paths, and what could not be removed.
func Sweep(parent, kind, binDir string) (removed []string, err error) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefixOf(kind)) {
			continue
		}
		path := filepath.Join(parent, e.Name())
		info, err := os.Lstat(path)
		if err != nil {
			continue // its owner has just removed it
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		left, err := takeOver(path, info)
		if err == nil && left != nil {
			err = left.Remove(binDir)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case left != nil:
			removed = append(removed, path)
		}
	}
	return removed, errors.Join(errs...)
}

// takeOver takes the lock of a scratch directory; nil: somebody works there.
func takeOver(path string, info fs.FileInfo) (*Dir, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// One that is just being made has its lock in a moment.
		if time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(path) // it is empty, or not one of ours
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close() // only read from
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("scratch: lock of %s: %w", path, err)
	}
	return &Dir{dir: path, lock: lock}, nil
}

// Held reports whether a process works in the scratch directory at path. One that
// is not there is not held.
func Held(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return errors.Is(err, fs.ErrPermission) // another user's
	}
	defer lock.Close()
	return errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}
