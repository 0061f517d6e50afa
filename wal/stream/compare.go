package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// compareNext is the comparison with fragments that exist, once their bytes
// have been received, or of a beginning with the segment that was sealed. Where no
// more comes, or something waits for it, the beginnings of those fragments are
// compared that go further than what is here. If only time is missing for that,
// wait is how much; else 0. The lock is held.
func (j *journal) compareNext(s *openSegment, p policy, now time.Time) (next job, wait time.Duration) {
	if s.comparing {
		return job{}, 0
	}
	wait = j.compareDue(s, p, now)
	switch {
	case len(s.existing) == 0:
		if !s.presealed || s.complete() {
			return job{}, 0
		}
	case !slices.ContainsFunc(s.existing, func(f archive.StoredFragment) bool { return f.To > s.have }):
		wait = 0
	}
	if wait != 0 {
		return job{}, max(wait, 0)
	}
	s.comparing = true
	return job{kind: compareJob, segment: s, compare: slices.Clone(s.existing), durable: s.durable, have: s.have}, 0
}

// eagerCompare is how long what is here may wait, where commits wait for it, for more
// before its beginning is compared.
const eagerCompare = 100 * time.Millisecond

// compareDue is how long the comparison of a beginning may still wait for more, which
// is cheaper; negative: for ever. It may not where the server or the end of the
// receiver waits, nor for longer than an upload may where the server has no more: one
// that was rolled back writes other WAL than is archived, which is to be told at once.
func (j *journal) compareDue(s *openSegment, p policy, now time.Time) time.Duration {
	switch {
	case s.durable >= s.have:
		return -1
	case s.left || s.seg.Timeline == j.timeline && s.seg.Start()+lsn(s.durable) < j.urgent:
		return 0
	case p.behind:
		return -1
	}
	delay := p.delay
	if p.eager {
		delay = min(delay, eagerCompare)
	}
	return max(0, s.arrived.Add(delay).Sub(now))
}

// verdict is what a comparison with fragments found.
type verdict struct {
	// right are those that agree, begun those whose beginnings do.
	right, begun []archive.StoredFragment
	damaged      []archive.Fragment
}

// compared notes what was found of fragments that exist, with what was here
// then. The lock is held.
func (s *openSegment) compared(v verdict, have int64) {
	l := archive.LiveSegment{Segment: s.seg, Fragments: slices.Concat(v.right, v.begun)}
	slices.SortStableFunc(l.Fragments, func(x, y archive.StoredFragment) int { return int(x.From - y.From) })
	covered := min(l.Covered(), have)
	s.durable = max(s.durable, covered)
	s.scheduled = max(s.scheduled, s.durable)
	for _, f := range v.right {
		s.fragments = append(s.fragments, ownFragment{f.Fragment, 1})
	}
	s.damaged = append(s.damaged, v.damaged...)
	s.existing, s.comparing = nil, false
	if covered == have && !s.left {
		s.existing = v.begun // their rest is compared when it is here
	}
}

// compare holds the fragments of an earlier run against what was received.
func (s *shipper) compare(ctx context.Context, next job) error {
	if len(next.compare) == 0 {
		return s.compareSealed(ctx, next)
	}
	var v verdict
	for _, f := range next.compare {
		var absent, bad error
		err := s.persist(ctx, f.String(), func() error {
			err := s.compareFragment(ctx, next, f.Fragment)
			switch {
			case errors.Is(err, storage.ErrNotExist): // covered by another, or sealed
				absent, err = err, nil
			case damaged(err):
				bad, err = err, nil
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case bad != nil:
			s.reportDamage(f.Fragment, bad)
			v.damaged = append(v.damaged, f.Fragment)
		case absent == nil && f.To > next.have:
			v.begun = append(v.begun, f)
		case absent == nil:
			v.right = append(v.right, f)
		}
	}
	var files []*segmentFile
	s.journal.update(func() {
		next.segment.compared(v, next.have)
		files = s.journal.popDone()
	})
	s.discard(files)
	return nil
}

// compareFragment holds a fragment, or its beginning, against what was received.
func (s *shipper) compareFragment(ctx context.Context, next job, f archive.Fragment) error {
	if f.To <= next.have {
		return s.archive.CompareFragment(ctx, f, next.segment.content())
	}
	obj, err := s.archive.OpenFragment(ctx, f)
	if err != nil {
		return err
	}
	return s.sameBytes(ctx, next, obj, f.From)
}

// compareSealed holds the beginning of a segment against the sealed one.
func (s *shipper) compareSealed(ctx context.Context, next job) error {
	seg := next.segment
	gone := false
	var bad error
	err := s.persist(ctx, "segment "+seg.seg.Name(), func() error {
		obj, err := s.archive.OpenSegment(ctx, seg.seg)
		if err == nil {
			err = s.sameBytes(ctx, next, obj, 0)
		}
		switch {
		case errors.Is(err, storage.ErrNotExist):
			gone, err = true, nil
		case damaged(err):
			bad, err = err, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if bad != nil {
		s.reportSealed(seg.seg, bad)
		s.journal.update(seg.unsealable)
		return nil
	}
	var files []*segmentFile
	s.journal.update(func() {
		if seg.comparing = false; gone {
			seg.presealed = false
			return
		}
		seg.durable, seg.scheduled = next.have, next.have
		files = s.journal.popDone()
	})
	s.discard(files)
	return nil
}

// sameBytes holds an object that begins at byte from of the segment against
// what was received, from what is durable already on.
func (s *shipper) sameBytes(ctx context.Context, next job, obj *frame.Object, from int64) error {
	seg := next.segment
	at := max(from, next.durable)
	if at >= next.have {
		return nil
	}
	stored := obj.NewReader(ctx, at-from, next.have-at)
	defer stored.Close()
	theirs, ours := make([]byte, 64<<10), make([]byte, 64<<10)
	for at < next.have {
		n := min(next.have-at, int64(len(ours)))
		if _, err := io.ReadFull(stored, theirs[:n]); err != nil {
			return fmt.Errorf("compare segment %s: object %s: %w", seg.seg.Name(), obj.Name(), err)
		}
		if _, err := seg.content().ReadAt(ours[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(theirs[:n], ours[:n]) {
			return &OtherContentError{Segment: seg.seg, Key: obj.Name(), From: at, To: at + n}
		}
		at += n
	}
	return nil
}

// readThrough holds a whole segment against its object.
func (s *shipper) readThrough(ctx context.Context, seg *openSegment) error {
	obj, err := s.archive.OpenSegment(ctx, seg.seg)
	if err != nil {
		return err
	}
	return s.sameBytes(ctx, job{segment: seg, have: seg.seg.Size.Bytes()}, obj, 0)
}

// damaged reports whether an object is not what was stored, which it stays.
func damaged(err error) bool {
	var e *frame.Error
	return errors.As(err, &e)
}

// reportDamage tells of a fragment that is damaged: what was received is stored again.
func (s *shipper) reportDamage(f archive.Fragment, err error) {
	s.state.finding()
	s.o.Logger.Error("a fragment in the repository is damaged; what was received is stored again beside it", "what", f.String(), "error", err)
}

// reportSealed tells of a segment that is archived and damaged.
func (s *shipper) reportSealed(seg wal.Segment, err error) {
	s.state.finding()
	args := []any{"segment", seg.Name(), "error", err,
		"hint", "move the damaged object away: then the fragments are served in its place, and are sealed when walden stream starts again"}
	if e := (*frame.Error)(nil); errors.As(err, &e) {
		args = append(args, "object", e.Object)
	}
	s.o.Logger.Error("a segment cannot be sealed, or held against its object, since an object in the repository is damaged; what was received is kept in fragments", args...)
}

// unsealable notes that the segment's object is damaged: fragments are all that can be
// stored of it. What only that object held is not durable any more. The lock is held.
func (s *openSegment) unsealable() {
	if s.presealed {
		s.durable, s.scheduled = 0, 0
	}
	s.refused, s.sealing, s.comparing, s.presealed = true, false, false, false
}

// occupied notes that a fragment could not be stored because there is a
// damaged one of its name: its bytes are to be scheduled again. The lock is held.
func (s *openSegment) occupied(f archive.Fragment) {
	s.inFlight--
	s.damaged = append(s.damaged, f)
	if s.scheduled = s.durable; s.inFlight > 0 {
		s.scheduled = max(s.scheduled, 1) // it is not sealed whole while its file is being read
	}
}

// free makes a fragment a little shorter, or longer, whose name a damaged one
// has, so that it still brings something that is not durable.
func (s *openSegment) free(f archive.Fragment) archive.Fragment {
	for slices.Contains(s.damaged, f) {
		switch {
		case f.To-1 > s.durable:
			f.To--
		case f.From > 0:
			f.From--
		default:
			return f
		}
	}
	return f
}

// nameless reports whether there is no name for what could be uploaded now: as
// for a single byte whose place is taken. More will come.
func (s *openSegment) nameless() bool {
	f := archive.Fragment{Segment: s.seg, From: s.durable, To: min(s.have, s.durable+maxFragment)}
	return slices.Contains(s.damaged, s.free(f))
}

// OtherContentError says that the server sends other WAL than is archived of
// the same segment. Nothing was changed.
type OtherContentError struct {
	Segment wal.Segment
	// Key is the object that holds it, and From and To bound the bytes of the
	// segment among which the difference is.
	Key      string
	From, To int64
}

// Error names the object and the place.
func (e *OtherContentError) Error() string {
	return fmt.Sprintf("the server sends other content than object %s holds, between bytes %d and %d of segment %s; nothing was changed",
		e.Key, e.From, e.To, e.Segment.Name())
}

// Hint says what to look for.
func (e *OtherContentError) Hint() string { return (&archive.ConflictError{}).Hint() }
