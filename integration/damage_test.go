//go:build unix

package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// wounds are the ways in which a stored object is hurt.
var wounds = map[string]func(t *testing.T, path string){
	"deleted": func(t *testing.T, path string) { check(t, os.Remove(path)) },
	"emptied": func(t *testing.T, path string) { check(t, os.Truncate(path, 0)) },
	"truncated": func(t *testing.T, path string) {
		st, err := os.Stat(path)
		check(t, err)
		check(t, os.Truncate(path, st.Size()/2))
	},
	"one bit flipped": func(t *testing.T, path string) {
		st, err := os.Stat(path)
		check(t, err)
		flip(t, path, st.Size()/3)
	},
	"one bit of the footer flipped": func(t *testing.T, path string) {
		st, err := os.Stat(path)
		check(t, err)
		flip(t, path, st.Size()-100)
	},
}

// TestEveryObjectDamaged hurts every object that a restore reads, one at a time
// and in every way. The restore, or the recovery it feeds, must fail and name
// the object; and no directory may be left that a server would start on as if
// it were whole.
func TestEveryObjectDamaged(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.backup()
	s.mark(1)
	s.fill(2)
	s.mark(2)
	s.archiveAll()
	files := s.objectFiles()
	last := s.lastSegment()
	for _, object := range files {
		rel, err := filepath.Rel(s.objects, object)
		check(t, err)
		for name, wound := range wounds {
			if name == "deleted" && filepath.Base(rel) == last {
				continue // then the archive ends one segment earlier, and nothing can tell
			}
			t.Run(name+" "+kindOf(rel), func(t *testing.T) {
				heal := keep(t, object)
				defer heal()
				wound(t, object)
				s.mustNotice(t, rel, name)
			})
		}
	}
}

// mustNotice restores and lets PostgreSQL fetch every segment: somewhere on
// the way the damage must stop it, with the object's name.
func (s *site) mustNotice(t *testing.T, rel, wound string) {
	t.Helper()
	dir := filepath.Join(s.dir, "victim")
	defer os.RemoveAll(dir)
	defer os.RemoveAll(dir + ".log")
	defer os.RemoveAll(dir + ".run")
	r := s.run("restore", "--latest", "--to", dir)
	_, pgControl := os.Stat(filepath.Join(dir, "global", "pg_control"))
	switch {
	case r.code == 0:
		// The plan reads the indexes of segments, not every byte of them: then
		// wal-get must refuse.
		name := filepath.Base(rel)
		got := s.run("wal-get", name, filepath.Join(dir, "pg_wal", "RECOVERYXLOG")).exits(t, 126)
		if !strings.Contains(got.stderr, rel) {
			t.Errorf("wal-get does not name %s: %s", rel, got.stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "pg_wal", "RECOVERYXLOG")); err == nil {
			t.Error("wal-get delivered a damaged segment")
		}
	case pgControl == nil:
		t.Errorf("restore failed but left a pg_control: a server would start")
	case !strings.Contains(r.stderr, rel) && !strings.Contains(r.stderr, filepath.Base(rel)) && !strings.Contains(r.stderr, backupOf(rel)):
		t.Errorf("%s %s: the message does not name it (exit %d): %s", rel, wound, r.code, r.stderr)
	}
	if r.code != 0 && r.code != 1 && r.code != 3 && r.code != 4 {
		t.Errorf("%s %s: exit code %d", rel, wound, r.code)
	}
}

// objectFiles are the files of the repository that a restore needs.
func (s *site) objectFiles() []string {
	s.t.Helper()
	var files []string
	err := filepath.WalkDir(s.objects, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.objects, p)
		if err == nil && s.isNeeded(rel) {
			files = append(files, p)
		}
		return err
	})
	check(s.t, err)
	if len(files) < 6 {
		s.t.Fatalf("only %d objects in %s", len(files), s.objects)
	}
	return files
}

// isNeeded leaves out what no restore reads: claims, backup history files,
// snapshots of names, temporary files, and segments from before the backup.
func (s *site) isNeeded(rel string) bool {
	base := filepath.Base(rel)
	switch {
	case strings.HasPrefix(rel, ".tmp"), base == "started", strings.HasSuffix(base, ".backup"), strings.Contains(rel, "/names/"):
		return false
	case strings.Contains(rel, "/wal/"):
		return base >= s.firstNeeded()
	}
	return true
}

// lastSegment is the name of the last segment that is archived.
func (s *site) lastSegment() string {
	s.t.Helper()
	var p struct {
		Last string `json:"last_segment"`
	}
	s.run("plan", "--latest", "--json").ok(s.t).json(s.t, &p)
	return p.Last
}

// firstNeeded is the name of the first segment that the newest backup needs.
func (s *site) firstNeeded() string {
	s.t.Helper()
	var p struct {
		First string `json:"first_segment"`
	}
	s.run("plan", "--latest", "--json").ok(s.t).json(s.t, &p)
	return p.First
}

// kindOf names an object in a test's name without what differs from run to run.
func kindOf(rel string) string {
	parts := strings.Split(rel, "/")
	if len(parts) < 3 {
		return rel
	}
	return parts[2] + " " + parts[len(parts)-1]
}

// backupOf is the backup an object belongs to, or the object itself.
func backupOf(rel string) string {
	parts := strings.Split(rel, "/")
	if len(parts) == 5 && parts[2] != "wal" {
		return parts[3]
	}
	return rel
}

// keep returns what puts a file back as it is now.
func keep(t *testing.T, path string) func() {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return func() {
		check(t, os.WriteFile(path, b, 0o600))
		pgtest.Chown(t, path)
	}
}

// TestGapStopsThePlan: a missing segment makes plan and restore exit 3 with
// what can be reached, before anything is written.
func TestGapStopsThePlan(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.backup()
	before := s.mark(1)
	names := s.fill(5)
	after := s.mark(2)
	s.archiveAll()
	check(t, os.Remove(s.segmentObject(names[2])))

	var doc struct {
		ExitCode  int   `json:"exit_code"`
		Reachable []any `json:"reachable"`
	}
	r := s.run("plan", "--xid", after.xid, "--json").exits(t, 3).says(t, names[2])
	r.json(t, &doc)
	if doc.ExitCode != 3 || len(doc.Reachable) == 0 {
		t.Errorf("the error document lacks the reachable windows: %s", r.stdout)
	}
	dir := filepath.Join(s.dir, "never")
	s.run("restore", "--lsn", after.after, "--to", dir).exits(t, 3).says(t, names[2])
	if _, err := os.Stat(dir); err == nil {
		t.Error("restore wrote something although its plan was refused")
	}
	s.run("plan", "--xid", before.xid).ok(t)
	var list struct {
		Gaps []struct{ First, Last string } `json:"gaps"`
	}
	s.run("list", "--json").json(t, &list)
	if len(list.Gaps) != 1 || list.Gaps[0].First != names[2] || list.Gaps[0].Last != names[2] {
		t.Errorf("list shows the gaps %+v, want %s", list.Gaps, names[2])
	}
	if txt := fmt.Sprint(s.run("list").stdout); !strings.Contains(txt, "GAP") {
		t.Errorf("the table shows no gap:\n%s", txt)
	}
}

// TestRestoreToJustBeforeAGap: what plan calls reachable is reached, though the
// very next segment is missing and PostgreSQL would like to read ahead.
func TestRestoreToJustBeforeAGap(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.backup()
	m := s.mark(1)
	s.pg.SwitchWAL()
	names := s.fill(2)
	check(t, os.Remove(s.segmentObject(names[0])))
	dir := s.restore("before-the-gap", "--xid", m.xid, "--action", "promote")
	c := s.open(dir)
	defer c.Stop(pgtest.Immediate)
	if got := c.QueryValue("SELECT string_agg(id::text, ',') FROM marker"); got != "1" {
		t.Errorf("markers %s", got)
	}
}
