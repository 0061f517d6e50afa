package verify

import (
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
)

// Kind says what an object is, by its key.
type Kind string

// The kinds of objects.
const (
	KindRepository    Kind = "repository"     // walden.json
	KindIdentity      Kind = "identity"       // identity.json
	KindSegment       Kind = "segment"        // a sealed WAL segment
	KindPartial       Kind = "partial"        // a partial segment
	KindBackupHistory Kind = "backup-history" // a backup history file
	KindHistory       Kind = "history"        // a timeline history file
	KindFragment      Kind = "fragment"       // a piece of an open segment
	KindRollup        Kind = "roll-up"        // a roll-up of segment indexes
	KindNames         Kind = "names"          // a snapshot of names
	KindClaim         Kind = "claim"          // a backup's claim
	KindManifest      Kind = "manifest"       // a backup's manifest
	KindTable         Kind = "table"          // a shard of a backup's table of files
	KindPack          Kind = "pack"           // a pack
	KindRecord        Kind = "record"         // a record of a verification
	KindRate          Kind = "rate"           // how fast a restore went
	KindUnknown       Kind = "unknown"        // nothing that this version stores
)

// Kinds are all kinds, in the order of docs/guide.md.
func Kinds() []Kind {
	return []Kind{
		KindRepository, KindIdentity, KindSegment, KindPartial, KindBackupHistory, KindHistory, KindFragment, KindRollup,
		KindNames, KindClaim, KindManifest, KindTable, KindPack, KindRecord, KindRate, KindUnknown,
	}
}

// container is the kind of the container; 0: there is none.
func (k Kind) container() frame.Kind {
	return map[Kind]frame.Kind{
		KindIdentity: frame.KindIdentity, KindSegment: frame.KindSegment, KindPartial: frame.KindPartial,
		KindBackupHistory: frame.KindBackupHistory, KindHistory: frame.KindHistory, KindFragment: frame.KindFragment,
		KindRollup: frame.KindRollup, KindNames: frame.KindNames, KindClaim: frame.KindClaim, KindManifest: frame.KindManifest,
		KindTable: frame.KindExtents, KindPack: frame.KindPack, KindRecord: frame.KindRecord, KindRate: frame.KindRecord,
	}[k]
}

// Finding is one thing that is wrong.
type Finding struct {
	// Incarnation is its number; 0: of the whole repository.
	Incarnation int `json:"incarnation,omitempty"`
	// Object is the key of the object at fault; of several in a row the first.
	Object string `json:"object"`
	Kind   Kind   `json:"kind"`
	// Problem says what is wrong with it, in a sentence's part without a full stop.
	Problem string `json:"problem"`
	// Consequence says what follows for what can be restored, likewise.
	Consequence string `json:"consequence"`
	// Harmless: nothing that can be restored depends on it.
	Harmless bool `json:"harmless"`
	// Lost are the moments that no restore reaches because of this finding alone.
	Lost []Lost `json:"lost,omitempty"`
	// Backups cannot be restored because of this finding alone.
	Backups []string `json:"backups,omitempty"`

	effect effect
}

// Lost is a stretch of moments on one timeline: after From, up to To.
type Lost struct {
	Timeline wal.TimelineID `json:"timeline"`
	From     catalog.Moment `json:"from"`
	To       catalog.Moment `json:"to"`
}

// Tally counts objects.
type Tally struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (t *Tally) add(size int64) { t.Objects++; t.Bytes += size }

// Validation is what is known of a backup's objects and of the WAL from its
// start to its end.
type Validation struct {
	Incarnation int    `json:"incarnation,omitempty"`
	Backup      string `json:"backup"`
	State       State  `json:"state"`
	// Checked is when all of it was last looked at, by the quick form at least; Read since
	// when all of it has been read whole. Nil: never.
	Checked *time.Time `json:"checked,omitempty"`
	Read    *time.Time `json:"read,omitempty"`
	// Problem is the first finding that keeps it from being restored.
	Problem string `json:"problem,omitempty"`
}

// State sums a Validation up.
type State string

// The states.
const (
	Unverified State = "unverified" // no verification has seen it
	Checked    State = "checked"    // the quick form found nothing
	Sound      State = "sound"      // every byte was read, and nothing was found
	Damaged    State = "damaged"    // it cannot be restored
)

// Incarnation says what was verified of one incarnation.
type Incarnation struct {
	Number   int    `json:"incarnation"`
	SystemID uint64 `json:"system_identifier,string"`
	// Objects are those that were listed, by kind.
	Objects map[Kind]Tally `json:"objects"`
	// Read were read whole by this run; Due were to be.
	Read Tally `json:"read"`
	Due  Tally `json:"due"`
	// Superseded are objects that others have replaced, and that wait to be removed:
	// fragments and roll-ups. They are in order.
	Superseded Tally `json:"superseded"`
	// Since is when the run began that this one goes on with; nil: it goes on with none.
	Since *time.Time `json:"since,omitempty"`
	// Record is the key of the record that the run left; "": none.
	Record string `json:"record,omitempty"`
}

// Report is what a run found.
type Report struct {
	Cluster string `json:"cluster"`
	// Deep says that objects were read whole, and not only looked at.
	Deep  bool      `json:"deep"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Complete: everything that was to be verified was. Otherwise Error says why not.
	Complete     bool          `json:"complete"`
	Error        string        `json:"error,omitempty"`
	Incarnations []Incarnation `json:"incarnations"`
	Findings     []Finding     `json:"findings"`
	Backups      []Validation  `json:"backups"`
}
