//go:build unix

package integration

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// marker is one row that was committed in a transaction of its own, and what
// can be said of that commit from outside.
type marker struct {
	id int
	// xid is the transaction's, time its commit timestamp, after the WAL
	// position once it was committed.
	xid, time, after string
	// commit is where the commit record starts, as pg_waldump says.
	commit string
	// inOrder says that in the WAL no commit before it has a later time, and
	// none after it an earlier one.
	inOrder bool
}

// history is a stretch of a cluster's life that targets are aimed at.
type history struct {
	*site
	markers []marker
	point   string // a restore point between two markers
	before  int    // the marker before it
}

const markers = 8

// live writes markers while pgbench loads the cluster, and archives all of it.
func live(s *site) *history {
	h := &history{site: s, point: "before-release", before: markers / 2}
	s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
	s.pg.PgbenchInit(1)
	load := s.pg.PgbenchStart("-c", "2", "-T", "300", "-n", "-R", "200")
	defer load.Stop()
	s.backup()
	for id := 1; id <= markers; id++ {
		h.markers = append(h.markers, s.mark(id))
		if id == h.before {
			s.pg.Exec("SELECT pg_create_restore_point('" + h.point + "')")
		}
	}
	s.archiveAll()
	h.locate()
	return h
}

// mark commits one row and returns what is known of the commit.
func (s *site) mark(id int) marker {
	s.t.Helper()
	xid := s.pg.QueryValue(fmt.Sprintf("WITH i AS (INSERT INTO marker VALUES (%d, 'x') RETURNING 1) SELECT pg_current_xact_id()::text FROM i", id))
	row := s.pg.Query(fmt.Sprintf("SELECT to_char(pg_xact_commit_timestamp('%s'::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', pg_current_wal_lsn()::text", xid))
	return marker{id: id, xid: xid, time: row[0][0], after: row[0][1]}
}

var commitLine = regexp.MustCompile(`rmgr: Transaction .*tx:\s+(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: COMMIT (\S+ \S+) UTC`)

// locate finds the markers' commit records with PostgreSQL's own reader.
func (h *history) locate() {
	h.t.Helper()
	start := h.pg.QueryValue("SELECT '0/0'::pg_lsn + (min(lsn) - '0/0'::pg_lsn) FROM (VALUES ('" + h.markers[0].after + "'::pg_lsn)) v(lsn)")
	out := h.waldump(start)
	commits := commitLine.FindAllStringSubmatch(out, -1)
	for i := range h.markers {
		m := &h.markers[i]
		at := slices.IndexFunc(commits, func(c []string) bool { return c[1] == m.xid })
		if at < 0 {
			h.t.Fatalf("pg_waldump shows no commit of transaction %s", m.xid)
		}
		m.commit, m.inOrder = commits[at][2], true
		for j, c := range commits {
			if j < at && c[3] > commits[at][3] || j > at && c[3] < commits[at][3] {
				m.inOrder = false
			}
		}
	}
}

// timed is the first of the markers from the third on whose commit's time says where
// to stop. A transaction takes its time before it writes its commit record, and
// another may get between: then recovery to that time rightly stops earlier.
func (h *history) timed() marker {
	h.t.Helper()
	for _, m := range h.markers[2:] {
		if m.inOrder {
			return m
		}
	}
	h.t.Fatal("no marker's time is in order with those around it")
	return marker{}
}

// waldump prints the transactions' records in the server's pg_wal, from two
// segments before a position on.
func (h *history) waldump(from string) string {
	h.t.Helper()
	first := h.pg.QueryValue("SELECT pg_walfile_name(greatest('" + from + "'::pg_lsn - 2 * 1048576, '0/1000000'::pg_lsn))")
	last := h.pg.QueryValue("SELECT pg_walfile_name(pg_current_wal_lsn() - 1)")
	dir := filepath.Join(h.pg.DataDir(), "pg_wal")
	// pg_waldump ends with an error where the WAL ends in the last segment.
	cmd := h.pg.Command(h.t.Context(), "pg_waldump", "-r", "Transaction", "-p", dir, first, last)
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		h.t.Fatalf("pg_waldump: %v", err)
	}
	return string(out)
}

// aim is a target and the last marker that must be there after a restore to it.
type aim struct {
	name string
	args []string
	last int
}

func (h *history) aims() []aim {
	m, timed := h.markers, h.timed()
	return []aim{
		{"time", []string{"--time", timed.time}, timed.id},
		{"time-exclusive", []string{"--time", timed.time, "--exclusive"}, timed.id - 1},
		{"xid", []string{"--xid", m[4].xid}, 5},
		{"xid-exclusive", []string{"--xid", m[4].xid, "--exclusive"}, 4},
		{"lsn", []string{"--lsn", m[6].commit}, 7},
		{"lsn-exclusive", []string{"--lsn", m[6].commit, "--exclusive"}, 6},
		{"name", []string{"--name", h.point}, h.before},
		{"immediate", []string{"--immediate"}, 0},
		{"latest", []string{"--latest"}, markers},
	}
}

// TestEveryTarget restores to every kind of target, under load, and asks the
// restored cluster whether it is exactly there.
func TestEveryTarget(t *testing.T) {
	for _, major := range pgtest.Majors() {
		for _, st := range []store{fileStore, s3Store} {
			t.Run(fmt.Sprintf("%d/%s", major, st), func(t *testing.T) {
				s := newSite(t, siteOptions{major: major, store: st})
				h := live(s)
				for _, a := range h.aims() {
					h.hit(a)
				}
			})
		}
	}
}

// hit restores to one target and examines the result.
func (h *history) hit(a aim) {
	h.t.Helper()
	dir := h.restore("to-"+a.name, append(a.args, "--action", "promote")...)
	h.verifyBackup(dir)
	c := h.open(dir)
	defer c.Stop(pgtest.Immediate)
	want := make([]string, 0, a.last)
	for i := 1; i <= a.last; i++ {
		want = append(want, strconv.Itoa(i))
	}
	got := c.QueryValue("SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM marker")
	if got != strings.Join(want, ",") {
		h.t.Errorf("%s: markers %s, want %s", a.name, got, strings.Join(want, ","))
	}
	// pgbench keeps these equal at every moment, whatever was cut off.
	sums := c.Query("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta),0) FROM pgbench_history)")[0]
	for _, v := range sums {
		if v != sums[0] {
			h.t.Errorf("%s: pgbench's balances disagree: %v", a.name, sums)
		}
	}
	if a.name == "latest" || a.name == "time" {
		h.amcheck(c)
	}
}
