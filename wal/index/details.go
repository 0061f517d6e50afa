package index

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Detail is what a commit, abort or prepare record says that most do not.
type Detail struct {
	// Subxacts are the subtransactions that end with the transaction, or were
	// prepared with it: all of them, unless Truncated.
	Subxacts []uint32
	// Files are the relations whose files go with a commit (by DROP, TRUNCATE or
	// a rewrite) or an abort (those it had created). FilesLeftOut and
	// RelationsLeftOut count what goes beyond MaxDropped in a segment.
	Files        []record.Relation
	FilesLeftOut uint32
	// Relations are those a commit drops, tables, indexes and others with
	// statistics: since 15. TRUNCATE drops none; a rewrite (VACUUM FULL, CLUSTER,
	// ALTER TABLE) the transient one whose file, of the number of its OID, stays.
	Relations        []RelationID
	RelationsLeftOut uint32
	// Origin is the replication origin; 0: it did not come from another server.
	// OriginLSN and OriginTime are the commit there, zero where not known.
	Origin     uint16
	OriginLSN  wal.LSN
	OriginTime time.Time
	// Truncated: the lists go on beyond what was kept of the record, so that they lack
	// their end. Of a record that crosses segments EdgeBytes are kept at least, which
	// is 16,000 subtransactions, or 2,300 dropped relations with their statistics; of
	// others 16 MiB.
	Truncated bool
}

// RelationID is a relation's OID and that of its database (0: shared).
type RelationID struct{ Database, OID uint32 }

// MaxDropped bounds how many dropped files, and how many dropped relations, the
// index of a segment lists.
const MaxDropped = 16384

// empty reports whether the record says nothing worth an entry.
func (x *Detail) empty() bool {
	return len(x.Subxacts) == 0 && len(x.Files) == 0 && x.FilesLeftOut == 0 &&
		len(x.Relations) == 0 && x.RelationsLeftOut == 0 && x.Origin == 0 && !x.Truncated
}

// detailList holds details in their encoded form, beside transactionList.
type detailList struct {
	encoded          []byte
	count            uint64
	next             uint64 // the number, in the list of transactions, of the one after the last that has a detail
	files, relations int
}

// Bits of a detail's flags: what follows.
const (
	dtSubxacts = 1 << iota
	dtFiles
	dtFilesLeftOut
	dtRelations
	dtRelationsLeftOut
	dtOrigin
	dtTruncated
	dtFlags = 1<<7 - 1
)

// DetailedTransactions are Transactions with their Detail.
func (ix *Index) DetailedTransactions() iter.Seq[Transaction] {
	return func(yield func(Transaction) bool) {
		d := decoder{b: ix.details.encoded}
		number, next, left := uint64(0), uint64(0), ix.details.count
		if left > 0 {
			next = d.uint()
		}
		for t := range ix.Transactions() {
			if left > 0 && number == next {
				t.Detail = d.detail(ix.Segment, t.XID)
				if left--; left > 0 {
					next = number + 1 + d.uint()
				}
			}
			if d.err != nil || !yield(t) {
				return
			}
			number++
		}
	}
}

// HasDetails reports whether any transaction has a Detail.
func (ix *Index) HasDetails() bool { return ix.details.count > 0 }

// TopLevel finds the commit or abort in this segment with which transaction xid
// ended, be it the transaction itself or one of its subtransactions. A
// subtransaction that was rolled back has an abort record of its own.
func (ix *Index) TopLevel(xid uint32) (Transaction, bool) {
	for t := range ix.DetailedTransactions() {
		if t.Is(xid) {
			return t, true
		}
	}
	return Transaction{}, false
}

// Is reports whether the record ends transaction xid: it names it as the
// transaction itself or as one of its subtransactions, as far as Detail tells.
func (t *Transaction) Is(xid uint32) bool {
	if !t.Kind.Ends() || xid == 0 {
		return false
	}
	if t.XID == xid {
		return true
	}
	if t.Detail != nil {
		for _, sub := range t.Detail.Subxacts {
			if sub == xid {
				return true
			}
		}
	}
	return false
}

var errDetail = errors.New("its details are more than an index holds")

// add appends the detail of the transaction that gets the given number.
func (l *detailList) add(number uint64, t Transaction) error {
	x := t.Detail
	if x.empty() {
		return nil
	}
	l.files += len(x.Files)
	l.relations += len(x.Relations)
	if l.files > MaxDropped || l.relations > MaxDropped {
		return errDetail
	}
	e := encoder{l.encoded}
	e.uint(number - l.next)
	e.detail(x, t.XID)
	l.encoded = e.b
	l.next = number + 1
	l.count++
	return nil
}

func (x *Detail) flags() (flags uint64) {
	for _, f := range []struct {
		bit uint64
		set bool
	}{
		{dtSubxacts, len(x.Subxacts) > 0},
		{dtFiles, len(x.Files) > 0}, {dtFilesLeftOut, x.FilesLeftOut > 0},
		{dtRelations, len(x.Relations) > 0}, {dtRelationsLeftOut, x.RelationsLeftOut > 0},
		{dtOrigin, x.Origin != 0}, {dtTruncated, x.Truncated},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	return flags
}

// detail writes the fields that flags announces. Ids are written as the difference to
// the one before, the first to the transaction's or to 0.
func (e *encoder) detail(x *Detail, xid uint32) {
	e.uint(x.flags())
	if len(x.Subxacts) > 0 {
		e.uint(uint64(len(x.Subxacts)))
		for _, sub := range x.Subxacts {
			e.delta(sub, &xid)
		}
	}
	if len(x.Files) > 0 {
		e.uint(uint64(len(x.Files)))
		var last record.Relation
		for _, f := range x.Files {
			e.relation(f, &last)
		}
	}
	if x.FilesLeftOut > 0 {
		e.uint(uint64(x.FilesLeftOut))
	}
	if len(x.Relations) > 0 {
		e.uint(uint64(len(x.Relations)))
		var last RelationID
		for _, r := range x.Relations {
			e.delta(r.Database, &last.Database)
			e.delta(r.OID, &last.OID)
		}
	}
	if x.RelationsLeftOut > 0 {
		e.uint(uint64(x.RelationsLeftOut))
	}
	if x.Origin != 0 {
		e.uint(uint64(x.Origin))
		e.uint(uint64(x.OriginLSN))
		e.int(originMicros(x.OriginTime))
	}
}

// originMicros is 0 for a time that is not known, as in the record.
func originMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return wal.ToPGMicros(t)
}

func originTime(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return wal.FromPGMicros(micros)
}

func (d *decoder) detail(seg wal.Segment, xid uint32) *Detail {
	x := &Detail{}
	flags := d.between(1, dtFlags)
	list := func(bit, most uint64) uint64 {
		if flags&bit == 0 {
			return 0
		}
		return d.between(1, most)
	}
	// A subtransaction takes 4 bytes in the WAL, a file 12; d.b holds one byte of each at least.
	for n := list(dtSubxacts, uint64(seg.Size)/4); n > 0 && d.err == nil; n-- {
		x.Subxacts = append(x.Subxacts, d.delta(&xid))
	}
	var file record.Relation
	for n := list(dtFiles, MaxDropped); n > 0 && d.err == nil; n-- {
		x.Files = append(x.Files, d.relation(&file))
	}
	x.FilesLeftOut = uint32(list(dtFilesLeftOut, 1<<32-1))
	var last RelationID
	for n := list(dtRelations, MaxDropped); n > 0 && d.err == nil; n-- {
		x.Relations = append(x.Relations, RelationID{d.delta(&last.Database), d.delta(&last.OID)})
	}
	x.RelationsLeftOut = uint32(list(dtRelationsLeftOut, 1<<32-1))
	if flags&dtOrigin != 0 {
		x.Origin = uint16(d.between(1, 1<<16-1))
		x.OriginLSN = wal.LSN(d.uint())
		x.OriginTime = originTime(d.int())
	}
	x.Truncated = flags&dtTruncated != 0
	return x
}

func (ix *Index) encodeDetails() []byte {
	var e encoder
	e.byte(sectionVersion)
	e.uint(ix.details.count)
	return append(e.b, ix.details.encoded...)
}

// decodeDetails checks the list once, so that iterating cannot fail, and counts
// the subtransactions in sum.
func (ix *Index) decodeDetails(b []byte, sum *endings) error {
	d := decoder{b: b}
	d.version()
	list := detailList{count: d.max(ix.transactions.count)}
	list.encoded = d.b
	number, left := uint64(0), list.count
	if left > 0 {
		list.next = d.max(1 << 32)
		for t := range ix.Transactions() {
			if number == list.next {
				x := d.detail(ix.Segment, t.XID)
				list.files += len(x.Files)
				list.relations += len(x.Relations)
				sum.addSubxacts(t.Kind, x.Subxacts)
				list.next++
				if left--; left == 0 || d.err != nil {
					break
				}
				list.next += d.max(1 << 32)
			}
			number++
		}
	}
	switch err := d.end(); {
	case err != nil:
		return err
	case left > 0:
		return fmt.Errorf("%w: there are fewer transactions", errContradiction)
	case list.files > MaxDropped, list.relations > MaxDropped:
		return errRange
	}
	ix.details = list
	return nil
}
