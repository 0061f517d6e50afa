package record

import "fmt"

// DatabaseOp tells the records of RMDatabase apart.
type DatabaseOp uint8

// What a record of RMDatabase does. A database is created by copying the
// template's files, or (since 15, where it is the default) page by page, each in
// the WAL.
const (
	DatabaseCreateCopy DatabaseOp = iota + 1
	DatabaseCreateLog
	DatabaseDrop
)

// DatabaseOp is which record of RMDatabase this is; false for one that the
// major does not have. 15 gave drop another number (commands/dbcommands_xlog.h).
func (r *Record) DatabaseOp() (DatabaseOp, bool) {
	op := r.Op()
	switch {
	case op == 0x00:
		return DatabaseCreateCopy, true
	case op == 0x10 && r.Major < 15, op == 0x20 && r.Major >= 15:
		return DatabaseDrop, true
	case op == 0x10:
		return DatabaseCreateLog, true
	}
	return 0, false
}

// DatabaseChange is what a record of RMDatabase says: the files of a database
// in one tablespace come to be, or those in all of the given tablespaces go, at
// the moment of this record and not of the commit.
type DatabaseChange struct {
	Op          DatabaseOp
	Database    uint32
	Tablespaces []uint32
	// Template and TemplateTablespace: where DatabaseCreateCopy copies from.
	Template, TemplateTablespace uint32
}

// maxTablespaces bounds how many tablespaces of a database are kept; pg_tablespace has no more OIDs.
const maxTablespaces = KeepBytes / 4

// DecodeDatabase reads the main data of a record of RMDatabase
// (struct xl_dbase_create_file_copy_rec and those beside it).
func DecodeDatabase(r *Record, main []byte) (DatabaseChange, error) {
	op, ok := r.DatabaseOp()
	if !ok {
		return DatabaseChange{}, fmt.Errorf("decode database record: PostgreSQL %d has none of kind %02X", r.Major, r.Op())
	}
	if err := need("database record", main, 8); err != nil {
		return DatabaseChange{}, err
	}
	c := DatabaseChange{Op: op, Database: le.Uint32(main)}
	switch op {
	case DatabaseCreateCopy:
		if err := need("database record", main, 16); err != nil {
			return DatabaseChange{}, err
		}
		c.Tablespaces = []uint32{le.Uint32(main[4:])}
		c.Template, c.TemplateTablespace = le.Uint32(main[8:]), le.Uint32(main[12:])
	case DatabaseCreateLog:
		c.Tablespaces = []uint32{le.Uint32(main[4:])}
	case DatabaseDrop:
		n := le.Uint32(main[4:])
		if n > maxTablespaces || int(n)*4 > len(main)-8 {
			return DatabaseChange{}, fmt.Errorf("decode database record: it has %d bytes for %d tablespaces", len(main)-8, n)
		}
		for i := range int(n) {
			c.Tablespaces = append(c.Tablespaces, le.Uint32(main[8+4*i:]))
		}
	}
	return c, nil
}

// TablespaceDrop is the record of RMTablespace that drops one (XLOG_TBLSPC_DROP
// in commands/tablespace.h); TablespaceCreate is the other.
const (
	TablespaceCreate uint8 = 0x00
	TablespaceDrop   uint8 = 0x10
)

// DecodeTablespaceDrop reads the main data of XLOG_TBLSPC_DROP: the tablespace's OID.
func DecodeTablespaceDrop(main []byte) (uint32, error) {
	if err := need("drop of a tablespace", main, 4); err != nil {
		return 0, err
	}
	return le.Uint32(main), nil
}

// DatabaseCatalog is where pg_database lies: a shared catalogue that is never
// rewritten under another number but by VACUUM FULL or CLUSTER of it.
var databaseCatalog = Relation{Tablespace: 1664, Number: 1262}

// invalidDatabase is the datconnlimit of a database that DROP DATABASE has begun
// to drop (DATCONNLIMIT_INVALID_DB in catalog/pg_database.h).
const invalidDatabase = -2

// DatabaseRow is what an in-place update of pg_database leaves in the row.
type DatabaseRow struct {
	// Known: the record tells the row. False where its image is damaged or was not kept.
	Known    bool
	Database uint32 // its OID
	// Invalid: no one can connect to the database any more, but to drop it. DROP
	// DATABASE does this in place, that is at once and not with its commit,
	// before the files go: since 14.9, 15.4, 16.
	Invalid bool
}

// DecodeDatabaseRow reads an in-place update of pg_database; false if the record is none.
func DecodeDatabaseRow(r *Record, d *Decoded) (DatabaseRow, bool, error) {
	if r.RMGR != RMHeap || r.HeapOp() != HeapInplace {
		return DatabaseRow{}, false, nil
	}
	if err := r.Decode(d); err != nil {
		return DatabaseRow{}, false, err
	}
	if len(d.Blocks) == 0 || d.Blocks[0].Relation != databaseCatalog {
		return DatabaseRow{}, false, nil
	}
	row := d.Blocks[0].Data
	if row == nil {
		row = r.imageRow(d)
	}
	limitAt := 80
	if r.Major < 15 {
		limitAt = 208 // datcollate and datctype were fixed-length columns before it
	}
	if len(row) < limitAt+4 {
		return DatabaseRow{}, true, nil
	}
	return DatabaseRow{
		Known: true, Database: le.Uint32(row),
		Invalid: int32(le.Uint32(row[limitAt:])) == invalidDatabase,
	}, true, nil
}

// imageRow finds the row an in-place update is about in the record's image of
// the page; nil if it is not there. The main data begins with the row's offset number
// (struct xl_heap_inplace). The rest is storage/bufpage.h, itemid.h and access/htup_details.h.
func (r *Record) imageRow(d *Decoded) []byte {
	page := r.firstImage(d)
	if page == nil || len(d.Main) < 2 {
		return nil
	}
	const pageHeader, pointer, tupleHeader = 24, 4, 23
	at := pageHeader + pointer*(int(le.Uint16(d.Main))-1)
	if at < pageHeader || at+pointer > len(page) {
		return nil
	}
	line := le.Uint32(page[at:]) // lp_off:15, lp_flags:2, lp_len:15
	from, length := int(line&0x7FFF), int(line>>17)
	if from+length > len(page) || length < tupleHeader {
		return nil
	}
	tuple := page[from : from+length]
	if hoff := int(tuple[tupleHeader-1]); hoff <= length {
		return tuple[hoff:]
	}
	return nil
}
