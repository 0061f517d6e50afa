//go:build unix

package record_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walden-pg/walden/internal/pgtest"
)

// The workload makes every kind of record that an SQL session can bring a server
// to write, each with few rows: ground covered counts, not mass.

const heapWork = `
CREATE TABLE t (id int PRIMARY KEY, n int, x text) WITH (fillfactor = 70);
INSERT INTO t SELECT i, i, md5(i::text) FROM generate_series(1, 2000) i;
COPY t FROM STDIN;
3001	1	copied
3002	2	copied
3003	3	copied
\.
UPDATE t SET n = n + 1 WHERE id % 3 = 0;
UPDATE t SET id = id + 10000 WHERE id % 7 = 0;
DELETE FROM t WHERE id % 5 = 0;
INSERT INTO t VALUES (1, 1, 'there already') ON CONFLICT (id) DO NOTHING;
INSERT INTO t VALUES (4001, 1, 'new') ON CONFLICT (id) DO UPDATE SET n = t.n + 1;
BEGIN; SELECT count(*) FROM (SELECT 1 FROM t WHERE id < 20 FOR UPDATE) s; COMMIT;
VACUUM t; VACUUM (FREEZE, ANALYZE) t; SELECT sum(n) FROM t;
UPDATE t SET n = n + 1 WHERE id BETWEEN 100 AND 130; UPDATE t SET n = n + 1 WHERE id BETWEEN 100 AND 130;
SELECT sum(n) FROM t; UPDATE t SET n = n + 1 WHERE id BETWEEN 100 AND 130; SELECT sum(n) FROM t;
CREATE TABLE wide (id int, x text); ALTER TABLE wide ALTER x SET STORAGE EXTERNAL; INSERT INTO wide SELECT i, repeat(md5(i::text), 400) FROM generate_series(1, 30) i;
UPDATE wide SET x = x || 'y' WHERE id % 2 = 0; DELETE FROM wide WHERE id % 3 = 0; VACUUM wide;
DELETE FROM t WHERE id > 1500; VACUUM t;
`

const ddlWork = `
CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('ok', 'sad'); ALTER TYPE s.mood ADD VALUE 'fine';
CREATE TABLE s.a (id serial PRIMARY KEY, m s.mood, x text); CREATE VIEW s.v AS SELECT m FROM s.a;
CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON s.a FOR EACH ROW EXECUTE FUNCTION s.f();
INSERT INTO s.a (m, x) SELECT 'ok', i::text FROM generate_series(1, 500) i;
ALTER TABLE s.a ADD COLUMN y int DEFAULT 5; ALTER TABLE s.a ALTER COLUMN id TYPE bigint; CLUSTER s.a USING a_pkey;
CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.a; REFRESH MATERIALIZED VIEW s.m;
CREATE TABLE s.p (id int, x int) PARTITION BY RANGE (id); CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (1) TO (100);
INSERT INTO s.p SELECT i, i FROM generate_series(1, 99) i; CREATE INDEX ON s.p (x); ALTER TABLE s.p DETACH PARTITION s.p1;
CREATE UNLOGGED TABLE s.u (id int PRIMARY KEY); INSERT INTO s.u SELECT generate_series(1, 100); ALTER TABLE s.u SET LOGGED;
CREATE TEMP TABLE tmp AS SELECT 1; COMMENT ON TABLE s.a IS 'a'; GRANT SELECT ON s.a TO PUBLIC;
CREATE ROLE r; ALTER ROLE r SET work_mem = '4MB'; DROP ROLE r;
CREATE INDEX CONCURRENTLY ON s.a (x); REINDEX TABLE CONCURRENTLY s.a; REINDEX TABLE s.a;
VACUUM FULL s.a; VACUUM FULL pg_class; VACUUM FULL pg_proc; ANALYZE;
BEGIN; TRUNCATE s.a; ROLLBACK;
BEGIN; CREATE TABLE s.gone (id int PRIMARY KEY); INSERT INTO s.gone VALUES (1); ROLLBACK;
TRUNCATE s.a CASCADE; DROP FUNCTION s.f CASCADE; DROP SCHEMA s CASCADE;
CREATE SEQUENCE q; SELECT count(nextval('q')) FROM generate_series(1, 200); SELECT setval('q', 5000); DROP SEQUENCE q;
SELECT lo_create(5001); SELECT lo_put(5001, 0, decode(repeat('00ff', 20000), 'hex')); SELECT lo_put(5001, 100000, 'x');
SELECT lo_from_bytea(5002, 'walden'); SELECT lo_unlink(5001);
NOTIFY c, 'p';
`

const transactionWork = `
CREATE TABLE x (id int PRIMARY KEY, y int);
BEGIN; SAVEPOINT a; INSERT INTO x VALUES (1); SAVEPOINT b; INSERT INTO x VALUES (2); ROLLBACK TO b; COMMIT;
BEGIN; INSERT INTO x VALUES (3); SAVEPOINT c; INSERT INTO x VALUES (4); ROLLBACK;
BEGIN; INSERT INTO x VALUES (5); PREPARE TRANSACTION 'order 66'; COMMIT PREPARED 'order 66';
BEGIN; INSERT INTO x VALUES (6); SAVEPOINT d; INSERT INTO x VALUES (7); CREATE TABLE never (id int); PREPARE TRANSACTION 'order 67'; ROLLBACK PREPARED 'order 67';
CREATE TABLE dropped (id int PRIMARY KEY); INSERT INTO dropped VALUES (1);
BEGIN; SAVEPOINT e; DROP TABLE dropped; RELEASE e; SAVEPOINT f; INSERT INTO x VALUES (8); PREPARE TRANSACTION 'drops'; COMMIT PREPARED 'drops';
DO $$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO x VALUES (20000 + i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;
DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO x VALUES (30000 + i); COMMIT; END LOOP; END $$;
DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM x WHERE id > 20000 LOOP
	PERFORM 1 FROM x WHERE id = r.id FOR SHARE; BEGIN UPDATE x SET y = 1 WHERE id = r.id; EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; END $$;
SET synchronous_commit = local; INSERT INTO x VALUES (9);
SELECT pg_replication_origin_create('elsewhere'); SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN; SELECT pg_replication_origin_xact_setup('1/FF345678', '2026-11-22 10:00:00.123456+01'); INSERT INTO x VALUES (10); COMMIT;
BEGIN; SELECT pg_replication_origin_xact_setup('1/FF345679', '2026-11-22 10:00:01+01'); INSERT INTO x VALUES (11); ROLLBACK;
BEGIN; SELECT pg_replication_origin_xact_setup('1/FF34567A', '2026-11-22 10:00:02+01'); INSERT INTO x VALUES (12); PREPARE TRANSACTION 'far'; COMMIT PREPARED 'far';
SELECT pg_replication_origin_session_reset(); SELECT pg_replication_origin_advance('elsewhere', '2/0'); SELECT pg_replication_origin_drop('elsewhere');
SELECT pg_logical_emit_message(false, 'walden', repeat('x', 300000)); SELECT pg_logical_emit_message(true, 'walden', 'in a transaction');
SELECT pg_switch_wal(); CHECKPOINT;
`

const indexWork = `
CREATE TABLE k (id int, x text, a int[], p point, b box, d int);
INSERT INTO k SELECT i, md5((i % 400)::text), ARRAY[i % 10, i], point(i % 97, i % 89), box(point(i, i), point(i + 5, i + 5)), i / 3 FROM generate_series(1, 1200) i;
CREATE INDEX kb ON k (x); CREATE INDEX kd ON k (d) WITH (deduplicate_items = on); CREATE INDEX kh ON k USING hash (id); CREATE INDEX kg ON k USING gin (a);
CREATE INDEX ks ON k USING gist (b); CREATE INDEX kp ON k USING spgist (p); CREATE INDEX kt ON k USING spgist (x);
CREATE INDEX kr ON k USING brin (id) WITH (pages_per_range = 1);
INSERT INTO k SELECT i, md5((i % 400)::text), ARRAY[i % 10, i], point(i % 97, i % 89), box(point(i, i), point(i + 5, i + 5)), i / 3 FROM generate_series(1201, 2400) i;
SELECT brin_summarize_new_values('kr'), gin_clean_pending_list('kg'); SELECT brin_desummarize_range('kr', 3); UPDATE k SET id = id - 5000 WHERE id % 50 = 0;
DELETE FROM k WHERE id % 2 = 0; VACUUM k; DELETE FROM k WHERE id BETWEEN 200 AND 2200; VACUUM k; VACUUM k;
INSERT INTO k SELECT i, i::text, ARRAY[i % 3, i % 5], point(i, i), box(point(i, i), point(i + 1, i + 1)), 7 FROM generate_series(10001, 11200) i;
SET enable_seqscan = off; DELETE FROM k WHERE x LIKE '1%'; SELECT count(*) FROM k WHERE x BETWEEN '1' AND '2'; INSERT INTO k (id, x) SELECT 1, '1' || i FROM generate_series(1, 500) i; VACUUM k;
CREATE TABLE tree (id int PRIMARY KEY); INSERT INTO tree SELECT generate_series(1, 4000); DELETE FROM tree WHERE id BETWEEN 300 AND 3700; VACUUM tree; VACUUM tree;
INSERT INTO tree SELECT generate_series(20000, 22000); DELETE FROM tree WHERE id < 21990; VACUUM tree; VACUUM tree; INSERT INTO tree SELECT -i FROM generate_series(1, 3000) i;
CREATE TABLE gi (a int[]); CREATE INDEX gia ON gi USING gin (a) WITH (fastupdate = off); INSERT INTO gi SELECT ARRAY[1] FROM generate_series(1, 4000) i;
INSERT INTO gi SELECT ARRAY[1, i] FROM generate_series(1, 300) i; DELETE FROM gi WHERE ctid < '(10,0)'; VACUUM gi; VACUUM gi;
CREATE TABLE gt (p point); CREATE INDEX gtp ON gt USING gist (p); INSERT INTO gt SELECT point(i, i) FROM generate_series(1, 2000) i;
DELETE FROM gt WHERE p <@ box '((0,0),(1700,1700))'; VACUUM gt; VACUUM gt; INSERT INTO gt SELECT point(i, -i) FROM generate_series(1, 2000) i;
SELECT count(*) FROM gt WHERE p <@ box '((0,0),(9000,9000))'; DELETE FROM gt WHERE p <@ box '((1800,1800),(1900,1900))'; SELECT count(*) FROM gt WHERE p <@ box '((0,0),(9000,9000))'; INSERT INTO gt SELECT point(1850, 1850) FROM generate_series(1, 300);
CREATE TABLE ha (id int); CREATE INDEX hai ON ha USING hash (id); INSERT INTO ha SELECT i % 40 FROM generate_series(1, 3000) i;
DELETE FROM ha WHERE id % 4 <> 0; VACUUM ha; INSERT INTO ha SELECT generate_series(1, 3000); DELETE FROM ha WHERE id < 30; VACUUM ha;
INSERT INTO ha SELECT 77 FROM generate_series(1, 350); DELETE FROM ha WHERE id = 77; SELECT count(*) FROM ha WHERE id = 77; INSERT INTO ha SELECT 77 FROM generate_series(1, 200);
CREATE TABLE sp (x text); CREATE INDEX spx ON sp USING spgist (x); INSERT INTO sp VALUES ('a'), ('b'); DELETE FROM sp; VACUUM sp;
INSERT INTO sp SELECT repeat('a', i % 40) || i FROM generate_series(1, 1000) i; DELETE FROM sp WHERE x LIKE '%7%'; VACUUM sp; INSERT INTO sp SELECT 'a common prefix ' || md5(i::text) FROM generate_series(1, 800) i;
INSERT INTO sp VALUES ('a common thing'), ('a comma'); DELETE FROM sp; VACUUM sp;
CREATE TABLE br (id int, x text) WITH (fillfactor = 50); CREATE INDEX bri ON br USING brin (x) WITH (pages_per_range = 1); INSERT INTO br SELECT i, repeat('x', 200) FROM generate_series(1, 1500) i;
SELECT brin_summarize_new_values('bri'); UPDATE br SET x = repeat(md5(id::text), 30) WHERE id % 20 = 0; VACUUM br; DROP TABLE ha, gt, gi, sp, br;
`

const databaseWork = `
CREATE DATABASE d1 STRATEGY wal_log; CREATE DATABASE d2 STRATEGY file_copy; ALTER DATABASE d2 SET TABLESPACE space;
CREATE TABLE far (id int PRIMARY KEY) TABLESPACE space; INSERT INTO far SELECT generate_series(1, 1000); TRUNCATE far; ALTER TABLE far SET TABLESPACE pg_default;
CREATE TABLE far2 (id int) TABLESPACE space; DROP TABLE far2; DROP DATABASE d1; DROP DATABASE d2; DROP TABLE far; DROP TABLESPACE space;
`

// work runs the workload; all: with everything about indexes too. compressions
// are the values wal_compression is set to in turn, each for images of all pages
// of a table.
func work(c *pgtest.Cluster, compressions []string, all bool) {
	c.Psql(heapWork)
	c.Psql(ddlWork)
	var b strings.Builder
	b.WriteString("CREATE TABLE z AS SELECT i AS id, md5(i::text) AS x FROM generate_series(1, 3000) i;\n")
	for _, method := range compressions {
		fmt.Fprintf(&b, "SET wal_compression = %s; CHECKPOINT; UPDATE z SET x = md5(x) WHERE id %% 20 = 0; SELECT count(*) FROM z;\n", method)
	}
	c.Psql(b.String())
	c.Psql(transactionWork)
	if all {
		c.Psql(indexWork)
	}
	c.Psql("CREATE EXTENSION bloom; CREATE INDEX ON x USING bloom (y); INSERT INTO x SELECT i FROM generate_series(50000, 50100) i;")
	c.Tablespace("space")
	c.Psql(databaseWork)
}

// sharedWork needs two sessions: rows locked by both, and one locked in a version
// that the other has replaced.
func sharedWork(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	ctx := context.Background()
	var sessions [2]*pgx.Conn
	for i := range sessions {
		conn, err := c.Connect(ctx, "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		sessions[i] = conn
	}
	for _, step := range []struct {
		session int
		sql     string
	}{
		{0, "CREATE TABLE shared (id int PRIMARY KEY, n int); INSERT INTO shared SELECT i, i FROM generate_series(1, 50) i"},
		{0, "BEGIN; SELECT 1 FROM shared FOR SHARE"},
		{1, "BEGIN; SELECT 1 FROM shared FOR SHARE; COMMIT"},
		{0, "COMMIT"},
		{0, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM x"},
		{1, "UPDATE shared SET n = n + 1 WHERE id < 10"},
		{0, "SELECT 1 FROM shared WHERE id < 10 FOR KEY SHARE; COMMIT"},
	} {
		if _, err := sessions[step.session].Exec(ctx, step.sql); err != nil {
			t.Fatalf("%s: %v", step.sql, err)
		}
	}
}

// backupWork needs one session for both ends of the backup, and WAL that can be archived.
const backupWork = `
SELECT pg_create_restore_point('before the upgrade');
SELECT pg_backup_start('walden', true) IS NOT NULL; INSERT INTO x VALUES (60000); SELECT count(*) FROM pg_backup_stop(false);
`

// agingWork uses up transaction ids and multixacts until the files that keep
// them grow by pages, and lets go of the old ones.
func agingWork(c *pgtest.Cluster) {
	c.Psql(`
DO $$ BEGIN FOR i IN 1..33000 LOOP BEGIN PERFORM pg_current_xact_id(); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;
DO $$ DECLARE r record; BEGIN FOR k IN 1..10 LOOP FOR r IN SELECT id FROM x WHERE id BETWEEN 20001 AND 20200 LOOP
	PERFORM 1 FROM x WHERE id = r.id FOR SHARE; BEGIN UPDATE x SET y = k WHERE id = r.id; EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; COMMIT; END LOOP; END $$;
CHECKPOINT; UPDATE pg_database SET datallowconn = true WHERE datname = 'template0';`)
	for _, db := range []string{"template0", "template1", "postgres"} {
		c.QueryIn(db, "VACUUM (FREEZE)")
	}
}

// compressions are the values of wal_compression that the server was built with.
func compressions(c *pgtest.Cluster) []string {
	values := strings.Split(c.QueryValue("SELECT array_to_string(enumvals, ',') FROM pg_settings WHERE name = 'wal_compression'"), ",")
	return slices.DeleteFunc([]string{"off", "pglz", "lz4", "zstd"}, func(m string) bool { return !slices.Contains(values, m) })
}
