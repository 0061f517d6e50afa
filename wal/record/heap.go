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
	switch {
	case r.RMGR == RMHeap2 && op == Heap2MultiInsert:
		return multiInsert(r, d)
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
	rel, ok := r.firstRelation()
	if !ok {
		return h, false, fmt.Errorf("decode heap record at %s: it begins with no block reference", r.LSN)
	}
	h.Relation = rel
	return h, true, nil
}

// multiInsert reads struct xl_heap_multi_insert, whose ntuples follow a byte of
// flags and one of padding.
func multiInsert(r *Record, d *Decoded) (HeapRows, bool, error) {
	if err := r.Decode(d); err != nil {
		return HeapRows{}, false, err
	}
	if len(d.Blocks) == 0 {
		return HeapRows{}, false, fmt.Errorf("decode heap record at %s: it begins with no block reference", r.LSN)
	}
	if len(d.Main) < 4 && r.Truncated {
		return HeapRows{}, false, nil
	}
	if err := need("multi-insert", d.Main, 4); err != nil {
		return HeapRows{}, false, err
	}
	return HeapRows{Relation: d.Blocks[0].Relation, Inserted: uint32(le.Uint16(d.Main[2:]))}, true, nil
}

// firstRelation is the relation of the record's first block reference, read
// without taking the record apart: most records of a busy server are of this
// kind, and nothing else of them is asked for. False: it begins with none.
func (r *Record) firstRelation() (Relation, bool) {
	b := r.Data
	if len(b) < 4 || b[0] > maxBlockID {
		return Relation{}, false
	}
	flags, at := b[1], 4
	if flags&blockSameRel != 0 {
		return Relation{}, false
	}
	if flags&blockHasImage != 0 {
		if len(b) < 9 {
			return Relation{}, false
		}
		packed := uint8(imagePacked15)
		if r.Major < 15 {
			packed = imagePacked14
		}
		at = 9
		if info := b[8]; info&imageHasHole != 0 && info&packed != 0 {
			at = 11
		}
	}
	if len(b) < at+relationLength {
		return Relation{}, false
	}
	b = b[at:]
	return Relation{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])}, true
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
