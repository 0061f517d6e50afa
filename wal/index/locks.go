package index

import (
	"maps"
	"slices"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Lock is the first record in a segment that says that a transaction has an
// AccessExclusiveLock on a relation, as DROP, TRUNCATE and most of ALTER TABLE take. A
// server that replays it keeps the relation locked until the transaction's end: who
// stops recovery in between, and does not promote, cannot read the relation.
type Lock struct {
	// XID is the transaction. If it committed in the segment, it is the top-level
	// one; else it is the one the record names. Those that aborted in the
	// segment are left out.
	XID uint32
	LSN wal.LSN // of the record
}

// MaxLocks bounds Index.Locks.
const MaxLocks = 4096

// locks gathers Locks. The zero value is ready.
type locks struct {
	first   map[uint32]wal.LSN
	omitted uint64
}

func (g *locks) add(at wal.LSN, list []record.ExclusiveLock) {
	for _, l := range list {
		if _, ok := g.first[l.XID]; ok {
			continue
		}
		if len(g.first) >= MaxLocks {
			g.omitted++
			continue
		}
		if g.first == nil {
			g.first = map[uint32]wal.LSN{}
		}
		g.first[l.XID] = at
	}
}

// end takes note of the end of a transaction.
func (g *locks) end(kind TransactionKind, xid uint32, subxacts []uint32) {
	if !kind.Ends() || len(g.first) == 0 {
		return
	}
	commit := kind == Commit || kind == CommitPrepared
	for _, sub := range subxacts {
		at, ok := g.first[sub]
		if !ok {
			continue
		}
		delete(g.first, sub)
		if top, ok := g.first[xid]; commit && (!ok || at < top) {
			g.first[xid] = at
		}
	}
	if !commit {
		delete(g.first, xid)
	}
}

func (g *locks) result() []Lock {
	var list []Lock
	for _, xid := range slices.Sorted(maps.Keys(g.first)) {
		list = append(list, Lock{xid, g.first[xid]})
	}
	return list
}

// locks writes Locks and how many were left out.
func (e *encoder) locks(ix *Index) {
	e.uint(uint64(len(ix.Locks)))
	var xid uint32
	for _, l := range ix.Locks {
		e.uint(uint64(l.XID - xid))
		e.uint(uint64(l.LSN-ix.Segment.Start()) / 8)
		xid = l.XID
	}
	e.uint(ix.Omitted.Locks)
}

func (d *decoder) locks(ix *Index) {
	var xid uint32
	for n := d.max(MaxLocks); n > 0 && d.err == nil; n-- {
		xid += uint32(d.between(1, 1<<32-1-uint64(xid)))
		at := ix.Segment.Start() + wal.LSN(d.max(uint64(ix.Segment.Size)/8-1)*8)
		ix.Locks = append(ix.Locks, Lock{xid, at})
	}
}
