package plan

import (
	"slices"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// besides is how many segments are looked at on either side of the WAL that a
// plan needs, for the transactions just before and just after the stop.
const besides = 8

// neighbours fills in the transactions just before and just after the stop: kept is
// the position before which records are replayed. The error is errNeeds.
func (d *decision) neighbours(o outcome, first uint64, kept wal.LSN, s *Stop) error {
	tx, err := d.lastTransaction(o.path, first, o.lastNumber, kept)
	if err == nil && tx == nil {
		tx, err = d.lastBefore(o.path, first, kept)
	}
	if err != nil {
		return err
	}
	s.LastKept = transaction(tx)
	if tx != nil && !s.Before && tx.LSN == s.LSN {
		if tx, err = d.lastTransaction(o.path, first, o.lastNumber, s.LSN); err != nil {
			return err
		}
	}
	if tx != nil && tx.LSN >= o.backup.StartLSN {
		s.Counted = transaction(tx)
	}
	if d.t.Kind == Latest {
		return nil
	}
	tx, err = d.firstAfter(o, first, kept)
	s.FirstLost = transaction(tx)
	return err
}

// firstAfter is the first commit or abort that starts at a position or later, if it
// lies in what the plan needs or a little behind it. The error is errNeeds.
func (d *decision) firstAfter(o outcome, first uint64, from wal.LSN) (*index.Transaction, error) {
	if tx := o.hit.tx; tx != nil && tx.Kind.Ends() && tx.LSN >= from {
		return tx, nil
	}
	w := d.newWalk(o.path, max(first, d.s.SegmentSize.Number(from)), o.lastNumber)
	w.bound = o.lastNumber + besides
	return d.seek(w, w.bound, from)
}

// seek is the first commit or abort from a position on in the segments of a walk.
func (d *decision) seek(w *walk, last uint64, from wal.LSN) (*index.Transaction, error) {
	for w.next <= last {
		ok, _, err := w.step()
		if err != nil || !ok {
			return nil, err
		}
		tx, err := w.firstTransaction(
			func(*index.Index) bool { return true },
			func(t index.Transaction) bool { return t.LSN >= from && t.Kind.Ends() })
		if tx != nil || err != nil {
			return tx, err
		}
	}
	return nil, nil
}

// lastBefore is the last commit or abort before a position, if it lies in the few
// segments that come before the one numbered first. The error is errNeeds.
func (d *decision) lastBefore(p catalog.Path, first uint64, before wal.LSN) (*index.Transaction, error) {
	from := first
	for from > 0 && from+besides > first {
		seg := p.Segment(from - 1)
		if !d.s.Has(seg) || d.s.IsOpen(seg) || d.s.Details.Unreadable[seg] != "" {
			break
		}
		from--
	}
	if from == first {
		return nil, nil
	}
	w := d.newWalk(p, from, first)
	w.bound = first
	for w.next <= first {
		if ok, _, err := w.step(); err != nil || !ok {
			return nil, err
		}
	}
	return d.lastTransaction(p, from, first, before)
}

// lastTransaction is the last commit or abort that starts before the position,
// in the segments numbered first to last, which have been walked over. The error
// is errNeeds.
func (d *decision) lastTransaction(p catalog.Path, first, last uint64, before wal.LSN) (*index.Transaction, error) {
	for n := last + 1; n > first; {
		n--
		seg := p.Segment(n)
		ix := d.s.Details.Indexes[seg]
		if ix == nil {
			return nil, nil
		}
		if ix.Commits+ix.Aborts > 0 {
			list, err := d.transactions(seg)
			if err != nil {
				return nil, err
			}
			for _, t := range slices.Backward(list) {
				if t.Kind.Ends() && t.LSN < before {
					return &t, nil
				}
			}
		}
		if n == first {
			break
		}
		link := d.s.Details.Links[catalog.Link{From: p.Segment(n - 1), To: seg}]
		if j := link.Joined; j != nil && j.Transaction != nil && j.Transaction.Kind.Ends() && j.LSN < before {
			t := *j.Transaction
			return &t, nil
		}
	}
	return nil, nil
}
