//go:build unix

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestPartialSegment loses a primary before it has archived its last segment. The
// promoted standby archives what it had of it as a partial segment, which is the only copy
// until the new timeline's is complete: the old one is restored to its very end.
func TestPartialSegment(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := newSite(t, siteOptions{major: major})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
			s.backup()
			s.mark(1)
			s.archiveAll()
			standby := s.pg.Standby("standby")
			two := s.mark(2)
			standby.WaitReplayed(s.pg)
			s.run("plan", "--xid", two.xid).exits(t, 3)
			s.pg.Kill()
			standby.Promote()
			var list struct {
				Timelines []struct {
					Partials []string `json:"partials"`
				} `json:"timelines"`
			}
			standby.WaitFor("the partial segment", func() bool {
				s.run("list", "--json").ok(t).json(t, &list)
				return len(list.Timelines[0].Partials) == 1
			})
			var p struct {
				Partial string `json:"partial"`
			}
			s.run("plan", "--json", "--xid", two.xid, "--timeline", "1").ok(t).json(t, &p)
			if p.Partial != list.Timelines[0].Partials[0] {
				t.Errorf("the plan reads %q, the archive has %q", p.Partial, list.Timelines[0].Partials)
			}
			for name, target := range map[string][]string{
				"xid": {"--xid", two.xid, "--timeline", "1"}, "latest": {"--latest", "--timeline", "1"}, "exclusive": {"--xid", two.xid, "--exclusive", "--timeline", "1"},
			} {
				want := "1,2"
				if name == "exclusive" {
					want = "1"
				}
				c := s.open(s.restore(name, append(target, "--action", "promote")...))
				if got := c.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != want {
					t.Errorf("%s: markers %s, want %s", name, got, want)
				}
				c.Stop(pgtest.Immediate)
			}
			// Without leave the hook does not deliver it, and PostgreSQL's way to the
			// younger timeline never leads into it.
			segment := strings.TrimSuffix(p.Partial, ".partial")
			s.run("wal-get", segment, s.dir+"/got").exits(t, 1)
			s.run("wal-get", "--partial", segment, s.dir+"/got").ok(t)
		})
	}
}
