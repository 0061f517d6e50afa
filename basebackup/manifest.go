package basebackup

import (
	"time"

	"github.com/walden-pg/walden/wal"
)

// FormatVersion is the version of manifests, claims and shards that this
// package writes, and the highest it reads.
const FormatVersion = 1

// Manifest describes one complete backup. Everything else about it (packs,
// shards) is durable before the manifest is.
type Manifest struct {
	Format int `json:"format"`
	// ID is the start time and a random part: 20261122T213000Z-k3f9. Ids sort by time.
	ID string `json:"id"`
	// Parent is the backup that an incremental one builds on; empty: a full backup.
	Parent  string `json:"parent,omitempty"`
	Walden  string `json:"walden"`
	Cluster string `json:"cluster"`
	// SystemID identifies the cluster. It is written as a string, since many
	// JSON readers cannot hold 64 bits.
	SystemID      uint64          `json:"system_identifier,string"`
	Major         int             `json:"major"`
	ServerVersion int             `json:"server_version"`
	SegmentSize   wal.SegmentSize `json:"wal_segment_size"`

	// Timeline and StartLSN (redo) are where replay begins; CheckpointLSN is
	// the checkpoint record named by backup_label.
	Timeline      wal.TimelineID `json:"timeline"`
	StartLSN      wal.LSN        `json:"start_lsn"`
	CheckpointLSN wal.LSN        `json:"checkpoint_lsn"`
	// StopLSN on StopTimeline is where the restored cluster is consistent.
	StopLSN      wal.LSN        `json:"stop_lsn"`
	StopTimeline wal.TimelineID `json:"stop_timeline"`
	// WALRanges is the WAL between the two, by timeline, oldest first.
	WALRanges []WALRange `json:"wal_ranges"`
	// StartTime and StopTime are by the clock of the machine that ran Take, in UTC.
	StartTime time.Time `json:"start_time"`
	StopTime  time.Time `json:"stop_time"`
	// FromStandby says that the server was in recovery.
	FromStandby bool   `json:"from_standby"`
	Label       string `json:"label"`
	// BackupLabel is the text of the file backup_label.
	BackupLabel string       `json:"backup_label"`
	Tablespaces []Tablespace `json:"tablespaces,omitempty"`
	// Settings are the server's, by name: those that a standby must not
	// undercut (max_connections …), and what describes the server.
	Settings map[string]string `json:"settings,omitempty"`
	// ConfigFiles are the paths of entries of KindConfig.
	ConfigFiles []string `json:"config_files,omitempty"`
	// Warnings are what could not be saved, and what the server warned of.
	Warnings []string `json:"warnings,omitempty"`

	Packs  []PackRef  `json:"packs"`
	Shards []ShardRef `json:"shards"`

	// Files counts regular files, configuration files included; Bytes is the
	// sum of their sizes; StoredBytes is what packs and shards occupy.
	Files       int64 `json:"files"`
	Bytes       int64 `json:"bytes"`
	StoredBytes int64 `json:"stored_bytes"`

	// Objects is how many objects the backup is read from: packs, shards and the
	// manifest. List and Overview fill it in.
	Objects int `json:"-"`
}

// WALRange is WAL that a backup needs: [Start, End) on one timeline.
type WALRange struct {
	Timeline wal.TimelineID `json:"timeline"`
	Start    wal.LSN        `json:"start"`
	End      wal.LSN        `json:"end"`
}

// PackRef names a pack that a backup needs.
type PackRef struct {
	// Backup is the backup that wrote it, Number its number there.
	Backup string `json:"backup"`
	Number int    `json:"number"`
	// Digest is the hexadecimal BLAKE3 of the stored bytes, as in its footer.
	Digest string `json:"digest"`
	// Size is the stored length, Raw the raw one, Live the raw bytes in use by
	// this backup.
	Size int64 `json:"size"`
	Raw  int64 `json:"raw"`
	Live int64 `json:"live"`
}

// ShardRef names a shard of the table of entries.
type ShardRef struct {
	Backup string `json:"backup"`
	Number int    `json:"number"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// Entries is the number of its lines.
	Entries int `json:"entries"`
}

// Claim says that a backup was begun. It is written before the first pack and
// stays when the backup is done.
type Claim struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Parent  string    `json:"parent,omitempty"`
	Cluster string    `json:"cluster"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Start   time.Time `json:"start"`
	Walden  string    `json:"walden"`
}
