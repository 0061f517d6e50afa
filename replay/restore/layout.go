package restore

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/basebackup"
)

// controlPath is the file that a server cannot start without; controlTemp is
// its name until everything else is in place.
const (
	controlPath = "global/pg_control"
	controlTemp = "global/pg_control.walden"
)

// layout knows where the entries of a backup go.
type layout struct {
	data        string
	tablespaces map[string]string // "pg_tblspc/<oid>" → directory
	config      configLayout
}

func newLayout(t *targets, m *basebackup.Manifest) *layout {
	l := &layout{data: t.data.path, tablespaces: map[string]string{}}
	for _, ts := range t.tablespaces {
		l.tablespaces["pg_tblspc/"+strconv.FormatUint(uint64(ts.OID), 10)] = ts.path
	}
	l.config = newConfigLayout(t.config.path, m)
	return l
}

// locate returns where an entry is written, and the directory at whose top its
// parents begin: those below are made as needed.
func (l *layout) locate(e *basebackup.FileEntry) (at, top string, err error) {
	if e.Kind == basebackup.KindConfig {
		at, err = l.config.locate(e.Path)
		return at, l.config.dir, err
	}
	name := e.Path
	if name == controlPath {
		name = controlTemp
	}
	if name == MarkerName || name == markerTemp || name == controlTemp && e.Path != controlPath {
		return "", "", &FileError{Path: e.Path, Reason: "walden uses this name itself"}
	}
	if runtime.GOOS == "windows" && !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", "", &FileError{Path: e.Path, Reason: "this system cannot have a file of that name"}
	}
	if parts := strings.SplitN(name, "/", 3); len(parts) > 1 && parts[0] == "pg_tblspc" {
		if dir, ok := l.tablespaces[parts[0]+"/"+parts[1]]; ok {
			if len(parts) == 2 {
				return dir, dir, nil
			}
			return filepath.Join(dir, filepath.FromSlash(parts[2])), dir, nil
		}
	}
	return filepath.Join(l.data, filepath.FromSlash(name)), l.data, nil
}

// configLayout puts configuration files that had absolute paths into one
// directory. The three that PostgreSQL is told of get their usual names; what
// lay in or below the directory of postgresql.conf keeps its place relative to
// it, so that include directives find it; others go below "other" with their
// whole path.
type configLayout struct {
	dir   string
	base  string            // the original directory of postgresql.conf
	known map[string]string // original path → usual name
}

// usualConfig are the settings that name configuration files, and the names
// that these have in a data directory.
var usualConfig = []struct{ setting, name string }{
	{"config_file", "postgresql.conf"}, {"hba_file", "pg_hba.conf"}, {"ident_file", "pg_ident.conf"},
}

func newConfigLayout(dir string, m *basebackup.Manifest) configLayout {
	c := configLayout{dir: dir, known: map[string]string{}}
	for _, f := range usualConfig {
		if original := m.Settings[f.setting]; original != "" {
			c.known[original] = f.name
		}
	}
	if conf := m.Settings["config_file"]; conf != "" {
		c.base = path.Dir(slashes(conf))
	}
	return c
}

func slashes(p string) string { return strings.ReplaceAll(p, `\`, "/") }

var driveLetter = regexp.MustCompile(`^([A-Za-z]):`)

func (c configLayout) locate(original string) (string, error) {
	if name, ok := c.known[original]; ok {
		return filepath.Join(c.dir, name), nil
	}
	clean := path.Clean("/" + driveLetter.ReplaceAllString(slashes(original), "$1"))
	if base := path.Clean("/" + driveLetter.ReplaceAllString(c.base, "$1")); c.base != "" && base != "/" {
		if rel, ok := strings.CutPrefix(clean, base+"/"); ok {
			return c.inside(rel, original)
		}
	}
	return c.inside("other"+clean, original)
}

func (c configLayout) inside(rel, original string) (string, error) {
	local := filepath.FromSlash(rel)
	if !filepath.IsLocal(local) || strings.HasPrefix(rel, MarkerName) {
		return "", fmt.Errorf("configuration file %q cannot be restored under that name", original)
	}
	return filepath.Join(c.dir, local), nil
}

// has tells whether the backup has the file that gets a usual name.
func (c configLayout) has(name string, files []string) bool {
	for _, f := range files {
		if c.known[f] == name {
			return true
		}
	}
	return false
}

// tablespaceLink is the only kind of symbolic link that a base backup has.
var tablespaceLink = regexp.MustCompile(`^pg_tblspc/([1-9][0-9]{0,9})$`)
