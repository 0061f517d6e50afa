//go:build unix

package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// watch is one run: a server and what is known about it.
type watch struct {
	*setup
	options Options
	server  *server
	log     *slog.Logger
	reader  logReader
	seen    observer
	session session
	began   time.Time

	lastReport time.Time
	lastStage  Stage
	lastAsk    time.Time
	lastPrune  time.Time
	answer     position // the last answer of the server
}

func run(ctx context.Context, o Options) (*Outcome, error) {
	s, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	w := &watch{setup: s, options: o, log: o.Logger, began: time.Now()}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.seen.segmentSize = s.control.SegmentSize
	if s.over {
		w.seen.newTimeline = s.newestHistory()
	}
	w.session = session{owner: s.owner, user: o.User, database: o.Database}
	if w.session.user == "" {
		w.session.user = s.owner.userName()
	}
	if w.session.database == "" {
		w.session.database = "postgres"
	}
	if err = s.markUnfinished(); err == nil {
		w.server, err = s.start()
	}
	if err != nil {
		s.removeRunDirectory()
		return nil, err
	}
	defer w.server.close()
	defer w.session.close()
	w.log.Info("server started", "directory", s.directory, "pid", w.server.process.Pid, "log", s.logPath)
	return w.finish(w.follow(ctx))
}

// follow reads the log until recovery is over.
func (w *watch) follow(ctx context.Context) (State, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := w.server.hasEnded() // before reading: nothing is written after that
		if err := w.learn(); err != nil {
			w.server.stop()
			return Failed, err
		}
		if state, over := w.judge(ended); over {
			return w.conclude(ctx, state)
		}
		w.askPosition(ctx)
		w.pruneWAL()
		w.report(false)
		select {
		case <-ctx.Done():
			w.server.stop()
			_ = w.learn() // for the outcome; the cause is known
			return Failed, fmt.Errorf("recovery: stopped before its end: %w", ctx.Err())
		case <-w.server.ended:
		case <-tick.C:
		}
	}
}

// learn takes everything that the log has by now.
func (w *watch) learn() error {
	for {
		b, err := w.server.readLog()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
		for _, e := range w.reader.write(b) {
			w.log.Debug("server says", "message", e.String())
			w.seen.take(e)
		}
	}
}

// judge tells whether recovery is over, and how.
func (w *watch) judge(ended bool) (State, bool) {
	o := &w.seen
	switch {
	case ended && o.shutTarget && o.stop.Kind != "":
		return ShutDownAtTarget, true
	case ended:
		return Failed, true
	case o.pausedEarly && o.tooSmall != nil && !o.pausedAtEnd:
		return Failed, true
	case o.pausedAtEnd:
		return PausedAtTarget, true
	case (o.complete || w.over) && o.ready:
		return Promoted, true
	case o.standby && o.consistentAt != 0 && o.readyReadOnly:
		return StandingBy, true
	}
	return "", false
}

// conclude turns a failure into an error, after the server has been stopped
// where it must not stay.
func (w *watch) conclude(ctx context.Context, state State) (State, error) {
	if state != Failed {
		return state, nil
	}
	// The details of the decisive message may still be on their way.
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
	_ = w.learn() // what could not be read does not change what has been
	exit := ""
	if w.server.hasEnded() {
		exit = w.server.exit
	} else {
		// It waits for settings that it can only get by a restart.
		w.askPosition(ctx)
		w.server.stop()
	}
	return Failed, w.seen.diagnose(exit, w.logPath)
}

// askPosition asks the server where it is, once a second, as soon as it lets in.
func (w *watch) askPosition(ctx context.Context) {
	if !w.seen.readyReadOnly || w.seen.complete || time.Since(w.lastAsk) < time.Second {
		return
	}
	w.lastAsk = time.Now()
	_ = w.ask(ctx) // logged; the log of the server tells the position too
}

func (w *watch) ask(ctx context.Context) error {
	found := w.waitStatus(ctx, w.server, time.Second)
	p, err := w.session.ask(ctx, found)
	if err != nil {
		w.log.Debug("the server does not tell its position", "error", err)
		return err
	}
	w.answer = p
	w.seen.position = max(w.seen.position, p.lsn)
	return nil
}

// report calls Progress when it is due.
func (w *watch) report(now bool) {
	stage := w.seen.stage()
	if w.options.Progress == nil || !now && stage == w.lastStage && time.Since(w.lastReport) < 500*time.Millisecond {
		return
	}
	w.lastStage, w.lastReport = stage, time.Now()
	p := Progress{
		Stage: stage, LSN: w.seen.position, Start: w.seen.redoStart,
		Segment: w.seen.segment, Elapsed: time.Since(w.began),
	}
	if x := w.options.Expect; x != nil {
		p.End = x.End
	}
	w.options.Progress(p)
}
