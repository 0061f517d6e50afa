//go:build unix

package integration

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// TestTimelines promotes a restored cluster, archives on the new timeline, and
// restores to moments on the old and on the new one.
func TestTimelines(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := newSite(t, siteOptions{major: major})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
			s.backup()
			one, two := s.mark(1), s.mark(2)
			s.archiveAll()

			// Back to just before marker 2, on as timeline 2, archiving.
			dir := s.restore("second", "--xid", two.xid, "--exclusive", "--action", "promote", "--keep-archiving")
			s.pg.Stop(pgtest.Fast)
			s.pg = s.open(dir)
			s.pointTo(s.pg)
			three := s.mark(3)
			four := s.mark(4)
			s.archiveAll()
			s.backup()
			five := s.mark(5)
			s.archiveAll()

			for _, c := range []struct {
				name string
				args []string
				want string
			}{
				{"old-one", []string{"--xid", one.xid, "--timeline", "1"}, "1"},
				{"old-end", []string{"--xid", two.xid, "--timeline", "1"}, "1,2"},
				{"old-latest", []string{"--latest", "--timeline", "1"}, "1,2"},
				{"new-before", []string{"--time", one.time}, "1"},
				{"new-three", []string{"--xid", three.xid}, "1,3"},
				{"new-four", []string{"--lsn", four.after}, "1,3,4"},
				{"new-five", []string{"--time", five.time, "--exclusive"}, "1,3,4"},
				{"new-latest", []string{"--latest"}, "1,3,4,5"},
			} {
				c2 := s.open(s.restore(c.name, append(c.args, "--action", "promote")...))
				if got := c2.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != c.want {
					t.Errorf("%s: markers %s, want %s", c.name, got, c.want)
				}
				c2.Stop(pgtest.Immediate)
			}
			// Marker 2 exists on timeline 1 alone.
			s.run("plan", "--xid", two.xid, "--timeline", "2").exits(t, 3)
		})
	}
}

// TestStandbySource takes a backup from a standby and restores it.
func TestStandbySource(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := newSite(t, siteOptions{major: major})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
			s.mark(1)
			standby := s.pg.Standby("standby")
			standby.WaitReplayed(s.pg)
			s.pointTo(standby)
			// The standby cannot end a segment; keep the primary busy so that
			// the one with the backup's end is archived.
			s.pg.PgbenchInit(1)
			load := s.pg.PgbenchStart("-c", "2", "-T", "300", "-n", "-R", "200")
			id := s.backup()
			load.Stop()
			s.mark(2)
			s.archiveAll()
			dir := s.restore("from-standby", "--latest", "--backup", id, "--action", "promote")
			s.verifyBackup(dir)
			c := s.open(dir)
			if got := c.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != "1,2" {
				t.Errorf("markers %s, want 1,2", got)
			}
			s.amcheck(c)
			// Where it becomes consistent no record says so: the plan finds the one.
			s.exactly("immediate", "--immediate", "--backup", id)
		})
	}
}

// exactly restores with --start and holds what it prints of the stop against the plan.
func (s *site) exactly(name string, target ...string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	var r struct {
		Plan     predicted `json:"plan"`
		Recovery struct {
			LSN       wal.LSN `json:"lsn"`
			LSNExact  bool    `json:"lsn_exact"`
			AsPlanned bool    `json:"as_planned"`
		} `json:"recovery"`
	}
	s.run(append([]string{"restore", "--json", "--start", "--to", dir, "--pg-bin", s.pg.BinDir()}, target...)...).ok(s.t).json(s.t, &r)
	s.pg.Run("pg_ctl", "-D", dir, "-m", "immediate", "stop")
	if r.Plan.Stop.LSN == 0 || r.Plan.Stop.End != r.Recovery.LSN || !r.Recovery.LSNExact || !r.Recovery.AsPlanned {
		s.t.Errorf("planned %+v, came to %+v", r.Plan.Stop, r.Recovery)
	}
}
