package catalog

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/internal/inorder"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/rollup"
)

// Scan looks through much WAL for the few places where something may be. Memory
// is bounded by what is found, not by what is looked through.
type Scan struct {
	ScanKey
	Path Path
	// May tells from a segment's index (without transactions), and from the record that
	// crosses into it, if any, whether what is looked for can be there.
	May func(ix *index.Index, crossing *index.Joined) bool
}

// ScanKey tells Scans apart.
type ScanKey struct {
	Timeline wal.TimelineID // that the path leads to
	From, To uint64         // numbers of segments, inclusive
	What     string         // what is looked for
}

// Places are runs of segments, with their indexes and how they are linked in the
// Details: the last of each may hold what is looked for, and the ones before are
// those that a record can cross from.
type Places []Stretch

// Scanner carries out a Scan.
type Scanner struct {
	scan   Scan
	into   *Details
	places Places
	chain  *Chain
	passed Details // of the last few segments
}

// NewScan begins a Scan whose results go to the Details. End must be called.
func (d *Details) NewScan(scan Scan) *Scanner {
	s := &Scanner{scan: scan, into: d}
	s.chain = s.passed.NewChain()
	return s
}

// Add takes the next segment that is there: its index, or why it cannot be read. An
// error is a bug in an index.
func (s *Scanner) Add(seg wal.Segment, ix *index.Index, unreadable error) error {
	return s.add(seg, piece{ix: ix, err: unreadable})
}

func (s *Scanner) add(seg wal.Segment, p piece) error {
	if last := s.chain.previous; last != (wal.Segment{}) && last.Number+1 != seg.Number {
		s.restart()
	}
	before := s.chain.since
	link := Link{From: s.chain.previous, To: seg}
	if err := s.chain.add(seg, p); err != nil {
		return err
	}
	if why, bad := s.passed.Unreadable[seg]; bad {
		s.into.AddUnreadable(seg, why)
		s.restart()
		return nil
	}
	state := s.passed.Links[link]
	if state.Joined == nil {
		before = nil
	}
	if s.scan.May(p.ix, state.Joined) {
		s.take(before, seg)
	}
	if len(s.passed.Indexes) > 2*len(s.chain.since)+16 {
		s.forget()
	}
	return nil
}

func (s *Scanner) restart() {
	s.passed = Details{}
	s.chain.restart(nil)
}

// take notes a place.
func (s *Scanner) take(before []*index.Index, seg wal.Segment) {
	place := Stretch{Timeline: s.scan.Timeline, First: seg.Number, Last: seg.Number}
	if len(before) > 0 {
		place.First = before[0].Segment.Number
	}
	for n := place.First; n <= place.Last; n++ {
		at := s.scan.Path.Segment(n)
		s.into.Add(s.passed.Indexes[at], false)
		if n > place.First {
			l := Link{From: s.scan.Path.Segment(n - 1), To: at}
			s.into.AddLink(l, s.passed.Links[l])
		}
	}
	s.places = append(s.places, place)
}

// forget drops all but what the next segment can be linked to.
func (s *Scanner) forget() {
	old := s.passed
	s.passed = Details{Indexes: map[wal.Segment]*index.Index{}, Transactions: map[wal.Segment]bool{}, Links: map[Link]LinkState{}}
	for i, ix := range s.chain.since {
		s.passed.Indexes[ix.Segment] = old.Indexes[ix.Segment]
		if i > 0 {
			l := Link{From: s.chain.since[i-1].Segment, To: ix.Segment}
			s.passed.Links[l] = old.Links[l]
		}
	}
}

// End records what was found.
func (s *Scanner) End() {
	if s.into.Scans == nil {
		s.into.Scans = map[ScanKey]Places{}
	}
	s.into.Scans[s.scan.ScanKey] = s.places
}

// scansAtOnce bounds the Scans that are carried out in parallel.
const scansAtOnce = 8

// fillScans carries out scans in parallel. Their stretches must have been listed.
func (r *Reader) fillScans(ctx context.Context, s *Snapshot, scans []Scan) error {
	found := make([]Details, len(scans))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(scansAtOnce)
	for i, scan := range scans {
		var segs []wal.Segment
		for n := scan.From; n <= scan.To; n++ {
			if seg := scan.Path.Segment(n); s.Has(seg) {
				segs = append(segs, seg)
			}
		}
		g.Go(func() error { return r.scan(gctx, s, found[i].NewScan(scan), segs) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range found {
		s.Details.merge(&found[i])
	}
	return nil
}

// scan carries out one. It does not change the snapshot.
func (r *Reader) scan(ctx context.Context, s *Snapshot, sc *Scanner, segs []wal.Segment) error {
	sc.chain.whole = func(seg wal.Segment) (*index.Index, error) { return r.archive.Index(ctx, seg) }
	var x rollups
	for len(segs) > 0 {
		n := headOf(segs)
		if err := r.loadRollups(ctx, s, &x, segs[:n]); err != nil {
			return err
		}
		if err := r.pieces(ctx, s, &x, segs[:n], sc.add); err != nil {
			return err
		}
		segs = segs[n:]
	}
	sc.End()
	return nil
}

// pieces hands segments to use, in order: what a roll-up tells of them, and of the others
// what their own indexes do.
func (r *Reader) pieces(ctx context.Context, s *Snapshot, x *rollups, segs []wal.Segment, use func(wal.Segment, piece) error) error {
	entries := make([]*rollup.Entry, len(segs))
	listed := make([]archive.LiveSegment, len(segs)) // before goroutines run: use may change the snapshot
	for i, seg := range segs {
		l, _ := s.LiveSegment(seg)
		listed[i] = l.listed
		print, ok := s.fingerprint(seg)
		if held := x.held[rollup.LogOf(seg)]; ok && held != nil {
			if e, ok := held.Lookup(seg.Number, print); ok && !e.Damaged() {
				entries[i] = &e
			}
		}
	}
	return inorder.Do(ctx, len(segs), r.parallel, func(ctx context.Context, i int) (piece, error) {
		if e := entries[i]; e != nil {
			follows := i > 0 && entries[i-1] != nil && rollup.LogOf(segs[i-1]) == rollup.LogOf(segs[i])
			return rolled(*e, follows)
		}
		ix, err := r.index(ctx, segs[i], listed[i])
		if err != nil && archive.IsStoreFault(err) {
			return piece{}, err
		}
		return piece{ix: ix, err: err}, nil
	}, func(i int, p piece) error { return use(segs[i], p) })
}

// merge adds what other Details know.
func (d *Details) merge(o *Details) {
	for _, ix := range o.Indexes {
		d.Add(ix, false)
	}
	for l, state := range o.Links {
		d.AddLink(l, state)
	}
	for seg, why := range o.Unreadable {
		d.AddUnreadable(seg, why)
	}
	if d.Scans == nil {
		d.Scans = map[ScanKey]Places{}
	}
	for key, places := range o.Scans {
		d.Scans[key] = places
	}
}
