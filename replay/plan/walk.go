package plan

import (
	"errors"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// errNeeds ends a decision that lacks something: it is in decision.needs.
var errNeeds = errors.New("plan: the snapshot lacks what Need asks for")

// Segments are asked for in portions that begin small, since most targets are
// found soon, and double, so that a long way takes few rounds. Large ones grow by half of the
// way so far: it is walked again after each.
const (
	firstPortion = 64
	lastPortion  = 4096
)

// walk goes over the WAL of a path, segment by segment, as far as it is archived,
// readable and joined.
type walk struct {
	d    *decision
	path catalog.Path
	// first is the number of the first segment, next that of the one to come.
	first, next uint64
	// goal is the last segment that is surely needed: it is asked for at once.
	goal uint64
	// bound is the last that is asked for at all; 0: there is none.
	bound uint64

	// ix is the current segment's index; crossing is the record that began in an
	// earlier segment of the walk and ended in this one, or nil.
	ix       *index.Index
	crossing *index.Joined
}

func (d *decision) newWalk(p catalog.Path, first, goal uint64) *walk {
	return &walk{d: d, path: p, first: first, next: first, goal: goal}
}

// number is that of the current segment.
func (w *walk) number() uint64 { return w.next - 1 }

// step goes on to the next segment. It returns false where the WAL ends; hole
// then tells why, nil meaning that nothing later is archived on the path. The
// error is errNeeds.
func (w *walk) step() (ok bool, hole *catalog.Gap, err error) {
	s, n := w.d.s, w.next
	seg := w.path.Segment(n)
	from := n
	if n > w.first && s.IsOpen(w.path.Segment(n-1)) {
		from = n - 1 // recovery stops inside it
	}
	if from < n || !s.Has(seg) {
		last, any := s.LastOn(w.path)
		if !any || last < n {
			return false, nil, nil
		}
		gap, _ := s.FirstHole(w.path, from, last)
		return false, &gap, nil
	}
	if why, bad := s.Details.Unreadable[seg]; bad {
		gap := catalog.NewGap(seg, n, why)
		return false, &gap, nil
	}
	ix := s.Details.Indexes[seg]
	if ix == nil {
		return false, nil, w.ask(n)
	}
	w.crossing = nil
	if n > w.first {
		link, known := s.Details.Links[catalog.Link{From: w.path.Segment(n - 1), To: seg}]
		if !known {
			return false, nil, w.ask(n)
		}
		if link.Broken != "" {
			gap := catalog.NewGap(seg, n, link.Broken)
			return false, &gap, nil
		}
		if j := link.Joined; j != nil && j.LSN != 0 && j.End != 0 && !j.Overwritten {
			w.crossing = j
		}
	}
	w.ix, w.next = ix, n+1
	return true, nil, nil
}

// ask puts the segments from number n on, as many as are needed or likely to be,
// on the list of what is lacking. They are joined to what the walk has seen:
// the chain begins at a segment in which a record starts.
func (w *walk) ask(n uint64) error {
	s := w.d.s
	portion := max(min(max(n-w.first, firstPortion), lastPortion), (n-w.first)/2)
	limit := max(n+portion-1, w.goal)
	if w.bound != 0 {
		limit = min(limit, max(n, w.bound))
	}
	end, _ := s.RunWithin(w.path, n, limit)
	from := n
	for from > w.first {
		from--
		if ix := s.Details.Indexes[w.path.Segment(from)]; ix == nil || ix.FirstRecord != 0 {
			break
		}
	}
	var chain []wal.Segment
	for ; from <= end; from++ {
		chain = append(chain, w.path.Segment(from))
	}
	w.d.needs.Chains = append(w.d.needs.Chains, chain)
	return errNeeds
}

// transactions are those of a segment that has been walked over. The error is errNeeds.
func (d *decision) transactions(seg wal.Segment) ([]index.Transaction, error) {
	ix := d.s.Details.Indexes[seg]
	if ix == nil || !d.s.Details.Transactions[seg] {
		d.needs.Transactions = append(d.needs.Transactions, seg)
		return nil, errNeeds
	}
	var list []index.Transaction
	for t := range ix.DetailedTransactions() {
		list = append(list, t)
	}
	return list, nil
}

// firstTransaction is the first one in the current segment, the crossing record
// before the others, that match accepts; may is a quick look at the summary that tells
// whether any can. The error is errNeeds.
func (w *walk) firstTransaction(may func(*index.Index) bool, match func(index.Transaction) bool) (*index.Transaction, error) {
	if w.crossing != nil && w.crossing.Transaction != nil && match(*w.crossing.Transaction) {
		t := *w.crossing.Transaction
		return &t, nil
	}
	if w.ix.Commits+w.ix.Aborts == 0 || !may(w.ix) {
		return nil, nil
	}
	list, err := w.d.transactions(w.ix.Segment)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if match(t) {
			return &t, nil
		}
	}
	return nil, nil
}

// landmarks are those that ended in the current segment.
func (w *walk) landmarks() []index.Landmark {
	if w.crossing != nil && w.crossing.Landmark != nil {
		return append([]index.Landmark{*w.crossing.Landmark}, w.ix.Landmarks...)
	}
	return w.ix.Landmarks
}
