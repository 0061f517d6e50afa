//go:build unix

package index_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// TestServerEffects holds the effects to what real servers were told to do, row
// by row, with full-page images as they are and compressed.
func TestServerEffects(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
				"wal_level": "replica", "max_prepared_transactions": "10", "wal_keep_size": "1GB", "autovacuum": "off",
			}})
			for _, method := range compressions(c) {
				c.Exec("ALTER SYSTEM SET wal_compression = " + method)
				c.Reload()
				serverEffects(t, c)
			}
		})
	}
}

// told is what the effects say of one transaction.
type told struct {
	rows    map[record.Relation][3]uint64 // inserted, updated, deleted
	created map[record.Relation]bool
	images  uint64
	end     index.Transaction
}

func serverEffects(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Psql("CREATE TABLE t (id int, x text); CREATE TABLE s (id int); CHECKPOINT; SELECT pg_switch_wal();")
	from := position(t, c)
	file := func(table string) record.Relation {
		number, err := strconv.ParseUint(c.QueryValue("SELECT pg_relation_filenode('"+table+"')::text"), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		database, err := strconv.ParseUint(c.QueryValue("SELECT oid::text FROM pg_database WHERE datname = current_database()"), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return record.Relation{Tablespace: 1663, Database: uint32(database), Number: uint32(number)}
	}
	tf, sf := file("t"), file("s")
	oid := c.QueryValue("SELECT 't'::regclass::oid::text")
	xids := map[string]uint32{}
	run := func(name, sql string) {
		out := c.Psql("BEGIN; " + sql + "; SELECT 'xid ' || pg_current_xact_id()::xid; COMMIT;")
		_, after, _ := strings.Cut(out, "xid ")
		v, err := strconv.ParseUint(strings.TrimSpace(strings.Split(after, "\n")[0]), 10, 32)
		if err != nil {
			t.Fatalf("%s: %q", name, out)
		}
		xids[name] = uint32(v)
	}
	run("insert", "INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 3000) i; COPY s FROM PROGRAM 'seq 1 2000'")
	run("update", "UPDATE t SET x = 'y' WHERE id <= 1000")
	run("delete", "SAVEPOINT a; DELETE FROM t WHERE id > 2990; SAVEPOINT b; DELETE FROM s; ROLLBACK TO b; SAVEPOINT c; DELETE FROM t WHERE id > 100; RELEASE c")
	c.Psql("CHECKPOINT;")
	run("first", "DELETE FROM t WHERE id < 51")
	run("truncate", "TRUNCATE t")
	run("rewrite", "ALTER TABLE s ALTER id TYPE bigint")
	run("drop", "DROP TABLE t; DROP TABLE s")
	c.Psql("CREATE DATABASE d; VACUUM; DROP DATABASE d; SELECT pg_switch_wal();")
	g, landmarks := gatherEffects(t, c, from)
	for name, want := range map[string]map[record.Relation][3]uint64{
		"insert": {tf: {3000}, sf: {2000}}, "update": {tf: {0, 1000}}, "delete": {tf: {0, 0, 2900}}, "first": {tf: {0, 0, 50}},
	} {
		got := g[xids[name]].rows
		for rel, n := range want {
			if got[rel] != n {
				t.Errorf("%s: %v: %v instead of %v", name, rel, got[rel], n)
			}
		}
		if _, ok := want[sf]; !ok && got[sf] != [3]uint64{} {
			t.Errorf("%s: %v of s", name, got[sf])
		}
	}
	for name, dropped := range map[string]record.Relation{"truncate": tf, "rewrite": sf} {
		x := g[xids[name]]
		if len(x.created) == 0 || x.end.Detail == nil || !slices.Contains(x.end.Detail.Files, dropped) {
			t.Errorf("%s: created %v, %+v", name, x.created, x.end.Detail)
			continue
		}
		// A rewrite goes through a relation that is made and dropped again, whose
		// file, of the number of its OID, stays; TRUNCATE only makes a file.
		transient := slices.ContainsFunc(x.end.Detail.Relations, func(r index.RelationID) bool {
			return x.created[record.Relation{Tablespace: 1663, Database: r.Database, Number: r.OID}]
		})
		if transient != (name == "rewrite") || len(x.end.Detail.Relations) > 1 {
			t.Errorf("%s: created %v, %+v", name, x.created, x.end.Detail)
		}
	}
	drop := g[xids["drop"]].end.Detail
	number, _ := strconv.ParseUint(oid, 10, 32)
	if drop == nil || !slices.ContainsFunc(drop.Relations, func(r index.RelationID) bool { return r.OID == uint32(number) && r.Database == tf.Database }) {
		t.Errorf("drop of %s: %+v", oid, drop)
	}
	checkDropDatabase(t, landmarks)
}

// checkDropDatabase holds the landmarks to one CREATE DATABASE and one DROP
// DATABASE: the in-place update that shuts the database off comes before its
// files go, and is told apart from those of VACUUM.
func checkDropDatabase(t *testing.T, landmarks []index.Landmark) {
	t.Helper()
	var kinds []string
	var created uint32
	for _, l := range landmarks {
		switch {
		case l.Kind == index.DatabaseCreate:
			created = l.Database
		case l.Kind != index.DatabaseInvalid && l.Kind != index.DatabaseDrop:
			continue
		case l.Database != created:
			t.Errorf("%v of database %d, not %d", l.Kind, l.Database, created)
		case l.Kind == index.DatabaseDrop && l.XID == 0:
			t.Error("a drop without a transaction")
		}
		kinds = append(kinds, l.Kind.String())
	}
	if got := fmt.Sprint(kinds); got != "[DBASE_CREATE HEAP_INPLACE DBASE_DROP]" {
		t.Error(got)
	}
}

// gatherEffects adds up what the indexes say from a segment's start on.
func gatherEffects(t *testing.T, c *pgtest.Cluster, from wal.LSN) (map[uint32]*told, []index.Landmark) {
	t.Helper()
	g := map[uint32]*told{}
	of := func(xid uint32) *told {
		if g[xid] == nil {
			g[xid] = &told{rows: map[record.Relation][3]uint64{}, created: map[record.Relation]bool{}}
		}
		return g[xid]
	}
	add := func(list []index.Effect) {
		for _, e := range list {
			x := of(e.XID)
			n := x.rows[e.Relation]
			x.rows[e.Relation] = [3]uint64{n[0] + e.Inserted, n[1] + e.Updated, n[2] + e.Deleted}
			x.images += e.Images
			if e.Created {
				x.created[e.Relation] = true
			}
		}
	}
	var landmarks []index.Landmark
	end := func(x index.Transaction) {
		top := of(x.XID)
		top.end = x
		if x.Kind == index.Abort {
			delete(g, x.XID)
		}
		if x.Detail == nil {
			return
		}
		for _, sub := range x.Detail.Subxacts {
			if o := g[sub]; o != nil {
				for rel, n := range o.rows {
					add([]index.Effect{{XID: x.XID, Relation: rel, Inserted: n[0], Updated: n[1], Deleted: n[2]}})
				}
				delete(g, sub)
			}
		}
	}
	var j index.Joiner
	for _, seg := range waldump.Segments(t, c, 1, 1<<20, position(t, c)) {
		if seg.End() <= from {
			continue
		}
		ix := buildServer(t, c, seg)
		joined, err := j.Add(ix)
		if err != nil {
			t.Fatal(err)
		}
		if joined != nil {
			add(joined.Effects)
			if joined.Transaction != nil {
				end(*joined.Transaction)
			}
			if joined.Landmark != nil {
				landmarks = append(landmarks, *joined.Landmark)
			}
		}
		add(ix.Effects)
		landmarks = append(landmarks, ix.Landmarks...)
		for x := range ix.DetailedTransactions() {
			end(x)
		}
	}
	return g, landmarks
}
