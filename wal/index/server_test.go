//go:build unix

package index_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// workload makes WAL of every shape an index must know.
func workload(c *pgtest.Cluster, compressions []string) {
	var b strings.Builder
	b.WriteString("CREATE TABLE t (id int PRIMARY KEY, x text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i;\n")
	for i, method := range compressions {
		fmt.Fprintf(&b, "SET wal_compression = %s; CHECKPOINT; UPDATE t SET x = md5(x) WHERE id %% 3 = %d;\n", method, i%3)
	}
	b.WriteString("BEGIN; SAVEPOINT a; INSERT INTO t VALUES (10001); SAVEPOINT b; INSERT INTO t VALUES (10002); ROLLBACK TO b; COMMIT;\n")
	b.WriteString("BEGIN; INSERT INTO t VALUES (10003); SAVEPOINT c; INSERT INTO t VALUES (10004); ROLLBACK;\n")
	b.WriteString("BEGIN; INSERT INTO t VALUES (10005); PREPARE TRANSACTION 'order 66'; COMMIT PREPARED 'order 66';\n")
	b.WriteString("BEGIN; INSERT INTO t VALUES (10006); SAVEPOINT d; INSERT INTO t VALUES (10007); PREPARE TRANSACTION 'order 67'; ROLLBACK PREPARED 'order 67';\n")
	b.WriteString("SELECT pg_create_restore_point('before the upgrade'); SELECT pg_switch_wal();\n")
	b.WriteString("SELECT pg_logical_emit_message(false, 'walden', repeat('x', 3000000)); SELECT pg_logical_emit_message(true, 'walden', repeat('x', 300000));\n")
	b.WriteString("CREATE TABLE u AS SELECT * FROM t; TRUNCATE t; DROP TABLE u; VACUUM; CREATE DATABASE d; DROP DATABASE d;\n")
	b.WriteString("DO $$ BEGIN FOR i IN 1..300 LOOP INSERT INTO t VALUES (i, repeat(md5(i::text), 60)); COMMIT; END LOOP; END $$;\n")
	b.WriteString("DO $$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO t VALUES (20000 + i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;\n")
	b.WriteString("CHECKPOINT; SELECT pg_create_restore_point('last'); SELECT pg_switch_wal(); INSERT INTO t VALUES (30000); SELECT pg_switch_wal();\n")
	c.Psql(b.String())
}

// TestAgainstWaldump holds Reader and Index to pg_waldump of the same major,
// record by record, on WAL that real servers wrote.
func TestAgainstWaldump(t *testing.T) {
	for _, major := range pgtest.Majors() {
		for _, mb := range []int{1, 16} {
			t.Run(fmt.Sprintf("%d/%dMB", major, mb), func(t *testing.T) {
				t.Parallel()
				c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: mb, Settings: map[string]string{
					"wal_level": "logical", "max_prepared_transactions": "10", "wal_keep_size": "4GB", "max_wal_size": "4GB",
				}})
				workload(c, compressions(c))
				c.Configure(map[string]string{"max_connections": "37", "wal_level": "replica"})
				c.Restart()
				c.Psql("INSERT INTO t VALUES (40000); SELECT pg_switch_wal(); INSERT INTO t VALUES (40001); SELECT pg_switch_wal();")
				list := waldump.Segments(t, c, 1, wal.SegmentSize(mb)<<20, position(t, c))
				compare(t, c, list)
			})
		}
	}
}

// compressions are the values of wal_compression this server was built with.
func compressions(c *pgtest.Cluster) []string {
	values := c.QueryValue("SELECT array_to_string(enumvals, ',') FROM pg_settings WHERE name = 'wal_compression'")
	list := []string{"off"}
	for _, m := range []string{"pglz", "lz4", "zstd"} {
		if slices.Contains(strings.Split(values, ","), m) {
			list = append(list, m)
		}
	}
	return list
}

func position(t *testing.T, c *pgtest.Cluster) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(c.LSN())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// compare holds everything this package and wal/record say of the segments to pg_waldump.
func compare(t *testing.T, c *pgtest.Cluster, list []wal.Segment) gathered {
	t.Helper()
	first, last := list[0], list[len(list)-1]
	want := waldump.Run(t, c, first.Timeline, first.Start(), last.End())
	waldump.Compare(t, c, list, want)
	g := gather(t, c, list)
	if g.records != uint64(len(want)) {
		t.Errorf("the indexes count %d records, pg_waldump %d", g.records, len(want))
	}
	compareTransactions(t, g, want)
	compareLandmarks(t, g, want)
	t.Logf("%d segments, %d records, %d transactions, %d landmarks, %d records across segments",
		len(list), len(want), len(g.transactions), len(g.landmarks), g.crossing)
	return g
}

// TestPromotion reads the WAL of a promoted standby: its first segment begins
// with the old timeline's pages.
func TestPromotion(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
				"max_prepared_transactions": "10", "wal_keep_size": "1GB", "wal_level": "replica",
			}})
			c.Psql("CREATE TABLE t (id int); SELECT pg_switch_wal(); INSERT INTO t SELECT generate_series(1, 1000);")
			s := c.Standby("standby")
			c.Psql("INSERT INTO t SELECT generate_series(1, 100);") // so that the timelines part inside a segment
			s.WaitReplayed(c)
			c.Stop(pgtest.Immediate)
			s.Promote()
			s.WaitFor("the end of recovery", func() bool { return s.QueryValue("SELECT pg_is_in_recovery()") == "f" })
			s.Psql("CHECKPOINT; DO $$ BEGIN FOR i IN 1..30 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$; SELECT pg_switch_wal(); INSERT INTO t VALUES (1); SELECT pg_switch_wal();")
			list := waldump.Segments(t, s, 2, 1<<20, position(t, s))
			g := compare(t, s, list)
			b, err := os.ReadFile(filepath.Join(s.DataDir(), "pg_wal", "00000002.history"))
			if err != nil {
				t.Fatal(err)
			}
			h, err := wal.ParseHistory(2, b)
			if err != nil {
				t.Fatal(err)
			}
			parent, _ := h.Parent()
			i := slices.IndexFunc(g.landmarks, func(l index.Landmark) bool { return l.Timeline == 2 && l.PrevTimeline == 1 })
			if i < 0 || parent.Timeline != 1 || g.landmarks[i].LSN < parent.End || g.landmarks[i].LSN > parent.End+64 {
				t.Errorf("timeline 2 begins at %v; landmarks %+v", parent.End, g.landmarks)
			}
			// The old timeline's last segment, as its server left it: WAL ends in its midst.
			tail := wal.Segment{Timeline: 1, Number: list[0].Number, Size: 1 << 20}
			old, err := os.ReadFile(filepath.Join(s.DataDir(), "pg_wal", tail.Name()))
			if os.IsNotExist(err) {
				old, err = os.ReadFile(filepath.Join(s.DataDir(), "pg_wal", tail.Name()+".partial"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := index.Build(bytes.NewReader(old), tail, index.Options{Complete: true}); err == nil {
				t.Error("an unfinished segment passes for a complete one")
			}
			partial, err := index.Build(bytes.NewReader(old), tail, index.Options{})
			if err != nil || partial.EndOfRecords < parent.End {
				t.Fatalf("%+v, %v", partial, err)
			}
			fresh, err := index.Build(bytes.NewReader(waldump.Content(t, s, list[0])), list[0], index.Options{Complete: true})
			if err != nil || fresh.PageTimelineFirst != 1 || fresh.Segment.Timeline != 2 {
				t.Fatalf("%+v, %v", fresh, err)
			}
			if _, err := index.JoinAt(partial, fresh, parent.End); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLostContinuation loses the second half of a record in a crash, as
// PostgreSQL's own test of overwritten records does, and reads what the server
// makes of it.
func TestLostContinuation(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}})
			c.Psql("CREATE TABLE t (id int); DO $$ BEGIN FOR i IN 1..20 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$; SELECT pg_switch_wal(); INSERT INTO t VALUES (1); CHECKPOINT;")
			before := position(t, c)
			c.Psql("SELECT pg_logical_emit_message(false, 'walden', repeat('x', 2000000)); INSERT INTO t VALUES (2);")
			first := wal.SegmentAt(1, before, 1<<20)
			c.Kill()
			entries, err := os.ReadDir(filepath.Join(c.DataDir(), "pg_wal"))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if seg, err := wal.ParseSegment(e.Name(), 1<<20); err == nil && seg.Number > first.Number {
					if err := os.Remove(filepath.Join(c.DataDir(), "pg_wal", e.Name())); err != nil {
						t.Fatal(err)
					}
				}
			}
			c.Start()
			c.Psql("INSERT INTO t VALUES (3); SELECT pg_switch_wal(); INSERT INTO t VALUES (4); SELECT pg_switch_wal();")
			list := waldump.Segments(t, c, 1, 1<<20, position(t, c))
			g := compare(t, c, list)
			if g.overwritten != 1 {
				t.Errorf("%d records overwritten", g.overwritten)
			}
		})
	}
}

// TestLiveSegment reads the segment a running server writes to: it is no
// complete one, and the index of what there is ends where the server stands.
func TestLiveSegment(t *testing.T) {
	c := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1})
	c.Psql("CREATE TABLE t (id int); SELECT pg_switch_wal(); INSERT INTO t VALUES (1); CHECKPOINT;")
	var end wal.LSN
	var ix *index.Index
	c.WaitFor("a quiet moment", func() bool {
		end = position(t, c)
		seg := wal.SegmentAt(1, end, 1<<20)
		b := waldump.Content(t, c, seg)
		if _, err := index.Build(bytes.NewReader(b), seg, index.Options{Complete: true}); err == nil {
			t.Fatal("the segment being written passes for a complete one")
		}
		var err error
		if ix, err = index.Build(bytes.NewReader(b), seg, index.Options{SystemID: c.SystemID()}); err != nil {
			t.Fatal(err)
		}
		return end == position(t, c)
	})
	if ix.EndOfRecords != end {
		t.Errorf("WAL ends at %v, the server says %v", ix.EndOfRecords, end)
	}
	if ix.Magic == 0 || ix.MaxTime.After(time.Now().Add(time.Minute)) {
		t.Errorf("%+v", ix)
	}
}
