package find

import (
	"fmt"
	"strings"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/record"
)

// Names resolves the numbers in the WAL. *names.Resolver is one.
type Names interface {
	Relation(database, tablespace, filenode uint32, at wal.LSN) (names.Name, bool)
	RelationByOID(database, oid uint32, at wal.LSN) (names.Name, bool)
	Database(oid uint32, at wal.LSN) (string, bool)
	Tablespace(oid uint32, at wal.LSN) (string, bool)
}

// firstNormal is FirstNormalObjectId: what has a lower number was made by initdb.
const firstNormal = 16384

// resolver asks Names, and remembers for one segment what they said.
type resolver struct {
	names     Names
	files     map[record.Relation]*Relation
	databases map[uint32]string
	// aliases are files that took another's place, and are in no snapshot.
	aliases map[record.Relation]*Relation
	renames renames
}

// forget drops what was remembered: names change, and what a snapshot lacks the next
// may have.
func (v *resolver) forget() {
	clear(v.files)
	clear(v.databases)
}

// file is the relation that a file belongs to.
func (v *resolver) file(f record.Relation, at wal.LSN) *Relation {
	if r, ok := v.files[f]; ok {
		return r
	}
	n, ok := v.names.Relation(f.Database, f.Tablespace, f.Number, at)
	r := v.relation(f.Database, n, ok, at)
	r.Tablespace, r.File = f.Tablespace, f.Number
	if alias := v.aliases[f]; !ok && alias != nil {
		r = alias
	} else if !ok {
		r.Text = fmt.Sprintf("relation %d of %s, not in any name snapshot", f.Number, v.ofDatabase(f.Database, at))
		r.inner = f.Number < firstNormal
	}
	if v.files == nil {
		v.files = map[record.Relation]*Relation{}
	}
	v.files[f] = r
	return r
}

// oid is the relation with an OID.
func (v *resolver) oid(database, oid uint32, at wal.LSN) *Relation {
	n, ok := v.names.RelationByOID(database, oid, at)
	r := v.relation(database, n, ok, at)
	r.OID = oid
	if !ok {
		r.Text = fmt.Sprintf("relation with OID %d of %s, not in any name snapshot", oid, v.ofDatabase(database, at))
		r.inner = oid < firstNormal
	}
	return r
}

func (v *resolver) relation(database uint32, n names.Name, ok bool, at wal.LSN) *Relation {
	r := &Relation{DatabaseOID: database, Database: v.database(database, at), Known: ok}
	if !ok {
		return r
	}
	r.OID, r.Schema, r.Name, r.Type, r.Text = n.OID, n.Schema, n.Name, n.Kind.String(), n.String()
	if at := n.Snapshot.Time; !at.IsZero() {
		r.NameTime, r.snapshot = &at, n.Snapshot.LSN
	}
	r.owner = n.TableOID
	r.folds = n.Kind == names.Index || n.Kind == names.TOAST || n.Kind == names.PartitionedIndex
	r.toast = n.Kind == names.TOAST || n.Schema == "pg_toast"
	schema := n.Schema
	if n.TableOID != 0 {
		schema = n.TableSchema
	}
	r.inner = schema == "pg_catalog" || schema == "information_schema" || schema == "pg_toast" ||
		strings.HasPrefix(schema, "pg_temp") || strings.HasPrefix(schema, "pg_toast_temp")
	return r
}

// database is a database's name; "": it is shared, or not known.
func (v *resolver) database(oid uint32, at wal.LSN) string {
	if oid == 0 {
		return ""
	}
	if name, ok := v.databases[oid]; ok {
		return name
	}
	name, _ := v.names.Database(oid, at)
	if v.databases == nil {
		v.databases = map[uint32]string{}
	}
	v.databases[oid] = name
	return name
}

// ofDatabase is a database in words.
func (v *resolver) ofDatabase(oid uint32, at wal.LSN) string {
	name := v.database(oid, at)
	switch {
	case oid == 0:
		return "the shared catalogues"
	case name == "":
		return fmt.Sprintf("database %d", oid)
	}
	return "database " + name
}

// databaseText is a database as the object of an action.
func (v *resolver) databaseText(oid uint32, at wal.LSN) string {
	if name := v.database(oid, at); name != "" {
		return name
	}
	return fmt.Sprintf("%d, not in any name snapshot", oid)
}

// tablespaceText is a tablespace as the object of an action.
func (v *resolver) tablespaceText(oid uint32, at wal.LSN) string {
	if name, ok := v.names.Tablespace(oid, at); ok {
		return name
	}
	return fmt.Sprintf("%d, not in any name snapshot", oid)
}
