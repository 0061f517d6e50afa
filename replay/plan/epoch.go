package plan

import (
	"fmt"
	"slices"

	"github.com/walden-pg/walden/wal"
)

// WAL names a transaction by 32 bits, which come round again. Which of those of one
// number is meant is told by the epoch, of which checkpoints know the present one.

// halfway is how far ids that are in use at one time can lie apart
// (TransactionIdPrecedes in access/transam/transam.c).
const halfway = 1 << 31

// fullXID is the id with its epoch that comes nearest to the next id at some moment.
func fullXID(xid uint32, next uint64) uint64 {
	full := int64(next) + int64(int32(xid-uint32(next)))
	if full < 0 {
		full += 1 << 32
	}
	return uint64(full)
}

// nextXID is the next transaction id, with its epoch, at the checkpoint that a
// backup begins with; 0: it cannot be told. The error is errNeeds.
func (d *decision) nextXID(c candidate) (uint64, error) {
	seg := c.path.Segment(d.s.SegmentSize.Number(c.backup.CheckpointLSN))
	if !d.s.Has(seg) || d.s.Details.Unreadable[seg] != "" {
		return 0, nil
	}
	ix := d.s.Details.Indexes[seg]
	if ix == nil {
		d.needs.Segments = append(d.needs.Segments, seg)
		return 0, errNeeds
	}
	for _, l := range ix.Landmarks {
		if l.LSN == c.backup.CheckpointLSN {
			return l.NextXID, nil
		}
	}
	return 0, nil
}

// nextXIDNear is nextXID of the candidate of this number, or else of the one nearest to
// it, an older one first. The error is errNeeds.
func (d *decision) nextXIDNear(g group, number int) (uint64, error) {
	order := slices.Clone(g.candidates[number:])
	for _, c := range slices.Backward(g.candidates[:number]) {
		order = append(order, c)
	}
	for _, c := range order {
		if next, err := d.nextXID(c); err != nil || next != 0 {
			return next, err
		}
	}
	return 0, nil
}

// ofEpoch leaves those sightings of the target's transaction that have its epoch, and notes
// one that has another. They lie between the backup of this number and the next
// one: that fewer than 2^31 ids were used meanwhile is taken for granted. The error is errNeeds.
func (d *decision) ofEpoch(g group, number int, list []sighting) ([]sighting, error) {
	if d.t.FullXID == 0 || len(list) == 0 {
		return list, nil
	}
	next, err := d.nextXIDNear(g, number)
	if err != nil {
		return nil, err
	}
	if full := fullXID(d.t.XID, next); next == 0 || full != d.t.FullXID {
		d.otherEpoch = &list[len(list)-1].lsn
		if d.otherXID = 0; next != 0 {
			d.otherXID = full
		}
		return nil, nil
	}
	return list, nil
}

// mayRecur tells whether an older backup than the one of this number, behind which a transaction
// was found, can have been taken before the ids came round. The error is errNeeds.
func (d *decision) mayRecur(g group, number int) (bool, error) {
	if d.t.FullXID != 0 || number == len(g.candidates)-1 {
		return false, nil
	}
	next, err := d.nextXIDNear(g, number)
	if err != nil {
		return false, err
	}
	oldest, err := d.nextXIDNear(g, len(g.candidates)-1)
	if err != nil || oldest == 0 {
		return false, err
	}
	full := fullXID(d.t.XID, next)
	return full >= 1<<32 && oldest <= full-halfway, nil
}

// ofOtherEpoch refuses a transaction of which only one of another epoch is archived.
func (d *decision) ofOtherEpoch(at wal.LSN, full uint64) error {
	if full == 0 {
		return d.unreachable(fmt.Sprintf("transaction %d is at %s, but no checkpoint is archived that tells its epoch", d.t.XID, at),
			fmt.Sprintf("Ask for --lsn %s if that one is meant", at))
	}
	return d.unreachable(
		fmt.Sprintf("no commit or rollback of it is in the WAL on the way: the transaction of that number, %d, which ended at %s, is of epoch %d and not %d: it is %d",
			d.t.XID, at, full>>32, d.t.FullXID>>32, full),
		fmt.Sprintf("Ask for --xid %d if that one is meant", full))
}
