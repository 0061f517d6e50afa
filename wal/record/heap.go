package record

import "fmt"

// The records of RMHeap and RMHeap2 this package reads: three bits of xl_info;
// the fourth says that the page is initialised (access/heapam_xlog.h).
const (
	HeapInsert    uint8 = 0x00
	HeapDelete    uint8 = 0x10
	HeapUpdate    uint8 = 0x20
	HeapTruncate  uint8 = 0x30 // where wal_level is logical
	HeapHotUpdate uint8 = 0x40
	HeapInplace   uint8 = 0x70

	Heap2MultiInsert uint8 = 0x50

	heapOpMask uint8 = 0x70
)

// HeapOp is which record of RMHeap or RMHeap2 this is.
func (h Header) HeapOp() uint8 { return h.Info & heapOpMask }

// HeapRows is how many rows of a table a record inserts, updates and deletes.
type HeapRows struct {
	Relation                   Relation
	Inserted, Updated, Deleted uint32
}

// DecodeHeapRows reads how many rows a record of RMHeap or RMHeap2 changes; false
// if it is one that changes none (locks, pruning, freezing and others). The row
// that moves to another partition counts as deleted here and inserted there.
func DecodeHeapRows(r *Record, d *Decoded) (HeapRows, bool, error) {
	var h HeapRows
	op := r.HeapOp()
	multi := false
	switch {
	case r.RMGR == RMHeap2 && op == Heap2MultiInsert:
		multi = true
	case r.RMGR != RMHeap:
		return h, false, nil
	case op == HeapInsert:
		h.Inserted = 1
	case op == HeapDelete:
		h.Deleted = 1
	case op == HeapUpdate, op == HeapHotUpdate:
		h.Updated = 1
	default:
		return h, false, nil
	}
	if rel, ok := r.firstRelation(); ok && !multi {
		h.Relation = rel
		return h, true, nil
	}
	if err := r.Decode(d); err != nil {
		return h, false, err
	}
	if len(d.Blocks) == 0 {
		return h, false, fmt.Errorf("decode heap record at %s: it has no block reference", r.LSN)
	}
	h.Relation = d.Blocks[0].Relation
	if multi {
		if len(d.Main) < 4 && r.Truncated {
			return h, false, nil
		}
		if err := need("multi-insert", d.Main, 4); err != nil {
			return h, false, err
		}
		h.Inserted = uint32(le.Uint16(d.Main[2:])) // ntuples of struct xl_heap_multi_insert
	}
	return h, true, nil
}

// firstRelation is the relation of the record's first block reference, if it
// lies where it does in most records, without an image: of those that change rows,
// which are most of what a busy server writes, nothing else is asked for.
func (r *Record) firstRelation() (Relation, bool) {
	b := r.Data
	if len(b) < blockFixed+blockRelation || b[0] > maxBlockID || b[1]&(blockSameRel|blockHasImage) != 0 {
		return Relation{}, false
	}
	return Relation{le.Uint32(b[blockFixed:]), le.Uint32(b[blockFixed+4:]), le.Uint32(b[blockFixed+8:])}, true
}

// Truncation is what the heap's TRUNCATE record says, which is written only
// where wal_level is logical, for logical decoding.
type Truncation struct {
	Database  uint32
	Relations []uint32 // their OIDs, as far as they were kept
	LeftOut   uint32   // how many more there are
}

// DecodeHeapTruncate reads the main data of a HeapTruncate record
// (struct xl_heap_truncate).
func DecodeHeapTruncate(r *Record, main []byte) (Truncation, error) {
	if err := need("truncation", main, 12); err != nil {
		return Truncation{}, err
	}
	t := Truncation{Database: le.Uint32(main)}
	n := le.Uint32(main[4:])
	main = main[12:]
	if int64(n)*4 > int64(len(main)) && !r.Truncated {
		return Truncation{}, fmt.Errorf("decode truncation: it has %d bytes for %d relations", len(main), n)
	}
	for ; n > 0 && len(main) >= 4; n-- {
		t.Relations = append(t.Relations, le.Uint32(main))
		main = main[4:]
	}
	t.LeftOut = n
	return t, nil
}
