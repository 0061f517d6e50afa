package stream

import (
	"context"
	"errors"
	"time"

	"github.com/walden-pg/walden/wal"
)

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
	return !s.asked.IsZero() && now.Sub(s.asked) > s.r.patience.kept
}

// Times after which a server that says nothing is asked, and given up; and
// after which one is let go that asks and cannot be told what it wants to hear:
// were it shutting down, it would wait for ever. The slot keeps the WAL.
const (
	askAfter    = 20 * time.Second
	giveUpAfter = 60 * time.Second
	keptGrace   = 10 * time.Second
)

// patience is how long a receiver waits for a server: see askAfter, giveUpAfter
// and keptGrace.
type patience struct{ ask, giveUp, kept time.Duration }

// writeGrace is for how long a position that was received and is not durable yet is kept
// back after a report, where commits wait: mostly it can be told with the next
// flush position, and each report wakes the server.
const writeGrace = 2 * time.Millisecond

// acknowledge reports positions: at once when something has become durable or
// a reply is wanted, and at intervals, since a server gives up a receiver that
// it does not hear. It also notices a server that has gone without a word.
func (s *session) acknowledge(ctx context.Context, f *feed, reply <-chan struct{}) (err error) {
	ticker := time.NewTicker(min(time.Second, s.up.statusInterval, s.r.patience.ask))
	defer ticker.Stop()
	grace := time.NewTimer(0)
	defer grace.Stop()
	var written, told wal.LSN
	var sent, asked time.Time
	for first := true; ; first = false {
		changed := s.r.journal.await()
		received, flushed := s.r.flushed()
		now := time.Now()
		ask, silence := false, f.silence()
		if silence > s.r.patience.ask && now.Sub(asked) > s.r.patience.ask {
			ask, asked = true, now
		}
		if s.kept(flushed, now) {
			f.close()
			return errors.New("the server asks for a reply and the repository does not take what it waits for: it is let go")
		}
		if silence > s.r.patience.giveUp {
			f.close()
			return &SilentServerError{Host: s.up.host, For: silence}
		}
		wanted := first || ask || flushed != told || now.Sub(sent) >= s.up.statusInterval
		if received != written && !wanted && s.r.state.eager() {
			rest := writeGrace - now.Sub(sent)
			wanted = rest <= 0
			grace.Reset(rest)
		}
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
		case <-grace.C:
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
