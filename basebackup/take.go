package basebackup

import (
	"context"
	"log/slog"
	"time"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Options say what to back up, from where and into what.
type Options struct {
	// Repo and Incarnation are where the backup goes, Archive where its WAL is.
	Repo        *repository.Repository
	Archive     WALArchive
	Incarnation archive.Incarnation
	// Source produces the files; Server answers what else is asked.
	Source Source
	Server Server
	// Label is the backup's label; "walden " and the id if empty.
	Label string
	// Checkpoint and MaxRate: see SourceOptions.
	Checkpoint Checkpoint
	MaxRate    int
	// WALTimeout is how long to wait until the archive holds the WAL that the
	// backup needs, and then again how long to wait until it can be streamed;
	// 0: a minute.
	WALTimeout time.Duration
	// Names, if not nil, stores a snapshot of the names of databases and relations, just
	// before the files are copied. What it returns are warnings of what it could not do.
	Names func(ctx context.Context) []string
	// Version is Walden's own, for the manifest.
	Version string
	// Progress, if not nil, is called from one goroutine at a time, at most ten
	// times a second and at every change of phase. It must be quick.
	Progress func(Progress)
	// Logger receives what goes on; nil: nothing is logged.
	Logger *slog.Logger

	packSize int64            // of raw bytes; tests make it small
	now      func() time.Time // tests set the clock
}

// Phase is what Take is doing.
type Phase string

// The phases, in their order.
const (
	PhaseCheckpoint Phase = "checkpoint" // the server makes the checkpoint to begin with
	PhaseCopying    Phase = "copying"    // files are received and stored
	PhaseVerifying  Phase = "verifying"  // what was stored is compared with the server's manifest
	PhaseWAL        Phase = "waiting for WAL"
	PhasePublishing Phase = "publishing"
)

// Progress is how far a backup has come.
type Progress struct {
	ID    string
	Phase Phase
	// Done and Total are bytes of the data directory. Total is the server's
	// estimate, 0 if there is none; Done may end a little off it.
	Done, Total int64
	Files       int64
	// PhaseStart is when the phase began: Done grows from 0 in PhaseCopying.
	PhaseStart time.Time
	// Message is what is being waited for; may be empty.
	Message string
}

// Remaining estimates how long the copying will still take; ok is false if
// nothing can be said.
func (p Progress) Remaining(now time.Time) (d time.Duration, ok bool) {
	elapsed := now.Sub(p.PhaseStart)
	if p.Phase != PhaseCopying || p.Done <= 0 || p.Total <= 0 || elapsed < time.Second {
		return 0, false
	}
	left := max(p.Total-p.Done, 0)
	return time.Duration(float64(elapsed) * float64(left) / float64(p.Done)), true
}

// Take takes a backup and publishes it. It returns the manifest, with warnings
// of what could not be saved.
//
// When Take returns nil the backup is complete and durable: every file agrees
// with the checksum in the server's backup_manifest, and the WAL from its start
// to its stop is in the archive and joins. When it fails, is cancelled or is
// killed at any point there is no manifest, so that the backup is never listed
// as one; what it wrote is removed as far as possible. The one exception: if
// the store does not say whether the manifest was written (a lost connection
// at the very end) everything is left in place, and List tells.
//
// Any number of backups may be taken at the same time.
//
// Errors: *IdentityError, *ChecksumError, *MismatchError, *WALError, and those
// of the source, the store and ctx.
func Take(ctx context.Context, o Options) (*Manifest, error) {
	t, err := newTaker(o)
	if err != nil {
		return nil, err
	}
	return t.take(ctx)
}
