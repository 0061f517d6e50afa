package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/recovery"
)

// MarkerName is the file that marks a directory in which a restore is at work,
// or was when it was interrupted.
const MarkerName = ".walden-restore"

const markerTemp = MarkerName + ".tmp"

// marker is the content of that file.
type marker struct {
	// Restore identifies one run.
	Restore string `json:"restore"`
	Backup  string `json:"backup"`
	// Directory is the data directory that is restored; the marker may lie in
	// one of its other directories.
	Directory string `json:"directory"`
	// Others are those: of tablespaces, and of configuration files.
	Others []string  `json:"others,omitempty"`
	Time   time.Time `json:"time"`
}

// place is a directory to restore into, as it was found.
type place struct {
	path   string
	exists bool
	// remains is the marker of an interrupted restore; nil: the place is absent or empty.
	remains *marker
}

// inspect looks at a directory that should be absent, empty, or the remains of
// an interrupted restore; anything else is a *TargetError.
func inspect(path string) (place, error) {
	p := place{path: path}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return p, &TargetError{Path: path, Reason: "it is a link that leads nowhere"}
		}
		return p, checkParent(path)
	}
	if err != nil {
		return p, &TargetError{Path: path, Reason: "it cannot be examined", Err: err}
	}
	p.exists = true
	if !info.IsDir() {
		return p, &TargetError{Path: path, Reason: "it is not a directory"}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return p, &TargetError{Path: path, Reason: "it cannot be read", Err: err}
	}
	var names []string
	for _, e := range entries {
		if e.Name() != markerTemp { // of a restore that had no time for more
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return p, nil
	}
	return p, p.occupied(names)
}

func checkParent(path string) error {
	parent := filepath.Dir(path)
	info, err := os.Stat(parent)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &TargetError{Path: path, Reason: "its parent " + parent + " does not exist", Advice: "create it first"}
	case err != nil:
		return &TargetError{Path: path, Reason: "its parent cannot be examined", Err: err}
	case !info.IsDir():
		return &TargetError{Path: path, Reason: parent + " is not a directory"}
	}
	if err := writable(parent); err != nil {
		return &TargetError{Path: path, Reason: "it cannot be made", Err: err,
			Advice: "run this as a user who may write to " + parent + ", or make the directory and give it to this user"}
	}
	return nil
}

// occupied judges a directory that holds something.
func (p *place) occupied(names []string) error {
	if s, alive := recovery.RunningServer(p.path); alive {
		return &TargetError{Path: p.path, Reason: fmt.Sprintf("a PostgreSQL server is running there (pid %d)", s.PID),
			Advice: "restore into another, empty directory; if a run of restore --start that was killed left it there, stop it (pg_ctl -D " + p.path + " stop) and run that command again"}
	}
	if slices.Contains(names, MarkerName) {
		return p.marked(names)
	}
	what := "it is not empty: it holds " + listing(names)
	if major, err := recovery.Major(p.path); err == nil {
		what = fmt.Sprintf("it is the data directory of a PostgreSQL %d cluster", major)
	}
	return &TargetError{Path: p.path, Reason: what, Advice: "restore into another, empty directory; walden removes nothing that it has not written"}
}

// marked judges the remains of a restore.
func (p *place) marked(names []string) error {
	for _, trace := range []string{"postmaster.pid", "postmaster.opts"} {
		if slices.Contains(names, trace) {
			return &TargetError{Path: p.path, Reason: "an interrupted restore left it, and a server was started on it afterwards",
				Advice: "if what it holds is not needed, remove the directory"}
		}
	}
	p.remains = &marker{}
	b, err := os.ReadFile(filepath.Join(p.path, MarkerName))
	if err == nil {
		err = json.Unmarshal(b, p.remains)
	}
	if err != nil || p.remains.Restore == "" {
		if len(names) == 1 {
			p.remains = &marker{} // it had not begun
			return nil
		}
		return &TargetError{Path: p.path, Reason: "it holds " + listing(names) + ", and the mark of a restore cannot be read", Err: err}
	}
	return nil
}

func listing(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// clear removes what an interrupted restore left in the place, all but the
// mark: pg_control first, for no server shall start on what is half removed.
func (p *place) clear(d disk) error {
	global := filepath.Join(p.path, "global")
	if _, err := os.Lstat(filepath.Join(global, "pg_control")); err == nil {
		if err := d.Remove(filepath.Join(global, "pg_control")); err != nil {
			return err
		}
		if err := d.SyncDir(global); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == MarkerName {
			continue
		}
		if err := d.RemoveAll(filepath.Join(p.path, e.Name())); err != nil {
			return err
		}
	}
	return d.SyncDir(p.path)
}

// mark writes the marker, in place of another if there is one.
func (m *marker) mark(d disk, path string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	temp := filepath.Join(path, markerTemp)
	if err := d.Remove(temp); err != nil {
		return err
	}
	if err := writeFile(d, temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := d.Rename(temp, filepath.Join(path, MarkerName)); err != nil {
		return err
	}
	return d.SyncDir(path)
}

// unmark removes the marker.
func unmark(d disk, path string) error {
	if err := d.Remove(filepath.Join(path, MarkerName)); err != nil {
		return err
	}
	return d.SyncDir(path)
}

// writeFile makes a new, durable file.
func writeFile(d disk, path string, content []byte, mode fs.FileMode) error {
	h, err := d.Create(path, mode)
	if err != nil {
		return err
	}
	_, err = h.WriteAt(content, 0)
	if err == nil {
		err = h.Sync()
	}
	return errors.Join(err, h.Close())
}
