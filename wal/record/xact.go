package record

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/wal"
)

// The records of RMTransaction: three bits of xl_info (access/xact.h).
const (
	XactCommit         uint8 = 0x00
	XactPrepare        uint8 = 0x10
	XactAbort          uint8 = 0x20
	XactCommitPrepared uint8 = 0x30
	XactAbortPrepared  uint8 = 0x40
	XactAssignment     uint8 = 0x50
	XactInvalidations  uint8 = 0x60

	xactOpMask  uint8 = 0x70
	xactHasInfo uint8 = 0x80
)

// XactOp is which record of RMTransaction this is.
func (h Header) XactOp() uint8 { return h.Info & xactOpMask }

// Bits of xinfo: which parts a commit or abort record has.
const (
	xinfoDatabase     = 1 << 0
	xinfoSubxacts     = 1 << 1
	xinfoRelations    = 1 << 2
	xinfoInvals       = 1 << 3
	xinfoTwoPhase     = 1 << 4
	xinfoOrigin       = 1 << 5
	xinfoGID          = 1 << 7
	xinfoDroppedStats = 1 << 8 // since 15
)

// gidSize is the longest name of a prepared transaction with its NUL (GIDSIZE).
const gidSize = 200

// DroppedStats is an entry of the cumulative statistics that goes with the
// transaction. For a relation, Object is its OID, not its file number.
type DroppedStats struct {
	Kind     int32 // 1 database, 2 relation, 3 function, 4 replication slot, 5 subscription
	Database uint32
	Object   uint64
}

// Transaction is all that a commit or abort record says.
type Transaction struct {
	Op       uint8 // XactCommit, XactAbort, XactCommitPrepared or XactAbortPrepared
	XID      uint32
	Time     time.Time
	Info     uint32 // xinfo, as written
	Database uint32 // 0: not said
	// Subxacts are the committed (or aborted) subtransactions.
	Subxacts []uint32
	// Relations are those whose files go with this record.
	Relations    []Relation
	DroppedStats []DroppedStats // since 15
	// Invalidations are shared cache invalidation messages, 16 bytes each; a
	// slice of the record's data.
	Invalidations []byte
	GID           string // of a prepared transaction, where wal_level is logical
	// OriginLSN and OriginTime are the place and time of the commit on the
	// server it was replicated from; 0: it was not.
	OriginLSN  wal.LSN
	OriginTime time.Time
	// Truncated: the record is longer than what was kept of it. What follows
	// is missing, the rest of a list among it; XID is 0 if it is.
	Truncated bool
	// ListsCut: what is missing begins in one of the lists or before them: Subxacts,
	// Relations and DroppedStats may lack their end.
	ListsCut bool
}

// DecodeTransaction reads a commit or abort record, prepared or not, from the
// main data of record r into t, whose slices are reused
// (ParseCommitRecord and ParseAbortRecord in access/rmgrdesc/xactdesc.c).
func DecodeTransaction(r *Record, main []byte, t *Transaction) error {
	*t = Transaction{
		Op: r.XactOp(), XID: r.XID,
		Subxacts: t.Subxacts[:0], Relations: t.Relations[:0], DroppedStats: t.DroppedStats[:0],
	}
	prepared := t.Op == XactCommitPrepared || t.Op == XactAbortPrepared
	if prepared {
		t.XID = 0 // it is in the data
	}
	if err := need("transaction", main, 8); err != nil {
		return err
	}
	t.Time = pgTime(main)
	if r.Info&xactHasInfo != 0 {
		p := parts{main[8:]}
		err := p.transaction(t, r.Major)
		if errors.Is(err, errPartCut) && r.Truncated {
			t.Truncated = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode transaction at %s: %w", r.LSN, err)
		}
	}
	if prepared && t.Info&xinfoTwoPhase == 0 {
		return fmt.Errorf("decode transaction at %s: it ends a prepared transaction and does not say which", r.LSN)
	}
	return nil
}

var errPartCut = errors.New("it is shorter than its parts")

// parts goes over the parts of a commit or abort record.
type parts struct{ b []byte }

func (p *parts) take(n int) ([]byte, error) {
	if n < 0 || n > len(p.b) {
		return nil, errPartCut
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b, nil
}

func (p *parts) uint32() (uint32, error) {
	b, err := p.take(4)
	if err != nil {
		return 0, err
	}
	return le.Uint32(b), nil
}

// list takes a count and that many items of size bytes. With errPartCut it gives
// those items that are there whole.
func (p *parts) list(size int) ([]byte, error) {
	n, err := p.uint32()
	if err != nil {
		return nil, err
	}
	if int64(n)*int64(size) > int64(len(p.b)) {
		return p.b[:len(p.b)/size*size], errPartCut
	}
	return p.take(int(n) * size)
}

// transaction reads xinfo and the parts it announces, in the one order there is.
func (p *parts) transaction(t *Transaction, major int) (err error) {
	if t.Info, err = p.uint32(); err != nil {
		t.ListsCut = true
		return err
	}
	for _, bit := range partOrder {
		if t.Info&bit == 0 {
			continue
		}
		if err := p.part(bit, t, major); err != nil {
			t.ListsCut = slices.Contains(listParts[:], bit)
			return err
		}
	}
	return nil
}

// partOrder is the order of the parts in a record; it is not that of their bits.
var partOrder = [...]uint32{
	xinfoDatabase, xinfoSubxacts, xinfoRelations, xinfoDroppedStats, xinfoInvals, xinfoTwoPhase, xinfoOrigin,
}

// listParts are the parts up to the last of the lists that tell what a transaction was and
// did.
var listParts = [...]uint32{xinfoDatabase, xinfoSubxacts, xinfoRelations, xinfoDroppedStats}

func (p *parts) part(bit uint32, t *Transaction, major int) error {
	switch bit {
	case xinfoDatabase:
		return p.database(t)
	case xinfoSubxacts:
		return p.subxacts(t)
	case xinfoRelations:
		return p.relations(t)
	case xinfoDroppedStats:
		return p.droppedStats(t, major)
	case xinfoInvals:
		return p.invalidations(t)
	case xinfoTwoPhase:
		return p.twoPhase(t)
	}
	return p.origin(t)
}

func (p *parts) database(t *Transaction) error {
	b, err := p.take(8) // database and its tablespace
	if err == nil {
		t.Database = le.Uint32(b)
	}
	return err
}

func (p *parts) subxacts(t *Transaction) error {
	b, err := p.list(4)
	for ; len(b) > 0; b = b[4:] {
		t.Subxacts = append(t.Subxacts, le.Uint32(b))
	}
	return err
}

func (p *parts) relations(t *Transaction) error {
	b, err := p.list(relationLength)
	for ; len(b) > 0; b = b[relationLength:] {
		t.Relations = append(t.Relations, Relation{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])})
	}
	return err
}

func (p *parts) droppedStats(t *Transaction, major int) error {
	size := 12
	if major >= 18 {
		size = 16 // the object id has 64 bits, in two halves
	}
	b, err := p.list(size)
	for ; len(b) > 0; b = b[size:] {
		s := DroppedStats{Kind: int32(le.Uint32(b)), Database: le.Uint32(b[4:]), Object: uint64(le.Uint32(b[8:]))}
		if major >= 18 {
			s.Object |= uint64(le.Uint32(b[12:])) << 32
		}
		t.DroppedStats = append(t.DroppedStats, s)
	}
	return err
}

func (p *parts) invalidations(t *Transaction) (err error) {
	t.Invalidations, err = p.list(16)
	return err
}

func (p *parts) twoPhase(t *Transaction) error {
	xid, err := p.uint32()
	if err != nil {
		return err
	}
	if t.Op == XactCommitPrepared || t.Op == XactAbortPrepared {
		t.XID = xid
	}
	if t.Info&xinfoGID == 0 {
		return nil
	}
	end := bytes.IndexByte(p.b[:min(len(p.b), gidSize)], 0)
	if end < 0 {
		return errPartCut
	}
	gid, err := p.take(end + 1)
	t.GID = string(gid[:end])
	return err
}

func (p *parts) origin(t *Transaction) error {
	b, err := p.take(16)
	if err == nil {
		t.OriginLSN, t.OriginTime = wal.LSN(le.Uint64(b)), pgTime(b[8:])
	}
	return err
}

// Prepared is what the record of PREPARE TRANSACTION says
// (TwoPhaseFileHeader in access/transam/twophase.c).
type Prepared struct {
	XID      uint32
	Database uint32
	Owner    uint32
	Time     time.Time
	GID      string
	Subxacts []uint32
	// Truncated: the record is longer than what was kept of it, and Subxacts lacks its end.
	Truncated bool
}

const twoPhaseMagic = 0x57F94534

// DecodePrepare reads the main data of a PREPARE record. What lies beyond the
// subtransactions is skipped.
func DecodePrepare(r *Record, main []byte) (Prepared, error) {
	size, gidAt := 72, 54
	if r.Major < 15 {
		size, gidAt = 64, 46
	}
	if err := need("prepared transaction", main, size); err != nil {
		return Prepared{}, err
	}
	if magic := le.Uint32(main); magic != twoPhaseMagic {
		return Prepared{}, fmt.Errorf("decode prepared transaction at %s: its magic number is %08X", r.LSN, magic)
	}
	t := Prepared{
		XID: le.Uint32(main[8:]), Database: le.Uint32(main[12:]),
		Time: pgTime(main[16:]), Owner: le.Uint32(main[24:]),
	}
	count, gidLength := le.Uint32(main[28:]), int(le.Uint16(main[gidAt:]))
	p := parts{main[size:]}
	gid, err := p.take((gidLength + 7) &^ 7)
	if err != nil || gidLength == 0 || gidLength > gidSize || gid[gidLength-1] != 0 {
		return Prepared{}, fmt.Errorf("decode prepared transaction at %s: its name does not end", r.LSN)
	}
	t.GID = string(gid[:gidLength-1])
	if int64(count)*4 > int64(len(p.b)) && !r.Truncated {
		return Prepared{}, fmt.Errorf("decode prepared transaction at %s: %w", r.LSN, errPartCut)
	}
	t.Truncated = int64(count)*4 > int64(len(p.b))
	for range min(int(count), len(p.b)/4) {
		t.Subxacts = append(t.Subxacts, le.Uint32(p.b))
		p.b = p.b[4:]
	}
	return t, nil
}
