package basebackup

import (
	"context"
	"io"

	"github.com/walden-pg/walden/wal"
)

// A Server is asked, beside the Source, for what a backup needs that is not a
// file of the data directory. basebackup/protocol implements it.
type Server interface {
	// Identify asks who the server is.
	Identify(ctx context.Context) (Identity, error)
	// Facts reads settings and outside configuration files. It returns what
	// could be had; what could not is told in Facts.Warnings. An error is
	// returned only if ctx is done.
	Facts(ctx context.Context) (Facts, error)
	// Reserve keeps the server from removing WAL from its last checkpoint on,
	// until the Reservation is closed or the connection breaks.
	Reserve(ctx context.Context) (Reservation, error)
}

// Identity tells which cluster a server runs.
type Identity struct {
	SystemID      uint64
	Timeline      wal.TimelineID
	SegmentSize   wal.SegmentSize
	ServerVersion int  // server_version_num
	InRecovery    bool // a standby
	// ArchiveMode is the server's archive_mode: "off", "on" or "always".
	ArchiveMode string
}

// Archives reports whether this very server hands its WAL to an archive.
func (i Identity) Archives() bool {
	return i.ArchiveMode == "always" || i.ArchiveMode == "on" && !i.InRecovery
}

// Facts are settings and files that a restore will want to know.
type Facts struct {
	// Settings are values of pg_settings by name, in their base unit.
	Settings map[string]string
	// ConfigFiles are the configuration files outside the data directory, and
	// those within, which are saved only if the source does not send them all:
	// it passes over symbolic links.
	ConfigFiles []ConfigFile
	// Warnings say what could not be read, and what would allow it.
	Warnings []string
}

// ConfigFile is a configuration file.
type ConfigFile struct {
	// Path is its absolute path on the server.
	Path    string
	Content []byte
	// Within is its path relative to the data directory, if it lies there.
	Within string
	// Unread says that it could not be read; only where Within is set.
	Unread bool
}

// A Reservation holds WAL on the server.
type Reservation interface {
	// Fetch streams the segments from the one that contains from to the one
	// that contains to-1 and gives each to put. It returns a
	// *stream.RemovedError if the server no longer has one.
	Fetch(ctx context.Context, tli wal.TimelineID, from, to wal.LSN, put PutSegment) error
	// History returns the content of a timeline's history file.
	History(ctx context.Context, tli wal.TimelineID) ([]byte, error)
	// Close releases the WAL.
	Close(ctx context.Context) error
}

// PutSegment makes one whole segment durable in the archive.
type PutSegment func(ctx context.Context, seg wal.Segment, r io.ReaderAt) error
