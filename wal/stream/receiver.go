package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// Receiver streams the WAL of one cluster into its archive. Several receivers
// of one cluster can run at the same time, each with a slot of its own, or one
// waiting for the other's: what they store either agrees or is a conflict.
type Receiver struct {
	o       Options
	journal *journal
	state   *state
	shipper *shipper
	spool   *spoolDirectory // nil without one
	known   atomic.Pointer[inventory]
	history atomic.Pointer[wal.History] // of the timeline that is streamed
	host    atomic.Pointer[server.Host] // that is streamed from
	// tidying happens once, in background, for as long as life.
	tidying    sync.Once
	background sync.WaitGroup
	life       context.Context
	// histories are the history files that are known to be archived.
	histories map[wal.TimelineID][]byte
	// gone are the places whose WAL a server said it had removed.
	gone map[place]bool
	// connected is set once a server has been streamed from.
	connected bool
	// served says that the server that was streamed from last has shut down, and
	// had sent all it had.
	served   bool
	patience patience
	// silent are the hosts that were given up because they said nothing, the latest last.
	silent  []server.Host
	trouble outage // of the server
}

// place is where a stream can begin.
type place struct {
	host     server.Host
	timeline wal.TimelineID
	at       wal.LSN
}

// withoutSpool is how many bytes are held in temporary files.
const withoutSpool = 64 << 20

// New checks the options. It connects to nothing.
func New(o Options) (*Receiver, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	r := &Receiver{
		o: o, gone: map[place]bool{}, histories: map[wal.TimelineID][]byte{}, patience: patience{askAfter, giveUpAfter, keptGrace},
		state: &state{status: Status{Phase: Connecting, SlotLag: -1, SlotRoom: -1}},
	}
	limit := int64(withoutSpool)
	if o.Spool != "" {
		r.spool = newSpoolDirectory(o.Spool, o.Archive.Incarnation())
		limit = o.SpoolLimit
	}
	r.journal = newJournal(o.Archive.Incarnation().SegmentSize, limit, r.newFile)
	r.journal.describe = func(s *openSegment) { r.known.Load().describe(s) }
	r.shipper = newShipper(&r.o, r.journal, r.state)
	return r, nil
}

func (r *Receiver) newFile(seg wal.Segment) (*segmentFile, error) {
	if r.spool == nil {
		return newTemporarySegment(seg.Size.Bytes())
	}
	return r.spool.create(seg)
}

// Run receives until ctx is done, and reconnects for as long as that takes.
// Then it ships what it has received, acknowledges it, and returns nil, an
// *UnshippedError if the repository did not take it in time, or a
// *FindingsError if all is well now but a gap, or WAL that is not sound, was met. A
// *NotReceivingError, alone or joined to that, says that no WAL was being received
// at the end, and had not been for a minute: the server could not be reached, or refused; or that it was behind the archive.
//
// Other errors are those that only a person can mend: a *ForeignServerError, an
// *archive.ConflictError or *OtherContentError, a *BusyError of the spool, and, before a server was streamed from for the first time, what is
// wrong with the connection string or the role. Run is called once.
func (r *Receiver) Run(ctx context.Context) error {
	defer r.closeFiles()
	if r.spool != nil {
		if err := r.spool.open(); err != nil {
			return err
		}
		defer r.spool.close()
		if err := r.recoverSpool(ctx); err != nil {
			return err
		}
	}
	g, running := errgroup.WithContext(context.WithoutCancel(ctx))
	background, stopBackground := context.WithCancel(running)
	defer r.background.Wait()
	defer stopBackground()
	r.life = background
	g.Go(func() error { return r.shipper.run(background) })
	g.Go(func() error { return r.shipper.sweeper.run(background) })
	g.Go(func() error { return r.keepSlots(background) })
	g.Go(func() error { return r.keepNames(background) })
	if r.o.Acknowledge == Local {
		g.Go(func() error { return r.syncSpool(background) })
	}
	g.Go(func() error {
		defer stopBackground()
		// Whoever fails for good ends the sessions.
		sessions, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(running, stop)()
		if err := r.sessions(sessions); err != nil {
			return err
		}
		return r.finish(sessions)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return errors.Join(r.state.findingsError(), r.notReceiving())
}

// notReceiving is why nothing was being received when the receiver was told to stop;
// nil: it was, or until a moment ago. A server that has shut down has nothing more to
// give until it is started again.
func (r *Receiver) notReceiving() error {
	since, err := r.state.noServer()
	var behind *BehindError // does not go away by itself
	young := time.Since(since) < r.patience.giveUp && !errors.As(err, &behind)
	if err == nil || young || r.served && (errors.Is(err, errServerStops) || unreachable(err)) {
		return nil
	}
	return &NotReceivingError{Err: err}
}

// unreachable reports whether there is no server to talk to, or one that is
// starting or stopping.
func unreachable(err error) bool {
	var connect *server.ConnectError
	var pg *pgconn.PgError
	return errors.As(err, &connect) && !errors.As(err, &pg) || stopping(err)
}

func (r *Receiver) closeFiles() {
	if err := r.journal.close(); err != nil {
		r.o.Logger.Warn("a file of WAL cannot be closed", "error", err)
	}
}

// finish ships what a session without a server could not.
func (r *Receiver) finish(ctx context.Context) error {
	r.state.change(func(st *Status) { st.Phase = Stopping })
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.StopTimeout)
	defer cancel()
	return r.shipper.drain(bounded)
}

// Pauses between connections.
const (
	firstReconnect = 100 * time.Millisecond
	maxReconnect   = 10 * time.Second
)

// sessions connects and receives, again and again, until ctx is done.
func (r *Receiver) sessions(ctx context.Context) error {
	pause := firstReconnect
	for ctx.Err() == nil {
		began := time.Now()
		heard, err := r.session(ctx)
		if errors.Is(err, errShipFirst) {
			r.o.Logger.Info("what was received earlier does not join what is archived: it is uploaded before receiving goes on")
			if r.journal.clear(ctx) == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return unshipped(err)
		}
		if lasting(err) || !r.connected && refusedForGood(err) {
			return err
		}
		if heard || errors.Is(err, errServerStops) {
			r.served = errors.Is(err, errServerStops)
		}
		if heard && time.Since(began) > pause { // not what fails again and again after its first message
			pause = firstReconnect
		}
		r.state.change(func(st *Status) { st.Phase = Connecting })
		r.state.serverFailed(err)
		wait := pause/2 + rand.N(pause)
		r.tellFailure(err, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxReconnect)
	}
	return nil
}

// tellFailure logs why no WAL is being received, not too often.
func (r *Receiver) tellFailure(err error, wait time.Duration) {
	failures, tell := r.trouble.failed(true, time.Now())
	r.trouble.left()
	if !tell {
		return
	}
	args := []any{"failures", failures, "wait", wait.Round(time.Millisecond), "error", err}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) && hinted.Hint() != "" {
		args = append(args, "hint", hinted.Hint())
	}
	r.o.Logger.Warn("no WAL is being received; connecting again and again", args...)
}

// session connects once and receives until the connection ends. heard reports
// whether the server sent anything.
func (r *Receiver) session(ctx context.Context) (heard bool, err error) {
	defer func() { r.noteSilence(err) }()
	up, err := r.connect(ctx)
	if err != nil {
		return false, err
	}
	r.host.Store(&up.host)
	r.state.change(func(st *Status) {
		st.Host, st.Port = up.host.Name, up.host.Port
		st.Connections++
	})
	s := &session{r: r, up: up}
	err = s.run(ctx)
	r.connected = r.connected || s.heard
	if s.heard {
		r.silent = slices.DeleteFunc(r.silent, func(h server.Host) bool { return h == up.host })
	}
	return s.heard, err
}

// noteSilence makes a host that a session was ended for because it said nothing
// the last one to be tried.
func (r *Receiver) noteSilence(err error) {
	var e *SilentServerError
	if errors.As(err, &e) {
		r.silent = append(slices.DeleteFunc(r.silent, func(h server.Host) bool { return h == e.Host }), e.Host)
	}
}

// unshipped keeps of an error what matters at the end.
func unshipped(err error) error {
	var e *UnshippedError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// lasting reports whether an error stays what it is however often one connects.
func lasting(err error) bool {
	var foreign *ForeignServerError
	return errors.As(err, &foreign) || final(err)
}

// refusedForGood reports whether the server refuses us for what we are: role,
// password, database, rights.
func refusedForGood(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return strings.HasPrefix(pg.Code, "28") || pg.Code == "3D000" || pg.Code == "42501"
}

func (r *Receiver) setInventory(v *inventory) { r.known.Store(v) }

func (r *Receiver) setHistory(h wal.History) { r.history.Store(&h) }

// currentHost is the one that is streamed from, or was last; none yet: zero.
func (r *Receiver) currentHost() server.Host {
	if h := r.host.Load(); h != nil {
		return *h
	}
	return server.Host{}
}

// flushed is what may be reported: how far WAL has come, and up to where it is
// as safe as the user asked for.
func (r *Receiver) flushed() (received, flushed wal.LSN) {
	received, durable, synced := r.journal.positions()
	if r.o.Acknowledge == Local {
		return received, synced
	}
	return received, durable
}

// reportGap tells of a gap: loudly, and once.
func (r *Receiver) reportGap(g GapError) {
	if g.From < g.To && r.state.gap(g) {
		r.o.Logger.Error(g.Error(), "hint", g.Hint())
	}
}

// Status tells what the receiver is doing.
func (r *Receiver) Status() Status { return r.state.snapshot(r.journal) }
