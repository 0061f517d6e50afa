package basebackup

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
)

// Checkpoint says how the server makes the checkpoint that a backup begins with.
type Checkpoint string

const (
	// CheckpointSpread lets the checkpoint take its usual, spread-out time.
	CheckpointSpread Checkpoint = "spread"
	// CheckpointFast asks for it at once, at the price of a burst of writes.
	CheckpointFast Checkpoint = "fast"
)

// SourceOptions are what Take asks of a Source.
type SourceOptions struct {
	// Label is the backup's label, as in backup_label; at most MaxLabel bytes,
	// no control characters.
	Label string
	// Checkpoint is CheckpointSpread if empty.
	Checkpoint Checkpoint
	// MaxRate limits what the server sends, in KiB a second; 0: no limit.
	// PostgreSQL accepts 32 to 1048576.
	MaxRate int
}

// Limits of SourceOptions, PostgreSQL's own.
const (
	MaxLabel   = 1023
	MinMaxRate = 32
	MaxMaxRate = 1 << 20
)

// A Source produces a cluster's files, consistent once the WAL from the start
// to the stop position is replayed.
type Source interface {
	// Run takes one base backup and hands what it produces to sink, in this
	// order: Begin once; Directory, File and Symlink in any order and number;
	// Manifest once; End once. All calls come from one goroutine. An error of
	// the sink ends the run and is returned (wrapped).
	//
	// Run returns nil only when the server has declared the backup complete
	// and free of damage. A page checksum that the server found wrong makes it
	// return a *ChecksumError.
	Run(ctx context.Context, o SourceOptions, sink Sink) error
}

// A Sink receives what a Source produces. Paths are slash-separated, relative
// to the data directory, clean, and never empty or leading out of it; files of
// a tablespace are below pg_tblspc/<oid>.
type Sink interface {
	// Begin announces the backup, before anything else.
	Begin(StartInfo) error
	// Directory is an (often empty) directory that the restored cluster needs.
	Directory(Header) error
	// File is a regular file of exactly h.Size bytes. The sink reads r to its
	// end or returns an error; r is not valid afterwards.
	File(h Header, r io.Reader) error
	// Symlink is a symbolic link to h.Target: the link of a tablespace.
	Symlink(Header) error
	// Manifest is the server's own backup_manifest, byte for byte.
	Manifest(r io.Reader) error
	// Progress tells how many bytes of the backup have been received so far.
	// It is called often and must be quick.
	Progress(received int64)
	// End says that the server has finished, and where.
	End(EndInfo) error
}

// Header describes one directory entry.
type Header struct {
	// Path is relative to the data directory; see Sink.
	Path string
	// Size is the number of bytes of a file.
	Size int64
	// Mode holds the permission bits, as in chmod.
	Mode uint32
	// ModTime is the modification time, to the second.
	ModTime time.Time
	// Target is where a symlink points.
	Target string
}

// StartInfo is what is known when the server begins to send.
type StartInfo struct {
	// SystemID and Timeline identify whose backup this is.
	SystemID uint64
	Timeline wal.TimelineID
	// StartLSN is the redo position: replay begins there.
	StartLSN wal.LSN
	// ServerVersion is server_version_num: 150018 is 15.18.
	ServerVersion int
	// Tablespaces are all but the default ones.
	Tablespaces []Tablespace
	// Estimate is the number of bytes that the server expects to send; 0: unknown.
	Estimate int64
}

// EndInfo is what is known when the server has finished.
type EndInfo struct {
	// StopLSN is the end of the WAL that is needed for consistency.
	StopLSN wal.LSN
	// Timeline is the timeline of StopLSN. It differs from the start's if a
	// standby followed a promotion while the backup ran.
	Timeline wal.TimelineID
	// Warnings are notices that the server sent on the way.
	Warnings []string
}

// Tablespace is one that lies outside base/ and global/.
type Tablespace struct {
	// OID is its object id: files are below pg_tblspc/<OID>.
	OID uint32 `json:"oid"`
	// Location is the directory that the server keeps it in.
	Location string `json:"location"`
	// InPlace says that it is a plain directory within pg_tblspc, without a link.
	InPlace bool `json:"in_place,omitempty"`
	// Size is the server's estimate in bytes, to the KiB.
	Size int64 `json:"size"`
}

// ChecksumError says that the server found pages whose checksum is wrong. The
// backup was not kept.
type ChecksumError struct {
	// Warnings are the server's words, one for each of the first damaged pages.
	Warnings []string
	// Err is the server's error.
	Err error
}

// Error repeats what the server said.
func (e *ChecksumError) Error() string {
	s := "the server found damaged pages while it sent its files, no backup was kept: " + e.Err.Error()
	if len(e.Warnings) > 0 {
		s += ": " + strings.Join(e.Warnings, "; ")
	}
	return s
}

// Unwrap returns the server's error.
func (e *ChecksumError) Unwrap() error { return e.Err }

// Hint says what can be done.
func (e *ChecksumError) Hint() string {
	return "the data directory itself is damaged: find the relation with pg_filenode_relation or oid2name, " +
		"check it with pg_amcheck, and restore the cluster or the table from an earlier backup"
}
