package index

import (
	"github.com/walden-pg/walden/wal/record"
)

// finding is what a record is to an index, beside its effects.
type finding int

const (
	nothing finding = iota
	aTransaction
	aLandmark
)

// interpret fills t or l with what the record says, and takes note of its effects.
func (b *builder) interpret(rec *record.Record, t *Transaction, l *Landmark) (finding, error) {
	switch rec.RMGR {
	case record.RMTransaction:
		if rec.XactOp() <= record.XactAbortPrepared {
			return aTransaction, b.transaction(rec, t)
		}
	case record.RMXLOG:
		if landmarkKind(rec.Header) != 0 {
			return aLandmark, b.landmark(rec, l)
		}
		if rec.Op() == record.XLOGFPI && rec.XID != 0 {
			return nothing, b.images(rec)
		}
	case record.RMHeap, record.RMHeap2:
		return b.heap(rec, l)
	case record.RMStorage:
		return nothing, b.storage(rec)
	case record.RMStandby:
		if rec.Op() == record.StandbyLock {
			return nothing, b.lock(rec)
		}
	case record.RMDatabase:
		return aLandmark, b.database(rec, l)
	case record.RMTablespace:
		if rec.Op() == record.TablespaceDrop {
			return aLandmark, b.tablespace(rec, l)
		}
	}
	return nothing, nil
}

func (b *builder) transaction(rec *record.Record, t *Transaction) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	t.LSN, t.End = rec.LSN, rec.End
	if rec.XactOp() == record.XactPrepare {
		p, err := record.DecodePrepare(rec, b.decoded.Main)
		t.Kind, t.XID, t.Time, t.GID, t.Database = Prepare, p.XID, p.Time, p.GID, p.Database
		b.keep(t, &Detail{Subxacts: p.Subxacts, Truncated: p.Truncated})
		return err
	}
	if err := record.DecodeTransaction(rec, b.decoded.Main, &b.xact); err != nil {
		return err
	}
	x := &b.xact
	t.Kind = transactionKind(x.Op)
	t.XID, t.Time, t.GID, t.Database = x.XID, x.Time, x.GID, x.Database
	b.effects.end(t.Kind, t.XID, x.Subxacts)
	b.locks.end(t.Kind, t.XID, x.Subxacts)
	if len(x.Subxacts)+len(x.Relations)+len(x.DroppedStats) > 0 || b.decoded.Origin != 0 || x.ListsCut {
		b.keep(t, b.detail(x))
	}
	return nil
}

// detail is what is kept of a transaction's record; its lists are those of x.
func (b *builder) detail(x *record.Transaction) *Detail {
	d := &Detail{Subxacts: x.Subxacts, Origin: b.decoded.Origin, Truncated: x.ListsCut}
	if d.Origin != 0 {
		d.OriginLSN, d.OriginTime = x.OriginLSN, originTime(originMicros(x.OriginTime))
	}
	n := min(len(x.Relations), MaxDropped-b.files)
	b.files += n
	d.Files, d.FilesLeftOut = x.Relations[:n], uint32(len(x.Relations)-n)
	for _, s := range x.DroppedStats {
		switch {
		case s.Kind != statsOfRelation || s.Object > 1<<32-1:
		case b.relations == MaxDropped:
			d.RelationsLeftOut++
		default:
			b.relations++
			d.Relations = append(d.Relations, RelationID{s.Database, uint32(s.Object)})
		}
	}
	return d
}

// statsOfRelation is PGSTAT_KIND_RELATION (utils/pgstat_kind.h).
const statsOfRelation = 2

// keep gives the transaction a detail, if it says anything.
func (b *builder) keep(t *Transaction, d *Detail) {
	if !d.empty() {
		t.Detail = d
	}
}

func transactionKind(op uint8) TransactionKind {
	switch op {
	case record.XactCommit:
		return Commit
	case record.XactAbort:
		return Abort
	case record.XactCommitPrepared:
		return CommitPrepared
	case record.XactAbortPrepared:
		return AbortPrepared
	}
	return Prepare
}

// heap takes note of rows, of TRUNCATE, and of what happens to pg_database in place.
func (b *builder) heap(rec *record.Record, l *Landmark) (finding, error) {
	rows, ok, err := record.DecodeHeapRows(rec, &b.decoded)
	switch {
	case err != nil:
		return nothing, err
	case ok:
		if rec.XID != 0 {
			e := b.effects.of(rec.XID, rows.Relation)
			e.Inserted += uint64(rows.Inserted)
			e.Updated += uint64(rows.Updated)
			e.Deleted += uint64(rows.Deleted)
		}
		return nothing, nil
	case rec.RMGR == record.RMHeap && rec.HeapOp() == record.HeapTruncate:
		return aLandmark, b.heapTruncate(rec, l)
	case rec.RMGR == record.RMHeap && rec.HeapOp() == record.HeapInplace:
		row, ok, err := record.DecodeDatabaseRow(rec, &b.decoded)
		if err != nil || !ok || row.Known && !row.Invalid {
			return nothing, err
		}
		*l = Landmark{LSN: rec.LSN, End: rec.End, Kind: DatabaseInvalid, XID: rec.XID, Database: row.Database}
		return aLandmark, nil
	}
	return nothing, nil
}

func (b *builder) heapTruncate(rec *record.Record, l *Landmark) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	t, err := record.DecodeHeapTruncate(rec, b.decoded.Main)
	*l = Landmark{LSN: rec.LSN, End: rec.End, Kind: HeapTruncate, XID: rec.XID, Database: t.Database, LeftOut: t.LeftOut}
	l.setOIDs(t.Relations)
	return err
}

func (l *Landmark) setOIDs(list []uint32) {
	n := min(len(list), MaxOIDs)
	l.OIDs = list[:n]
	l.LeftOut += uint32(len(list) - n)
}

// images takes note of pages that are written whole.
func (b *builder) images(rec *record.Record) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	for i := range b.decoded.Blocks {
		if blk := &b.decoded.Blocks[i]; blk.Fork == 0 {
			b.effects.of(rec.XID, blk.Relation).Images++
		}
	}
	return nil
}

// storage takes note of files made and cut.
func (b *builder) storage(rec *record.Record) error {
	op := rec.Op()
	if op != record.StorageCreate && op != record.StorageTruncate || rec.XID == 0 {
		return nil
	}
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	if op == record.StorageCreate {
		c, err := record.DecodeStorageCreate(b.decoded.Main)
		if err == nil && c.Fork == 0 {
			b.effects.of(rec.XID, c.Relation).Created = true
		}
		return err
	}
	t, err := record.DecodeStorageTruncate(b.decoded.Main)
	if err == nil && t.Main {
		e := b.effects.of(rec.XID, t.Relation)
		e.Truncated, e.Blocks = true, t.Blocks
	}
	return err
}

// lock takes note of relations that are locked exclusively.
func (b *builder) lock(rec *record.Record) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	list, err := record.DecodeStandbyLocks(rec, b.decoded.Main)
	b.locks.add(rec.LSN, list)
	return err
}

func (b *builder) database(rec *record.Record, l *Landmark) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	c, err := record.DecodeDatabase(rec, b.decoded.Main)
	*l = Landmark{LSN: rec.LSN, End: rec.End, Kind: DatabaseCreate, XID: rec.XID, Database: c.Database, Template: c.Template}
	if c.Op == record.DatabaseDrop {
		l.Kind = DatabaseDrop
	}
	l.setOIDs(c.Tablespaces)
	return err
}

func (b *builder) tablespace(rec *record.Record, l *Landmark) error {
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	oid, err := record.DecodeTablespaceDrop(b.decoded.Main)
	*l = Landmark{LSN: rec.LSN, End: rec.End, Kind: TablespaceDrop, XID: rec.XID, OIDs: []uint32{oid}}
	return err
}
