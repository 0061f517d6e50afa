package waltest

import (
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Row is what Rows writes: one insert, update or delete, or with Multi > 0 the
// insertion of that many rows by one record.
type Row struct {
	Op    uint8 // record.HeapInsert, HeapDelete, HeapUpdate or HeapHotUpdate
	Multi uint16
	Image bool // with an image of the page
}

// Rows writes a record that changes rows of a table, given by tablespace,
// database and file number, in transaction xid.
func (b *Builder) Rows(xid uint32, table [3]uint32, row Row) (start, end wal.LSN) {
	blk := Block{Tablespace: table[0], Database: table[1], Relation: table[2], Number: 7, Data: b.filler(30)}
	if row.Image {
		blk.Image, blk.Data = b.filler(8192), nil
	}
	r := Record{RMGR: record.RMHeap, Info: row.Op, XID: xid, Blocks: []Block{blk}}
	switch {
	case row.Multi > 0:
		r.RMGR, r.Info = record.RMHeap2, record.Heap2MultiInsert
		r.Main = le.AppendUint16([]byte{0, 0}, row.Multi)
		for i := range row.Multi {
			r.Main = le.AppendUint16(r.Main, i+1)
		}
	case row.Op == record.HeapUpdate || row.Op == record.HeapHotUpdate:
		r.Main = make([]byte, 14)
	case row.Op == record.HeapDelete:
		r.Main = make([]byte, 8)
	default:
		r.Main = make([]byte, 3)
	}
	return b.Record(r)
}

// HeapTruncate writes what TRUNCATE adds where wal_level is logical.
func (b *Builder) HeapTruncate(xid, database uint32, oids ...uint32) (start, end wal.LSN) {
	main := appendUint32s(nil, database, uint32(len(oids)), 0)
	return b.Record(Record{RMGR: record.RMHeap, Info: record.HeapTruncate, XID: xid, Main: appendUint32s(main, oids...)})
}

// CreateFile writes that a relation, given by tablespace, database and file
// number, gets the file of a fork (0: main).
func (b *Builder) CreateFile(xid uint32, table [3]uint32, fork uint32) (start, end wal.LSN) {
	main := append(appendUint32s(nil, table[:]...), appendUint32s(nil, fork)...)
	return b.Record(Record{RMGR: record.RMStorage, Info: record.StorageCreate | 0x01, XID: xid, Main: main})
}

// TruncateFile writes that all forks of a relation are cut; the main one to the
// given number of blocks.
func (b *Builder) TruncateFile(xid uint32, table [3]uint32, blocks uint32) (start, end wal.LSN) {
	main := append(appendUint32s(nil, blocks), appendUint32s(nil, table[:]...)...)
	return b.Record(Record{RMGR: record.RMStorage, Info: record.StorageTruncate | 0x01, XID: xid, Main: appendUint32s(main, 7)})
}

// Images writes an XLOG_FPI record with that many pages of a relation.
func (b *Builder) Images(xid uint32, table [3]uint32, pages int) (start, end wal.LSN) {
	r := Record{RMGR: record.RMXLOG, Info: record.XLOGFPI, XID: xid}
	for i := range pages {
		r.Blocks = append(r.Blocks, Block{
			Tablespace: table[0], Database: table[1], Relation: table[2], SameRelation: i > 0,
			Number: uint32(i), Image: b.filler(8192),
		})
	}
	return b.Record(r)
}

// CreateDatabase writes that a database's files are copied from those of a
// template in the same tablespace, or with template 0 (since 15) made page by page.
func (b *Builder) CreateDatabase(xid, database, tablespace, template uint32) (start, end wal.LSN) {
	r := Record{RMGR: record.RMDatabase, Info: 0x01, XID: xid, Main: appendUint32s(nil, database, tablespace, template, tablespace)}
	if template == 0 {
		r.Info, r.Main = 0x11, r.Main[:8]
	}
	return b.Record(r)
}

// DropDatabase writes that a database's files in these tablespaces go.
func (b *Builder) DropDatabase(xid, database uint32, tablespaces ...uint32) (start, end wal.LSN) {
	info := uint8(0x21)
	if b.major < 15 {
		info = 0x11
	}
	main := appendUint32s(nil, database, uint32(len(tablespaces)))
	return b.Record(Record{RMGR: record.RMDatabase, Info: info, XID: xid, Main: appendUint32s(main, tablespaces...)})
}

// Lock writes that a transaction locks relations of a database exclusively.
func (b *Builder) Lock(xid, database uint32, oids ...uint32) (start, end wal.LSN) {
	main := appendUint32s(nil, uint32(len(oids)))
	for _, oid := range oids {
		main = appendUint32s(main, xid, database, oid)
	}
	return b.Record(Record{RMGR: record.RMStandby, Info: record.StandbyLock, XID: xid, Main: main})
}

// DropTablespace writes that a tablespace goes.
func (b *Builder) DropTablespace(xid, tablespace uint32) (start, end wal.LSN) {
	return b.Record(Record{RMGR: record.RMTablespace, Info: record.TablespaceDrop, XID: xid, Main: appendUint32s(nil, tablespace)})
}

// DatabaseRow writes an in-place update of a database's row in pg_database,
// which leaves it with a datconnlimit: -2 is what DROP DATABASE begins with.
// With image, the row is only in the page's image.
func (b *Builder) DatabaseRow(xid, database uint32, limit int32, image bool) (start, end wal.LSN) {
	limitAt := 80
	if b.major < 15 {
		limitAt = 208
	}
	row := make([]byte, limitAt+28)
	le.PutUint32(row, database)
	le.PutUint32(row[limitAt:], uint32(limit))
	const offset = 3
	blk := Block{Tablespace: 1664, Relation: 1262, Data: row}
	if image {
		const at, header = 7000, 32
		page := make([]byte, 8192)
		le.PutUint32(page[24+4*(offset-1):], uint32(at|1<<15|(header+len(row))<<17))
		page[at+22] = header
		copy(page[at+header:], row)
		blk.Data, blk.Image = nil, page
	}
	return b.Record(Record{
		RMGR: record.RMHeap, Info: record.HeapInplace, XID: xid, Blocks: []Block{blk},
		Main: le.AppendUint16(nil, offset),
	})
}
