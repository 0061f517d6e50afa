//go:build unix

package recovery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/control"
)

// finish gathers the outcome, holds it against what was expected, and stops the
// server if that is wanted.
func (w *watch) finish(state State, err error) (*Outcome, error) {
	w.report(true)
	o := &Outcome{
		State: state, Stop: w.seen.stop, RedoStart: w.seen.redoStart, ConsistentAt: w.seen.consistentAt,
		LastTransaction: w.seen.lastTime, Major: w.major, BinDir: w.binDir, LogFile: w.logPath, Warnings: w.warnings,
	}
	if o.Stop.Kind == "" && state == Promoted && !w.over {
		o.Stop = Stop{Kind: StopEndOfWAL, Message: "the end of the WAL was reached, no target was set"}
	}
	switch state {
	case Promoted:
		o.NewTimeline = w.seen.newTimeline
		w.locatePromotion(o)
	case PausedAtTarget, StandingBy:
		w.locateLive(o)
	default:
		w.locateStopped(o)
	}
	o.InvalidPages = w.seen.invalidByDatabase()
	if err == nil {
		err = w.seen.judgeInvalid(w.options.Whole, w.logPath)
		if err == nil {
			err = w.compare(o)
		}
		if err != nil {
			o.State = Failed
			w.server.stop() // nobody shall take it for what was asked for
		}
	}
	w.settle(o)
	if err == nil && !w.options.TellLater {
		if told := Told(w.directory); told != nil {
			o.Warnings = append(o.Warnings, told.Error())
		}
	}
	o.Duration = time.Since(w.began)
	return o, err
}

// compare holds the outcome against what was expected.
func (w *watch) compare(o *Outcome) error {
	x := w.options.Expect
	if x == nil {
		return nil
	}
	reason := x.Differs(o)
	if reason == "" {
		o.LastTransaction = x.last(o)
		return nil
	}
	f := &Failure{
		Kind: FailureElsewhere, LogFile: w.logPath, Reason: reason,
		Hint: "the archive is not what it was when the plan was made, or the plan is wrong: make it again, restore into another directory, and report it if it happens again",
	}
	if x.Record == 0 {
		f.Kind = FailureTargetNotReached
		f.Hint = "WAL has gone from the archive since, or could not be replayed: make the plan again, and restore into another directory"
	}
	return f
}

// settle says what is left running, and how to go on.
func (w *watch) settle(o *Outcome) {
	o.StartCommand = w.startCommand()
	if w.options.StopAfter {
		w.session.close()
		w.server.stop()
	}
	if w.server.hasEnded() {
		w.session.close()
		w.removeSocketOnly()
		return
	}
	o.Server = w.waitStatus(context.Background(), w.server, 2*time.Second)
	if o.Server == nil {
		o.Server = &Server{PID: w.server.process.Pid}
	}
	o.StopCommand = w.asOwner(filepath.Join(w.binDir, "pg_ctl"), "-D", w.directory, "stop")
	psql := []string{filepath.Join(w.binDir, "psql"), "-h", o.Server.SocketDirectory, "-p", fmt.Sprint(o.Server.Port), "-d", w.session.database}
	o.ConnectCommand = w.asOwner(psql...)
	if o.State == PausedAtTarget {
		o.ResumeCommand = w.asOwner(append(psql, "-c", "select pg_wal_replay_resume()")...)
	}
}

// removeSocketOnly removes the run directory unless a generated configuration
// in it is needed for the next start.
func (w *watch) removeSocketOnly() { _ = os.Remove(w.runDir) }

// locatePromotion reads from the new timeline's history file where the old one
// was left: the end of the last replayed record.
func (w *watch) locatePromotion(o *Outcome) {
	o.LSN = w.seen.position
	h, err := w.history(o.NewTimeline)
	if err != nil || len(h.Entries) == 0 {
		o.Warnings = append(o.Warnings, fmt.Sprintf("the history of timeline %d cannot be read (%v): the position is where the last record begins", o.NewTimeline, err))
		o.Timeline = w.timelineAt(o.LSN)
		return
	}
	last := h.Entries[len(h.Entries)-1]
	if w.over {
		o.Stop.Message = "recovery had ended before this run: " + last.Reason
		if last.Reason == "no recovery target specified" {
			o.Stop.Kind = StopEndOfWAL
		}
	}
	o.LSN, o.LSNExact, o.Timeline = last.End, true, last.Timeline
	// The entry names the timeline that was the target. Where recovery stopped before
	// that one begins, the position lies on one of its ancestors.
	if parent, err := w.history(last.Timeline); err == nil && last.End > 0 {
		o.Timeline, _, _ = parent.TimelineAt(last.End - 1)
	}
}

// locateLive asks the server; it is where it is, and does not move if paused.
func (w *watch) locateLive(o *Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := w.ask(ctx)
	for err != nil && w.session.failures < maxFailures && ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
		err = w.ask(ctx)
	}
	if err != nil {
		o.Warnings = append(o.Warnings, fmt.Sprintf("the server could not be asked for its exact position: %v", err))
		w.locateStopped(o)
		return
	}
	o.LSN, o.LSNExact, o.Timeline = w.answer.lsn, true, w.timelineAt(w.answer.lsn)
	if o.LastTransaction.IsZero() {
		o.LastTransaction = w.answer.lastTime
	}
	if o.State == PausedAtTarget {
		w.warnOfLocks(o)
	}
}

// locateStopped takes what the log and pg_control say: replay got at least there.
func (w *watch) locateStopped(o *Outcome) {
	o.LSN = w.seen.position
	if c, err := control.ReadDirectory(w.directory); err == nil {
		o.LSN = max(o.LSN, c.MinRecoveryPoint)
	}
	o.Timeline = w.timelineAt(o.LSN)
	// The server's last answer is older than where replay has come to since.
	if o.LastTransaction.IsZero() && o.Stop.Kind == StopTransaction && !o.Stop.Before {
		o.LastTransaction = o.Stop.Time
	}
}

// timelineAt tells the timeline that a replayed position lies on. The server
// keeps the history file of the timeline it follows.
func (w *watch) timelineAt(l wal.LSN) wal.TimelineID {
	line := max(w.seen.targetLine, w.control.LastCheckPoint.Timeline)
	if h, err := w.history(line); err == nil && l > 0 {
		// l is an end: at a switch it still belongs to the parent.
		at, _, _ := h.TimelineAt(l - 1)
		return at
	}
	return line
}

func (w *watch) history(line wal.TimelineID) (wal.History, error) {
	if line <= 1 {
		return wal.History{Timeline: line}, nil
	}
	b, err := os.ReadFile(filepath.Join(w.directory, "pg_wal", line.Hex()+".history"))
	if err != nil {
		return wal.History{}, err
	}
	return wal.ParseHistory(line, b)
}
