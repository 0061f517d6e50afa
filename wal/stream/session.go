package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/wal"
)

// session is one connection to a server, from timeline to timeline.
type session struct {
	r  *Receiver
	up *upstream
	// heard is set once WAL or a keepalive has come.
	heard bool
	// begun is where the stream was begun last, and fed whether WAL has come since.
	begun start
	fed   bool
	// reporting makes reports follow each other, so that the last one tells the most.
	reporting sync.Mutex

	mu sync.Mutex
	// asked is when the server asked for a reply, and wants the position that
	// it then waits for, if it is shutting down; zero: it has it.
	asked time.Time
	wants wal.LSN
}

// errServerStops says that the server is shutting down and has sent everything.
var errServerStops = errors.New("the server has shut down")

// run receives until the connection ends or ctx is done. It returns nil only
// in the latter case, after what was received has been shipped and acknowledged
// as far as the time allows.
func (s *session) run(ctx context.Context) error {
	defer func() { s.up.close() }()
	held, err := s.up.ensureSlot(ctx, s.r.o.Slot)
	if err != nil {
		return err
	}
	if err := s.up.readHistory(ctx, s.r); err != nil {
		return err
	}
	list, err := s.starts(ctx, held)
	if err != nil {
		return err
	}
	s.r.tidying.Do(func() { s.r.background.Go(func() { s.r.tidyOnce(s.r.life, list[0]) }) })
	for {
		f, ended, err := s.open(ctx, list)
		if err != nil {
			return err
		}
		var row endRow
		if ended != nil {
			row = *ended
		} else if row, err = s.stream(ctx, f); err != nil {
			if removed(err) && !s.fed {
				// The server says so only once the stream has begun.
				s.r.gone[place{s.begun.timeline, s.begun.at}] = true
			}
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if s.up.pg, err = f.release(); err != nil {
			return err
		}
		if list, err = s.follow(ctx, row); err != nil {
			return err
		}
	}
}

// starts lists where to go on, best first: where the journal ends, if the
// server's timeline leads there; else where the repository does.
func (s *session) starts(ctx context.Context, held slot) ([]start, error) {
	resumed, ok := s.resume()
	if ok && s.r.connected && !s.r.gone[place{resumed.timeline, resumed.at}] {
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
	// Whatever is here is shipped first: a segment of it may have to be begun
	// anew, and a hole must not be passed by what is behind it.
	waited, err := s.r.journal.clear(ctx)
	if err != nil {
		return nil, err
	}
	if waited {
		if v, err = s.inventory(ctx); err != nil {
			return nil, err
		}
		list = v.starts()
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
	tli, tip := s.r.journal.position()
	if tip == 0 {
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
// is a gap, and is reported as one.
func (s *session) open(ctx context.Context, list []start) (*feed, *endRow, error) {
	for i, at := range list {
		if !s.r.gone[place{at.timeline, at.at}] {
			f, ended, err := s.try(ctx, at)
			if err == nil {
				return f, ended, nil
			}
			if !removed(err) {
				return nil, nil, err
			}
		}
		if i+1 < len(list) {
			s.r.reportGap(GapError{Timeline: at.timeline, From: at.missing, To: at.next})
		}
	}
	// Not even what comes after the archived WAL: begin where the slot does.
	last := list[len(list)-1]
	begin, err := s.afterGap(ctx, last)
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

// try starts the stream at one place. After an answer of the server the
// connection can be used again.
func (s *session) try(ctx context.Context, at start) (*feed, *endRow, error) {
	if at.timeline == s.up.timeline && s.up.end < at.at {
		return nil, nil, &BehindError{Timeline: at.timeline, Archived: at.missing, Server: s.up.end}
	}
	f, ended, err := openFeed(ctx, s.up.pg, s.r.o.Slot, at.at, at.timeline)
	if err != nil {
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
	s.r.o.Logger.Info("streaming", "host", s.up.host.String(), "timeline", at.timeline, "from", at.at, "slot", s.r.o.Slot)
	s.r.journal.begin(at.timeline, at.at, at.missing != 0)
	s.begun, s.fed = at, false
	s.r.state.change(func(st *Status) { st.Phase = Streaming })
	return f, ended, nil
}

// afterGap is where the slot begins. One that was invalidated, or claims to
// hold what is gone, is made anew.
func (s *session) afterGap(ctx context.Context, at start) (wal.LSN, error) {
	size := s.r.journal.size
	held, err := s.up.ensureSlot(ctx, s.r.o.Slot)
	if err != nil {
		return 0, err
	}
	if begin := segmentStart(size, held.start); begin > at.at {
		return begin, nil
	}
	if held, err = s.up.renewSlot(ctx, s.r.o.Slot); err != nil {
		return 0, err
	}
	if begin := segmentStart(size, held.start); begin > at.at {
		return begin, nil
	}
	return segmentStart(size, s.up.end), nil
}

// removed reports whether the server said that it no longer has the WAL, or
// that the slot was invalidated because it held too much.
func removed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "58P01" || pg.Code == "55000")
}

// follow goes over to the next timeline.
func (s *session) follow(ctx context.Context, row endRow) ([]start, error) {
	if row.timeline == 0 {
		return nil, errors.New("the server ended the timeline without saying which one follows")
	}
	s.r.o.Logger.Info("the timeline ends", "next_timeline", row.timeline, "switch", row.start)
	if _, err := s.up.storeHistory(ctx, s.r, row.timeline); err != nil {
		return nil, err
	}
	size := s.r.journal.size
	at := segmentStart(size, row.start)
	return []start{{timeline: row.timeline, at: at, missing: at}}, nil
}

// stream receives from f until the timeline ends (it returns where), the
// connection ends, or ctx is done (it returns nothing then).
func (s *session) stream(ctx context.Context, f *feed) (endRow, error) {
	// Until its end the connection is the feed's.
	defer f.close()
	g, running := errgroup.WithContext(context.WithoutCancel(ctx))
	over, end := context.WithCancel(running)
	defer end()
	reply := make(chan struct{}, 1)
	var row endRow
	kept := false // the connection is idle again
	stop := context.AfterFunc(ctx, func() { _ = f.conn.SetReadDeadline(time.Now()) })
	defer stop()
	g.Go(func() error {
		defer end()
		err := s.receive(ctx, f, reply)
		switch {
		case ctx.Err() != nil:
			return s.part(ctx, f)
		case errors.Is(err, errEndOfTimeline):
			row, err = f.finish()
			kept = err == nil
		}
		return err
	})
	g.Go(func() error { return s.acknowledge(over, f, reply) })
	g.Go(func() error { return s.r.watch(over, s.up, f) })
	err := g.Wait()
	if kept && err == nil && ctx.Err() == nil {
		// release needs the network connection.
		f.keep = true
	}
	return row, err
}

var errEndOfTimeline = errors.New("the timeline ends")

// receive takes in what the server sends.
func (s *session) receive(ctx context.Context, f *feed, reply chan<- struct{}) error {
	for {
		ev, err := f.receive()
		if err != nil {
			return err
		}
		s.heard = true
		switch ev.kind {
		case walEvent:
			if err := s.r.journal.append(ctx, ev.start, ev.data); err != nil {
				return err
			}
			s.fed = true
			s.r.state.heard(ev.serverEnd, ev.start+lsn(int64(len(ev.data))), len(ev.data))
		case keepaliveEvent:
			_, tip := s.r.journal.position()
			s.r.state.heard(ev.serverEnd, tip, 0)
			if ev.replyWanted {
				// At its shutdown the server waits until all is flushed.
				s.r.journal.need()
				s.want(tip)
				select {
				case reply <- struct{}{}:
				default:
				}
			}
		case endEvent:
			return errEndOfTimeline
		case shutdownEvent:
			return errServerStops
		}
	}
}

// want notes that the server may wait for a position to be flushed.
func (s *session) want(tip wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked.IsZero() {
		s.asked = time.Now()
	}
	s.wants = tip
}

// kept reports whether the server has waited for too long for what is not
// flushed. It asks for replies hardly ever but at its shutdown, since it hears
// from us often enough.
func (s *session) kept(flushed wal.LSN, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked.IsZero() && flushed >= s.wants {
		s.asked = time.Time{}
	}
	return !s.asked.IsZero() && now.Sub(s.asked) > keptGrace
}

// Times after which a server that says nothing is asked, and given up; and
// after which one is let go that asks and cannot be told what it wants to hear:
// were it shutting down, it would wait for ever. The slot keeps the WAL.
const (
	askAfter    = 20 * time.Second
	giveUpAfter = 60 * time.Second
	keptGrace   = 10 * time.Second
)

// acknowledge reports positions: at once when something has become durable or
// a reply is wanted, and at intervals, since a server gives up a receiver that
// it does not hear. It also notices a server that has gone without a word.
func (s *session) acknowledge(ctx context.Context, f *feed, reply <-chan struct{}) (err error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var written, told wal.LSN
	var sent, asked time.Time
	for first := true; ; first = false {
		changed := s.r.journal.await()
		received, flushed := s.r.flushed()
		now := time.Now()
		ask := false
		if f.silence() > askAfter && now.Sub(asked) > askAfter {
			ask, asked = true, now
		}
		if s.kept(flushed, now) {
			f.close()
			return errors.New("the server asks for a reply and the repository does not take what it waits for: it is let go")
		}
		if f.silence() > giveUpAfter {
			f.close()
			return fmt.Errorf("nothing was heard of the server for %s", f.silence().Round(time.Second))
		}
		wanted := first || ask || flushed != told || now.Sub(sent) >= s.up.statusInterval ||
			received != written && s.r.state.eager()
		select {
		case <-reply:
			wanted = true
		default:
		}
		if wanted {
			if written, told, err = s.report(f, ask); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		case <-reply:
			if written, told, err = s.report(f, false); err != nil {
				return err
			}
		}
	}
}

// report sends a status, and returns what it said.
func (s *session) report(f *feed, ask bool) (received, flushed wal.LSN, err error) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	received, flushed = s.r.flushed()
	if err := f.sendStatus(received, flushed, ask); err != nil {
		f.close()
		return 0, 0, err
	}
	s.r.state.change(func(st *Status) { st.Acknowledged = flushed })
	return received, flushed, nil
}

// part ends the stream because ctx is done: what was received is shipped and
// acknowledged, and the server is told goodbye.
func (s *session) part(ctx context.Context, f *feed) error {
	s.r.state.change(func(st *Status) { st.Phase = Stopping })
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.r.o.StopTimeout)
	defer cancel()
	err := s.r.shipper.drain(bounded)
	if _, _, e := s.report(f, false); e == nil {
		f.goodbye()
	}
	return err
}
