package plan

import (
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// beyond reports whether a transaction that ended at the time stops recovery.
func (t Target) beyond(at time.Time) bool {
	if t.Exclusive {
		return !at.Before(t.Time)
	}
	return at.After(t.Time)
}

// look searches the current segment for the record that stops recovery. The
// error is errNeeds.
func (e *evaluation) look() (*hit, error) {
	size := e.d.s.SegmentSize
	switch e.d.t.Kind {
	case Time:
		return e.lookTime()
	case LSN:
		return e.lookLSN()
	case Immediate:
		if e.walk.number() < size.PrevNumber(e.backup.StopLSN) || e.endOfWAL() < e.backup.StopLSN {
			return nil, nil
		}
		return e.consistency()
	case XID, Name:
		if e.walk.number() < max(size.PrevNumber(e.fixed.end), size.PrevNumber(e.backup.StopLSN)) {
			return nil, nil
		}
		return e.fixed, nil
	}
	return nil, nil
}

// lookTime finds the first commit or abort, in order of position, that is too late.
func (e *evaluation) lookTime() (*hit, error) {
	t := e.d.t
	tx, err := e.walk.firstTransaction(
		func(ix *index.Index) bool { return t.beyond(ix.MaxTime) },
		func(x index.Transaction) bool {
			return x.LSN >= e.backup.StartLSN && x.Kind.Ends() && t.beyond(x.Time)
		})
	if tx == nil || err != nil {
		return nil, err
	}
	return &hit{lsn: tx.LSN, end: tx.End, before: true, tx: tx}, nil
}

// consistency is where an immediate target stops: after the record with which
// the cluster becomes consistent. The error is errNeeds.
func (e *evaluation) consistency() (*hit, error) {
	stop := e.backup.StopLSN
	if end := e.backupEnd; end != nil && !e.backup.FromStandby {
		return &hit{lsn: end.LSN, end: max(stop, end.End), landmark: end}, nil
	}
	// Of a standby's backup: the first record that ends at its minRecoveryPoint or later.
	seg := e.path.Segment(e.d.s.SegmentSize.PrevNumber(stop))
	ix := e.d.s.Details.Indexes[seg]
	if ix == nil || ix.FirstRecord == 0 || ix.FirstRecord >= stop {
		if seg.Number > e.walk.first {
			link := e.d.s.Details.Links[catalog.Link{From: e.path.Segment(seg.Number - 1), To: seg}]
			if j := link.Joined; j != nil && j.LSN != 0 && j.End >= stop {
				return &hit{lsn: j.LSN, end: j.End, tx: j.Transaction, landmark: j.Landmark}, nil
			}
		}
		return &hit{end: stop}, nil
	}
	return e.d.record(catalog.RecordQuery{Segment: seg, At: stop, Before: true})
}

// lookLSN finds the first record that starts at the position or later, and is
// complete.
func (e *evaluation) lookLSN() (*hit, error) {
	t := max(e.d.t.LSN, e.backup.StartLSN)
	w := e.walk
	var h *hit
	if c := w.crossing; c != nil && c.LSN >= t {
		h = &hit{lsn: c.LSN, end: c.End, tx: c.Transaction, landmark: c.Landmark}
	} else {
		if w.ix.LastComplete == 0 || t > w.ix.LastComplete {
			return nil, nil
		}
		var err error
		if h, err = e.d.recordAt(w.ix, max(t, w.ix.FirstRecord)); err != nil {
			return nil, err
		}
	}
	h.before = e.d.t.Exclusive
	return h, nil
}

// recordAt is the first record that starts at the position or later in a segment
// that has one which ends there. The error is errNeeds.
func (d *decision) recordAt(ix *index.Index, at wal.LSN) (*hit, error) {
	h, err := d.listed(ix, at)
	if h != nil || err != nil {
		return h, err
	}
	// Most records are in no index.
	return d.record(catalog.RecordQuery{Segment: ix.Segment, At: at})
}

// record is the one that a query means. The error is errNeeds.
func (d *decision) record(q catalog.RecordQuery) (*hit, error) {
	span, known := d.s.Details.Records[q]
	if !known {
		d.needs.Records = append(d.needs.Records, q)
		return nil, errNeeds
	}
	h, err := d.listed(d.s.Details.Indexes[q.Segment], span.LSN)
	if h == nil && err == nil {
		h = &hit{lsn: span.LSN, end: span.End}
	}
	return h, err
}

// listed is the record that starts at a position, if the index lists it: a
// transaction or a landmark. The error is errNeeds.
func (d *decision) listed(ix *index.Index, at wal.LSN) (*hit, error) {
	for _, l := range ix.Landmarks {
		if l.LSN == at {
			return &hit{lsn: l.LSN, end: l.End, landmark: &l}, nil
		}
	}
	list, err := d.transactions(ix.Segment)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if x.LSN == at {
			return &hit{lsn: x.LSN, end: x.End, tx: &x}, nil
		}
	}
	return nil, nil
}
