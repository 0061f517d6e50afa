package find

import (
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// The OIDs of catalogues, and the numbers of their files unless VACUUM FULL gave them others.
const (
	pgType      = 1247
	pgClass     = 1259
	pgNamespace = 2615
)

// renames is what the WAL says of names that are no longer those of the last snapshot.
type renames struct {
	// last is, by database, the last commit that may have renamed a table or a schema.
	last map[uint32]wal.LSN
	// since is from where on all of them are known; 0: not known yet.
	since wal.LSN
}

// commit takes note of what a transaction renamed. RENAME and SET SCHEMA of a table
// update its row in pg_class and that of its row type in pg_type; ALTER SCHEMA RENAME that in
// pg_namespace. ALTER TABLE does the first alone, TRUNCATE too
// (RenameRelationInternal in commands/tablecmds.c). all is false where the index may
// lack what was done to pg_type.
func (n *renames) commit(t index.Transaction, w *work, all bool) {
	var classes, types map[uint32]bool
	note := func(set map[uint32]bool, database uint32) map[uint32]bool {
		if set == nil {
			set = map[uint32]bool{}
		}
		set[database] = true
		return set
	}
	for rel, e := range w.effects {
		switch {
		case e.Updated == 0:
		case rel.Number == pgNamespace:
			n.note(rel.Database, t.LSN)
		case rel.Number == pgClass:
			classes = note(classes, rel.Database)
		case rel.Number == pgType:
			types = note(types, rel.Database)
		}
	}
	for database := range classes {
		if types[database] || !all {
			n.note(database, t.LSN)
		}
	}
	if w.partial || t.Detail != nil && t.Detail.Truncated {
		n.note(t.Database, t.LSN)
	}
}

func (n *renames) note(database uint32, at wal.LSN) {
	if n.last == nil {
		n.last = map[uint32]wal.LSN{}
	}
	n.last[database] = at
}

// doubt reports whether a relation may have had another name at a position than in
// the snapshot of names, and whether a rename was seen that may have been its.
func (n *renames) doubt(r *Relation, at wal.LSN) (doubt, seen bool) {
	if r.NameTime == nil {
		return false, false // it has none
	}
	if last := n.last[r.DatabaseOID]; last != 0 && last >= r.snapshot && r.snapshot <= at {
		return true, true
	}
	return r.snapshot > at || n.since == 0 || r.snapshot < n.since, false
}
