// Package control reads PostgreSQL's control file, global/pg_control, of the
// majors 13 to 19.
//
// The layouts follow ControlFileData in src/include/catalog/pg_control.h: its
// members are stored as the compiler lays them out, in native byte order, and
// the last one is a CRC-32C of all bytes before it. Walden reads
// little-endian control files, those of every platform it supports.
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/walden-pg/walden/wal"
)

// FileSize is the length of a control file in bytes; what follows the
// structure is zero.
const FileSize = 8192

// ErrChecksum is wrapped by the error for a control file whose CRC does not
// match its content: it is damaged, or was read while it was being written.
var ErrChecksum = errors.New("checksum does not match")

// ErrVersion is wrapped by the error for a control file of a version that
// this package does not know.
var ErrVersion = errors.New("unknown control file version")

// State is what the cluster was doing when the file was written (DBState).
type State uint32

// The values of State.
const (
	StartingUp         State = 0
	ShutDown           State = 1
	ShutDownInRecovery State = 2
	ShuttingDown       State = 3
	InCrashRecovery    State = 4
	InArchiveRecovery  State = 5
	InProduction       State = 6
)

// String names the state in the words of pg_controldata.
func (s State) String() string {
	names := [...]string{
		"starting up", "shut down", "shut down in recovery", "shutting down",
		"in crash recovery", "in archive recovery", "in production",
	}
	if int64(s) < int64(len(names)) {
		return names[s]
	}
	return fmt.Sprintf("unknown state %d", uint32(s))
}

// WALLevel is the setting wal_level as the control file keeps it.
type WALLevel int32

// The values of WALLevel.
const (
	LevelMinimal WALLevel = 0
	LevelReplica WALLevel = 1
	LevelLogical WALLevel = 2
)

// String names the level as the setting is written.
func (l WALLevel) String() string {
	switch l {
	case LevelMinimal:
		return "minimal"
	case LevelReplica:
		return "replica"
	case LevelLogical:
		return "logical"
	}
	return fmt.Sprintf("unknown wal_level %d", int32(l))
}

// A File is what a control file says.
type File struct {
	// SystemIdentifier tells this cluster from every other; initdb makes it.
	SystemIdentifier uint64
	// ControlVersion is PG_CONTROL_VERSION: 1300 for the majors 13 to 16,
	// 1700, 1800, 1902 (19beta1), 1905 (19 since its release candidate).
	ControlVersion uint32
	// CatalogVersion is CATALOG_VERSION_NO, a date and a digit.
	CatalogVersion uint32
	// Major is the server's major version; 0 if CatalogVersion is not that of
	// a release this package knows.
	Major int
	// State is what the cluster was doing, and Time when the file was written
	// (whole seconds).
	State State
	Time  time.Time
	// CheckPoint is where the last checkpoint record starts.
	CheckPoint wal.LSN
	// LastCheckPoint is a copy of that record.
	LastCheckPoint CheckPoint

	// MinRecoveryPoint is how far recovery must go before the cluster is
	// consistent, on timeline MinRecoveryTimeline; 0 outside archive recovery.
	MinRecoveryPoint    wal.LSN
	MinRecoveryTimeline wal.TimelineID
	// BackupStartPoint is the redo point of the backup that is being
	// recovered, 0 if none is; BackupEndPoint is the position that ends it for
	// a backup of a standby; BackupEndRequired says that the record that ends
	// a backup must still be found.
	BackupStartPoint  wal.LSN
	BackupEndPoint    wal.LSN
	BackupEndRequired bool

	Settings Settings

	// BlockSize and WALBlockSize are BLCKSZ and XLOG_BLCKSZ in bytes,
	// RelationBlocks the number of blocks in one file of a relation.
	BlockSize, WALBlockSize, RelationBlocks uint32
	// SegmentSize is wal_segment_size.
	SegmentSize wal.SegmentSize
	// DataChecksumVersion is 0 if data checksums are off and 1 if they are on;
	// 19 also has 2 (being switched off) and 3 (being switched on).
	DataChecksumVersion uint32
}

// CheckPoint is the part of a checkpoint record that all majors share.
type CheckPoint struct {
	// Redo is where recovery from this checkpoint starts.
	Redo wal.LSN
	// Timeline is the timeline of the checkpoint; PreviousTimeline differs
	// from it only in the record that begins a timeline.
	Timeline, PreviousTimeline wal.TimelineID
	FullPageWrites             bool
	// NextXID is the next transaction id, with its epoch in the upper half.
	NextXID uint64
	// Time is when the checkpoint was made (whole seconds).
	Time time.Time
}

// Settings are those that a server in recovery must be able to match.
type Settings struct {
	WALLevel              WALLevel
	WALLogHints           bool
	MaxConnections        int32
	MaxWorkerProcesses    int32
	MaxWALSenders         int32
	MaxPreparedXacts      int32
	MaxLocksPerXact       int32
	TrackCommitTimestamps bool
}

// layout holds the offsets at which the control versions differ.
type layout struct {
	nextXID, checkPointTime int
	minRecoveryPoint        int // and what follows it, up to the settings
	settings                int
	blockSize, walBlockSize int
	checksumVersion         int
	crc                     int
}

var layout13 = layout{
	nextXID: 40 + 24, checkPointTime: 40 + 64, minRecoveryPoint: 136, settings: 172,
	blockSize: 216, walBlockSize: 224, checksumVersion: 252, crc: 288,
}

// layoutOf returns the layout of a control version.
func layoutOf(version uint32) (layout, bool) {
	l := layout13
	switch version {
	case 1300, 1700: // 17 moved members inside the checkpoint's padding only
	case 1800: // default_char_signedness before the nonce
		l.crc = 292
	case 1902, 1905: // a longer checkpoint, slru_pages_per_segment
		l = layout{
			nextXID: 40 + 32, checkPointTime: 40 + 72, minRecoveryPoint: 144, settings: 180,
			blockSize: 224, walBlockSize: 236, checksumVersion: 264, crc: 304,
		}
		if version == 1905 { // four bytes before the checksum version, found in 19rc1
			l.checksumVersion, l.crc = 268, 308
		}
	default:
		return layout{}, false
	}
	return l, true
}

// Parse decodes the content of a control file: its first bytes up to and
// including the CRC (at most 312) are needed, the rest may be missing. The
// error wraps ErrChecksum or ErrVersion where that is what is wrong.
func Parse(b []byte) (File, error) {
	if len(b) < 16 {
		return File{}, fmt.Errorf("control file of %d bytes: too short", len(b))
	}
	version := binary.LittleEndian.Uint32(b[8:])
	l, ok := layoutOf(version)
	if !ok {
		if _, swapped := layoutOf(binary.BigEndian.Uint32(b[8:])); swapped {
			return File{}, fmt.Errorf("%w: written on a big-endian machine", ErrVersion)
		}
		return File{}, fmt.Errorf("%w %d", ErrVersion, version)
	}
	if len(b) < l.crc+4 {
		return File{}, fmt.Errorf("control file of %d bytes: too short for version %d", len(b), version)
	}
	want := binary.LittleEndian.Uint32(b[l.crc:])
	if got := crc32.Checksum(b[:l.crc], crc32.MakeTable(crc32.Castagnoli)); got != want {
		return File{}, fmt.Errorf("control file: %w: %08X, recorded is %08X", ErrChecksum, got, want)
	}
	f := l.decode(fields(b))
	return f, f.validate()
}

// decode reads all members; b is long enough for l.
func (l layout) decode(b fields) File {
	m, s := l.minRecoveryPoint, l.settings
	return File{
		SystemIdentifier: b.u64(0),
		ControlVersion:   b.u32(8),
		CatalogVersion:   b.u32(12),
		Major:            majorOf(b.u32(8), b.u32(12)),
		State:            State(b.u32(16)),
		Time:             b.time(24),
		CheckPoint:       wal.LSN(b.u64(32)),
		LastCheckPoint: CheckPoint{
			Redo:             wal.LSN(b.u64(40)),
			Timeline:         wal.TimelineID(b.u32(48)),
			PreviousTimeline: wal.TimelineID(b.u32(52)),
			FullPageWrites:   b[56] != 0,
			NextXID:          b.u64(l.nextXID),
			Time:             b.time(l.checkPointTime),
		},
		MinRecoveryPoint:    wal.LSN(b.u64(m)),
		MinRecoveryTimeline: wal.TimelineID(b.u32(m + 8)),
		BackupStartPoint:    wal.LSN(b.u64(m + 16)),
		BackupEndPoint:      wal.LSN(b.u64(m + 24)),
		BackupEndRequired:   b[m+32] != 0,
		Settings: Settings{
			WALLevel:              WALLevel(b.u32(s)),
			WALLogHints:           b[s+4] != 0,
			MaxConnections:        int32(b.u32(s + 8)),
			MaxWorkerProcesses:    int32(b.u32(s + 12)),
			MaxWALSenders:         int32(b.u32(s + 16)),
			MaxPreparedXacts:      int32(b.u32(s + 20)),
			MaxLocksPerXact:       int32(b.u32(s + 24)),
			TrackCommitTimestamps: b[s+28] != 0,
		},
		BlockSize:           b.u32(l.blockSize),
		RelationBlocks:      b.u32(l.blockSize + 4),
		WALBlockSize:        b.u32(l.walBlockSize),
		SegmentSize:         wal.SegmentSize(b.u32(l.walBlockSize + 4)),
		DataChecksumVersion: b.u32(l.checksumVersion),
	}
}

// validate refuses values that no server writes.
func (f File) validate() error {
	if f.SystemIdentifier == 0 {
		return errors.New("control file: the system identifier is zero")
	}
	if err := f.SegmentSize.Valid(); err != nil {
		return fmt.Errorf("control file: %w", err)
	}
	return nil
}

// majorOf tells the major version: by the catalog version where several
// majors share a control version.
func majorOf(control, catalog uint32) int {
	if control == 1902 || control == 1905 {
		return 19
	}
	switch catalog {
	case 202007201:
		return 13
	case 202107181:
		return 14
	case 202209061:
		return 15
	case 202307071:
		return 16
	case 202406281:
		return 17
	case 202506291:
		return 18
	}
	return 0
}

// fields reads little-endian members at byte offsets.
type fields []byte

func (b fields) u32(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func (b fields) u64(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

func (b fields) time(off int) time.Time { return time.Unix(int64(b.u64(off)), 0).UTC() }
