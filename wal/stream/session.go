package stream

import (
	"context"
	"errors"
	"sync"
	"time"

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

// Reasons to end a connection with nothing read from it, so that a shutdown of the server is not kept waiting.
var (
	errLetGo = errors.New("the server is shutting down, and was let go before all it has was received")
	errStuck = errors.New("the server cannot be asked whether it is shutting down, and there has been no room for what it sends: it is let go, the slot keeps the WAL")
)

// run receives until the connection ends or ctx is done. It returns nil only
// in the latter case, after what was received has been shipped and acknowledged
// as far as the time allows.
func (s *session) run(ctx context.Context) error {
	defer func() { s.up.close() }()
	held, err := s.up.ensureSlot(ctx, s.r.o.Slot, s.r.o.Logger)
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
				s.r.gone[place{s.up.host, s.begun.timeline, s.begun.at}] = true
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

// follow goes over to the next timeline.
func (s *session) follow(ctx context.Context, row endRow) ([]start, error) {
	if row.timeline == 0 {
		return nil, errors.New("the server ended the timeline without saying which one follows")
	}
	s.r.o.Logger.Info("the timeline ends", "next_timeline", row.timeline, "switch", row.start)
	content, err := s.up.storeHistory(ctx, s.r, row.timeline)
	if err != nil {
		return nil, err
	}
	h, err := wal.ParseHistory(row.timeline, content)
	if err != nil {
		return nil, err
	}
	s.r.setHistory(h)
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
	// Receiving ends with either: where the journal is full it waits for neither
	// the server nor the repository.
	taking, stopTaking := context.WithCancel(running)
	defer stopTaking()
	stop := context.AfterFunc(ctx, func() {
		stopTaking()
		_ = f.conn.SetReadDeadline(time.Now())
	})
	defer stop()
	g.Go(func() error {
		defer end()
		err := s.receive(taking, f, reply)
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
		if !s.heard {
			s.heard = true
			if away, _, tell := s.r.trouble.worked(false, time.Now()); tell {
				s.r.o.Logger.Info("the server is heard again", "host", s.up.host.String(), "away", away.Round(time.Millisecond))
			}
		}
		switch ev.kind {
		case walEvent:
			if err := s.take(ctx, f, ev); err != nil {
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

// take puts WAL into the journal. While that is full nothing is read, on
// purpose: the server's silence means nothing then.
func (s *session) take(ctx context.Context, f *feed, ev event) error {
	defer f.pause()()
	f.taking.Store(true)
	defer f.taking.Store(false)
	return s.r.journal.append(ctx, ev.start, ev.data)
}

// part ends the stream because ctx is done: what was received is shipped and
// acknowledged, and the server is told goodbye.
func (s *session) part(ctx context.Context, f *feed) error {
	defer f.pause()()
	s.r.state.change(func(st *Status) { st.Phase = Stopping })
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.r.o.StopTimeout)
	defer cancel()
	err := s.r.shipper.drain(bounded)
	if _, _, e := s.report(f, false); e == nil {
		f.goodbye()
	}
	return err
}
