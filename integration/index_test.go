//go:build unix

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// indexReport is what `walden index --json` prints.
type indexReport struct {
	DryRun bool `json:"dry_run"`
	Logs   []struct {
		Timeline    int
		Log         string
		Action      string
		Segments    int
		New         int
		Generation  int
		StoredBytes int64 `json:"stored_bytes"`
	}
	Current  int
	Findings []struct{ Object, Problem string }
}

// rollupObjects are the files of the roll-ups there are.
func (s *site) rollupObjects() []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.objects, "main", "*", "index", "*", "*", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestIndex: roll-ups make no difference to a plan, whatever state they are in; and what
// `walden index` finds is a failure.
func TestIndex(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) { testIndex(t, major) })
	}
}

func testIndex(t *testing.T, major int) {
	s := newSite(t, siteOptions{major: major})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.backup()
	names := s.fill(8)
	s.mark(1)
	s.archiveAll()
	plan := s.run("plan", "--json", "--latest").ok(t).stdout
	same := func(why string) {
		t.Helper()
		if got := s.run("plan", "--json", "--latest").ok(t).stdout; got != plan {
			t.Errorf("%s the plan is\n%s\nnot\n%s", why, got, plan)
		}
	}
	var r indexReport
	s.run("index", "--json", "--dry-run").ok(t).json(t, &r)
	if len(r.Logs) != 1 || r.Logs[0].Action != "built" || !r.DryRun || len(s.rollupObjects()) > 0 {
		t.Fatalf("a dry run: %+v, roll-ups %v", r, s.rollupObjects())
	}
	r = indexReport{}
	s.run("index", "--json").ok(t).json(t, &r)
	if len(r.Logs) != 1 || r.Logs[0].Segments < 8 || r.Logs[0].New != r.Logs[0].Segments || r.Logs[0].StoredBytes == 0 || len(s.rollupObjects()) != 1 {
		t.Fatalf("report %+v, roll-ups %v", r, s.rollupObjects())
	}
	same("with a roll-up")
	if out := s.run("index").ok(t).stdout; !strings.Contains(out, "0 roll-ups built, 0 removed, 1 in order") {
		t.Errorf("run again it says %s", out)
	}
	if out := s.run("index", "--all").ok(t).stdout; !strings.Contains(out, "1 roll-ups built") {
		t.Errorf("--all says %s", out)
	}
	// A damaged roll-up is made anew, and told.
	flip(t, s.rollupObjects()[0], 50)
	same("with a damaged roll-up")
	out := s.run("index").exits(t, 1)
	if !strings.Contains(out.stdout, "PROBLEMS") || !strings.Contains(out.stdout, "/index/00000001/00000000/00000002") {
		t.Errorf("of a damaged roll-up it says %s", out.stdout)
	}
	s.run("index").ok(t)
	same("after it was made anew")
	// A damaged segment is found each time.
	object := s.segmentObject(names[3])
	heal := keep(t, object)
	st, err := os.Stat(object)
	check(t, err)
	flip(t, object, st.Size()-100)
	for range 2 {
		if out := s.run("index", "--all").exits(t, 1); !strings.Contains(out.stdout, names[3]) {
			t.Errorf("of a damaged segment it says %s", out.stdout)
		}
	}
	s.run("index").exits(t, 1)
	heal()
	s.run("index", "--all").ok(t)
	same("after all was healed")
	// A roll-up does not tell what exists.
	check(t, os.Remove(object))
	s.run("plan", "--latest").exits(t, 3).says(t, names[3], "missing")
}

// TestBackupMakesRollups: a backup makes the roll-ups of the WAL that has come since
// the one before.
func TestBackupMakesRollups(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.backup()
	if found := s.rollupObjects(); len(found) > 0 {
		t.Errorf("of a few segments there is %v", found)
	}
	s.fill(66)
	s.backup()
	if found := s.rollupObjects(); len(found) != 1 || filepath.Base(found[0]) != "00000001" {
		t.Errorf("of many segments there is %v", found)
	}
	s.run("plan", "--latest").ok(t)
}
