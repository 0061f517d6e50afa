package waltest

import (
	"encoding/binary"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

var le = binary.LittleEndian

// Record is any record to write.
type Record struct {
	RMGR     record.RMGR
	Info     uint8
	XID      uint32
	Blocks   []Block
	Origin   uint16 // replication origin; 0: none
	TopLevel uint32 // top-level xid; 0: none
	Main     []byte
}

// Block is a block reference of a Record. Image, if not nil, is stored as an
// uncompressed full-page image without a hole and must be 8192 bytes.
type Block struct {
	Tablespace, Database, Relation uint32
	Fork                           uint8
	Number                         uint32
	SameRelation                   bool
	Image, Data                    []byte
}

// Record writes a record and returns where it starts and the position after it.
func (b *Builder) Record(r Record) (start, end wal.LSN) {
	return b.insert(b.encode(r))
}

// Raw writes a record of which data is all that follows the header, whether that
// makes sense or not. The header and its checksum are right.
func (b *Builder) Raw(rmgr record.RMGR, info uint8, xid uint32, data []byte) (start, end wal.LSN) {
	raw := append(make([]byte, recordHeader, recordHeader+len(data)), data...)
	return b.insert(b.finish(raw, rmgr, info, xid))
}

// encode lays a record out as XLogRecordAssemble does.
func (b *Builder) encode(r Record) []byte {
	raw := make([]byte, recordHeader, recordHeader+64+len(r.Main))
	for i, blk := range r.Blocks {
		raw = b.appendBlock(raw, uint8(i), blk)
	}
	if r.Origin != 0 {
		raw = le.AppendUint16(append(raw, 253), r.Origin)
	}
	if r.TopLevel != 0 {
		raw = le.AppendUint32(append(raw, 252), r.TopLevel)
	}
	switch {
	case len(r.Main) > 255:
		raw = le.AppendUint32(append(raw, 254), uint32(len(r.Main)))
	case len(r.Main) > 0:
		raw = append(raw, 255, uint8(len(r.Main)))
	}
	for _, blk := range r.Blocks {
		raw = append(append(raw, blk.Image...), blk.Data...)
	}
	raw = append(raw, r.Main...)
	return b.finish(raw, r.RMGR, r.Info, r.XID)
}

// finish fills in the header of a record that is otherwise complete.
func (b *Builder) finish(raw []byte, rmgr record.RMGR, info uint8, xid uint32) []byte {
	le.PutUint32(raw[0:], uint32(len(raw)))
	le.PutUint32(raw[4:], xid)
	le.PutUint64(raw[8:], uint64(b.prev))
	raw[16], raw[17] = info, uint8(rmgr)
	checksum(raw)
	return raw
}

func (b *Builder) appendBlock(raw []byte, id uint8, blk Block) []byte {
	flags := blk.Fork
	if blk.Image != nil {
		flags |= 0x10
	}
	if len(blk.Data) > 0 {
		flags |= 0x20
	}
	if blk.SameRelation {
		flags |= 0x80
	}
	raw = le.AppendUint16(append(raw, id, flags), uint16(len(blk.Data)))
	if blk.Image != nil {
		apply := uint8(0x02)
		if b.major < 15 {
			apply = 0x04
		}
		raw = le.AppendUint16(raw, uint16(len(blk.Image)))
		raw = append(le.AppendUint16(raw, 0), apply)
	}
	if !blk.SameRelation {
		raw = le.AppendUint32(raw, blk.Tablespace)
		raw = le.AppendUint32(raw, blk.Database)
		raw = le.AppendUint32(raw, blk.Relation)
	}
	return le.AppendUint32(raw, blk.Number)
}

// Transaction is what a commit or abort record can say beside its time.
type Transaction struct {
	Database   uint32
	Subxacts   []uint32
	Relations  [][3]uint32 // dropped: tablespace, database, relation
	Stats      [][3]uint32 // dropped statistics: kind, database, object (15+)
	Invals     int         // number of cache invalidation messages
	Prepared   uint32      // the xid it was prepared under; makes it a …_PREPARED record
	GID        string      // only with Prepared
	Origin     uint64      // the remote position
	OriginTime time.Time
}

// Commit writes a COMMIT record.
func (b *Builder) Commit(xid uint32, at time.Time) (start, end wal.LSN) {
	return b.CommitWith(xid, at, Transaction{})
}

// Abort writes an ABORT record.
func (b *Builder) Abort(xid uint32, at time.Time) (start, end wal.LSN) {
	return b.AbortWith(xid, at, Transaction{})
}

// CommitWith writes a COMMIT or, with x.Prepared, a COMMIT PREPARED record.
func (b *Builder) CommitWith(xid uint32, at time.Time, x Transaction) (start, end wal.LSN) {
	return b.transaction(0x00, 0x30, xid, at, x)
}

// AbortWith writes an ABORT or, with x.Prepared, an ABORT PREPARED record.
func (b *Builder) AbortWith(xid uint32, at time.Time, x Transaction) (start, end wal.LSN) {
	return b.transaction(0x20, 0x40, xid, at, x)
}

func (b *Builder) transaction(op, preparedOp uint8, xid uint32, at time.Time, x Transaction) (start, end wal.LSN) {
	if x.Prepared != 0 {
		op, xid = preparedOp, 0
	}
	main := le.AppendUint64(nil, uint64(wal.ToPGMicros(at)))
	if body, xinfo := b.transactionBody(x); xinfo != 0 {
		op |= 0x80
		main = append(le.AppendUint32(main, xinfo), body...)
	}
	if len(x.Relations) > 0 {
		op |= 0x01 // XLR_SPECIAL_REL_UPDATE
	}
	return b.Record(Record{RMGR: record.RMTransaction, Info: op, XID: xid, Main: main})
}

// transactionBody is what follows xinfo, in the order of XactLogCommitRecord.
func (b *Builder) transactionBody(x Transaction) (body []byte, xinfo uint32) {
	if x.Database != 0 {
		xinfo |= 0x001
		body = appendUint32s(body, x.Database, 1663)
	}
	if len(x.Subxacts) > 0 {
		xinfo |= 0x002
		body = appendUint32s(body, uint32(len(x.Subxacts)))
		body = appendUint32s(body, x.Subxacts...)
	}
	if len(x.Relations) > 0 {
		xinfo |= 0x004
		body = appendUint32s(body, uint32(len(x.Relations)))
		for _, r := range x.Relations {
			body = appendUint32s(body, r[:]...)
		}
	}
	if len(x.Stats) > 0 && b.major >= 15 {
		xinfo |= 0x100
		body = appendUint32s(body, uint32(len(x.Stats)))
		for _, s := range x.Stats {
			body = appendUint32s(body, s[:]...)
			if b.major >= 18 {
				body = appendUint32s(body, 0)
			}
		}
	}
	if x.Invals > 0 {
		xinfo |= 0x008
		body = appendUint32s(body, uint32(x.Invals))
		body = append(body, make([]byte, 16*x.Invals)...)
	}
	if x.Prepared != 0 {
		xinfo |= 0x010
		body = appendUint32s(body, x.Prepared)
		if x.GID != "" {
			xinfo |= 0x080
			body = append(append(body, x.GID...), 0)
		}
	}
	if x.Origin != 0 {
		xinfo |= 0x020
		body = le.AppendUint64(body, x.Origin)
		body = le.AppendUint64(body, uint64(wal.ToPGMicros(x.OriginTime)))
	}
	return body, xinfo
}

func appendUint32s(b []byte, list ...uint32) []byte {
	for _, v := range list {
		b = le.AppendUint32(b, v)
	}
	return b
}

// Prepare writes the record of PREPARE TRANSACTION.
func (b *Builder) Prepare(xid, database uint32, gid string, at time.Time, subxacts ...uint32) (start, end wal.LSN) {
	size, gidAt := 72, 54
	if b.major < 15 {
		size, gidAt = 64, 46
	}
	main := make([]byte, size)
	le.PutUint32(main[0:], 0x57F94534)
	le.PutUint32(main[8:], xid)
	le.PutUint32(main[12:], database)
	le.PutUint64(main[16:], uint64(wal.ToPGMicros(at)))
	le.PutUint32(main[24:], 10)
	le.PutUint32(main[28:], uint32(len(subxacts)))
	le.PutUint16(main[gidAt:], uint16(len(gid)+1))
	main = pad8(append(append(main, gid...), 0))
	main = pad8(appendUint32s(main, subxacts...))
	main = pad8(append(main, make([]byte, 8)...)) // the end-of-list record of the two-phase callbacks
	le.PutUint32(main[4:], uint32(len(main))+4)   // the state file's length, with its CRC
	return b.Record(Record{RMGR: record.RMTransaction, Info: 0x10, XID: xid, Main: main})
}

func pad8(b []byte) []byte { return append(b, make([]byte, -len(b)&7)...) }

// RestorePoint writes what pg_create_restore_point() does. The bytes after the
// name are not zero, as in a real server.
func (b *Builder) RestorePoint(name string, at time.Time) (start, end wal.LSN) {
	if len(name) > 63 {
		panic("waltest: restore point names have at most 63 bytes")
	}
	main := append(le.AppendUint64(nil, uint64(wal.ToPGMicros(at))), b.filler(64)...)
	copy(main[8:], name)
	main[8+len(name)] = 0
	return b.xlog(0x70, main)
}

// Message writes a logical decoding message with n bytes of content, as
// pg_logical_emit_message(false, …) does.
func (b *Builder) Message(n int) (start, end wal.LSN) {
	const prefix = "walden\x00"
	main := make([]byte, 24, 24+len(prefix)+n)
	le.PutUint32(main[0:], 5)
	le.PutUint64(main[8:], uint64(len(prefix)))
	le.PutUint64(main[16:], uint64(n))
	main = append(append(main, prefix...), b.filler(n)...)
	return b.Record(Record{RMGR: record.RMLogicalMessage, Main: main})
}

// CheckpointRedo writes the record that marks the redo point of an online
// checkpoint since 17.
func (b *Builder) CheckpointRedo() (start, end wal.LSN) {
	main := le.AppendUint32(nil, 1)
	if b.major >= 19 {
		main = le.AppendUint32(main, 1)
	}
	return b.xlog(0xE0, main)
}

// OnlineCheckpoint writes an online checkpoint whose redo point is redo.
func (b *Builder) OnlineCheckpoint(redo wal.LSN, at time.Time) (start, end wal.LSN) {
	return b.xlog(0x10, b.checkpoint(redo, b.timeline, b.timeline, at))
}

// ShutdownCheckpoint writes a shutdown checkpoint. prev is the timeline before
// this one where the record begins a timeline, else the Builder's own.
func (b *Builder) ShutdownCheckpoint(prev wal.TimelineID, at time.Time) (start, end wal.LSN) {
	return b.xlog(0x00, b.checkpoint(b.begin(0), b.timeline, prev, at))
}

// checkpoint is struct CheckPoint (catalog/pg_control.h).
func (b *Builder) checkpoint(redo wal.LSN, tli, prev wal.TimelineID, at time.Time) []byte {
	size, xidAt, timeAt := 88, 24, 64
	if b.major >= 19 {
		size, xidAt, timeAt = 96, 32, 72
	}
	c := make([]byte, size)
	le.PutUint64(c[0:], uint64(redo))
	le.PutUint32(c[8:], uint32(tli))
	le.PutUint32(c[12:], uint32(prev))
	c[16] = 1
	if b.major >= 17 {
		le.PutUint32(c[20:], 1)
	}
	le.PutUint64(c[xidAt:], 1<<32|750)
	le.PutUint64(c[timeAt:], uint64(at.Unix()))
	return c
}

// EndOfRecovery writes the record a promoted standby begins its timeline with.
func (b *Builder) EndOfRecovery(prev wal.TimelineID, at time.Time) (start, end wal.LSN) {
	main := le.AppendUint64(nil, uint64(wal.ToPGMicros(at)))
	main = appendUint32s(main, uint32(b.timeline), uint32(prev))
	if b.major >= 17 {
		main = appendUint32s(main, 1, 0)
	}
	return b.xlog(0x90, main)
}

// BackupEnd writes the record that ends a base backup whose redo point is redo.
func (b *Builder) BackupEnd(redo wal.LSN) (start, end wal.LSN) {
	return b.xlog(0x50, le.AppendUint64(nil, uint64(redo)))
}

// ParameterChange writes a change of the settings a standby must follow.
// level is wal_level: 0 minimal, 1 replica, 2 logical.
func (b *Builder) ParameterChange(maxConnections, level uint32) (start, end wal.LSN) {
	main := appendUint32s(nil, maxConnections, 8, 10, 2, 64, level)
	return b.xlog(0x60, append(main, 1, 0, 0, 0))
}

// Switch ends the segment as pg_switch_wal() does; at a segment's start it
// writes nothing and returns 0 for start.
func (b *Builder) Switch() (start, end wal.LSN) {
	if uint64(b.pos)%uint64(b.size) == 0 {
		return 0, b.pos
	}
	start, end = b.xlog(0x40, nil)
	if over := uint64(end) % uint64(b.size); over != 0 {
		b.pos = end + wal.LSN(uint64(b.size)-over)
	}
	return start, b.pos
}

// Overwritten writes the first part of a record, to the end of the page that
// lies pages after the one it starts on, and then what PostgreSQL writes after
// a crash that lost the rest: a page flagged so, and XLOG_OVERWRITE_CONTRECORD.
// It returns the position of the record that was given up and of that one.
func (b *Builder) Overwritten(n, pages int, at time.Time) (lost, overwrite wal.LSN) {
	keepPrev := b.prev
	lost = b.begin(0)
	stop := lost.Page() + wal.LSN(pages+1)*wal.PageSize
	raw := b.encode(Record{RMGR: record.RMLogicalMessage, Main: b.filler(n)})
	room := b.room(stop)
	if room >= len(raw) {
		panic("waltest: the record to be overwritten fits")
	}
	b.write(raw, room)
	b.prev = keepPrev
	flag := uint16(0x0008)
	if b.major >= 19 {
		flag = 0x0004
	}
	b.begin(flag)
	main := le.AppendUint64(nil, uint64(lost))
	main = le.AppendUint64(main, uint64(wal.ToPGMicros(at)))
	overwrite, _ = b.xlog(0xD0, main)
	return lost, overwrite
}

func (b *Builder) xlog(info uint8, main []byte) (start, end wal.LSN) {
	return b.Record(Record{RMGR: record.RMXLOG, Info: info, Main: main})
}
