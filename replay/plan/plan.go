package plan

import (
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// Setting is one line of PostgreSQL's configuration.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Stretch is the part of a plan's WAL that is read from one timeline's files.
type Stretch struct {
	Timeline wal.TimelineID `json:"timeline"`
	// Begin is the first position that is replayed on the timeline. End is where
	// the next one takes over; on the last, where the plan's WAL ends.
	Begin wal.LSN `json:"begin"`
	End   wal.LSN `json:"end"`
	// First and Last are the names of the segments that are read, both
	// inclusive; Segments is how many they are. A timeline that was left in the
	// segment it began in is read from the next one's copy: it has none.
	First    string `json:"first,omitempty"`
	Last     string `json:"last,omitempty"`
	Segments uint64 `json:"segments"`
}

// Copy is a segment that recovery also needs under another name. Where a timeline
// begins with a shutdown checkpoint, as after a recovery to a target, the server
// that replays it reads transactions that are prepared there from pg_wal, as of the
// timeline that is being left (XlogReadTwoPhaseData in access/transam/twophase.c). In
// the segment of the switch restore_command was only asked for the younger
// timeline's copy, and recovery gives up: "requested WAL segment … has already been
// removed". Up to the switch both copies are the same.
type Copy struct {
	// Segment is the file's name in the archive, As the one that it needs in pg_wal.
	Segment string `json:"segment"`
	As      string `json:"as"`
}

// Transaction is a commit or abort.
type Transaction struct {
	XID uint32 `json:"xid"`
	// LSN is where its record starts, End the position after it.
	LSN  wal.LSN   `json:"lsn"`
	End  wal.LSN   `json:"end"`
	Time time.Time `json:"time"`
	// Aborted: it was rolled back. Prepared: by ROLLBACK PREPARED or COMMIT PREPARED.
	Aborted  bool `json:"aborted,omitempty"`
	Prepared bool `json:"prepared,omitempty"`
}

// Stop predicts where recovery stops.
type Stop struct {
	// Before: it stops before it replays the record at LSN; otherwise after it.
	Before bool `json:"before"`
	// LSN is where the record starts that stops recovery. For Latest it is 0, and
	// End is where the WAL ends.
	LSN wal.LSN `json:"lsn"`
	// End is the position up to which WAL is replayed, the end of the last record
	// that is: what pg_last_wal_replay_lsn() says then.
	End wal.LSN `json:"end"`
	// XID, Time and Name are those of the record that stops recovery, if it has them.
	XID  uint32     `json:"xid,omitempty"`
	Time *time.Time `json:"time,omitempty"`
	Name string     `json:"name,omitempty"`
	// Subtransaction is the transaction id asked for, where it is one of XID's subtransactions.
	Subtransaction uint32 `json:"subtransaction,omitempty"`
	// Timeline is the one that the stop lies on.
	Timeline wal.TimelineID `json:"timeline"`
	// LastKept is the last commit or abort that is replayed, FirstLost the first
	// that is not. Either can be nil: there is none in the WAL that the plan needs,
	// nor in a few segments beside it.
	LastKept  *Transaction `json:"last_kept,omitempty"`
	FirstLost *Transaction `json:"first_lost,omitempty"`
	// Counted is the last commit or abort that PostgreSQL counts as replayed
	// (pg_last_xact_replay_timestamp()): LastKept, unless recovery stops after that very
	// record, which it then does not count; nil: none from the backup's redo point on.
	Counted *Transaction `json:"-"`
	// Evidence is set where the target is a time that is later than every commit
	// and rollback: a record that shows that the time had passed all the same.
	Evidence *Evidence `json:"evidence,omitempty"`
}

// Estimate says how long a restore takes: first the base is downloaded, then
// PostgreSQL replays the WAL, which it fetches meanwhile. Rates are bytes a second, of the
// base as it is stored and of WAL; a basis says in words where a rate comes from.
type Estimate struct {
	DownloadSeconds float64 `json:"download_seconds"`
	DownloadRate    float64 `json:"download_rate"`
	DownloadBasis   string  `json:"download_basis"`
	ReplaySeconds   float64 `json:"replay_seconds"`
	ReplayRate      float64 `json:"replay_rate"`
	ReplayBasis     string  `json:"replay_basis"`
}

// Evidence is a record with a time that is later than the one asked for.
type Evidence struct {
	// What it is, in words.
	What string    `json:"what"`
	LSN  wal.LSN   `json:"lsn"`
	Time time.Time `json:"time"`
}

// Plan says how to restore, and what has been proved. It encodes as the JSON of
// `plan`.
type Plan struct {
	Cluster     string `json:"cluster"`
	Incarnation int    `json:"incarnation"`
	SystemID    uint64 `json:"system_identifier,string"`
	// Target is what was asked for, in words, and TargetKind its kind.
	Target     string `json:"target"`
	TargetKind Kind   `json:"target_kind"`
	Exclusive  bool   `json:"exclusive"`

	// Backup is the one to start from.
	Backup catalog.Backup `json:"backup"`
	// Timeline is the one recovery is told to follow.
	Timeline wal.TimelineID `json:"timeline"`
	// Path are the stretches of WAL from the backup's redo point on, oldest first.
	Path []Stretch `json:"path"`
	// FirstSegment and LastSegment are the names of the first and the last
	// segment that recovery needs, Segments is their number and StoredBytes about
	// what they occupy in the repository. Fragments is the number of fragments among the objects:
	// of segments that are not sealed, most often the last.
	FirstSegment string `json:"first_segment"`
	LastSegment  string `json:"last_segment"`
	Segments     uint64 `json:"segments"`
	StoredBytes  int64  `json:"stored_bytes"`
	Fragments    int    `json:"fragments,omitempty"`
	// Partial is the name of the .partial file that stands for LastSegment, at the end of
	// a timeline that was left; "": none does.
	Partial string `json:"partial,omitempty"`
	// Objects is how many objects are read from the repository, the backup's and those of
	// the WAL; DownloadBytes is what they occupy there.
	Objects       int64 `json:"objects"`
	DownloadBytes int64 `json:"download_bytes"`
	// Estimate says how long it will take; nil: nobody has estimated it.
	Estimate *Estimate `json:"estimate,omitempty"`

	// Settings make PostgreSQL follow the plan: whatever the target was, it is told
	// the position of the record to stop at, as recovery_target_lsn, and the timeline; the
	// other recovery_target settings are there with an empty value, and recovery_prefetch
	// where reading ahead would run into a hole behind the target. They leave to the restore what is
	// not the plan's: restore_command and recovery_target_action.
	Settings []Setting `json:"settings"`
	// Follow is the recovery_target_timeline of a standby made by this plan: it
	// shall go along when the cluster it follows is promoted to another timeline,
	// unless one was asked for, or a newer one is archived that lies on another way.
	Follow string `json:"-"`
	// Minimums are settings that the WAL on the way demands of a hot standby at
	// least, where they changed since the backup; the backup's own apply besides.
	Minimums []Setting `json:"minimums,omitempty"`
	Stop     Stop      `json:"stop"`
	// Copies are WAL segments that must lie in pg_wal before recovery begins, under the
	// names of the timelines that were left in them.
	Copies []Copy `json:"copies,omitempty"`
	// NextXID is the next transaction id, with its epoch in the upper half, of the
	// checkpoint that recovery begins at. What the backup holds of later transactions is
	// replayed.
	NextXID uint64 `json:"-"`
	// Prepared are the transactions that are left prepared at the stop, by the
	// time they were prepared at: somebody must commit them or roll them back.
	Prepared []catalog.PreparedTransaction `json:"prepared,omitempty"`
	// Warnings are sentences about what a person may not expect.
	Warnings []string `json:"warnings,omitempty"`
}
