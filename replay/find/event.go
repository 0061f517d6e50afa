package find

import (
	"time"

	"github.com/walden-pg/walden/wal"
)

// Event is something that happened: a transaction that ended, or a landmark.
type Event struct {
	// Kind is that of the weightiest of Actions, or of the event itself.
	Kind Kind `json:"kind"`
	// Timeline is the one whose WAL holds the record, LSN where it starts, End the
	// position after it.
	Timeline wal.TimelineID `json:"timeline"`
	LSN      wal.LSN        `json:"lsn"`
	End      wal.LSN        `json:"end_lsn"`
	// Time is the record's; nil: it has none.
	Time *time.Time `json:"time,omitempty"`
	// XID is the top-level transaction; 0: none. GID is its name if it was prepared, and
	// that is known.
	XID uint32 `json:"xid,omitempty"`
	GID string `json:"gid,omitempty"`
	// Subtransactions is how many ended with it.
	Subtransactions int `json:"subtransactions,omitempty"`
	// DatabaseOID is the database of the transaction, as far as its record or its
	// effects tell; 0: they do not. Database is its name; "": not known.
	DatabaseOID uint32 `json:"database_oid,omitempty"`
	Database    string `json:"database,omitempty"`
	// Name is that of a restore point.
	Name string `json:"name,omitempty"`
	// Text says in a few words what it is: of a transaction, nothing beyond Actions.
	Text string `json:"text"`
	// Actions are what a transaction did, as far as it was asked for, weightiest first.
	Actions []Action `json:"actions"`
	// Incomplete: not all that the transaction did is known, so that it may have done more: it
	// may have begun before the WAL that was read, of its record, which is very long, only the
	// beginning is known, or it was given up for a while to bound memory (Summary.Forgotten).
	Incomplete bool `json:"incomplete,omitempty"`
	// Before and After are what to restore to.
	Before Target `json:"before"`
	After  Target `json:"after"`
	// Restorable: a backup and the WAL from it on are there to restore to Before.
	Restorable bool `json:"restorable"`
}

// Action is one thing that a transaction did.
type Action struct {
	Kind Kind `json:"kind"`
	// Relation is what it was done to; nil for databases and tablespaces.
	Relation *Relation `json:"relation,omitempty"`
	// DatabaseOID and Database are of an action on a database; "": not in any snapshot.
	DatabaseOID uint32 `json:"database_oid,omitempty"`
	Database    string `json:"database,omitempty"`
	// Rows is how many were inserted, updated or deleted.
	Rows uint64 `json:"rows,omitempty"`
	// Files is how many relations' files went with a drop: the table's, and those of its
	// indexes and TOAST tables.
	Files int `json:"files,omitempty"`
	// Uncertain: the WAL does not tell this from something alike.
	Uncertain bool `json:"uncertain,omitempty"`
	// Text is the action in words: dropped table public.orders.
	Text string `json:"text"`

	unnamed bool // it was done to relations that are not known
}

// Relation is a table, an index or the like, by the numbers of its files and, as
// far as a snapshot of names has it, its name.
type Relation struct {
	DatabaseOID uint32 `json:"database_oid"`
	Database    string `json:"database,omitempty"`
	// Tablespace and File are its files' numbers; 0: not known, or it has none.
	Tablespace uint32 `json:"tablespace_oid,omitempty"`
	File       uint32 `json:"relfilenode,omitempty"`
	OID        uint32 `json:"oid,omitempty"`
	Schema     string `json:"schema,omitempty"`
	Name       string `json:"name,omitempty"`
	// Type is table, index and so on.
	Type string `json:"type,omitempty"`
	// Known: a snapshot has its name. NameTime is when that was taken; nil: not known.
	Known    bool       `json:"known"`
	NameTime *time.Time `json:"name_time,omitempty"`
	// NameDoubt: it may have had another name when it happened. Between the snapshot and then
	// the WAL shows that a table or a schema of the database was renamed, in which case the
	// action is Uncertain; or it was not read; or the snapshot is a later one.
	NameDoubt bool `json:"name_doubt,omitempty"`
	// Text is schema and name, quoted where SQL needs it, or numbers.
	Text string `json:"text"`

	// owner is the OID of the table that an index or a TOAST table belongs to.
	owner uint32
	folds bool // it is told with its owner
	toast bool // it is a TOAST table or the index of one
	inner bool // of the system or temporary

	snapshot wal.LSN // of the snapshot that has its name
}

// Target is what to restore to.
type Target struct {
	LSN       wal.LSN        `json:"lsn"`
	Exclusive bool           `json:"exclusive"`
	Timeline  wal.TimelineID `json:"timeline"`
	// Locked: others committed between the transaction's exclusive lock of a table and its
	// end, so that just before its end the table is locked. Recovery that pauses
	// there does not let anyone read it; promotion ends the transaction, and the lock.
	Locked bool `json:"locked,omitempty"`
	// Flags is the target for `walden restore`.
	Flags string `json:"flags"`
}

// target is the position of a record on the way to a timeline. With exclusive, recovery
// stops before that record, else after it: the exact rules are replay/plan's for an LSN
// at which a record starts.
func target(at wal.LSN, exclusive bool, tli wal.TimelineID) Target {
	t := Target{LSN: at, Exclusive: exclusive, Timeline: tli}
	t.Flags = "--lsn " + at.String()
	if exclusive {
		t.Flags += " --exclusive"
	}
	t.Flags += " --timeline " + tli.String()
	return t
}
