//go:build unix

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// wish is a target as a user words it: for walden, and for PostgreSQL itself.
type wish struct {
	kind, value string
	exclusive   bool
	timeline    wal.TimelineID // 0: not said
	backup      string         // "": not said
}

// args are walden's.
func (w wish) args() []string {
	list := []string{"--" + w.kind}
	if w.value != "" {
		list = append(list, w.value)
	}
	if w.exclusive {
		list = append(list, "--exclusive")
	}
	if w.timeline != 0 {
		list = append(list, "--timeline", w.timeline.String())
	}
	if w.backup != "" {
		list = append(list, "--backup", w.backup)
	}
	return list
}

// settings are PostgreSQL's own, not translated.
func (w wish) settings(tli wal.TimelineID) []string {
	list := []string{"recovery_target_timeline = '" + tli.String() + "'"}
	switch {
	case w.kind == "latest":
		return list
	case w.kind == "immediate":
		return append(list, "recovery_target = 'immediate'")
	case w.exclusive:
		list = append(list, "recovery_target_inclusive = off")
	}
	return append(list, "recovery_target_"+w.kind+" = '"+w.value+"'")
}

// wish makes up a random one over the history: mostly of something that happened,
// and often beside it, or of something that did not.
func (b *busy) wish(r *rand.Rand) wish {
	tli := wal.TimelineID(1 + r.IntN(3))
	way := b.ways[tli]
	w := wish{exclusive: r.IntN(2) == 0}
	if r.IntN(3) > 0 {
		w.timeline = tli
	}
	if r.IntN(8) == 0 {
		w.backup = b.backups[r.IntN(len(b.backups))]
	}
	ends := way.ends()
	e := ends[r.IntN(len(ends))]
	switch r.IntN(16) {
	case 0:
		w.kind, w.exclusive = "immediate", false
	case 1:
		w.kind, w.exclusive = "latest", false
	case 2, 3:
		w.kind, w.value, w.exclusive = "name", pointName(r), false
	case 4, 5, 6, 7:
		w.kind, w.value = "xid", strconv.FormatUint(uint64(b.someXID(r, e, ends)), 10)
	case 8, 9, 10, 11:
		at := e.time.Add([]time.Duration{0, 0, -1, 1, -500, 500}[r.IntN(6)] * time.Microsecond)
		if r.IntN(3) == 0 { // around the beginning and the end of it all
			last := ends[len(ends)-1].time
			at = []time.Time{
				ends[0].time.Add(time.Duration(r.IntN(4000)-2000) * time.Millisecond),
				last.Add(time.Duration(r.Int64N(int64(idle)))), // nothing happens then, until a restore point
				last.Add(time.Duration(r.IntN(4000)-2000) * time.Millisecond),
			}[r.IntN(3)]
		}
		w.kind, w.value = "time", at.Format("2006-01-02 15:04:05.000000+00")
	default:
		at := way.records[r.IntN(len(way.records))].lsn + []wal.LSN{0, 0, 8, 24, wal.LSN(r.IntN(4000))}[r.IntN(5)]
		if r.IntN(8) == 0 {
			at = way.records[len(way.records)-1].lsn + wal.LSN(r.IntN(400))
		}
		w.kind, w.value = "lsn", at.String()
	}
	return w
}

// someXID is the id of a transaction, of a subtransaction, or of nothing that ended.
func (b *busy) someXID(r *rand.Rand, e walRecord, ends []walRecord) uint32 {
	switch r.IntN(8) {
	case 0:
		return ends[0].xid + uint32(r.IntN(int(ends[len(ends)-1].xid-ends[0].xid)+20))
	case 1, 2:
		with := slices.DeleteFunc(slices.Clone(ends), func(x walRecord) bool { return len(x.subs) == 0 })
		x := with[r.IntN(len(with))]
		return x.subs[r.IntN(len(x.subs))]
	}
	return e.xid
}

// predicted is what `plan` prints, as far as it is compared.
type predicted struct {
	Backup struct {
		ID       string  `json:"id"`
		StartLSN wal.LSN `json:"start_lsn"`
	} `json:"backup"`
	Timeline wal.TimelineID                 `json:"timeline"`
	Settings []struct{ Name, Value string } `json:"settings"`
	Stop     struct {
		Before         bool           `json:"before"`
		LSN            wal.LSN        `json:"lsn"`
		End            wal.LSN        `json:"end"`
		XID            uint32         `json:"xid"`
		Subtransaction uint32         `json:"subtransaction"`
		Timeline       wal.TimelineID `json:"timeline"`
		LastKept       *struct {
			LSN  wal.LSN   `json:"lsn"`
			XID  uint32    `json:"xid"`
			Time time.Time `json:"time"`
		} `json:"last_kept"`
		FirstLost *struct {
			LSN wal.LSN `json:"lsn"`
			XID uint32  `json:"xid"`
		} `json:"first_lost"`
		Evidence *struct {
			Time time.Time `json:"time"`
		} `json:"evidence"`
	} `json:"stop"`
	Prepared []struct {
		GID string `json:"gid"`
	} `json:"prepared"`
	Copies []segmentCopy `json:"copies"`
}

// segmentCopy is a segment that recovery needs under another name as well.
type segmentCopy struct {
	Segment string `json:"segment"`
	As      string `json:"as"`
}

// told are the plan's own settings.
func (p *predicted) told() []string {
	var list []string
	for _, s := range p.Settings {
		if s.Value != "" {
			list = append(list, s.Name+" = '"+s.Value+"'")
		}
	}
	return list
}

// counts say what came of the wishes.
type counts struct {
	reached, refused, ambiguous, evidence, subtransactions, excused, restored, prepared, copies int
	kinds                                                                                       map[string]int
}

// exact compares n wishes over one history: what walden predicts, what PostgreSQL comes
// to when it is given the wish itself, and for every so many what `restore --start` comes to.
func exact(t *testing.T, major int, seed uint64, n, restoreEvery int) counts {
	b := newBusy(t, major, seed)
	times := b.backupTimes()
	bases := map[string]string{}
	for _, id := range b.backups {
		bases[id] = b.restore("base-"+id, "--immediate", "--backup", id)
	}
	c := counts{kinds: map[string]int{}}
	for i := range n {
		w := b.wish(b.random)
		t.Run(strings.Join(append([]string{strconv.Itoa(i)}, w.args()...), " "), func(t *testing.T) {
			o := &oracle{busy: b, t: t, bases: bases, times: times, counts: &c}
			o.judge(w, i%restoreEvery == 0)
		})
	}
	t.Logf("PostgreSQL %d, seed %d: %+v", major, seed, c)
	return c
}

// TestExactTargets holds the planner's promise over random targets: a busy history on
// three timelines, each target given to PostgreSQL as it is. `make soak` tries 200 and more.
func TestExactTargets(t *testing.T) {
	majors := pgtest.Majors()
	for i, major := range majors {
		n := 6
		if i == 0 {
			n = 12
		}
		t.Run(fmt.Sprint(major), func(t *testing.T) { exact(t, major, uint64(major), n, 4) })
	}
}

// TestSoakExactTargets is TestExactTargets with 200 targets on each major, and with as
// many again on other histories for as long as WALDEN_SOAK says.
func TestSoakExactTargets(t *testing.T) {
	until := time.Now().Add(soakFor(t))
	_, random := kills(t)
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		for _, major := range pgtest.Majors() {
			seed := random.Uint64N(1 << 32)
			t.Run(fmt.Sprintf("%d on %d", round, major), func(t *testing.T) {
				c := exact(t, major, seed, 200, 2)
				if c.reached < 80 || c.refused < 10 || c.subtransactions == 0 || c.evidence == 0 || c.ambiguous == 0 || c.prepared == 0 {
					t.Errorf("the targets are too much alike: %+v", c)
				}
			})
		}
	}
}

// autoConf replaces what a restore has appended, but for the command that fetches WAL.
func autoConf(t *testing.T, dir string, settings []string) {
	t.Helper()
	path := filepath.Join(dir, "postgresql.auto.conf")
	content, err := os.ReadFile(path)
	check(t, err)
	var lines []string
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "restore_command") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		t.Fatalf("%s has no restore_command:\n%s", path, content)
	}
	lines = append(lines, "archive_mode = off\nfsync = off\nrecovery_target_action = 'pause'\n"+strings.Join(settings, "\n")+"\n")
	check(t, os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600))
	pgtest.Chown(t, path)
}
