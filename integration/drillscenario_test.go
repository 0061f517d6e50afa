//go:build unix

package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestDrillScenarios plays every mishap, and leaves the repository as it was.
func TestDrillScenarios(t *testing.T) {
	d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
	older := d.backup()
	d.pg.Exec("INSERT INTO orders VALUES (10000, 'between')")
	d.archiveAll()
	newer := d.backup()
	for i := range 4 {
		d.pg.Exec("INSERT INTO orders VALUES ($1, 'later')", 20000+i)
		d.archiveAll()
	}
	before := d.digest()
	play := func(name string, says []string, more ...string) drillRecord {
		r := d.drill(0, append([]string{"--scenario", name, "--database", "postgres"}, more...)...)
		if r.Result != "proven" || r.Scenario != name || r.state("scenario") != "passed" {
			t.Errorf("%s: %+v", name, r)
		}
		for _, w := range says {
			if !strings.Contains(r.Happened, w) {
				t.Errorf("%s: what happened does not say %q: %s", name, w, r.Happened)
			}
		}
		return r
	}
	play("damaged-pack", []string{"the restore refused", "packs/" + newer, "backup " + older + " served instead"}, "--assert", "SELECT count(*) = 5005 FROM orders")
	play("damaged-pack", []string{"packs/" + older, "no other backup leads to the moment"}, "--lsn", d.firstLSN(older))
	play("missing-segment", []string{"the plan refused", "the nearest moment before it, was restored"}, "--assert", "SELECT count(*) BETWEEN 5001 AND 5004 FROM orders")
	play("bucket-down", []string{"PostgreSQL stopped", "went on to the planned stop"}, "--assert", "SELECT count(*) = 5005 FROM orders")
	play("lost-primary", []string{"the cluster was back after", "lost is nothing"}, "--assert", "SELECT count(*) = 5005 FROM orders")
	d.run(d.arguments("--scenario", "old-timeline")...).exits(t, 1).says(t, "has never switched")
	d.run(d.arguments("--scenario", "lost-primary", "--pick", "random-time")...).exits(t, 1).says(t, "leave the target out")
	if after := d.digest(); after != before {
		t.Error("the repository was changed")
	}
	// A failover, and a little after it on both sides.
	standby := d.pg.Standby("standby")
	standby.WaitReplayed(d.pg)
	d.pg.Kill()
	standby.Promote()
	standby.Exec("INSERT INTO orders VALUES (30000, 'on the new timeline')")
	standby.WaitArchived(standby.SwitchWAL())
	play("old-timeline", []string{"on timeline 1"}, "--assert", "SELECT count(*) = 5005 FROM orders")
	d.proven("--database", "postgres", "--assert", "SELECT count(*) = 5006 FROM orders")
	d.proven("--pick", "before-switch", "--database", "postgres", "--assert", "SELECT count(*) = 5005 FROM orders")
	d.proven("--pick", "after-switch", "--database", "postgres", "--assert", "SELECT count(*) = 5005 FROM orders")
}

// digest is what the repository holds, but for the records of drills.
func (d *drillSite) digest() string {
	d.t.Helper()
	var b strings.Builder
	for _, rel := range d.objectFiles() {
		if strings.Contains(rel, "/drills/") {
			continue
		}
		content, err := os.ReadFile(rel)
		check(d.t, err)
		b.WriteString(rel + "\n")
		b.Write(content)
	}
	return b.String()
}

// firstLSN is the first moment that a backup leads to.
func (d *drillSite) firstLSN(backup string) string {
	d.t.Helper()
	var list struct {
		Backups []struct {
			ID      string `json:"id"`
			StopLSN string `json:"stop_lsn"`
		} `json:"backups"`
	}
	d.run("list", "--json").ok(d.t).json(d.t, &list)
	for _, b := range list.Backups {
		if b.ID == backup {
			return b.StopLSN
		}
	}
	d.t.Fatalf("no backup %s", backup)
	return ""
}
