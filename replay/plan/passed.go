package plan

import (
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal/index"
)

// A time that is later than every commit and rollback of the archived WAL is one
// that PostgreSQL fails to reach ("recovery ended before configured recovery
// target was reached"). What was wished for is plain all the same, if the WAL shows
// that the time had passed: another record carries a later time. Recovery then stops
// before the first such record behind the last transaction.

// passed finds where to stop for a time that no commit or abort of the walk is too
// late for; nil: nothing shows that the time has passed. The error is errNeeds.
func (e *evaluation) passed() (*hit, error) {
	first, last := e.walk.first, e.walk.number()
	tx, err := e.d.lastTransaction(e.path, first, last, e.endOfWAL())
	if err != nil {
		return nil, err
	}
	from := e.backup.StopLSN
	if tx != nil {
		from = max(from, tx.LSN+1)
	}
	var seen *Evidence // that lies too early to stop at
	for n := first; n <= last; n++ {
		list, err := e.timed(n)
		if err != nil {
			return nil, err
		}
		for _, h := range list {
			if h.lsn < e.backup.StartLSN || !e.d.t.beyond(*h.time()) {
				continue
			}
			evidence := &Evidence{LSN: h.lsn, Time: *h.time(), What: h.what()}
			if h.lsn >= from {
				h.before, h.evidence = true, evidence
				return &h, nil
			}
			seen = evidence
		}
	}
	if seen == nil {
		return nil, nil
	}
	h := &hit{}
	if tx != nil && e.consistentAfter(tx.End) {
		*h = hit{lsn: tx.LSN, end: tx.End, tx: tx}
	} else if h, err = e.consistency(); err != nil {
		return nil, err
	}
	h.evidence = seen
	return h, nil
}

// timed are the records with a time that end in a segment of the walk and end no
// transaction, in order. The error is errNeeds.
func (e *evaluation) timed(n uint64) ([]hit, error) {
	var list []hit
	seg := e.path.Segment(n)
	if n > e.walk.first {
		j := e.d.s.Details.Links[catalog.Link{From: e.path.Segment(n - 1), To: seg}].Joined
		switch {
		case j == nil || j.Overwritten || j.LSN == 0 || j.End == 0:
		case j.Landmark != nil && !j.Landmark.Time.IsZero():
			list = append(list, hit{lsn: j.LSN, end: j.End, landmark: j.Landmark})
		case j.Transaction != nil && j.Transaction.Kind == index.Prepare:
			list = append(list, hit{lsn: j.LSN, end: j.End, tx: j.Transaction})
		}
	}
	ix := e.d.s.Details.Indexes[seg]
	prepared, err := e.d.preparations(ix)
	if err != nil {
		return nil, err
	}
	for _, l := range ix.Landmarks {
		for len(prepared) > 0 && prepared[0].LSN < l.LSN {
			list = append(list, hit{lsn: prepared[0].LSN, end: prepared[0].End, tx: &prepared[0]})
			prepared = prepared[1:]
		}
		if !l.Time.IsZero() {
			list = append(list, hit{lsn: l.LSN, end: l.End, landmark: &l})
		}
	}
	for i := range prepared {
		list = append(list, hit{lsn: prepared[i].LSN, end: prepared[i].End, tx: &prepared[i]})
	}
	return list, nil
}

// preparations are a segment's PREPARE records. The error is errNeeds.
func (d *decision) preparations(ix *index.Index) ([]index.Transaction, error) {
	if ix.Prepared == 0 {
		return nil, nil
	}
	all, err := d.transactions(ix.Segment)
	if err != nil {
		return nil, err
	}
	var list []index.Transaction
	for _, t := range all {
		if t.Kind == index.Prepare {
			list = append(list, t)
		}
	}
	return list, nil
}

// what a record is, in words.
func (h hit) what() string {
	switch {
	case h.tx != nil && h.tx.Kind == index.Prepare:
		return "the preparation of transaction " + Target{Kind: XID, XID: h.tx.XID}.Value()
	case h.landmark == nil:
		return "a record"
	}
	switch h.landmark.Kind {
	case index.RestorePoint:
		return Target{Kind: Name, Name: h.landmark.Name}.String()
	case index.CheckpointOnline, index.CheckpointShutdown:
		return "a checkpoint"
	case index.EndOfRecovery:
		return "the end of a recovery, with which timeline " + h.landmark.Timeline.String() + " begins"
	}
	return "the record " + h.landmark.Kind.String()
}
