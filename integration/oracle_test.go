//go:build unix

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// oracle asks PostgreSQL about one wish.
type oracle struct {
	*busy
	t      *testing.T
	bases  map[string]string
	times  map[string]listedBackup
	counts *counts
}

// answer is what PostgreSQL came to.
type answer struct {
	// fatal is why it did not reach its target; "": it did.
	fatal string
	lsn   wal.LSN // the end of the last record that was replayed
	// stop is its own sentence about why it stopped.
	stop string
	last string // the time of the last transaction that was replayed
}

// judge compares a wish's plan with PostgreSQL.
func (o *oracle) judge(w wish, restored bool) {
	o.t.Helper()
	o.counts.kinds[w.kind]++
	got := o.site.on(o.t).run(append([]string{"plan", "--json"}, w.args()...)...)
	switch got.code {
	case 0:
		var p predicted
		got.json(o.t, &p)
		o.counts.reached++
		o.reached(w, &p)
		if restored && w.kind != "latest" && !o.t.Failed() {
			o.restored(w, &p)
		}
	case 3:
		o.refused(w, got)
	default:
		got.ok(o.t)
	}
}

// reached holds a plan against what PostgreSQL does.
func (o *oracle) reached(w wish, p *predicted) {
	o.t.Helper()
	pg := o.recover(p.Backup.ID, w.settings(p.Timeline))
	if strings.Contains(pg.fatal, segmentRemoved) {
		// PostgreSQL cannot, alone: it needs the segment of the switch by another name too.
		o.counts.copies++
		copies := p.Copies
		if p.Stop.Evidence != nil || p.Stop.Subtransaction != 0 {
			copies = o.copies(p.Timeline) // it goes on to the end, where the plan has stopped long before
		}
		pg = o.recover(p.Backup.ID, w.settings(p.Timeline), copies...)
	}
	switch {
	case p.Stop.Evidence != nil && w.kind == "time":
		// PostgreSQL fails where no transaction is later; what it is told instead is exact.
		o.counts.evidence++
		o.wantFatal(pg, endedBefore)
		pg = o.recover(p.Backup.ID, p.told(), p.Copies...)
	case p.Stop.Subtransaction != 0 && w.kind == "xid":
		o.counts.subtransactions++
		o.wantFatal(pg, endedBefore)
		pg = o.recover(p.Backup.ID, p.told(), p.Copies...)
	}
	if pg.fatal != "" {
		o.t.Errorf("planned to stop at %+v, but PostgreSQL: %s", p.Stop, pg.fatal)
		return
	}
	if pg.lsn != p.Stop.End {
		o.t.Errorf("predicted a stop at %s, PostgreSQL stopped at %s (%s); plan %+v", p.Stop.End, pg.lsn, pg.stop, p.Stop)
	}
	if w.kind == "time" || w.kind == "xid" {
		if xid := fmt.Sprintf("transaction %d,", p.Stop.XID); p.Stop.Evidence == nil && p.Stop.Subtransaction == 0 && !strings.Contains(pg.stop, xid) {
			o.t.Errorf("predicted a stop at %s PostgreSQL says %q", xid, pg.stop)
		}
	}
	o.neighbours(p, pg)
}

// neighbours checks the transactions just before and just after the stop.
func (o *oracle) neighbours(p *predicted, pg answer) {
	o.t.Helper()
	var kept, lost *walRecord
	for _, e := range o.ways[p.Timeline].ends() {
		if e.lsn < p.Stop.End {
			kept = &e
		} else if lost == nil {
			lost = &e
		}
	}
	if k := p.Stop.LastKept; kept != nil && (k == nil || k.LSN != kept.lsn || k.XID != kept.xid || !k.Time.Equal(kept.time)) {
		o.t.Errorf("keeps up to %+v, but the WAL has %+v", k, kept)
	}
	if l := p.Stop.FirstLost; lost != nil && (l == nil || l.LSN != lost.lsn || l.XID != lost.xid) {
		o.t.Errorf("loses from %+v on, but the WAL has %+v", l, lost)
	}
	if kept != nil && kept.lsn == p.Stop.LSN && !strings.Contains(pg.stop, "transaction") {
		return // told a position, PostgreSQL does not count the transaction that it stops after
	}
	if kept != nil && kept.lsn >= p.Backup.StartLSN && pg.last != kept.time.Format("2006-01-02 15:04:05.000000") {
		o.t.Errorf("the last transaction that PostgreSQL replayed is of %s, in the WAL of %s; %+v", pg.last, kept.time, *kept)
	}
}

const (
	endedBefore = "recovery ended before configured recovery target was reached"
	// It comes of a prepared transaction where a timeline was left.
	segmentRemoved = "has already been removed"
)

func (o *oracle) wantFatal(pg answer, want string) {
	o.t.Helper()
	if !strings.Contains(pg.fatal, want) {
		o.t.Errorf("PostgreSQL came to %+v, want %q", pg, want)
	}
}

// refused holds a refusal against what PostgreSQL does: it fails too, from every backup.
func (o *oracle) refused(w wish, got result) {
	o.t.Helper()
	if strings.Contains(got.stderr, "is not one moment") {
		o.ambiguous(w, got)
		return
	}
	o.counts.refused++
	got.says(o.t, "hint:")
	ids := o.backups
	if w.backup != "" {
		ids = []string{w.backup}
	}
	tli := w.timeline
	if tli == 0 {
		tli = o.newest(ids, o.times)
	}
	for _, id := range ids {
		pg := o.recover(id, w.settings(tli))
		if strings.Contains(pg.fatal, segmentRemoved) {
			pg = o.recover(id, w.settings(tli), o.copies(tli)...)
		}
		if pg.fatal == "" && !o.tooLate(w, id, tli) {
			o.t.Errorf("refused, but from backup %s on timeline %s PostgreSQL comes to %+v:\n%s", id, tli, pg, got.stderr)
		}
	}
}

// copies are the segments in which timelines on the way to one were left, by the names of those.
func (o *oracle) copies(tli wal.TimelineID) []segmentCopy {
	var list []segmentCopy
	spans := o.ways[tli].history.Path()
	for i, s := range spans[:len(spans)-1] {
		n := segmentSize.Number(s.End)
		child := spans[i+1].Timeline
		for _, later := range spans[i+1:] {
			if segmentSize.Number(later.Begin) <= n {
				child = later.Timeline
			}
		}
		list = append(list, segmentCopy{
			Segment: wal.Segment{Timeline: child, Number: n, Size: segmentSize}.Name(),
			As:      wal.Segment{Timeline: s.Timeline, Number: n, Size: segmentSize}.Name(),
		})
	}
	return list
}

// tooLate excuses a refusal of a time before the backup: PostgreSQL stops at the first
// record it meets, and the restored cluster holds what is later than was asked for.
func (o *oracle) tooLate(w wish, id string, tli wal.TimelineID) bool {
	if w.kind != "time" {
		return false
	}
	at, err := time.Parse("2006-01-02 15:04:05.999999-07", w.value)
	check(o.t, err)
	b := o.times[id]
	late := at.Before(b.StartTime)
	for _, e := range o.ways[tli].ends() {
		late = late || e.lsn < b.StartLSN && (e.time.After(at) || w.exclusive && e.time.Equal(at))
	}
	if late {
		o.counts.excused++
	}
	return late
}

var lsnFlag = regexp.MustCompile(`--lsn ([0-9A-F]+/[0-9A-F]+)`)

// ambiguous: the name occurs more than once, and each place is offered. PostgreSQL
// would take the first it meets.
func (o *oracle) ambiguous(w wish, got result) {
	o.t.Helper()
	o.counts.ambiguous++
	var offered []string
	for _, m := range lsnFlag.FindAllStringSubmatch(got.stderr, -1) {
		offered = append(offered, m[1])
	}
	tli := w.timeline
	if tli == 0 {
		tli = o.newest(o.backups, o.times)
	}
	var there []string
	for _, r := range o.ways[tli].records {
		if r.name == w.value && r.lsn >= o.times[o.backups[0]].StartLSN {
			there = append(there, r.lsn.String())
		}
	}
	slices.Sort(there)
	if slices.Sort(offered); len(offered) < 2 || w.backup == "" && !slices.Equal(offered, there) {
		o.t.Errorf("offers %q, the WAL has %q", offered, there)
	}
	chosen := wish{kind: "lsn", value: offered[o.random.IntN(len(offered))], timeline: tli}
	var p predicted
	o.site.on(o.t).run(append([]string{"plan", "--json"}, chosen.args()...)...).ok(o.t).json(o.t, &p)
	o.reached(chosen, &p)
}

// restored runs `restore --start` and looks at the cluster.
func (o *oracle) restored(w wish, p *predicted) {
	o.t.Helper()
	o.counts.restored++
	dir := filepath.Join(pgtest.TempDir(o.t), "restored")
	var r struct {
		Recovery struct {
			LSN       wal.LSN `json:"lsn"`
			AsPlanned bool    `json:"as_planned"`
			SocketDir string  `json:"socket_directory"`
			Port      int     `json:"port"`
			LSNExact  bool    `json:"lsn_exact"`
		} `json:"recovery"`
	}
	s := o.site.on(o.t)
	args := append([]string{"restore", "--json", "--start", "--action", "promote", "--to", dir, "--pg-bin", o.pg.BinDir()}, w.args()...)
	s.run(args...).ok(o.t).json(o.t, &r)
	defer o.pg.With(o.t).Run("pg_ctl", "-D", dir, "-m", "immediate", "stop")
	if !r.Recovery.LSNExact || r.Recovery.LSN != p.Stop.End || !r.Recovery.AsPlanned {
		o.t.Errorf("restored up to %+v, planned %+v", r.Recovery, p.Stop)
	}
	psql := pgtest.Command(o.t.Context(), o.pg.Bin("psql"), "-h", r.Recovery.SocketDir, "-p", fmt.Sprint(r.Recovery.Port),
		"-U", "postgres", "-d", "postgres", "-XAtc", "SELECT gid FROM pg_prepared_xacts ORDER BY prepared, transaction::text::bigint")
	out, err := psql.CombinedOutput()
	if err != nil {
		o.t.Fatalf("%v: %s", err, out)
	}
	var want []string
	for _, x := range p.Prepared {
		want = append(want, x.GID)
	}
	o.counts.prepared += len(want)
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		o.t.Errorf("left prepared: %q, planned %q", got, want)
	}
}

var stopSentence = regexp.MustCompile(`LOG:  (recovery stopping .*)`)

// recover runs PostgreSQL on a copy of a backup until it has stopped or given up.
func (o *oracle) recover(id string, settings []string, copies ...segmentCopy) answer {
	o.t.Helper()
	dir := filepath.Join(pgtest.TempDir(o.t), "data")
	o.pg.With(o.t).Run("cp", "-a", "--reflink=auto", o.bases[id], dir)
	defer os.RemoveAll(dir)
	autoConf(o.t, dir, settings)
	for _, c := range copies {
		o.site.on(o.t).run("wal-get", c.Segment, filepath.Join(dir, "pg_wal", c.As)).ok(o.t)
	}
	c := pgtest.Attach(o.t, o.pg.Major(), dir)
	c.Launch()
	defer c.Stop(pgtest.Immediate)
	target := slices.ContainsFunc(settings, func(s string) bool {
		return strings.HasPrefix(s, "recovery_target") && !strings.HasPrefix(s, "recovery_target_timeline")
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
		a, over := o.look(ctx, c, target)
		cancel()
		if over {
			return a
		}
	}
	o.t.Fatalf("recovery with %q does not come to an end:\n%s", settings, c.Log())
	return answer{}
}

// look reports whether recovery is over, and what it came to.
func (o *oracle) look(ctx context.Context, c *pgtest.Cluster, target bool) (answer, bool) {
	o.t.Helper()
	select {
	case <-c.Exited():
		return answer{fatal: fatals(c.Log())}, true
	default:
	}
	query := "SELECT pg_is_in_recovery(), pg_get_wal_replay_pause_state(), pg_last_wal_replay_lsn(), to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
	rows, err := c.TryQuery(ctx, "postgres", query)
	if err != nil && !strings.Contains(err.Error(), "recovery is not in progress") {
		return answer{}, false
	}
	if err != nil || rows[0][0] == "f" {
		if target {
			o.t.Fatalf("PostgreSQL was promoted without reaching its target:\n%s", c.Log())
		}
		return o.promoted(c), true
	}
	if rows[0][1] != "paused" {
		return answer{}, false
	}
	a := answer{last: rows[0][3]}
	a.lsn, err = wal.ParseLSN(rows[0][2])
	check(o.t, err)
	if m := stopSentence.FindStringSubmatch(c.Log()); m != nil {
		a.stop = m[1]
	}
	return a, true
}

// promoted tells where a server that reached the end of the WAL left it: its history file says.
func (o *oracle) promoted(c *pgtest.Cluster) answer {
	o.t.Helper()
	name := wal.TimelineID(c.With(o.t).Timeline())
	content, err := os.ReadFile(filepath.Join(c.DataDir(), "pg_wal", name.Hex()+".history"))
	check(o.t, err)
	h, err := wal.ParseHistory(name, content)
	check(o.t, err)
	var last string
	if m := regexp.MustCompile(`last completed transaction was at log time (\S+ [0-9:.]+)`).FindStringSubmatch(c.Log()); m != nil {
		at, err := time.Parse("2006-01-02 15:04:05.999999", m[1])
		check(o.t, err)
		last = at.Format("2006-01-02 15:04:05.000000")
	}
	return answer{lsn: h.Entries[len(h.Entries)-1].End, stop: "the end of the WAL", last: last}
}

// fatals are the messages with which a server gave up.
func fatals(log string) string {
	var list []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "FATAL:") && !strings.Contains(line, "the database system is") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	if len(list) == 0 {
		return "it ended: " + log
	}
	return strings.Join(list, "\n")
}
