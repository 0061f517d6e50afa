package plan

import (
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// stopsBefore reports whether recovery stops before the record it meets.
// recoveryStopsBefore does so for times always (inclusive ones too: the record met
// is the first that is too late) and for exclusive ids and positions.
func (t Target) stopsBefore() bool {
	return t.Kind == Time || (t.Exclusive && (t.Kind == XID || t.Kind == LSN))
}

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
		return e.consistency(), nil
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
	return &hit{lsn: tx.LSN, end: tx.End, exact: true, tx: tx}, nil
}

// consistency is where an immediate target stops: after the record with which
// the cluster becomes consistent.
func (e *evaluation) consistency() *hit {
	h := &hit{end: e.backup.StopLSN, exact: true}
	if e.backupEnd != nil && !e.backup.FromStandby {
		h.lsn, h.landmark = e.backupEnd.LSN, e.backupEnd
		h.end = max(h.end, e.backupEnd.End)
	}
	return h
}

// lookLSN finds the first record that starts at the position or later, and is
// complete.
func (e *evaluation) lookLSN() (*hit, error) {
	t := max(e.d.t.LSN, e.backup.StartLSN)
	w := e.walk
	if c := w.crossing; c != nil && c.LSN >= t {
		return e.describe(hit{lsn: c.LSN, end: c.End, exact: true, tx: c.Transaction, landmark: c.Landmark}), nil
	}
	if w.ix.LastComplete == 0 || t > w.ix.LastComplete {
		return nil, nil
	}
	return e.lookInside(t)
}

// lookInside describes the first record at t or later in the current segment,
// which has one that ends there. Of most records the index does not tell where they start.
func (e *evaluation) lookInside(t wal.LSN) (*hit, error) {
	ix := e.walk.ix
	at := t
	exact := t == ix.LastComplete
	if ix.FirstRecord >= t {
		at, exact = ix.FirstRecord, true
	}
	list, err := e.d.transactions(ix.Segment)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if x.LSN == at {
			return e.describe(hit{lsn: x.LSN, end: x.End, exact: true, tx: &x}), nil
		}
	}
	for _, l := range ix.Landmarks {
		if l.LSN == at {
			return e.describe(hit{lsn: l.LSN, end: l.End, exact: true, landmark: &l}), nil
		}
	}
	h := hit{lsn: at, exact: exact}
	if at == ix.LastComplete && ix.Tail.LSN == 0 {
		h.end = ix.EndOfRecords
	}
	return e.describe(h), nil
}

// describe uses what is known of a backup's end: no record starts between that
// of the one that ends it and its stop position.
func (e *evaluation) describe(h hit) *hit {
	if end := e.backupEnd; end != nil && !h.exact && h.lsn > end.LSN && h.lsn < end.End {
		h.lsn = end.End
	}
	return &h
}
