package names

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/wal"
)

// headerQuery asks where the server is. On a standby the timeline that is replayed
// shows only in pg_control: at a restartpoint, or where the minimum recovery point is.
const headerQuery = `SELECT floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::bigint, s.system_identifier,
 pg_catalog.current_setting('server_version_num'),
 coalesce(CASE WHEN r.standby THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END::text, ''),
 CASE WHEN r.standby THEN greatest(c.timeline_id, y.min_recovery_end_timeline)::bigint
  ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint END, r.standby
 FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby) r, pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() y`

const (
	tablespacesQuery = `SELECT oid, spcname FROM pg_catalog.pg_tablespace ORDER BY oid`
	// A database that a DROP DATABASE has begun to remove has datconnlimit -2.
	databasesQuery = `SELECT oid, datname, dattablespace, datallowconn, datconnlimit FROM pg_catalog.pg_database ORDER BY oid`
)

// rowsQuery has the rows that are stored of a database: class is 0 for schemas and
// 1 for relations. What is temporary is left out: it leaves no trace in the WAL that
// needs a name, and would make every moment another. relfilenode is 0 for what has
// no file, and for mapped catalogues, whose number pg_filenode.map has.
const rowsQuery = `SELECT 0 AS class, n.oid, n.nspname AS name, '' AS kind, 0::bigint AS schema, 0::bigint AS node, 0::bigint AS tablespace, 0::bigint AS of
 FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_'
 UNION ALL
 SELECT 1, c.oid, c.relname, c.relkind::text, c.relnamespace::bigint,
  CASE WHEN c.relfilenode <> 0 THEN c.relfilenode::bigint WHEN c.relkind IN ('r', 'i', 'S', 't', 'm') THEN coalesce(pg_relation_filenode(c.oid)::bigint, 0) ELSE 0 END,
  c.reltablespace::bigint, coalesce(x.indrelid, o.oid, 0)::bigint
 FROM pg_class c LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class o ON o.reltoastrelid = c.oid AND o.reltoastrelid <> 0
 WHERE c.relpersistence <> 't'`

// printsQuery has the fingerprint of every chunk: the exclusive or of a hash of each
// of its rows, with two seeds. OIDs make the rows different from each other.
var printsQuery = fmt.Sprintf(`SELECT number, lpad(to_hex(bit_xor(hash_record_extended(line, 0))), 16, '0') || lpad(to_hex(bit_xor(hash_record_extended(line, 1))), 16, '0')
 FROM (SELECT oid::bigint >> %d AS number, ROW(class, oid, name, kind, schema, node, tablespace, of) AS line FROM (%s) r) l GROUP BY 1 ORDER BY 1`, chunkShift, rowsQuery)

// chunksQuery has the rows of some chunks, in the order in which they are stored.
var chunksQuery = fmt.Sprintf(`SELECT class, oid, name, kind, schema, node, tablespace, of
 FROM (%s) r WHERE oid::bigint >> %d = ANY ($1) ORDER BY oid::bigint >> %d, class, oid`, rowsQuery, chunkShift, chunkShift)

// begin makes everything that is read of a database one moment's, and bounds it.
// Names come in UTF-8 where the server knows how, else as they are.
func begin(timeout time.Duration, encoding string) string {
	ms := max(timeout.Milliseconds(), 1)
	return fmt.Sprintf(`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
 SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = %d; SET LOCAL lock_timeout = %d;
 SET LOCAL client_encoding = '%s'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0`, ms, min(ms, lockTimeout.Milliseconds()), encoding)
}

// lockTimeout bounds the wait for somebody who rewrites a catalogue.
const lockTimeout = 5 * time.Second

var errForm = errors.New("the server's answer has another form")

// rows runs statements and gives the rows of each.
func rows(ctx context.Context, conn *pgconn.PgConn, sql string) ([][][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	out := make([][][]string, len(results))
	for i, res := range results {
		for _, r := range res.Rows {
			row := make([]string, len(r))
			for k, v := range r {
				row[k] = string(v)
			}
			out[i] = append(out[i], row)
		}
	}
	return out, nil
}

// header is what a server says of itself.
type header struct {
	ID
	systemID uint64
	version  int
	standby  bool
}

func parseHeader(row []string) (h header, err error) {
	if len(row) != 6 {
		return h, errForm
	}
	milli, err1 := strconv.ParseInt(row[0], 10, 64)
	// system_identifier is a bigint: signed.
	id, err2 := strconv.ParseInt(row[1], 10, 64)
	version, err3 := strconv.Atoi(row[2])
	tli, err4 := strconv.ParseUint(row[4], 10, 32)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return h, err
	}
	h.Time, h.systemID, h.version, h.Timeline = time.UnixMilli(milli).UTC(), uint64(id), version, wal.TimelineID(tli)
	h.standby = row[5] == "t"
	if row[3] == "" {
		return h, errors.New("this standby has not begun to replay")
	}
	h.LSN, err = wal.ParseLSN(row[3])
	if err == nil && (tli == 0 || milli < 0 || milli > maxMilli) {
		err = errForm
	}
	return h, err
}

func parseOID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// parseDatabases reads the rows of databasesQuery.
func parseDatabases(list [][]string) ([]Database, error) {
	out := make([]Database, len(list))
	for i, r := range list {
		if len(r) != 5 {
			return nil, errForm
		}
		oid, err1 := parseOID(r[0])
		tablespace, err2 := parseOID(r[2])
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		out[i] = Database{OID: oid, Name: r[1], Tablespace: tablespace}
		switch {
		case r[3] != "t":
			out[i].State = Closed
		case r[4] == "-2":
			out[i].State, out[i].Reason = Unread, "its removal was begun and not completed: DROP DATABASE again"
		}
	}
	return out, nil
}

func parseTablespaces(list [][]string) ([]Tablespace, error) {
	out := make([]Tablespace, len(list))
	for i, r := range list {
		if len(r) != 2 {
			return nil, errForm
		}
		oid, err := parseOID(r[0])
		if err != nil {
			return nil, err
		}
		out[i] = Tablespace{oid, r[1]}
	}
	return out, nil
}

// parsePrints reads the rows of printsQuery.
func parsePrints(list [][]string) ([]content, error) {
	out := make([]content, len(list))
	for i, r := range list {
		if len(r) != 2 {
			return nil, errForm
		}
		number, err := parseOID(r[0])
		if err != nil {
			return nil, err
		}
		out[i].number = number
		if n, err := hex.Decode(out[i].print[:], []byte(r[1])); err != nil || n != len(out[i].print) {
			return nil, errForm
		}
	}
	return out, nil
}

// parseRow adds a row of chunksQuery to its chunk.
func (c *chunk) parseRow(r [][]byte) error {
	if len(r) != 8 {
		return errForm
	}
	var n [5]uint32
	for i, k := range []int{1, 4, 5, 6, 7} {
		v, err := parseOID(string(r[k]))
		if err != nil {
			return err
		}
		n[i] = v
	}
	if string(r[0]) == "0" {
		c.schemas = append(c.schemas, Schema{OID: n[0], Name: string(r[2])})
		return nil
	}
	if len(r[3]) != 1 {
		return errForm
	}
	rel := Relation{OID: n[0], Kind: Kind(r[3][0]), Schema: n[1], Filenode: n[2], Tablespace: n[3], Of: n[4], Name: string(r[2])}
	if _, ok := kindWords[rel.Kind]; !ok {
		return fmt.Errorf("relation %d is of the kind %q, which is not known", rel.OID, r[3])
	}
	c.relations = append(c.relations, rel)
	return nil
}

// array is a bigint[] as text.
func array(numbers []uint32) []byte {
	var b strings.Builder
	b.WriteByte('{')
	for i, n := range numbers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(n), 10))
	}
	b.WriteByte('}')
	return []byte(b.String())
}
