//go:build unix

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// drillSite is a cluster that is drilled.
type drillSite struct {
	*site
	scratch string
}

// drillRecord is what `drill --json` prints, as far as tests look at it.
type drillRecord struct {
	ID, Result, Failure, Flags, Target, Scenario, Happened, Runner string
	Checks                                                         []struct{ Check, State, Text string }
	Warnings                                                       []string
	Seconds                                                        float64
	Loss                                                           struct{ Seconds float64 }
}

// state is what came of a check, failed if it was made several times and failed once; "": it
// was not made.
func (r drillRecord) state(check string) (state string) {
	for _, c := range r.Checks {
		if c.Check == check && state != "failed" {
			state = c.State
		}
	}
	return state
}

func newDrillSite(t *testing.T, o siteOptions) *drillSite {
	t.Helper()
	d := &drillSite{site: newSite(t, o)}
	d.scratch = filepath.Join(d.dir, "scratch")
	pgtest.MkdirAll(t, d.scratch)
	d.pg.Exec("CREATE TABLE orders (id int PRIMARY KEY, note text)")
	d.pg.Exec("INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 5000) i")
	return d
}

func (d *drillSite) arguments(more ...string) []string {
	return append([]string{"drill", "--json", "--scratch", d.scratch, "--pg-bin", d.pg.BinDir()}, more...)
}

// drill makes one, which must end with the exit code, and leave nothing behind.
func (d *drillSite) drill(code int, more ...string) (r drillRecord) {
	d.t.Helper()
	d.run(d.arguments(more...)...).exits(d.t, code).json(d.t, &r)
	d.clean()
	return r
}

// proven makes a drill that must prove something.
func (d *drillSite) proven(more ...string) drillRecord {
	d.t.Helper()
	r := d.drill(0, more...)
	if r.Result != "proven" || r.Failure != "" {
		d.t.Errorf("%+v", r)
	}
	for _, check := range []string{"plan", "restore", "stop", "transactions", "amcheck", "checksums"} {
		if r.state(check) != "passed" {
			d.t.Errorf("drill %s: %s is %q: %+v", strings.Join(more, " "), check, r.state(check), r.Checks)
		}
	}
	return r
}

// finds makes a drill whose check must fail with the words.
func (d *drillSite) finds(check string, words []string, more ...string) drillRecord {
	d.t.Helper()
	r := d.drill(1, more...)
	if r.Result != "failed" || r.state(check) != "failed" {
		d.t.Errorf("drill %s: %s is %q: %+v", strings.Join(more, " "), check, r.state(check), r)
	}
	for _, w := range words {
		if !strings.Contains(r.Failure, w) {
			d.t.Errorf("drill %s: %q does not say %q", strings.Join(more, " "), r.Failure, w)
		}
	}
	return r
}

// clean fails the test if anything is left of a drill.
func (d *drillSite) clean() {
	d.t.Helper()
	entries, err := os.ReadDir(d.scratch)
	check(d.t, err)
	if len(entries) > 0 {
		d.t.Fatalf("scratch holds %v", entries)
	}
	if out, err := exec.Command("pgrep", "-f", d.scratch).Output(); err == nil {
		d.t.Fatalf("processes are left: %s", out)
	}
}

// TestDrill drills to every kind of moment.
func TestDrill(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			d := newDrillSite(t, siteOptions{major: major, settings: map[string]string{"max_prepared_transactions": "5"}})
			d.pg.Tablespace("elsewhere")
			d.pg.Exec("CREATE TABLE far TABLESPACE elsewhere AS SELECT 1 AS n")
			d.pg.Exec("CREATE DATABASE shop")
			d.backup()
			d.pg.Exec("SELECT pg_create_restore_point('here')")
			for i := range 20 {
				d.pg.Exec("INSERT INTO orders VALUES ($1, 'later')", 10000+i)
			}
			check(t, d.pg.TryExec(t.Context(), "postgres", "BEGIN; INSERT INTO orders VALUES (20000, 'undecided'); PREPARE TRANSACTION 'waiting'"))
			d.pg.Exec("DROP TABLE far")
			d.pg.Exec("INSERT INTO orders VALUES (30000, 'last')")
			d.archiveAll()
			r := d.proven("--database", "postgres", "--assert", "SELECT count(*) = 5021 FROM orders", "--rto", "10m", "--rpo", "10m")
			if r.state("rto") != "passed" || r.state("rpo") != "passed" || r.state("assertion") != "passed" {
				t.Errorf("%+v", r.Checks)
			}
			if len(r.Warnings) == 0 || !strings.Contains(strings.Join(r.Warnings, " "), "waiting") {
				t.Errorf("it does not tell of the prepared transaction: %q", r.Warnings)
			}
			d.proven("--pick", "random-time")
			d.proven("--pick", "random-xid")
			d.proven("--pick", "last-drop", "--database", "postgres", "--assert", "SELECT n = 1 FROM far", "--assert", "SELECT NOT EXISTS (SELECT FROM orders WHERE id = 30000)")
			d.proven("--name", "here", "--database", "postgres", "--assert", "SELECT count(*) = 5000 FROM orders")
			d.proven("--immediate")
			d.run(d.arguments("--pick", "before-switch")...).exits(t, 1).says(t, "has never switched")
			d.run(d.arguments("--name", "nowhere")...).exits(t, 3)
		})
	}
}

// TestDrillReport: the history of drills, as table, as JSON and as a page.
func TestDrillReport(t *testing.T) {
	d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
	d.backup()
	d.archiveAll()
	if got := d.run("drill", "--report").ok(t).stdout; !strings.Contains(got, "nothing has been proven yet") {
		t.Error(got)
	}
	for _, wrong := range [][]string{
		{"--latest", "--pick", "random-time"}, {"--pick", "sometime"}, {"--pick", "last-drop", "--timeline", "1"}, {"--exclusive"}, {"--scenario", "fire"},
		{"--skip", "stop"}, {"--rto", "0s"}, {"--rpo", "-5s"}, {"--assert", " "}, {"--assert-file", "absent"}, {"--html", "x"}, {"--from", "-1h"},
		{"--runner", "cloud"}, {"--image", "x"}, {"--jobs", "-1"}, {"--set", "x"}, {"--time", "yesterday"}, {"argument"},
	} {
		d.run(append([]string{"drill"}, wrong...)...).exits(t, 2)
	}
	d.proven()
	d.finds("rto", []string{"missed"}, "--rto", "1ms", "--rpo", "1h")
	type report struct {
		Summary struct {
			Drills, Proven, Failed, Streak int
			Failing                        bool
			ReadySeconds                   float64 `json:"ready_seconds"`
		}
		Drills     []drillRecord
		Unreadable []struct{ ID string }
	}
	var r report
	d.run("drill", "--report", "--json", "--from", "-90d").exits(t, 1).json(t, &r)
	if s := r.Summary; s.Drills != 2 || s.Proven != 1 || s.Failed != 1 || !s.Failing || s.Streak != 0 || s.ReadySeconds <= 0 || r.Drills[0].Result != "proven" {
		t.Errorf("%+v", r)
	}
	page := filepath.Join(d.dir, "drills.html")
	d.proven("--assert", "SELECT '<script>' <> ''")
	got := d.run("drill", "--report", "--html", page).ok(t).stdout
	for _, words := range []string{"3, of which 2 proven, 1 failed", "1 in a row", "the objective was missed"} {
		if !strings.Contains(got, words) {
			t.Errorf("the table does not say %q:\n%s", words, got)
		}
	}
	b, err := os.ReadFile(page)
	check(t, err)
	for _, words := range []string{"<svg", "<rect", "objective", "3: 2 proven, 1 failed", "walden drill --latest"} {
		if !strings.Contains(string(b), words) {
			t.Errorf("the page lacks %q", words)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://", "ZgotmplZ", "NaN"} {
		if strings.Contains(string(b), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	// A record that is damaged is told.
	records, err := filepath.Glob(filepath.Join(d.objects, "main", "*", "drills", "*"))
	check(t, err)
	wounds["one bit flipped"](t, records[0])
	var after report
	d.run("drill", "--report", "--json").exits(t, 1).json(t, &after)
	if len(after.Unreadable) != 1 || len(after.Drills) != 2 {
		t.Errorf("%+v", after)
	}
}
