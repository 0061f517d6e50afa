package stream

import (
	"slices"
	"time"

	"github.com/walden-pg/walden/wal/archive"
)

// Limits of uploads.
const (
	// maxFragment bounds the bytes of one fragment.
	maxFragment = 16 << 20
	// overlapBudget bounds the bytes that several uploads may carry at the same
	// time: each begins where the durable bytes end, so that a crash never
	// leaves a hole between fragments.
	overlapBudget = 1 << 20
	// tier is how often a fragment covers again what the ones before it covered,
	// up to cumulativeBytes, so that they can go: every 16th covers the last 16
	// uploads, every 256th the last 256, and so on. A byte is then uploaded once a
	// tier, and however long a quiet segment stays open, few objects are there.
	tier            = 16
	cumulativeBytes = 8 << 20
	// maxAhead bounds how many segments from the first unfinished one on are
	// worked on: a receiver that is killed while an upload of the first is tried again
	// and again must not leave a hole so far back that lookBack does not reach it.
	maxAhead = lookBack / 2
)

// policy is what the choice of the next job depends on besides the journal.
type policy struct {
	// eager: a commit waits for what arrives.
	eager bool
	// behind: the server has more than a segment to send, so that whole
	// segments are to be uploaded rather than pieces of them.
	behind bool
	delay  time.Duration
	// uploads and seals are how many more may be begun.
	uploads, seals int
}

// jobKind tells what is to be done with a segment.
type jobKind int

const (
	noJob jobKind = iota
	// compareJob holds fragments that exist against what was received.
	compareJob
	// fragmentJob uploads a fragment.
	fragmentJob
	// sealJob puts the whole segment into the archive, as what makes it durable.
	sealJob
	// housekeepingJob does so with a segment whose fragments cover it.
	housekeepingJob
)

// job is a piece of work on one segment.
type job struct {
	kind     jobKind
	segment  *openSegment
	fragment ownFragment // fragmentJob
	// compareJob: with what is archived, of what is durable and of what is here.
	compare       []archive.StoredFragment
	durable, have int64
	begun         time.Time
}

// next chooses the next job and marks it as begun. Without one, wait is how
// long there will be none if nothing changes; 0: for ever. The lock is held.
func (j *journal) next(p policy, now time.Time) (next job, wait time.Duration) {
	later := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = d
		}
	}
	for i, s := range j.segments {
		if i == maxAhead {
			break
		}
		if s.file == nil || s.done() {
			continue
		}
		if p.uploads > 0 {
			next, due := j.compareNext(s, p, now)
			if next.kind != noJob {
				next.begun = now
				return next, 0
			}
			if due > 0 {
				later(due)
			}
		}
		if len(s.existing) > 0 || s.comparing || s.sealing {
			continue
		}
		kind := s.sealNext(p)
		if kind != noJob {
			s.sealing = true
			return job{kind: kind, segment: s, begun: now}, 0
		}
		if s.presealed || s.scheduled >= s.have || s.sealsWhole() {
			continue
		}
		if due := j.due(s, p, now); due > 0 {
			later(due)
			continue
		}
		if s.nameless() {
			continue
		}
		if p.uploads > 0 && (s.inFlight == 0 || s.have-s.durable <= overlapBudget) {
			return s.beginFragment(now), 0
		}
	}
	return job{}, wait
}

// sealsWhole reports whether the segment becomes durable by being sealed.
func (s *openSegment) sealsWhole() bool {
	return s.complete() && !s.refused && s.scheduled == 0
}

// sealNext tells whether, and as what, the segment is to be sealed now.
func (s *openSegment) sealNext(p policy) jobKind {
	switch {
	case !s.complete() || s.refused:
		return noJob
	case s.presealed || s.sealsWhole():
		if p.uploads > 0 {
			return sealJob
		}
	case s.durable == s.have && s.inFlight == 0:
		if p.seals > 0 {
			return housekeepingJob
		}
	}
	return noJob
}

// due is how long the segment's unscheduled bytes may still wait for more.
func (j *journal) due(s *openSegment, p policy, now time.Time) time.Duration {
	switch {
	case s.complete() || s.left || p.eager && !p.behind:
		return 0
	case s.seg.Timeline == j.timeline && s.seg.Start()+lsn(s.scheduled) < j.urgent:
		return 0
	}
	return s.since.Add(p.delay).Sub(now)
}

// beginFragment makes a job of the bytes that are not durable.
func (s *openSegment) beginFragment(now time.Time) job {
	f := archive.Fragment{Segment: s.seg, From: s.durable, To: min(s.have, s.durable+maxFragment)}
	s.uploads++
	first := s.uploads
	for span := tier; s.uploads%span == 0; span *= tier {
		first = s.uploads - span + 1
	}
	for _, old := range s.fragments {
		if old.first >= first && old.From < f.From && f.To-old.From <= cumulativeBytes {
			f.From = old.From
		}
	}
	f = s.free(f)
	s.scheduled = f.To
	s.inFlight++
	return job{kind: fragmentJob, segment: s, fragment: ownFragment{f, first}, begun: now}
}

// stored notes that a fragment is durable, and returns those that it covers.
// The lock is held.
func (s *openSegment) stored(next job) (covered []archive.Fragment) {
	f := next.fragment
	s.inFlight--
	if f.From <= s.durable && f.To > s.durable {
		s.durable = f.To
		s.arrived = next.begun // what is not durable came after this
	}
	for _, old := range s.fragments {
		if old.From <= f.From && old.To >= f.To && old.Fragment != f.Fragment {
			return []archive.Fragment{f.Fragment} // one that was begun later came first
		}
	}
	s.fragments = slices.DeleteFunc(s.fragments, func(old ownFragment) bool {
		is := old.From >= f.From && old.To <= f.To && old.Fragment != f.Fragment
		if is {
			covered = append(covered, old.Fragment)
		}
		return is
	})
	s.fragments = append(s.fragments, f)
	return covered
}
