package record

import (
	"bytes"
	"fmt"
	"time"

	"github.com/walden-pg/walden/wal"
)

// The records of RMXLOG: the high four bits of xl_info (catalog/pg_control.h).
const (
	XLOGCheckpointShutdown  uint8 = 0x00
	XLOGCheckpointOnline    uint8 = 0x10
	XLOGNoop                uint8 = 0x20
	XLOGNextOID             uint8 = 0x30
	XLOGSwitch              uint8 = 0x40
	XLOGBackupEnd           uint8 = 0x50
	XLOGParameterChange     uint8 = 0x60
	XLOGRestorePoint        uint8 = 0x70
	XLOGFPWChange           uint8 = 0x80
	XLOGEndOfRecovery       uint8 = 0x90
	XLOGFPIForHint          uint8 = 0xA0
	XLOGFPI                 uint8 = 0xB0
	XLOGOverwriteContrecord uint8 = 0xD0
	XLOGCheckpointRedo      uint8 = 0xE0 // since 17
)

// Op is the part of xl_info that tells the records of a resource manager
// apart, where that manager uses all four bits, as RMXLOG does.
func (h Header) Op() uint8 { return h.Info & 0xF0 }

// LevelUnknown stands for a wal_level that a record does not tell. The others
// are 0 minimal, 1 replica, 2 logical.
const LevelUnknown = -1

// Checkpoint is struct CheckPoint: what both checkpoint records say.
type Checkpoint struct {
	Redo            wal.LSN // where recovery from it begins
	Timeline        wal.TimelineID
	PrevTimeline    wal.TimelineID // differs from Timeline where the checkpoint begins a timeline
	FullPageWrites  bool
	WALLevel        int32  // since 17, else LevelUnknown
	NextXID         uint64 // epoch<<32 | xid
	NextOID         uint32
	NextMulti       uint32
	NextMultiOffset uint64
	OldestXID       uint32
	OldestMulti     uint32
	OldestActiveXID uint32 // 0 in a shutdown checkpoint
	Time            time.Time
}

// DecodeCheckpoint reads the main data of XLOG_CHECKPOINT_SHUTDOWN and _ONLINE.
func DecodeCheckpoint(major int, main []byte) (Checkpoint, error) {
	size := 88
	if major >= 19 {
		size = 96
	}
	if err := need("checkpoint", main, size); err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{
		Redo:           wal.LSN(le.Uint64(main)),
		Timeline:       wal.TimelineID(le.Uint32(main[8:])),
		PrevTimeline:   wal.TimelineID(le.Uint32(main[12:])),
		FullPageWrites: main[16] != 0,
		WALLevel:       LevelUnknown,
	}
	if major >= 17 {
		c.WALLevel = int32(le.Uint32(main[20:]))
	}
	rest := main[24:]
	if major >= 19 {
		rest = main[32:]
	}
	c.NextXID = le.Uint64(rest)
	c.NextOID = le.Uint32(rest[8:])
	c.NextMulti = le.Uint32(rest[12:])
	if major >= 19 { // 64-bit multixact offsets move what follows
		c.NextMultiOffset = le.Uint64(rest[16:])
		rest = rest[24:]
	} else {
		c.NextMultiOffset = uint64(le.Uint32(rest[16:]))
		rest = rest[20:]
	}
	c.OldestXID = le.Uint32(rest)
	c.OldestMulti = le.Uint32(rest[8:])
	timeAt, activeAt := 64, 80
	if major >= 19 {
		timeAt, activeAt = 72, 88
	}
	c.Time = wal.FromUnixSeconds(int64(le.Uint64(main[timeAt:])))
	c.OldestActiveXID = le.Uint32(main[activeAt:])
	return c, nil
}

// NamedPoint is what XLOG_RESTORE_POINT says.
type NamedPoint struct {
	Time time.Time
	Name string // at most 63 bytes, not necessarily UTF-8
}

// DecodeRestorePoint reads the main data of XLOG_RESTORE_POINT. The name's
// field is 64 bytes; those after its NUL are uninitialised memory of the server.
func DecodeRestorePoint(main []byte) (NamedPoint, error) {
	if err := need("restore point", main, 72); err != nil {
		return NamedPoint{}, err
	}
	name, _, found := bytes.Cut(main[8:72], []byte{0})
	if !found {
		return NamedPoint{}, fmt.Errorf("decode restore point: its name does not end")
	}
	return NamedPoint{Time: pgTime(main), Name: string(name)}, nil
}

// DecodeBackupEnd reads the main data of XLOG_BACKUP_END: the redo point at
// which the backup began.
func DecodeBackupEnd(main []byte) (wal.LSN, error) {
	if err := need("end of backup", main, 8); err != nil {
		return 0, err
	}
	return wal.LSN(le.Uint64(main)), nil
}

// EndOfRecovery is what XLOG_END_OF_RECOVERY says, with which a promoted
// standby begins its timeline.
type EndOfRecovery struct {
	Time                   time.Time
	Timeline, PrevTimeline wal.TimelineID
	WALLevel               int32 // since 17, else LevelUnknown
}

// DecodeEndOfRecovery reads the main data of XLOG_END_OF_RECOVERY.
func DecodeEndOfRecovery(major int, main []byte) (EndOfRecovery, error) {
	size := 16
	if major >= 17 {
		size = 20
	}
	if err := need("end of recovery", main, size); err != nil {
		return EndOfRecovery{}, err
	}
	e := EndOfRecovery{
		Time:         pgTime(main),
		Timeline:     wal.TimelineID(le.Uint32(main[8:])),
		PrevTimeline: wal.TimelineID(le.Uint32(main[12:])),
		WALLevel:     LevelUnknown,
	}
	if major >= 17 {
		e.WALLevel = int32(le.Uint32(main[16:]))
	}
	return e, nil
}

// ParameterChange is what XLOG_PARAMETER_CHANGE says: settings of the primary
// that a hot standby must match or exceed, and others recovery depends on.
type ParameterChange struct {
	MaxConnections          int32
	MaxWorkerProcesses      int32
	MaxWALSenders           int32
	MaxPreparedTransactions int32
	MaxLocksPerTransaction  int32
	WALLevel                int32
	WALLogHints             bool
	TrackCommitTimestamp    bool
}

// DecodeParameterChange reads the main data of XLOG_PARAMETER_CHANGE.
func DecodeParameterChange(main []byte) (ParameterChange, error) {
	if err := need("parameter change", main, 26); err != nil {
		return ParameterChange{}, err
	}
	field := func(i int) int32 { return int32(le.Uint32(main[4*i:])) }
	return ParameterChange{
		MaxConnections: field(0), MaxWorkerProcesses: field(1), MaxWALSenders: field(2),
		MaxPreparedTransactions: field(3), MaxLocksPerTransaction: field(4), WALLevel: field(5),
		WALLogHints: main[24] != 0, TrackCommitTimestamp: main[25] != 0,
	}, nil
}

// OverwriteContrecord is what XLOG_OVERWRITE_CONTRECORD says: a record that a
// crash left unfinished was given up, and what follows is written over its place.
type OverwriteContrecord struct {
	LSN  wal.LSN // where that record starts
	Time time.Time
}

// DecodeOverwriteContrecord reads the main data of XLOG_OVERWRITE_CONTRECORD.
func DecodeOverwriteContrecord(main []byte) (OverwriteContrecord, error) {
	if err := need("overwritten record", main, 16); err != nil {
		return OverwriteContrecord{}, err
	}
	return OverwriteContrecord{LSN: wal.LSN(le.Uint64(main)), Time: pgTime(main[8:])}, nil
}

// DecodeCheckpointRedo reads the main data of XLOG_CHECKPOINT_REDO, which marks
// the redo point of an online checkpoint since 17: wal_level.
func DecodeCheckpointRedo(main []byte) (level int32, err error) {
	if err := need("redo point", main, 4); err != nil {
		return LevelUnknown, err
	}
	return int32(le.Uint32(main)), nil
}

// DecodeFPWChange reads the main data of XLOG_FPW_CHANGE: the new value of
// full_page_writes.
func DecodeFPWChange(main []byte) (on bool, err error) {
	if err := need("full_page_writes change", main, 1); err != nil {
		return false, err
	}
	return main[0] != 0, nil
}

// DecodeNextOID reads the main data of XLOG_NEXTOID: the next object id to hand
// out after a crash.
func DecodeNextOID(main []byte) (uint32, error) {
	if err := need("next oid", main, 4); err != nil {
		return 0, err
	}
	return le.Uint32(main), nil
}

func pgTime(b []byte) time.Time { return wal.FromPGMicros(int64(le.Uint64(b))) }

func need(what string, main []byte, n int) error {
	if len(main) < n {
		return fmt.Errorf("decode %s: it has %d bytes instead of %d", what, len(main), n)
	}
	return nil
}
