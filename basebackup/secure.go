package basebackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/stream"
)

// WALError says that the WAL which a backup needs could not be had. Without it
// the backup cannot be restored: it was not published.
type WALError struct {
	// Segment is the first that is missing or does not fit.
	Segment wal.Segment
	Reason  string
	Err     error
	Advice  string
}

// Error names the segment and the reason.
func (e *WALError) Error() string {
	s := fmt.Sprintf("the backup needs WAL segment %s: %s", e.Segment.Name(), e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause, if there is one.
func (e *WALError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *WALError) Hint() string { return e.Advice }

// orderRanges turns the WAL ranges of the server's manifest, newest first, into
// ranges oldest first, and checks that they lead from the start to the stop.
func orderRanges(ranges []WALRange, start StartInfo, end EndInfo) ([]WALRange, error) {
	ranges = slices.Clone(ranges)
	slices.Reverse(ranges)
	bad := func(reason string) error {
		return &FormatError{Object: ManifestPath, Reason: fmt.Sprintf("WAL ranges %v: %s", ranges, reason)}
	}
	if len(ranges) == 0 {
		return nil, bad("there are none")
	}
	first, last := ranges[0], ranges[len(ranges)-1]
	if first.Timeline != start.Timeline || first.Start != start.StartLSN {
		return nil, bad(fmt.Sprintf("they do not start at %s on timeline %d", start.StartLSN, start.Timeline))
	}
	if last.Timeline != end.Timeline || last.End != end.StopLSN {
		return nil, bad(fmt.Sprintf("they do not stop at %s on timeline %d", end.StopLSN, end.Timeline))
	}
	for i := 1; i < len(ranges); i++ {
		if ranges[i].Start != ranges[i-1].End || ranges[i].Timeline <= ranges[i-1].Timeline {
			return nil, bad("they do not follow each other")
		}
	}
	return ranges, nil
}

// span is a run of segments on one timeline.
type span struct {
	timeline    wal.TimelineID
	first, last uint64  // segment numbers, inclusive
	begin       wal.LSN // where the timeline begins; 0 for the first span
}

// spans lists the segments of ranges. The segment that holds a switch is
// needed from the newer timeline only: PostgreSQL asks for no other.
func spans(ranges []WALRange, size wal.SegmentSize) []span {
	var list []span
	for i, r := range ranges {
		s := span{timeline: r.Timeline, first: size.Number(r.Start), last: size.PrevNumber(r.End)}
		if i > 0 {
			s.begin = r.Start
		}
		if r.Start == r.End { // nothing happened: the segment of that position
			s.last = s.first
		}
		if i+1 < len(ranges) {
			next := size.Number(ranges[i+1].Start)
			if next == s.first {
				continue
			}
			s.last = min(s.last, next-1)
		}
		list = append(list, s)
	}
	return list
}

// secureWAL makes sure that the archive holds the WAL of ranges, and that it joins.
func (t *taker) secureWAL(ctx context.Context, ranges []WALRange) error {
	if err := t.secureHistories(ctx, ranges); err != nil {
		return err
	}
	list := spans(ranges, t.o.Incarnation.SegmentSize)
	missing, err := t.awaitArchive(ctx, list)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := t.fetch(ctx, missing); err != nil {
			return err
		}
	}
	return t.verifyChain(ctx, list, ranges[len(ranges)-1].End)
}

// secureHistories stores the history files of the backup's timelines where
// the archive lacks them: without, no recovery finds its way.
func (t *taker) secureHistories(ctx context.Context, ranges []WALRange) error {
	var have map[wal.TimelineID]wal.History
	for _, r := range ranges {
		if r.Timeline == 1 {
			continue
		}
		if have == nil {
			var err error
			if have, err = t.o.Archive.Histories(ctx); err != nil {
				return fmt.Errorf("look for history files: %w", err)
			}
		}
		if _, ok := have[r.Timeline]; ok {
			continue
		}
		if t.reserved == nil {
			return fmt.Errorf("the archive lacks the history file of timeline %d", r.Timeline)
		}
		content, err := t.reserved.History(ctx, r.Timeline)
		if err != nil {
			return fmt.Errorf("fetch the history file of timeline %d, which the archive lacks: %w", r.Timeline, err)
		}
		if _, err := t.o.Archive.PutHistory(ctx, r.Timeline, content); err != nil {
			return fmt.Errorf("store the history file of timeline %d: %w", r.Timeline, err)
		}
	}
	return nil
}

// pollInterval is how often the archive is asked for missing segments.
const pollInterval = time.Second

// awaitArchive waits until the archive holds all segments. It returns those
// that are still missing when the time is up, at once if nobody archives.
func (t *taker) awaitArchive(ctx context.Context, list []span) ([]wal.Segment, error) {
	deadline := time.Now().Add(t.o.WALTimeout)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		missing, err := t.missing(ctx, list)
		if err != nil || len(missing) == 0 {
			return nil, err
		}
		if t.identity.ArchiveMode == "off" || time.Now().After(deadline) {
			return missing, nil
		}
		t.progress.phase(PhaseWAL, t.waitMessage(missing))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		list = narrow(missing)
	}
}

// narrow returns the spans that hold the missing segments: what has been seen
// in the archive stays there and need not be listed again.
func narrow(missing []wal.Segment) []span {
	var list []span
	for _, seg := range missing {
		if n := len(list); n > 0 && list[n-1].timeline == seg.Timeline {
			list[n-1].last = seg.Number
			continue
		}
		list = append(list, span{timeline: seg.Timeline, first: seg.Number, last: seg.Number})
	}
	return list
}

func (t *taker) waitMessage(missing []wal.Segment) string {
	s := fmt.Sprintf("waiting for segment %s to be archived", missing[0].Name())
	if t.got.label.standby {
		s += "; it is complete once the primary begins the next one: SELECT pg_switch_wal() there"
	}
	return s
}

// missing lists the segments that the archive lacks, in order.
func (t *taker) missing(ctx context.Context, list []span) ([]wal.Segment, error) {
	var missing []wal.Segment
	for _, s := range list {
		entries, err := t.o.Archive.Segments(ctx, s.timeline, s.first, s.last)
		if err != nil {
			return nil, fmt.Errorf("list the archived WAL: %w", err)
		}
		have := make(map[uint64]bool, len(entries))
		for _, e := range entries {
			have[e.Segment.Number] = have[e.Segment.Number] || !e.Partial
		}
		for n := s.first; n <= s.last; n++ {
			if !have[n] {
				missing = append(missing, t.segment(s.timeline, n))
			}
		}
	}
	return missing, nil
}

func (t *taker) segment(tli wal.TimelineID, n uint64) wal.Segment {
	return wal.Segment{Timeline: tli, Number: n, Size: t.o.Incarnation.SegmentSize}
}

// errIdle is why a fetch that waited too long for a segment was ended.
var errIdle = errors.New("no segment became complete in time")

// fetch streams the missing segments from the server into the archive, run by
// run. What is limited is the wait for each segment, not the time that many
// segments take, nor that of storing one.
func (t *taker) fetch(ctx context.Context, missing []wal.Segment) error {
	if t.reserved == nil {
		return t.walError(missing[0], "it did not come into the archive in time, and no replication slot holds it", nil)
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(t.o.WALTimeout, func() { cancel(errIdle) })
	defer idle.Stop()
	for len(missing) > 0 {
		run := 1
		for run < len(missing) && missing[run] == missing[run-1].Next() {
			run++
		}
		next := missing[0]
		t.progress.phase(PhaseWAL, t.fetchMessage(next))
		err := t.reserved.Fetch(limited, next.Timeline, next.Start(), missing[run-1].End(), func(_ context.Context, seg wal.Segment, r io.ReaderAt) error {
			idle.Stop()
			defer idle.Reset(t.o.WALTimeout)
			if _, err := t.o.Archive.PutSegment(ctx, seg, r); err != nil {
				return err
			}
			next = seg.Next()
			t.progress.phase(PhaseWAL, t.fetchMessage(next))
			return nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && errors.Is(context.Cause(limited), errIdle) {
			return t.walError(next, fmt.Sprintf("it was neither archived nor complete on the server within %s", t.o.WALTimeout), err)
		}
		if err != nil {
			return t.walError(next, "it could not be fetched from the server", err)
		}
		missing = missing[run:]
	}
	return nil
}

func (t *taker) fetchMessage(seg wal.Segment) string {
	s := fmt.Sprintf("fetching segment %s from the server", seg.Name())
	if t.got.label.standby {
		s += "; it is complete once the primary begins the next one: SELECT pg_switch_wal() there"
	}
	return s
}

func (t *taker) walError(seg wal.Segment, reason string, err error) error {
	advice := "see the server's log for what archive_command says"
	if over := (*stream.EndOfTimelineError)(nil); errors.As(err, &over) {
		// The old timeline's last segment never becomes whole.
		advice = "the server went over to another timeline while the backup ran: take the backup again"
	} else if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) {
		advice = hinted.Hint()
	} else if t.got.label.standby {
		advice = "a backup from a standby needs the primary to finish its WAL segment: run SELECT pg_switch_wal() on the primary, " +
			"or set archive_timeout there"
	}
	return &WALError{Segment: seg, Reason: reason, Err: err, Advice: advice}
}

// chainWindow is how many segment indexes are read ahead, in parallel.
const chainWindow = 8

// verifyChain reads the indexes of all segments and joins each to the next:
// what the archive holds must lead from the first record to the stop position.
func (t *taker) verifyChain(ctx context.Context, list []span, stop wal.LSN) error {
	c := chain{start: t.got.start.StartLSN, stop: stop}
	for _, s := range list {
		for n := s.first; n <= s.last; n += chainWindow {
			window := make([]*index.Index, min(chainWindow, s.last-n+1))
			g, gctx := errgroup.WithContext(ctx)
			for i := range window {
				g.Go(func() error {
					seg := t.segment(s.timeline, n+uint64(i))
					var err error
					if window[i], err = t.o.Archive.Index(gctx, seg); err != nil {
						return t.walError(seg, "what the archive holds cannot be read", err)
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			for _, ix := range window {
				if err := c.add(ix, s.begin); err != nil {
					return t.walError(ix.Segment, "what the archive holds does not continue the segment before it", err)
				}
			}
		}
	}
	return t.checkEnd(&c)
}

// checkEnd makes sure that valid WAL reaches the stop position.
func (t *taker) checkEnd(c *chain) error {
	if c.last == nil || c.last.EndOfRecords < c.stop {
		seg := wal.SegmentAt(t.got.end.Timeline, c.stop-1, t.o.Incarnation.SegmentSize)
		return t.walError(seg, fmt.Sprintf("its valid WAL ends before the backup's stop position %s", c.stop), nil)
	}
	// A primary ends a backup with a record of its own, and restored servers wait for it.
	if !c.ended && !t.got.label.standby {
		return t.walError(c.last.Segment, fmt.Sprintf("the record that ends the backup at %s is not in the archive", c.stop), nil)
	}
	return nil
}

// chain joins segments that come one by one.
type chain struct {
	start, stop wal.LSN // of the backup
	joiner      index.Joiner
	last        *index.Index
	ended       bool // the record that ends the backup was seen
}

// add joins ix to what came before. begin is where ix's timeline begins, if
// the segments before are of an older one.
func (c *chain) add(ix *index.Index, begin wal.LSN) error {
	last := c.last
	c.last = ix
	if last != nil && last.Segment.Timeline != ix.Segment.Timeline {
		joined, err := index.JoinAt(last, ix, begin)
		if err != nil {
			return err
		}
		c.crossed(joined)
		c.joiner = index.Joiner{}
	}
	joined, err := c.joiner.Add(ix)
	if err != nil {
		return err
	}
	c.crossed(joined)
	for _, l := range ix.Landmarks {
		c.landmark(l)
	}
	return nil
}

// crossed takes the record that crosses from one segment into the next.
func (c *chain) crossed(j *index.Joined) {
	if j != nil && j.Landmark != nil {
		c.landmark(*j.Landmark)
	}
}

func (c *chain) landmark(l index.Landmark) {
	if l.Kind == index.BackupEnd && l.Redo == c.start && l.End == c.stop {
		c.ended = true
	}
}
