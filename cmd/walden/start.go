package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal"
)

// recoveryDocument tells where PostgreSQL stopped.
type recoveryDocument struct {
	State           recovery.State `json:"state"`
	LSN             wal.LSN        `json:"lsn"`
	LSNExact        bool           `json:"lsn_exact"`
	AsPlanned       bool           `json:"as_planned"`
	XID             uint32         `json:"xid,omitempty"`
	Time            *time.Time     `json:"time,omitempty"`
	Before          bool           `json:"before,omitempty"`
	LastTransaction *time.Time     `json:"last_transaction,omitempty"`
	Timeline        wal.TimelineID `json:"timeline"`
	NewTimeline     wal.TimelineID `json:"new_timeline,omitempty"`
	Message         string         `json:"message"`
	Seconds         float64        `json:"seconds"`
	LogFile         string         `json:"log_file"`
	SocketDirectory string         `json:"socket_directory,omitempty"`
	Port            int            `json:"port,omitempty"`
	PID             int            `json:"pid,omitempty"`
	ConnectCommand  string         `json:"connect_command,omitempty"`
	ResumeCommand   string         `json:"resume_command,omitempty"`
	StopCommand     string         `json:"stop_command,omitempty"`
	StartCommand    string         `json:"start_command,omitempty"`
	Warnings        []string       `json:"warnings,omitempty"`
}

// startRestored runs PostgreSQL on the restored directory to its target.
func (e *environment) startRestored(c *cli.Context, d *restoreDocument, binDir string, log *slog.Logger) error {
	bar := e.newProgress()
	options := recovery.Options{
		Directory: d.Directory, ConfigDirectory: d.ConfigDirectory, BinDir: binDir, Port: c.Int("port"),
		Expect: expectation(d.Plan), TellLater: true, Logger: log,
		Progress: func(p recovery.Progress) { showRecovery(bar, p) },
	}
	if d.Databases != nil {
		options.Whole = d.Databases.MustBeWhole
		// The database postgres may be hollow.
		options.Database = d.Databases.Chosen[0].Name
	}
	out, err := recovery.Run(c.Context, options)
	bar.finish()
	if err != nil {
		// The directory is whole all the same: say so beside the error.
		fmt.Fprintf(e.stderr, "the restored directory %s is whole; PostgreSQL did not come to the target\n", d.Directory)
		var f *recovery.Failure
		if errors.As(err, &f) {
			for _, m := range f.Messages {
				fmt.Fprintf(e.stderr, "  server: %s\n", m)
			}
		}
		if c.Context.Err() != nil {
			return &notReplayedError{err: err, start: d.StartCommand}
		}
		return err
	}
	d.Recovery = newRecoveryDocument(out)
	d.Recovery.AsPlanned = asPlanned(d.Plan, out)
	if e.json {
		return nil
	}
	return e.printed(func(w io.Writer) { renderRecovery(w, d.Recovery) })
}

// asPlanned tells whether recovery has stopped where the plan said. What differs was an
// error; but a standby goes on, and so does recovery to the end of the WAL where
// more of it has been archived meanwhile.
func asPlanned(p *plan.Plan, out *recovery.Outcome) bool {
	return out.State != recovery.StandingBy && (p.TargetKind != plan.Latest || out.LSN == p.Stop.End)
}

// expectation is what recovery by a plan must come to.
func expectation(p *plan.Plan) *recovery.Expectation {
	x := &recovery.Expectation{Record: p.Stop.LSN, Before: p.Stop.Before, End: p.Stop.End, Timeline: p.Stop.Timeline}
	if c := p.Stop.Counted; c != nil {
		x.LastTransaction = c.Time
	}
	if k := p.Stop.LastKept; k != nil && !p.Stop.Before && k.LSN == p.Stop.LSN {
		x.Ended = k.Time
	}
	return x
}

// notReplayedError is a recovery that was interrupted: the directory is complete.
type notReplayedError struct {
	err   error
	start string
}

func (e *notReplayedError) Error() string { return e.err.Error() }
func (e *notReplayedError) Unwrap() error { return e.err }

// Hint tells how to go on.
func (e *notReplayedError) Hint() string {
	return "run the same command again: PostgreSQL takes recovery up where it was; so it does when you start it yourself: " + e.start
}

func showRecovery(bar *progress, p recovery.Progress) {
	phase := "PostgreSQL is " + string(p.Stage)
	if p.End > p.Start && p.LSN >= p.Start && p.Start != 0 {
		bar.show(phase, int64(p.LSN-p.Start), int64(p.End-p.Start))
		return
	}
	bar.show(phase, 0, 0)
}

func newRecoveryDocument(o *recovery.Outcome) *recoveryDocument {
	d := &recoveryDocument{
		State: o.State, LSN: o.LSN, LSNExact: o.LSNExact, XID: o.Stop.XID, Before: o.Stop.Before,
		Timeline: o.Timeline, NewTimeline: o.NewTimeline, Message: o.Stop.Message, Seconds: o.Duration.Seconds(), LogFile: o.LogFile,
		ConnectCommand: o.ConnectCommand, ResumeCommand: o.ResumeCommand, StopCommand: o.StopCommand, StartCommand: o.StartCommand,
		Warnings: o.Warnings, Time: timeOrNil(o.Stop.Time), LastTransaction: timeOrNil(o.LastTransaction),
	}
	if o.Server != nil {
		d.PID, d.Port, d.SocketDirectory = o.Server.PID, o.Server.Port, o.Server.SocketDirectory
	}
	return d
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// stateText says what each end of a recovery means for the one who waits for it.
var stateText = map[recovery.State]string{
	recovery.PausedAtTarget:   "PostgreSQL has reached the target and waits there, readable; nothing has been decided yet",
	recovery.Promoted:         "PostgreSQL has reached the target and accepts writes",
	recovery.ShutDownAtTarget: "PostgreSQL has reached the target and has shut itself down",
	recovery.StandingBy:       "PostgreSQL is a standby and follows the archive",
}

func renderRecovery(w io.Writer, d *recoveryDocument) {
	fmt.Fprintf(w, "%s (%.1f s)\n", stateText[d.State], d.Seconds)
	if d.Message != "" {
		fmt.Fprintf(w, "  stopped   %s\n", d.Message)
	}
	exact := ""
	if !d.LSNExact {
		exact = "at least "
	}
	planned := ""
	if d.AsPlanned {
		planned = ": where the plan said, to the record"
	}
	fmt.Fprintf(w, "  replayed  up to %s%s on timeline %s%s\n", exact, d.LSN, d.Timeline, planned)
	if d.LastTransaction != nil {
		fmt.Fprintf(w, "            the last transaction ended %s\n", plan.FormatTime(*d.LastTransaction))
	}
	if d.NewTimeline != 0 {
		fmt.Fprintf(w, "  timeline  %s begins here\n", d.NewTimeline)
	}
	for _, line := range []struct{ label, text string }{
		{"connect", d.ConnectCommand}, {"go on", d.ResumeCommand}, {"stop", d.StopCommand}, {"log", d.LogFile},
	} {
		if line.text != "" {
			fmt.Fprintf(w, "  %-9s %s\n", line.label, line.text)
		}
	}
	for _, s := range d.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
}
