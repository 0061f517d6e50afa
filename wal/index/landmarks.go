package index

import "github.com/walden-pg/walden/wal"

// Bits that tell which fields of a landmark follow.
const (
	lmTime = 1 << iota
	lmName
	lmTimeline
	lmPrevTimeline
	lmRedo
	lmNextXID
	lmWALLevel
	lmSettings
	lmXID
	lmDatabase
	lmOIDs
	lmLeftOut
	lmTemplate
	lmFlags = 1<<13 - 1

	maxName = 63 // of a restore point
)

func (ix *Index) encodeLandmarks() []byte {
	var e encoder
	e.byte(sectionVersion)
	e.uint(uint64(len(ix.Landmarks)))
	end := ix.Segment.Start()
	for _, l := range ix.Landmarks {
		e.byte(byte(l.Kind))
		e.uint(uint64(l.LSN-end) / 8)
		e.uint(uint64(l.End-l.LSN) / 8)
		e.uint(l.flags())
		e.landmark(l)
		end = l.End
	}
	return e.b
}

func (l Landmark) flags() (flags uint64) {
	for _, f := range []struct {
		bit uint64
		set bool
	}{
		{lmTime, !l.Time.IsZero()}, {lmName, l.Name != ""},
		{lmTimeline, l.Timeline != 0}, {lmPrevTimeline, l.PrevTimeline != 0},
		{lmRedo, l.Redo != 0}, {lmNextXID, l.NextXID != 0},
		{lmWALLevel, l.WALLevel != LevelUnknown}, {lmSettings, l.Settings != nil},
		{lmXID, l.XID != 0}, {lmDatabase, l.Database != 0}, {lmOIDs, len(l.OIDs) > 0},
		{lmLeftOut, l.LeftOut != 0}, {lmTemplate, l.Template != 0},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

// landmark writes the fields that flags announces.
func (e *encoder) landmark(l Landmark) {
	if !l.Time.IsZero() {
		e.time(l.Time)
	}
	if l.Name != "" {
		e.uint(uint64(len(l.Name)))
		e.b = append(e.b, l.Name...)
	}
	for _, v := range []uint64{uint64(l.Timeline), uint64(l.PrevTimeline), uint64(l.Redo), l.NextXID, uint64(l.WALLevel)} {
		if v != 0 {
			e.uint(v)
		}
	}
	if s := l.Settings; s != nil {
		for _, v := range []int32{s.MaxConnections, s.MaxWorkerProcesses, s.MaxWALSenders, s.MaxPreparedTransactions, s.MaxLocksPerTransaction} {
			e.int(int64(v))
		}
		e.byte(flag(s.WALLogHints, 1) | flag(s.TrackCommitTimestamp, 2))
	}
	e.storage(l)
}

// storage writes the fields that only DatabaseCreate and the kinds after it have.
func (e *encoder) storage(l Landmark) {
	optional := func(v uint32) {
		if v != 0 {
			e.uint(uint64(v))
		}
	}
	optional(l.XID)
	optional(l.Database)
	if len(l.OIDs) > 0 {
		e.uint(uint64(len(l.OIDs)))
		for _, oid := range l.OIDs {
			e.uint(uint64(oid))
		}
	}
	optional(l.LeftOut)
	optional(l.Template)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func (ix *Index) decodeLandmarks(b []byte) error {
	d := decoder{b: b}
	d.version()
	count := d.uint()
	end := ix.Segment.Start()
	for ; count > 0 && d.err == nil; count-- {
		l := d.landmark(ix.Segment, end)
		end = l.End
		if d.err == nil {
			ix.Landmarks = append(ix.Landmarks, l)
		}
	}
	return d.end()
}

func (d *decoder) landmark(seg wal.Segment, end wal.LSN) Landmark {
	l := Landmark{Kind: LandmarkKind(d.byte())}
	if l.Kind < RestorePoint || l.Kind > HeapTruncate {
		d.fail(errRange)
	}
	left := uint64(seg.End()-end) / 8
	l.LSN = end + wal.LSN(d.max(left)*8)
	l.End = l.LSN + wal.LSN(d.between(1, uint64(seg.End()-l.LSN)/8)*8)
	flags := d.max(lmFlags)
	if flags&lmTime != 0 {
		l.Time = d.time()
	}
	if flags&lmName != 0 {
		l.Name = string(d.bytes(d.between(1, maxName)))
	}
	optional := func(bit, most uint64) uint64 {
		if flags&bit == 0 {
			return 0
		}
		return d.between(1, most)
	}
	l.Timeline = wal.TimelineID(optional(lmTimeline, 1<<32-1))
	l.PrevTimeline = wal.TimelineID(optional(lmPrevTimeline, 1<<32-1))
	l.Redo = wal.LSN(optional(lmRedo, 1<<64-1))
	l.NextXID = optional(lmNextXID, 1<<64-1)
	l.WALLevel = WALLevel(optional(lmWALLevel, uint64(LevelLogical)))
	if flags&lmSettings != 0 {
		l.Settings = d.settings()
	}
	l.XID = uint32(optional(lmXID, 1<<32-1))
	l.Database = uint32(optional(lmDatabase, 1<<32-1))
	for n := optional(lmOIDs, MaxOIDs); n > 0 && d.err == nil; n-- {
		l.OIDs = append(l.OIDs, uint32(d.max(1<<32-1)))
	}
	l.LeftOut = uint32(optional(lmLeftOut, 1<<32-1))
	l.Template = uint32(optional(lmTemplate, 1<<32-1))
	return l
}

func (d *decoder) settings() *Settings {
	number := func() int32 {
		v := d.int()
		if int64(int32(v)) != v {
			d.fail(errRange)
		}
		return int32(v)
	}
	s := &Settings{
		MaxConnections: number(), MaxWorkerProcesses: number(), MaxWALSenders: number(),
		MaxPreparedTransactions: number(), MaxLocksPerTransaction: number(),
	}
	bits := d.byte()
	if bits > 3 {
		d.fail(errRange)
	}
	s.WALLogHints, s.TrackCommitTimestamp = bits&1 != 0, bits&2 != 0
	return s
}
