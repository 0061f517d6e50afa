package index

import (
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Index is what one pass over a segment learns. A record belongs to the
// segment it starts in; one that goes on in the next segment is counted here,
// and what it says is found by joining (Join, Joiner).
type Index struct {
	Segment  wal.Segment
	SystemID uint64 // of the cluster, from the long page header
	Magic    uint16 // of the WAL pages: the major version (record.Major)

	// FirstRecord and LastRecord are where the first and the last record that
	// start here start, the one that goes on in the next segment included; 0:
	// none starts here.
	FirstRecord, LastRecord wal.LSN
	// LastComplete is the start of the last record that starts and ends here;
	// 0: none. It differs from LastRecord where the last record goes on.
	LastComplete wal.LSN
	// EndOfRecords is the position after the last complete record. It is the
	// segment's end where a record goes on into the next segment and after a
	// switch. In the index of a partial segment it is where valid WAL ends.
	EndOfRecords wal.LSN
	// FirstPrev is xl_prev of the first record that starts here. It is 0 where
	// none starts, where that record's header is cut by the segment's end, and
	// in the very first record of a cluster.
	FirstPrev wal.LSN
	Records   uint64 // records that start here
	// Switch is the start of the XLOG_SWITCH that ends the segment; 0: none. It
	// lies 8 or 16 bytes before the segment's start if the switch record itself
	// crosses into the segment; joining confirms that it is one.
	Switch wal.LSN

	// PageTimelineFirst and PageTimelineLast are the timelines in the headers of
	// the first and the last valid page. They differ, or both are below the
	// segment's own, where a timeline was left inside the segment.
	PageTimelineFirst, PageTimelineLast wal.TimelineID

	// Times of commits and aborts: the first and last in order of position, and
	// the least and greatest, which may be others because a transaction takes
	// its time before its place. Zero: there are none.
	FirstTime, LastTime, MinTime, MaxTime time.Time
	// MinXID and MaxXID bound the transaction ids of commits and aborts and of
	// their subtransactions, compared as plain numbers; 0: there are none.
	MinXID, MaxXID  uint32
	Commits, Aborts uint64 // including those of prepared transactions
	// Prepared counts the records of prepared transactions: PREPARE, and what ends them.
	Prepared uint64

	// Landmarks are the records a person may want to stop at, in order.
	Landmarks []Landmark

	// Head is the end of a record that started in an earlier segment, Tail the
	// start of one that goes on in the next.
	Head Head
	Tail Tail

	// Effects are what was done to relations, in the order of Effect.Compare: at
	// most MaxEffects, those that change most. Omitted counts the others.
	Effects []Effect
	Omitted Omitted
	// Locks are where transactions first took, or at a checkpoint were told to
	// hold, an AccessExclusiveLock, by transaction id: at most MaxLocks.
	Locks []Lock

	transactions transactionList
	details      detailList
}

// Head is the end of a record that started before the segment.
type Head = record.Head

// Tail is the start of a record that goes on after the segment.
type Tail = record.Tail

// EdgeBytes bounds how many bytes of a record that crosses segments an index
// keeps on either side. What is longer is still verified, by its CRC.
const EdgeBytes = record.KeepBytes

// TransactionKind says how a transaction ended, or that it was prepared.
type TransactionKind uint8

// The kinds of transaction records.
const (
	Commit TransactionKind = iota + 1
	Abort
	CommitPrepared
	AbortPrepared
	Prepare
)

// String is PostgreSQL's name for the record.
func (k TransactionKind) String() string {
	switch k {
	case Commit:
		return "COMMIT"
	case Abort:
		return "ABORT"
	case CommitPrepared:
		return "COMMIT_PREPARED"
	case AbortPrepared:
		return "ABORT_PREPARED"
	case Prepare:
		return "PREPARE"
	}
	return "unknown"
}

// Ends reports whether the record ends a transaction, and so is one that
// recovery_target_xid and recovery_target_time stop at. PREPARE is not.
func (k TransactionKind) Ends() bool { return k >= Commit && k <= AbortPrepared }

// Transaction is a commit, abort or prepare record.
type Transaction struct {
	LSN, End wal.LSN // where the record starts, and the position after it
	// XID is the top-level transaction: for prepared ones the id they were
	// prepared under, which is what recovery_target_xid compares. 0: not known,
	// which happens only for a COMMIT PREPARED that crosses segments and says
	// more than an index keeps.
	XID  uint32
	Time time.Time // of the commit, abort or prepare
	Kind TransactionKind
	// GID is the name of a prepared transaction: always in Prepare, and in
	// CommitPrepared and AbortPrepared where wal_level was logical.
	GID      string
	Database uint32 // oid of the database; 0: the record does not say
	// Detail is what few records say; nil: nothing more. Index.Transactions leaves
	// it out, Index.DetailedTransactions and Joined have it.
	Detail *Detail
}

// LandmarkKind tells landmarks apart.
type LandmarkKind uint8

// The kinds of landmarks.
const (
	RestorePoint LandmarkKind = iota + 1
	CheckpointShutdown
	CheckpointOnline
	EndOfRecovery
	BackupEnd
	Switch
	ParameterChange
	OverwriteContrecord
	CheckpointRedo
	// DatabaseCreate and DatabaseDrop: the files of a database come and go with
	// this record, not with the commit. ALTER DATABASE SET TABLESPACE creates it
	// at one place and drops it, in a transaction without an id, at the other.
	DatabaseCreate
	DatabaseDrop
	// DatabaseInvalid: DROP DATABASE has begun, and at once no one can connect any more.
	// Database is 0 where the record, which crosses segments, does not tell which.
	DatabaseInvalid
	// TablespaceDrop: a tablespace, which was empty, goes.
	TablespaceDrop
	// HeapTruncate: TRUNCATE, where wal_level is logical. It takes effect with the commit.
	HeapTruncate
)

// String is PostgreSQL's name for the record.
func (k LandmarkKind) String() string {
	switch k {
	case RestorePoint:
		return "RESTORE_POINT"
	case CheckpointShutdown:
		return "CHECKPOINT_SHUTDOWN"
	case CheckpointOnline:
		return "CHECKPOINT_ONLINE"
	case EndOfRecovery:
		return "END_OF_RECOVERY"
	case BackupEnd:
		return "BACKUP_END"
	case Switch:
		return "SWITCH"
	case ParameterChange:
		return "PARAMETER_CHANGE"
	case OverwriteContrecord:
		return "OVERWRITE_CONTRECORD"
	case CheckpointRedo:
		return "CHECKPOINT_REDO"
	case DatabaseCreate:
		return "DBASE_CREATE"
	case DatabaseDrop:
		return "DBASE_DROP"
	case DatabaseInvalid:
		return "HEAP_INPLACE"
	case TablespaceDrop:
		return "TBLSPC_DROP"
	case HeapTruncate:
		return "HEAP_TRUNCATE"
	}
	return "unknown"
}

// Landmark is a record that a person or a plan may want to stop at, or must know
// of. Fields that a kind does not have are zero.
type Landmark struct {
	LSN, End wal.LSN
	Kind     LandmarkKind
	Time     time.Time // RestorePoint, both checkpoints (whole seconds), EndOfRecovery, OverwriteContrecord
	Name     string    // RestorePoint
	// Timeline and PrevTimeline: both checkpoints and EndOfRecovery. They differ
	// in the record that begins a timeline.
	Timeline, PrevTimeline wal.TimelineID
	// Redo is the redo point of a checkpoint; for BackupEnd the redo point the
	// backup began at; for OverwriteContrecord the start of the record that was given up.
	Redo    wal.LSN
	NextXID uint64 // both checkpoints: epoch<<32 | the next transaction id
	// WALLevel is what the record says of wal_level: ParameterChange in all
	// versions, checkpoints, EndOfRecovery and CheckpointRedo since 17.
	WALLevel WALLevel
	Settings *Settings // ParameterChange
	// XID is the transaction, possibly a subtransaction, of the kinds from
	// DatabaseCreate on; 0: it has no id.
	XID      uint32
	Database uint32 // DatabaseCreate, DatabaseDrop, DatabaseInvalid, HeapTruncate: its OID
	// OIDs are the tablespaces of DatabaseCreate, DatabaseDrop and TablespaceDrop,
	// and the relations of HeapTruncate: at most MaxOIDs.
	OIDs     []uint32
	LeftOut  uint32 // how many more OIDs the record has
	Template uint32 // DatabaseCreate: the OID of the database whose files are copied; 0: they are not
}

// MaxOIDs bounds Landmark.OIDs.
const MaxOIDs = 1024

// WALLevel is the server's wal_level.
type WALLevel uint8

// The values of wal_level; LevelUnknown where a record does not say.
const (
	LevelUnknown WALLevel = iota
	LevelMinimal
	LevelReplica
	LevelLogical
)

// String is the value as in postgresql.conf.
func (l WALLevel) String() string {
	switch l {
	case LevelMinimal:
		return "minimal"
	case LevelReplica:
		return "replica"
	case LevelLogical:
		return "logical"
	}
	return "unknown"
}

// Settings are those of the primary that a hot standby must match or exceed,
// as XLOG_PARAMETER_CHANGE reports them.
type Settings struct {
	MaxConnections          int32
	MaxWorkerProcesses      int32
	MaxWALSenders           int32
	MaxPreparedTransactions int32
	MaxLocksPerTransaction  int32
	WALLogHints             bool
	TrackCommitTimestamp    bool
}
