package names

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// directory holds the snapshots of an incarnation.
const directory = "names/"

// idTime is the time in a snapshot's key, with milliseconds.
const idTime = "20060102T150405.000Z"

// ID says when a snapshot was taken: it is the last part of its key.
type ID struct {
	// Time is the server's, in UTC and whole milliseconds.
	Time time.Time
	// Timeline and LSN are where the server's WAL ended just before the
	// catalogues were read; on a standby, how far it had replayed.
	Timeline wal.TimelineID
	LSN      wal.LSN
}

// String is the last part of the key: time, timeline and LSN.
func (id ID) String() string {
	return fmt.Sprintf("%s-%s-%016X", id.Time.UTC().Format(idTime), id.Timeline.Hex(), uint64(id.LSN))
}

// Key is the key of the snapshot's object.
func (id ID) Key(inc archive.Incarnation) string { return Prefix(inc) + id.String() }

// Prefix is what the keys of all snapshots of an incarnation start with.
func Prefix(inc archive.Incarnation) string { return inc.Prefix() + directory }

// ParseID reads what String writes, and nothing else.
func ParseID(s string) (ID, error) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return ID{}, fmt.Errorf("%q is not the name of a snapshot of names", s)
	}
	var id ID
	var err error
	if id.Time, err = time.Parse(idTime, parts[0]); err != nil {
		return ID{}, fmt.Errorf("%q is not the name of a snapshot of names: %w", s, err)
	}
	tli, err1 := strconv.ParseUint(parts[1], 16, 32)
	lsn, err2 := strconv.ParseUint(parts[2], 16, 64)
	id.Timeline, id.LSN = wal.TimelineID(tli), wal.LSN(lsn)
	if err1 != nil || err2 != nil || tli == 0 || id.String() != s {
		return ID{}, fmt.Errorf("%q is not the name of a snapshot of names", s)
	}
	return id, nil
}

// compare is the order of the keys.
func (id ID) compare(other ID) int {
	return cmp.Or(id.Time.Compare(other.Time), cmp.Compare(id.Timeline, other.Timeline), cmp.Compare(id.LSN, other.LSN))
}

// Kind is a pg_class.relkind (src/include/catalog/pg_class.h).
type Kind byte

// The kinds.
const (
	Table            Kind = 'r'
	Index            Kind = 'i'
	Sequence         Kind = 'S'
	TOAST            Kind = 't'
	View             Kind = 'v'
	MaterializedView Kind = 'm'
	CompositeType    Kind = 'c'
	ForeignTable     Kind = 'f'
	PartitionedTable Kind = 'p'
	PartitionedIndex Kind = 'I'
)

var kindWords = map[Kind]string{
	Table: "table", Index: "index", Sequence: "sequence", TOAST: "TOAST table", View: "view", MaterializedView: "materialized view",
	CompositeType: "composite type", ForeignTable: "foreign table", PartitionedTable: "partitioned table", PartitionedIndex: "partitioned index",
}

// String is the kind in words, as in an SQL command but for TOAST tables.
func (k Kind) String() string {
	if w, ok := kindWords[k]; ok {
		return w
	}
	return fmt.Sprintf("relation of kind %q", byte(k))
}

// Name is what a number was called.
type Name struct {
	// Database is the database's name; empty for the catalogues that all
	// databases share.
	Database     string
	Schema, Name string
	Kind         Kind
	// OID is pg_class.oid.
	OID uint32
	// TableOID, TableSchema and TableName are, of an index, a TOAST table and a
	// TOAST table's index, the table that it belongs to. Zero and empty for
	// others, and where the table is not in the snapshot.
	TableOID               uint32
	TableSchema, TableName string
	// Snapshot is where the name was found.
	Snapshot ID
}

// String is the relation for a person, with its schema, and quoted where SQL would
// need it: public.orders. TOAST tables and their indexes are named by their
// table: TOAST of public.orders.
func (n Name) String() string {
	if n.TableOID != 0 && (n.Kind == TOAST || n.Schema == "pg_toast") {
		of := quote(n.TableSchema) + "." + quote(n.TableName)
		if n.Kind == TOAST {
			return "TOAST of " + of
		}
		return "TOAST index of " + of
	}
	return quote(n.Schema) + "." + quote(n.Name)
}

// quote quotes an identifier that is not plain lower case. What a terminal should
// not be sent (a name may have any bytes but zero) is escaped as in Go.
func quote(s string) string {
	plain := s != "" && (s[0] < '0' || s[0] > '9') && s[0] != '$'
	for i := 0; i < len(s) && plain; i++ {
		c := s[i]
		plain = c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
	}
	if plain {
		return s
	}
	escaped := strconv.QuoteToGraphic(s)
	escaped = strings.ReplaceAll(escaped[1:len(escaped)-1], `\"`, `""`)
	return `"` + strings.ReplaceAll(escaped, `\\`, `\`) + `"`
}
