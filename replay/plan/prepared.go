package plan

import (
	"fmt"

	"github.com/walden-pg/walden/replay/catalog"
)

// prepared are the transactions that are left prepared where recovery stops. The
// error is errNeeds.
func (d *decision) prepared(o outcome, s Stop) ([]catalog.PreparedTransaction, error) {
	before := s.End // of the last record that is replayed
	if o.backup.MaxPrepared == 0 && !d.anyPrepared(o) {
		return nil, nil
	}
	q := catalog.PreparedQuery{Backup: o.backup.ID, Timeline: o.path.Timeline, Before: before}
	state, known := d.s.Details.Prepared[q]
	if !known {
		d.needs.Prepared = append(d.needs.Prepared, q)
		return nil, errNeeds
	}
	if state.Unknown != "" {
		d.warnings = append(d.warnings, fmt.Sprintf("Transactions may be left prepared that are not told of: %s.", state.Unknown))
	}
	return state.Open, nil
}

// copies are the segments that recovery also needs under the names of the timelines
// that are left in them: see Copy. One too many does no harm.
func (d *decision) copies(o outcome, last uint64) []Copy {
	size := d.s.SegmentSize
	var list []Copy
	for _, sp := range o.path.Spans[:len(o.path.Spans)-1] {
		n := size.Number(sp.End)
		left, seg := d.s.Segment(sp.Timeline, n), o.path.Segment(n)
		if sp.End <= o.backup.StartLSN || n > last || sp.End == left.Start() || sp.Begin == sp.End {
			continue
		}
		ix := d.s.Details.Indexes[seg]
		crossing := d.s.Details.Links[catalog.Link{From: o.path.Segment(n - 1), To: seg}].Joined
		if ix != nil && ix.Prepared > 0 || crossing != nil && crossing.Transaction != nil {
			list = append(list, Copy{Segment: seg.Name(), As: left.Name()})
		}
	}
	return list
}

// anyPrepared reports whether the WAL that was walked over has a record of a
// prepared transaction.
func (d *decision) anyPrepared(o outcome) bool {
	first := d.s.SegmentSize.Number(o.backup.StartLSN)
	for n := first; n <= o.lastNumber; n++ {
		seg := o.path.Segment(n)
		if ix := d.s.Details.Indexes[seg]; ix != nil && ix.Prepared > 0 {
			return true
		}
		if n == first {
			continue
		}
		link := d.s.Details.Links[catalog.Link{From: o.path.Segment(n - 1), To: seg}]
		if j := link.Joined; j != nil && j.Transaction != nil {
			return true // it may be one: whoever reads the list will see
		}
	}
	return false
}
