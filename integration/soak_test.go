//go:build unix

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// soakFor is how long randomised runs go on; `make soak` sets it.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("WALDEN_SOAK")
	if text == "" {
		t.Skip("a long randomised run: make soak runs it")
	}
	d, err := time.ParseDuration(text)
	check(t, err)
	return d
}

// TestSoakTargets lives on under load for the stated time: commits, aborts,
// backups (some of them killed), restarts after crashes; and restores to random
// targets, each of which must be exact.
func TestSoakTargets(t *testing.T) {
	until := time.Now().Add(soakFor(t))
	_, random := kills(t)
	for round := 0; time.Now().Before(until); round++ {
		majors := pgtest.Majors()
		major := majors[random.IntN(len(majors))]
		st := []store{fileStore, s3Store}[random.IntN(2)]
		t.Run(fmt.Sprintf("%d on %d with %s", round, major, st), func(t *testing.T) { soakRound(t, random, major, st) })
	}
}

func soakRound(t *testing.T, random *rand.Rand, major int, st store) {
	s := newSite(t, siteOptions{major: major, store: st})
	h := &history{site: s}
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.pg.PgbenchInit(1)
	load := s.pg.PgbenchStart("-c", "2", "-T", "600", "-n", "-R", "100")
	s.backup()
	for id := 1; id <= 30; id++ {
		h.markers = append(h.markers, s.mark(id))
		switch random.IntN(10) {
		case 0:
			s.backup()
		case 1:
			s.killed(time.Duration(random.IntN(1500))*time.Millisecond, "backup", "--checkpoint", "fast")
		case 2:
			load.Abandon()
			s.pg.Kill()
			s.pg.Start()
			load = s.pg.PgbenchStart("-c", "2", "-T", "600", "-n", "-R", "100")
		case 3:
			s.pg.Exec("CHECKPOINT")
		}
	}
	load.Stop()
	s.archiveAll()
	h.locate()
	for i := range 6 {
		m := h.markers[random.IntN(len(h.markers))]
		exclusive := random.IntN(2) == 0
		a := aim{name: strconv.Itoa(i), last: m.id}
		switch random.IntN(3) {
		case 0:
			if !m.inOrder {
				m = h.timed()
			}
			a.args, a.last = []string{"--time", m.time}, m.id
		case 1:
			a.args = []string{"--xid", m.xid}
		default:
			a.args = []string{"--lsn", m.commit}
		}
		if exclusive {
			a.args, a.last = append(a.args, "--exclusive"), m.id-1
		}
		t.Log(strings.Join(a.args, " "))
		h.hit(a)
	}
}
