//go:build unix

package record_test

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// goldenWork is what the WAL in testdata was made with.
const goldenWork = `
CREATE TABLE t (id int PRIMARY KEY, x text); SELECT pg_switch_wal();
CHECKPOINT; SET wal_compression = lz4; INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 40) i; UPDATE t SET x = 'new' WHERE id < 5; DELETE FROM t WHERE id > 35; VACUUM t;
BEGIN; SAVEPOINT a; INSERT INTO t VALUES (100); RELEASE a; SAVEPOINT b; INSERT INTO t VALUES (101); ROLLBACK TO b; COMMIT;
BEGIN; INSERT INTO t VALUES (102); ROLLBACK; BEGIN; INSERT INTO t VALUES (103); PREPARE TRANSACTION 'order 66'; COMMIT PREPARED 'order 66';
CREATE TABLE u (id int); DROP TABLE u; TRUNCATE t; SELECT pg_create_restore_point('before the upgrade');
SELECT pg_logical_emit_message(false, 'walden', 'a message'); SELECT pg_replication_origin_create('far'); SELECT pg_replication_origin_session_setup('far');
BEGIN; SELECT pg_replication_origin_xact_setup('1/FF345678', '2026-11-22 10:00:00.123456+01'); INSERT INTO t VALUES (10); COMMIT;
CREATE SEQUENCE q; SELECT nextval('q'); CREATE DATABASE d STRATEGY file_copy; DROP DATABASE d; CHECKPOINT; SELECT pg_switch_wal();
`

// TestGolden19 reads WAL that PostgreSQL 19rc1 wrote, and compares it with
// what its pg_waldump said: the tests install no server of 19. With
// WALDEN_GOLDEN=new, and WALDEN_PG19_BINDIR set, both are made anew.
func TestGolden19(t *testing.T) {
	packed, said := filepath.Join("testdata", "19.wal.gz"), filepath.Join("testdata", "19.waldump")
	if os.Getenv("WALDEN_GOLDEN") == "new" {
		makeGolden(t, packed, said)
	}
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	want := waldump.Parse(t, string(text))
	start := wal.LSN(binary.LittleEndian.Uint64(content[8:])) // xlp_pageaddr
	waldump.CompareBytes(t, content, record.Options{Start: start, SegmentSize: 1 << 20, Timeline: 1, Length: int64(len(content))}, want)
	if len(want) < 300 {
		t.Errorf("only %d records", len(want))
	}
}

func makeGolden(t *testing.T, packed, said string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Major: 19, SegmentSizeMB: 1, Settings: map[string]string{
		"wal_level": "logical", "max_prepared_transactions": "4", "autovacuum": "off", "wal_keep_size": "1GB", "wal_compression": "pglz",
	}})
	c.Psql(goldenWork)
	end, err := wal.ParseLSN(c.LSN())
	if err != nil {
		t.Fatal(err)
	}
	list := waldump.Segments(t, c, 1, 1<<20, end)
	list = list[len(list)-1:] // what came before the last switch is the making of the table and initdb's
	out, err := os.Create(packed)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	for _, seg := range list {
		if _, err := z.Write(waldump.Content(t, c, seg)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	text := c.Run("env", "TZ=UTC", "PGTZ=UTC", c.Bin("pg_waldump"), "-p", filepath.Join(c.DataDir(), "pg_wal"), "--bkp-details",
		"-t", "1", "-s", list[0].Start().String(), "-e", list[len(list)-1].End().String())
	if err := os.WriteFile(said, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
