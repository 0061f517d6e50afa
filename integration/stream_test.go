//go:build unix

package integration

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// loss is one way of losing a primary.
type loss struct {
	store       store
	synchronous bool
	// kills: receivers are killed again and again meanwhile.
	kills bool
}

func (l loss) String() string {
	s := string(l.store) + " asynchronous"
	if l.synchronous {
		s = string(l.store) + " synchronous"
	}
	if l.kills {
		s += ", receivers killed"
	}
	return s
}

// maxDelay is the --max-delay of these tests, slack what an upload, and being
// scheduled on a machine that is busy with other tests, may take on top.
const (
	maxDelay = 500 * time.Millisecond
	slack    = 3 * time.Second
)

// losePrimary lets clients commit while walden stream receives, kills the
// server at a random moment, removes its disk, and restores.
func losePrimary(t *testing.T, major int, l loss, random *rand.Rand) {
	settings := map[string]string{"synchronous_commit": "on"}
	s := newSite(t, siteOptions{major: major, store: l.store, noArchiving: true, settings: settings})
	s.pg.Exec("CREATE TABLE counter (n int PRIMARY KEY)")
	s.pg.PgbenchInit(1)
	s.backup()
	args := []string{"--max-delay", maxDelay.String()}
	var settle func() *streamer
	if l.kills {
		settle = s.supervise(random, 800*time.Millisecond, args...)
		s.pg.WaitFor("the slot", func() bool { return s.pg.QueryValue("SELECT count(*) FROM pg_replication_slots") == "1" })
	} else {
		p := s.stream(args...)
		p.attached(s.pg)
		settle = func() *streamer { return p }
	}
	if l.synchronous {
		s.pg.Exec("ALTER SYSTEM SET synchronous_standby_names = 'walden'")
		s.pg.Reload()
		s.pg.WaitFor("the setting", func() bool { return s.pg.QueryValue("SHOW synchronous_standby_names") == "walden" })
	}
	load := s.pg.PgbenchStart("-c", "3", "-T", "600", "-n", "-R", "300")
	c := s.count()
	run := 2 * time.Second
	if !l.synchronous {
		run += maxDelay + slack
	}
	time.Sleep(run + time.Duration(random.IntN(2000))*time.Millisecond)
	var p *streamer
	if !l.synchronous {
		// What counts is a receiver that has been running.
		if p = settle(); l.kills {
			p.attached(s.pg)
			p.caughtUp(s.pg)
			time.Sleep(time.Second)
		}
	}
	killed := time.Now()
	s.gone()
	load.Abandon()
	<-c.done
	if p == nil {
		p = settle()
	}
	if l.kills && l.synchronous {
		p.kill() // even the one that was there
	} else {
		p.stop(0)
	}
	want := c.last(time.Now())
	if !l.synchronous {
		want = c.last(killed.Add(-maxDelay - slack))
	}
	got := s.restoredCounter("restored")
	t.Logf("%d commits returned, %d had to be restored, %d were", c.last(time.Now()), want, got)
	if got < want {
		t.Errorf("commits up to %d returned, restored are those up to %d", want, got)
	}
	if want == 0 {
		t.Error("nothing was committed: the test tests nothing")
	}
}

func TestStreamLosesNothing(t *testing.T) {
	_, random := kills(t)
	for i, major := range pgtest.Majors() {
		// Every way is taken on some major.
		for _, l := range [][]loss{
			{{fileStore, true, false}, {s3Store, false, true}},
			{{s3Store, true, false}, {fileStore, false, false}},
			{{fileStore, true, true}, {s3Store, false, false}},
		}[i%3] {
			t.Run(fmt.Sprintf("%d %s", major, l), func(t *testing.T) { losePrimary(t, major, l, random) })
		}
	}
}

// TestSoakStream is TestStreamLosesNothing again and again.
func TestSoakStream(t *testing.T) {
	until := time.Now().Add(soakFor(t))
	_, random := kills(t)
	for round := 0; time.Now().Before(until); round++ {
		majors := pgtest.Majors()
		major := majors[random.IntN(len(majors))]
		l := loss{store: []store{fileStore, s3Store}[random.IntN(2)], synchronous: random.IntN(3) > 0, kills: random.IntN(2) == 0}
		t.Run(fmt.Sprintf("%d on %d, %s", round, major, l), func(t *testing.T) { losePrimary(t, major, l, random) })
	}
}

// TestStreamFailover: the archive continues on the promoted standby's timeline;
// moments before and after the switch can be restored.
func TestStreamFailover(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := newSite(t, siteOptions{major: major, noArchiving: true})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
			standby := s.pg.Standby("second")
			user := s.pg.QueryValue("SELECT current_user")
			s.env = []string{fmt.Sprintf("WALDEN_CLUSTERS_MAIN_CONNECTION=host=%s,%s port=%d,%d user=%s dbname=postgres target_session_attrs=read-write",
				s.pg.SocketDir(), standby.SocketDir(), s.pg.Port(), standby.Port(), user)}
			p := s.stream("--max-delay", "200ms")
			p.attached(s.pg)
			standby.WaitFor("the slot on the standby", func() bool {
				return standby.QueryValue("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walden'") == "1"
			})
			s.backup()
			one, two := s.mark(1), s.mark(2)
			p.caughtUp(s.pg)
			standby.WaitReplayed(s.pg)
			s.gone()
			standby.Promote()
			s.pg = standby
			p.attached(standby)
			three, four := s.mark(3), s.mark(4)
			p.caughtUp(standby)
			p.stop(0)
			for i, c := range []struct {
				args []string
				want string
			}{
				{[]string{"--xid", one.xid}, "1"},
				{[]string{"--xid", two.xid}, "1,2"},
				{[]string{"--time", four.time, "--exclusive"}, "1,2,3"},
				{[]string{"--xid", three.xid}, "1,2,3"},
				{[]string{"--latest"}, "1,2,3,4"},
			} {
				restored := s.open(s.restore(fmt.Sprintf("restored%d", i), append(c.args, "--action", "promote")...))
				if got := restored.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != c.want {
					t.Errorf("%v: markers %s, want %s", c.args, got, c.want)
				}
				restored.Stop(pgtest.Immediate)
			}
			var list struct {
				Gaps      []any `json:"gaps"`
				Timelines []struct {
					Timeline int `json:"timeline"`
				} `json:"timelines"`
			}
			s.run("list", "--json").ok(t).json(t, &list)
			if len(list.Gaps) != 0 || len(list.Timelines) != 2 {
				t.Errorf("list: %+v", list)
			}
		})
	}
}

// TestStreamBesideArchiveCommand: both write the same segments and agree.
func TestStreamBesideArchiveCommand(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	p := s.stream("--max-delay", "200ms")
	p.attached(s.pg)
	s.backup()
	s.fill(6)
	s.mark(1)
	s.archiveAll()
	s.mark(2)
	p.caughtUp(s.pg)
	p.stop(0)
	if n := s.pg.QueryValue("SELECT failed_count FROM pg_stat_archiver"); n != "0" {
		t.Errorf("archive_command failed %s times", n)
	}
	// A clone that goes on by itself on the same timeline is a conflict.
	clone := filepath.Join(s.dir, "clone")
	s.pg.Stop(pgtest.Fast)
	out, err := pgtest.Command(t.Context(), "cp", "-a", s.pg.DataDir(), clone).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.pg.Start()
	p = s.stream("--max-delay", "200ms")
	p.attached(s.pg)
	s.mark(3)
	s.fill(2)
	p.caughtUp(s.pg)
	p.stop(0)
	other := s.pg.AttachRestored(clone)
	other.Configure(map[string]string{"archive_mode": "off"})
	other.Start()
	original := s.pg
	s.pg = other
	s.mark(30)
	for range 4 { // beyond what is archived of the original
		other.Exec("SELECT pg_logical_emit_message(true, 'clone', repeat('y', 100000))")
		other.SwitchWAL()
	}
	s.mark(31)
	s.env = []string{"WALDEN_CLUSTERS_MAIN_CONNECTION=" + other.Conninfo("postgres")}
	p = s.stream("--max-delay", "200ms")
	p.ends(1)
	if msg := p.stderr.String(); !strings.Contains(msg, "content") || !strings.Contains(msg, "hint:") {
		t.Errorf("the conflict is not told:\n%s", msg)
	}
	s.env, s.pg = nil, original
	c := s.open(s.restore("restored", "--latest"))
	if got := c.QueryValue("SELECT string_agg(id::text, ',' ORDER BY id) FROM marker"); got != "1,2,3" {
		t.Errorf("markers %s, want 1,2,3", got)
	}
}
