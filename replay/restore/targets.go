package restore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
)

// targets are the directories that a restore writes to.
type targets struct {
	data        place
	config      place // used only if the backup has configuration files
	tablespaces []tablespacePlace
}

type tablespacePlace struct {
	place
	basebackup.Tablespace
}

// checkTargets looks at every directory and refuses what does not fit. It
// changes nothing.
func checkTargets(o Options, m *basebackup.Manifest) (*targets, error) {
	t, err := chooseTargets(o, m)
	if err != nil {
		return nil, err
	}
	if err := t.checkNesting(); err != nil {
		return nil, err
	}
	for _, p := range t.all() {
		if err := checkOutside(p.path); err != nil {
			return nil, err
		}
	}
	if t.data, err = inspect(t.data.path); err != nil {
		return nil, err
	}
	if t.config.path != "" {
		if t.config, err = t.inspectOther(t.config.path); err != nil {
			return nil, err
		}
	}
	for i := range t.tablespaces {
		if err := t.inspectTablespace(&t.tablespaces[i]); err != nil {
			return nil, err
		}
	}
	return t, t.checkRemains()
}

// chooseTargets decides where everything goes.
func chooseTargets(o Options, m *basebackup.Manifest) (*targets, error) {
	if o.To == "" {
		return nil, errors.New("restore: no target directory given")
	}
	t := &targets{}
	var err error
	if t.data.path, err = resolve(o.To); err != nil {
		return nil, err
	}
	if strings.ContainsAny(t.data.path, "\n\r") {
		return nil, &TargetError{Path: t.data.path, Reason: "its name holds a line break, and postmaster.pid has the name on a line"}
	}
	if len(m.ConfigFiles) > 0 {
		dir := o.ConfigDirectory
		if dir == "" {
			dir = t.data.path + ".config"
		}
		if t.config.path, err = resolve(dir); err != nil {
			return nil, err
		}
	}
	return t, t.chooseTablespaces(o, m)
}

// inspectOther looks at a directory that is not the data directory. The marks
// of these are removed first when a restore is complete: one that ended before
// it had removed the last, that of the data directory, knows them by name.
func (t *targets) inspectOther(path string) (place, error) {
	p, err := inspect(path)
	var refused *TargetError
	if errors.As(err, &refused) && t.data.remains != nil && slices.Contains(t.data.remains.Others, path) {
		if _, statErr := os.Lstat(filepath.Join(t.data.path, controlPath)); statErr == nil {
			p.remains, p.unmarked = t.data.remains, true
			return p, nil
		}
	}
	return p, err
}

func (t *targets) inspectTablespace(ts *tablespacePlace) error {
	var err error
	ts.place, err = t.inspectOther(ts.path)
	var refused *TargetError
	if errors.As(err, &refused) {
		refused.Reason = fmt.Sprintf("the place of tablespace %d: %s", ts.OID, refused.Reason)
		refused.Advice = fmt.Sprintf("name another place for it: --tablespace %s=NEW", ts.Location)
	}
	return err
}

// resolve makes a path absolute and follows the links of what exists of it.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	// It does not exist: its parent may.
	if real, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(real, filepath.Base(abs)), nil
	}
	return abs, nil
}

func (t *targets) chooseTablespaces(o Options, m *basebackup.Manifest) error {
	unused := map[string]bool{}
	for old := range o.Tablespaces {
		unused[old] = true
	}
	for _, ts := range m.Tablespaces {
		if ts.InPlace {
			continue
		}
		location, named := ts.Location, false
		for old, new := range o.Tablespaces {
			if old == ts.Location || strings.TrimRight(old, "/") == ts.Location {
				if named {
					return fmt.Errorf("restore: tablespace %s is given two places", ts.Location)
				}
				location, named = new, true
				delete(unused, old)
			}
		}
		path, err := tablespacePath(ts, location)
		if err != nil {
			return err
		}
		t.tablespaces = append(t.tablespaces, tablespacePlace{place{path: path}, ts})
	}
	for old := range unused {
		return fmt.Errorf("restore: the backup has no tablespace at %s; it has %s", old, locations(m))
	}
	return nil
}

func tablespacePath(ts basebackup.Tablespace, location string) (string, error) {
	if !filepath.IsAbs(location) {
		return "", fmt.Errorf("restore: tablespace %s: its new location %q must be an absolute path", ts.Location, location)
	}
	if strings.ContainsAny(location, "\x00\n\r") {
		return "", fmt.Errorf("restore: tablespace %s: its new location %q holds a character that PostgreSQL does not allow there", ts.Location, location)
	}
	return resolve(location)
}

func locations(m *basebackup.Manifest) string {
	var list []string
	for _, ts := range m.Tablespaces {
		if !ts.InPlace {
			list = append(list, ts.Location)
		}
	}
	if len(list) == 0 {
		return "none outside the data directory"
	}
	return strings.Join(list, ", ")
}

// all lists the directories, the data directory first.
func (t *targets) all() []*place {
	list := []*place{&t.data}
	if t.config.path != "" {
		list = append(list, &t.config)
	}
	for i := range t.tablespaces {
		list = append(list, &t.tablespaces[i].place)
	}
	return list
}

// checkNesting refuses directories that are the same or lie in one another.
func (t *targets) checkNesting() error {
	list := t.all()
	for i, a := range list {
		for _, b := range list[i+1:] {
			if within(a.path, b.path) || within(b.path, a.path) {
				return &TargetError{Path: b.path, Reason: "it is not apart from " + a.path,
					Advice: "the data directory, tablespaces and configuration must be in separate directories"}
			}
		}
	}
	return nil
}

// checkOutside refuses a directory inside another cluster's data directory:
// its server would take what is there for its own, and its backups would hold it.
func checkOutside(path string) error {
	for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		_, version := os.Lstat(filepath.Join(dir, "PG_VERSION"))
		_, control := os.Lstat(filepath.Join(dir, controlPath))
		if version == nil && control == nil {
			return &TargetError{Path: path, Reason: "it lies inside the data directory of a cluster, " + dir,
				Advice: "restore into a directory outside of it"}
		}
	}
	return nil
}

func within(dir, path string) bool {
	if runtime.GOOS == "windows" {
		dir, path = strings.ToLower(dir), strings.ToLower(path)
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// checkRemains makes sure that what an interrupted restore left may be removed:
// the remains in the data directory are its own, and remains elsewhere belong to
// them, or to a restore whose data directory is gone.
func (t *targets) checkRemains() error {
	own := t.data.remains
	if own != nil && own.Restore != "" && own.Directory != t.data.path {
		return &TargetError{Path: t.data.path, Reason: "it holds the mark of a restore to " + own.Directory + ": it was moved or copied from there",
			Advice: "if what it holds is not needed, remove the directory"}
	}
	for _, p := range t.all()[1:] {
		r := p.remains
		if r == nil || r.Restore == "" || own != nil && own.Restore == r.Restore {
			continue
		}
		if other, err := os.ReadFile(filepath.Join(r.Directory, MarkerName)); err == nil && strings.Contains(string(other), r.Restore) {
			return &TargetError{Path: p.path, Reason: "an interrupted restore to " + r.Directory + " left it",
				Advice: "finish that restore, or remove both directories"}
		}
	}
	return nil
}

// abandoned lists directories that the interrupted restore has marked and that
// this one does not use.
func (t *targets) abandoned() []string {
	own := t.data.remains
	if own == nil {
		return nil
	}
	var list []string
	for _, path := range own.Others {
		if slices.ContainsFunc(t.all(), func(p *place) bool { return p.path == path }) {
			continue
		}
		if p, err := inspect(path); err == nil && p.remains != nil && p.remains.Restore == own.Restore {
			list = append(list, path)
		}
	}
	return list
}

// begin clears what an interrupted restore left and marks all directories. The
// data directory's mark, which names the others, goes first and is the last to
// be replaced.
func (t *targets) begin(d disk, backup string, own *owner) error {
	for _, path := range t.abandoned() {
		p := place{path: path}
		if err := p.clear(d); err != nil {
			return fmt.Errorf("restore: remove the remains of an interrupted restore: %w", err)
		}
		if err := unmark(d, path); err != nil {
			return fmt.Errorf("restore: remove the remains of an interrupted restore: %w", err)
		}
	}
	// What has lost its mark gets it back: with pg_control goes the sign that
	// tells what it is, and clearing may be interrupted too.
	for _, p := range t.all() {
		if p.unmarked {
			if err := p.remains.mark(d, p.path); err != nil {
				return fmt.Errorf("restore: mark the remains of an interrupted restore: %w", err)
			}
		}
	}
	for _, p := range t.all() {
		if p.remains != nil {
			if err := p.clear(d); err != nil {
				return fmt.Errorf("restore: remove the remains of an interrupted restore: %w", err)
			}
		}
	}
	m := &marker{Restore: rand.Text(), Backup: backup, Directory: t.data.path, Time: time.Now().UTC()}
	for _, p := range t.all()[1:] {
		m.Others = append(m.Others, p.path)
	}
	for _, p := range t.all() {
		if err := p.begin(d, m, own); err != nil {
			return fmt.Errorf("restore: begin in %s: %w", p.path, err)
		}
	}
	return nil
}

func (p *place) begin(d disk, m *marker, own *owner) error {
	if !p.exists {
		if err := d.Mkdir(p.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := d.SyncDir(filepath.Dir(p.path)); err != nil {
			return err
		}
	}
	if own != nil {
		if err := d.Chown(p.path, own.uid, own.gid); err != nil {
			return err
		}
	}
	// Where this is refused the directory belongs to another user, and a server
	// that we could start would refuse it too.
	if err := d.Chmod(p.path, 0o700); errors.Is(err, fs.ErrPermission) {
		return &TargetError{Path: p.path, Reason: "it belongs to another user", Err: err,
			Advice: "give the directory to the user that runs PostgreSQL, and run this as that user"}
	} else if err != nil {
		return err
	}
	return m.mark(d, p.path)
}

// checkSpace compares the backup's size with what is free. Hollow files take nothing.
func (t *targets) checkSpace(m *basebackup.Manifest, choice *databases.Choice) error {
	hollow := func(uint32) int64 { return 0 }
	rest := m.Bytes
	if choice != nil {
		hollow, rest = choice.HollowIn, rest-choice.HollowBytes
	}

	need := map[uint64]int64{}
	systems := map[uint64]filesystem{}
	add := func(p *place, bytes int64) error {
		dir := p.path
		if !p.exists {
			dir = filepath.Dir(dir)
		}
		f, err := filesystemOf(dir)
		if err != nil || !f.known {
			return err
		}
		need[f.id] += bytes
		systems[f.id] = f
		if need[f.id] > f.free {
			return &TargetError{Path: p.path,
				Reason: fmt.Sprintf("the disk has %s free, and the restore needs %s there",
					humanize.IBytes(uint64(f.free)), humanize.IBytes(uint64(need[f.id]))),
				Advice: "make room, or restore to another disk"}
		}
		return nil
	}
	for i := range t.tablespaces {
		size := min(max(t.tablespaces[i].Size-hollow(t.tablespaces[i].OID), 0), rest)
		rest -= size
		if err := add(&t.tablespaces[i].place, size); err != nil {
			return err
		}
	}
	return add(&t.data, rest)
}
