package index

import (
	"fmt"
	"iter"
	"time"

	"github.com/walden-pg/walden/wal"
)

// transactionList holds transactions in their encoded form: a segment of
// 1 GiB can hold millions, and what is looked for is usually one.
type transactionList struct {
	encoded []byte
	count   uint64
	last    cursor
}

// cursor is what each transaction is encoded relative to: the one before.
type cursor struct {
	end  wal.LSN // at first the segment's start
	xid  uint32
	time int64 // microseconds since 2000
}

// Bits of a transaction's first number; the length in units of 8 bytes follows.
const (
	txKindMask    = 0x07
	txHasDatabase = 0x08
	txHasGID      = 0x10
	txLengthShift = 5

	maxGID = 199 // GIDSIZE without the NUL
)

// Transactions are all commit, abort and prepare records that start and end in
// the segment, in order of position.
func (ix *Index) Transactions() iter.Seq[Transaction] {
	return func(yield func(Transaction) bool) {
		d := decoder{b: ix.transactions.encoded}
		c := cursor{end: ix.Segment.Start()}
		for range ix.transactions.count {
			// The list was encoded here or checked when it was decoded.
			t := d.transaction(ix.Segment, &c)
			if d.err != nil || !yield(t) {
				return
			}
		}
	}
}

// NumTransactions is how many Transactions there are.
func (ix *Index) NumTransactions() uint64 { return ix.transactions.count }

// SetTransactions replaces the transactions, which must be in order of position
// and inside the segment, with their details, and derives from them the times,
// transaction ids and counts of the summary. Build does this itself; it serves
// tests and tools. Times are kept to the microsecond.
func (ix *Index) SetTransactions(list []Transaction) error {
	ix.transactions, ix.details = transactionList{}, detailList{}
	var sum endings
	for _, t := range list {
		if err := ix.addTransaction(t, &sum); err != nil {
			return err
		}
	}
	ix.setEndings(sum)
	return nil
}

// addTransaction appends to the list, and counts in sum.
func (ix *Index) addTransaction(t Transaction, sum *endings) error {
	l := &ix.transactions
	if l.count == 0 {
		l.last = cursor{end: ix.Segment.Start()}
	}
	bad := t.Kind < Commit || t.Kind > Prepare || len(t.GID) > maxGID ||
		t.LSN < l.last.end || !ix.Segment.Contains(t.LSN) || !t.LSN.Aligned() ||
		t.End <= t.LSN || t.End > ix.Segment.End() || !t.End.Aligned()
	if bad {
		return fmt.Errorf("add transaction %d at %s to the index of %s: it does not belong there", t.XID, t.LSN, ix.Segment.Name())
	}
	e := encoder{l.encoded}
	e.transaction(t, &l.last)
	l.encoded = e.b
	if t.Detail != nil {
		if err := ix.details.add(l.count, t); err != nil {
			return fmt.Errorf("add transaction %d at %s to the index of %s: %w", t.XID, t.LSN, ix.Segment.Name(), err)
		}
		sum.addSubxacts(t.Kind, t.Detail.Subxacts)
	}
	l.count++
	sum.add(t.Kind, t.XID, l.last.time)
	return nil
}

func (e *encoder) transaction(t Transaction, c *cursor) {
	head := uint64(t.Kind) | uint64(t.End-t.LSN)/8<<txLengthShift
	if t.Database != 0 {
		head |= txHasDatabase
	}
	if t.GID != "" {
		head |= txHasGID
	}
	at := wal.ToPGMicros(t.Time)
	e.uint(head)
	e.uint(uint64(t.LSN-c.end) / 8)
	e.int(int64(t.XID) - int64(c.xid))
	e.int(at - c.time)
	if t.Database != 0 {
		e.uint(uint64(t.Database))
	}
	if t.GID != "" {
		e.uint(uint64(len(t.GID)))
		e.b = append(e.b, t.GID...)
	}
	*c = cursor{end: t.End, xid: t.XID, time: at}
}

func (d *decoder) transaction(seg wal.Segment, c *cursor) Transaction {
	head := d.uint()
	t := Transaction{Kind: TransactionKind(head & txKindMask)}
	left := uint64(seg.End()-c.end) / 8
	gap := d.max(left)
	length := head >> txLengthShift
	if t.Kind < Commit || t.Kind > Prepare || length == 0 || length > left-gap {
		d.fail(errRange)
		return t
	}
	t.LSN = c.end + wal.LSN(gap*8)
	t.End = t.LSN + wal.LSN(length*8)
	delta := d.int()
	xid := int64(c.xid) + delta
	if delta > 1<<32 || delta < -1<<32 || xid < 0 || xid > 1<<32-1 {
		d.fail(errRange)
		return t
	}
	t.XID = uint32(xid)
	at := c.time + d.int()
	t.Time = wal.FromPGMicros(at)
	if head&txHasDatabase != 0 {
		t.Database = uint32(d.between(1, 1<<32-1))
	}
	if head&txHasGID != 0 {
		t.GID = string(d.bytes(d.between(1, maxGID)))
	}
	*c = cursor{end: t.End, xid: t.XID, time: at}
	return t
}

// endings is what the summary says of commits and aborts. Times are
// microseconds since 2000, and mean nothing if there are none.
type endings struct {
	firstTime, lastTime, minTime, maxTime int64
	minXID, maxXID                        uint32
	commits, aborts                       uint64
	prepared                              uint64 // PREPARE, and the ends of prepared ones
}

func (ix *Index) endings() endings {
	s := endings{minXID: ix.MinXID, maxXID: ix.MaxXID, commits: ix.Commits, aborts: ix.Aborts, prepared: ix.Prepared}
	if s.commits+s.aborts > 0 {
		s.firstTime, s.lastTime = wal.ToPGMicros(ix.FirstTime), wal.ToPGMicros(ix.LastTime)
		s.minTime, s.maxTime = wal.ToPGMicros(ix.MinTime), wal.ToPGMicros(ix.MaxTime)
	}
	return s
}

func (ix *Index) setEndings(s endings) {
	ix.MinXID, ix.MaxXID, ix.Commits, ix.Aborts, ix.Prepared = s.minXID, s.maxXID, s.commits, s.aborts, s.prepared
	ix.FirstTime, ix.LastTime, ix.MinTime, ix.MaxTime = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	if s.commits+s.aborts > 0 {
		ix.FirstTime, ix.LastTime = wal.FromPGMicros(s.firstTime), wal.FromPGMicros(s.lastTime)
		ix.MinTime, ix.MaxTime = wal.FromPGMicros(s.minTime), wal.FromPGMicros(s.maxTime)
	}
}

func (s *endings) add(kind TransactionKind, xid uint32, at int64) {
	if kind >= CommitPrepared {
		s.prepared++
	}
	if !kind.Ends() {
		return
	}
	if s.commits+s.aborts == 0 {
		s.firstTime, s.minTime, s.maxTime = at, at, at
	}
	s.lastTime = at
	s.minTime, s.maxTime = min(s.minTime, at), max(s.maxTime, at)
	s.bound(xid)
	if kind == Commit || kind == CommitPrepared {
		s.commits++
	} else {
		s.aborts++
	}
}

// bound widens the range of transaction ids.
func (s *endings) bound(xid uint32) {
	if xid != 0 && (s.minXID == 0 || xid < s.minXID) {
		s.minXID = xid
	}
	s.maxXID = max(s.maxXID, xid)
}

// addSubxacts takes in the subtransactions of a transaction that ends.
func (s *endings) addSubxacts(kind TransactionKind, xids []uint32) {
	if !kind.Ends() {
		return
	}
	for _, xid := range xids {
		s.bound(xid)
	}
}
