package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/wal"
)

// errShipFirst says that what is here does not join what receiving has to go on
// with, and is to be shipped before it does, without a connection: a segment of it
// may have to be begun anew, and a hole must not be passed by what is behind it.
var errShipFirst = errors.New("what was received earlier does not join what is archived")

// starts lists where to go on, best first: where the journal ends, if the
// server's timeline leads there; else where the repository does.
func (s *session) starts(ctx context.Context, held slot) ([]start, error) {
	resumed, ok := s.resume()
	if ok && s.r.connected && !s.gone(resumed) {
		return []start{resumed}, nil
	}
	v, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	list := v.starts()
	if ok && s.r.journal.goesOn(resumed, list) {
		// A spool goes further than the repository.
		return []start{resumed}, nil
	}
	if s.r.journal.leave() {
		return nil, errShipFirst
	}
	if len(list) == 0 {
		at := held.start
		if at == 0 {
			at = s.up.end
		}
		at = v.segmentStart(at)
		s.r.o.Logger.Info("nothing of this timeline is archived yet: archiving begins here", "lsn", at)
		return []start{{timeline: v.timelineAt(at), at: at}}, nil
	}
	return list, nil
}

// inventory lists the archive and makes the journal know it.
func (s *session) inventory(ctx context.Context) (*inventory, error) {
	v, err := takeInventory(ctx, s.r.o.Archive, s.up.history, s.up.end)
	if err != nil {
		return nil, fmt.Errorf("see what is archived: %w", err)
	}
	s.r.setInventory(v)
	return v, nil
}

// resume is where the journal ends, as far as the server's history agrees with it.
func (s *session) resume() (start, bool) {
	tli, tip, ok := s.r.journal.resumable()
	if !ok {
		return start{}, false
	}
	size := s.r.journal.size
	for _, span := range s.up.history.Path() {
		if span.Timeline != tli {
			continue
		}
		if span.End == 0 || tip <= span.End {
			return start{timeline: tli, at: tip, missing: tip}, true
		}
		next, _, _ := s.up.history.TimelineAt(span.End)
		s.r.o.Logger.Warn("the server's timeline left ours before the end of what was received; the rest of ours is kept",
			"timeline", tli, "received", tip, "left_at", span.End, "next_timeline", next)
		at := segmentStart(size, span.End)
		return start{timeline: next, at: at, missing: at}, true
	}
	return start{}, false
}

// open starts the stream at the first place of list that the server still has
// the WAL of, and makes the journal go on there. What the server no longer has
// is a gap, no longer than it must be, and is reported as one.
func (s *session) open(ctx context.Context, list []start) (*feed, *endRow, error) {
	for i, at := range list {
		if !s.gone(at) {
			f, ended, err := s.try(ctx, at)
			if !removed(err) {
				return f, ended, err
			}
		}
		if i+1 == len(list) {
			break
		}
		f, ended, err := s.openWithin(ctx, at)
		if f != nil || err != nil {
			return f, ended, err
		}
	}
	// Not even what comes after the archived WAL.
	last := list[len(list)-1]
	begin, err := s.firstHeld(ctx, last.at, segmentStart(s.r.journal.size, s.up.end))
	if err != nil {
		return nil, nil, err
	}
	at := start{timeline: timelineOf(s.r.journal.size, s.up.history, begin), at: begin}
	f, ended, err := s.try(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	s.r.reportGap(GapError{Timeline: last.timeline, From: max(last.missing, last.at), To: begin})
	return f, ended, nil
}

// openWithin starts the stream within a hole of whose beginning the server no longer
// has the WAL, where it has it again, and reports the gap. There is no feed if it
// has nothing of the hole.
func (s *session) openWithin(ctx context.Context, hole start) (f *feed, ended *endRow, err error) {
	begin := hole.next
	if hole.missing < hole.next {
		if begin, err = s.firstHeld(ctx, hole.at, hole.next); err != nil {
			return nil, nil, err
		}
	}
	if begin < hole.next {
		at := start{timeline: timelineOf(s.r.journal.size, s.up.history, begin), at: begin}
		if f, ended, err = s.try(ctx, at); err != nil {
			return nil, nil, err
		}
	}
	s.r.reportGap(GapError{Timeline: hole.timeline, From: hole.missing, To: begin})
	return f, ended, nil
}

// firstHeld is the start of the first segment behind gone, whose segment the server
// has removed, that it still has, or limit, a later segment's start. A server removes the
// oldest first.
func (s *session) firstHeld(ctx context.Context, gone, limit wal.LSN) (wal.LSN, error) {
	size := s.r.journal.size
	removed, held := size.Number(gone), size.Number(limit)
	for removed+1 < held {
		middle := removed + (held-removed)/2
		has, err := s.holds(ctx, wal.LSN(middle*uint64(size)))
		if err != nil {
			return 0, fmt.Errorf("find the first WAL segment that the server still has: %w", err)
		}
		if has {
			held = middle
		} else {
			removed = middle
		}
	}
	return wal.LSN(held * uint64(size)), nil
}

// probeTimeout bounds how long the server may take to say whether it has a segment.
const probeTimeout = time.Minute

// holds reports whether the server has the segment that begins at a position
// before its end. It is asked without the slot, which stays where it is.
func (s *session) holds(ctx context.Context, at wal.LSN) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	f, ended, err := openFeed(ctx, s.up.pg, "", at, timelineOf(s.r.journal.size, s.up.history, at))
	if f == nil {
		return false, err
	}
	has := ended != nil
	if err == nil && ended == nil {
		defer context.AfterFunc(ctx, f.close)()
		if has, err = f.holds(); err != nil {
			f.close()
			return false, received(ctx, err)
		}
	}
	if removed(err) {
		err = nil
	}
	pg, lost := f.release()
	if lost != nil {
		return false, errors.Join(err, lost)
	}
	s.up.pg = pg
	return has, err
}

// gone reports whether this server has said that it removed the WAL of a place.
func (s *session) gone(at start) bool {
	return s.r.gone[place{s.up.host, at.timeline, at.at}]
}

// try starts the stream at one place. After an answer of the server the
// connection can be used again.
func (s *session) try(ctx context.Context, at start) (*feed, *endRow, error) {
	if at.timeline == s.up.timeline && s.up.end < at.at {
		return nil, nil, &BehindError{Timeline: at.timeline, Archived: at.missing, Server: s.up.end}
	}
	f, ended, err := s.request(ctx, at)
	if invalidated(err) {
		// It may have been so for another reason than removed WAL.
		if _, err := s.up.renewSlot(ctx, s.r.o.Slot, s.r.o.Logger); err != nil {
			return nil, nil, err
		}
		f, ended, err = s.request(ctx, at)
	}
	if err != nil {
		return nil, nil, err
	}
	s.r.o.Logger.Info("streaming", "host", s.up.host.String(), "timeline", at.timeline, "from", at.at, "slot", s.r.o.Slot)
	s.r.journal.begin(at.timeline, at.at, at.missing != 0)
	s.begun, s.fed = at, false
	s.r.state.serverFailed(nil)
	s.r.state.change(func(st *Status) { st.Phase = Streaming })
	return f, ended, nil
}

// request asks for the stream from one place on. After a refusal the connection
// is idle.
func (s *session) request(ctx context.Context, at start) (*feed, *endRow, error) {
	var f *feed
	var ended *endRow
	err := s.up.answered(ctx, "START_REPLICATION", func(ctx context.Context) (err error) {
		f, ended, err = openFeed(ctx, s.up.pg, s.r.o.Slot, at.at, at.timeline)
		return err
	})
	if err == nil {
		return f, ended, nil
	}
	err = fmt.Errorf("start replication at %s on timeline %s: %w", at.at, at.timeline, err)
	if f == nil {
		return nil, nil, err
	}
	pg, lost := f.release()
	if lost != nil {
		return nil, nil, errors.Join(err, lost)
	}
	s.up.pg = pg
	return nil, nil, err
}

// removed reports whether the server said that it no longer has the WAL.
func removed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "58P01"
}

// invalidated reports whether the server said that it does not take the slot any more,
// which it does before it looks for any WAL.
func invalidated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55000"
}
