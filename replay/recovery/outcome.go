package recovery

import (
	"time"

	"github.com/walden-pg/walden/wal"
)

// State is how a recovery ended.
type State string

const (
	// PausedAtTarget: the target is reached; the server waits, readable, to be
	// told to go on (pg_wal_replay_resume) or to be stopped.
	PausedAtTarget State = "paused"
	// Promoted: recovery is complete and the server accepts writes on a new timeline.
	Promoted State = "promoted"
	// ShutDownAtTarget: the target is reached and the server has shut itself down.
	ShutDownAtTarget State = "shut-down"
	// StandingBy: the server is a standby, consistent, and keeps replaying.
	StandingBy State = "standby"
	// Failed: the target was not reached; the error says why.
	Failed State = "failed"
)

// StopKind says what made recovery stop.
type StopKind string

const (
	// StopTransaction: at the commit or abort of a transaction, for a time or an xid.
	StopTransaction StopKind = "transaction"
	// StopLSN: at a WAL location.
	StopLSN StopKind = "lsn"
	// StopRestorePoint: at a named restore point.
	StopRestorePoint StopKind = "restore-point"
	// StopConsistency: as soon as the backup was consistent.
	StopConsistency StopKind = "consistency"
	// StopEndOfWAL: the archive had no more, and no target was set.
	StopEndOfWAL StopKind = "end-of-wal"
)

// Stop is the place where recovery stopped, as PostgreSQL told it.
type Stop struct {
	// Kind says what made recovery stop; empty: it has not.
	Kind StopKind
	// Before is true when the record named here was not replayed any more.
	Before bool
	// Abort is true when the transaction named here was aborted, not committed.
	Abort bool
	// XID is the transaction's identifier (StopTransaction).
	XID uint32
	// Time is the transaction's, or the restore point's, time; to the microsecond.
	Time time.Time
	// LSN is the start of the record (StopLSN).
	LSN wal.LSN
	// Name is the restore point's name (StopRestorePoint).
	Name string
	// Message is PostgreSQL's own sentence.
	Message string
}

// Server is a running server.
type Server struct {
	// PID is the postmaster's process.
	PID int
	// Port is the number in the name of its socket, and its TCP port if it listens.
	Port int
	// SocketDirectory holds its Unix socket; empty if it has none.
	SocketDirectory string
	// ListenAddress is the first TCP address it listens on; empty: none.
	ListenAddress string
	// Status is the last line of postmaster.pid: "starting", "stopping",
	// "ready" (for connections, be it only to read) or "standby" (up, but not
	// to be connected to); empty if it is not written yet.
	Status string
}

// Outcome tells how a recovery ended.
type Outcome struct {
	// State is how it ended.
	State State
	// Stop is where and why replay stopped.
	Stop Stop
	// LSN is the end of the last replayed record; 0 if it is not known.
	LSN wal.LSN
	// LSNExact is false when LSN is only a lower bound: replay has got at least
	// that far, and the server could not be asked for more.
	LSNExact bool
	// Timeline is the timeline LSN lies on.
	Timeline wal.TimelineID
	// NewTimeline is the one the server has begun at promotion; 0: none.
	NewTimeline wal.TimelineID
	// LastTransaction is the time of the last replayed commit or abort; zero: none or not known.
	LastTransaction time.Time
	// RedoStart is where replay began, ConsistentAt where the backup became consistent.
	RedoStart, ConsistentAt wal.LSN
	// Major is the server's major version, BinDir where its programs are.
	Major  int
	BinDir string
	// Server is the server that was left running; nil: none.
	Server *Server
	// LogFile is where the server writes what it says.
	LogFile string
	// ConnectCommand, ResumeCommand, StopCommand and StartCommand are lines for
	// a shell: to connect, to end the pause by promoting, to stop the server
	// and to start it again. Empty where they do not apply.
	ConnectCommand, ResumeCommand, StopCommand, StartCommand string
	// InvalidPages are the references to pages that were passed over, by the OID
	// of the database (0: shared): see Options.Whole.
	InvalidPages map[uint32]InvalidPages
	// Warnings are things a person should know.
	Warnings []string
	// Duration is how long it took from the start of the server.
	Duration time.Duration
}

// Stage is what a server in recovery is doing.
type Stage string

const (
	// StageStarting: the server has been started and has not begun replay.
	StageStarting Stage = "starting"
	// StageReplaying: it replays WAL and is not consistent yet.
	StageReplaying Stage = "replaying"
	// StageConsistent: it is consistent and replays on to the target.
	StageConsistent Stage = "consistent"
	// StageFinishing: replay is over; the server takes its last steps.
	StageFinishing Stage = "finishing"
)

// Progress is a moment of a running recovery.
type Progress struct {
	// Stage is what the server is doing.
	Stage Stage
	// LSN is how far replay has got: at least here.
	LSN wal.LSN
	// Start is where replay began, End where it is expected to stop (0: not known).
	Start, End wal.LSN
	// Segment is the WAL file that was fetched last.
	Segment string
	// Elapsed is the time since the server was started.
	Elapsed time.Duration
}

// Fraction is the part of the WAL that has been replayed, 0 to 1, or -1 when
// the end is not known.
func (p Progress) Fraction() float64 {
	if p.End <= p.Start || p.Start == 0 || p.LSN < p.Start {
		return -1
	}
	if p.LSN >= p.End {
		return 1
	}
	return float64(p.LSN-p.Start) / float64(p.End-p.Start)
}
