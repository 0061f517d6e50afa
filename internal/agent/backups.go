package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/walden-pg/walden/basebackup"
)

// A backup that failed is tried again after firstRetry, then after twice as
// long each time, until it is lastRetry; never after more than the interval.
const (
	firstRetry = 30 * time.Second
	lastRetry  = 15 * time.Minute
)

// Backups says how base backups are taken on an interval. When the next one is
// due is told by the repository alone: a process that is started again, or a
// backup that a person takes, moves nothing and doubles nothing.
type Backups struct {
	// Every is the interval: a backup is due when the newest one that is complete
	// ended so long ago, at once where there is none. Positive.
	Every time.Duration
	// Newest returns the end of the newest complete backup, zero if there is none.
	Newest func(ctx context.Context) (time.Time, error)
	// Take takes a backup.
	Take func(ctx context.Context) (*basebackup.Manifest, error)
	// Done is told of each backup; its error ends the run. May be nil.
	Done func(*basebackup.Manifest) error
	// Final tells that an error will not go away by trying again, and so ends the
	// run; nil: none is.
	Final func(error) bool
	// Hint says what can be done about an error; empty: nothing is known. May be nil.
	Hint func(error) string
	// Logger is told of what is waited for (info) and of each failure (error);
	// nil: nothing is logged.
	Logger *slog.Logger
}

// Report tells what a run has done.
type Report struct {
	// Backups are the ids of those that were taken.
	Backups []string `json:"backups"`
	// Failures counts attempts that failed.
	Failures int `json:"failures"`
	// Overdue is why the last attempt failed, or that it was cut off; empty: none
	// is overdue.
	Overdue string `json:"overdue,omitempty"`
}

// Run takes backups until the context ends, which is no error: a backup that
// is being taken then is cut off, is none, and so is overdue. A failure is logged and tried
// again, for ever. The error is a final one, or Done's; the report counts anyway.
func (b *Backups) Run(ctx context.Context) (Report, error) {
	rep := Report{Backups: []string{}}
	log := b.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	retry := min(firstRetry, b.Every)
	var seen known
	for {
		began := time.Now()
		wait, m, err := b.step(ctx, &seen, log)
		switch {
		case ctx.Err() != nil && (err != nil || m == nil):
			var cut *takeError
			if errors.As(err, &cut) {
				rep.Overdue = fmt.Sprintf("a backup was cut off %s after it was begun", time.Since(began).Round(time.Second))
			}
			return rep, nil
		case err != nil:
			rep.Failures, rep.Overdue = rep.Failures+1, err.Error()
			if b.Final != nil && b.Final(err) {
				return rep, err
			}
			b.complain(log, err, rep.Failures, retry)
			wait, retry = retry, min(2*retry, lastRetry, b.Every)
		case m != nil:
			rep.Backups, rep.Overdue = append(rep.Backups, m.ID), ""
			retry = min(firstRetry, b.Every)
			if b.Done != nil {
				if err := b.Done(m); err != nil {
					return rep, err
				}
			}
			continue // the repository says when the next one is due
		default:
			rep.Overdue = ""
			log.Info("the next backup is due", "in", wait.Round(time.Second))
		}
		if !sleep(ctx, wait) {
			return rep, nil
		}
	}
}

// step takes a backup if one is due; else wait is how long not. seen is the
// newest one that was known of before.
func (b *Backups) step(ctx context.Context, seen *known, log *slog.Logger) (wait time.Duration, m *basebackup.Manifest, err error) {
	newest, err := b.Newest(ctx)
	if err != nil {
		return 0, nil, &newestError{err}
	}
	if !newest.IsZero() {
		if !newest.Equal(seen.newest) {
			*seen = known{newest: newest, limit: time.Now().Add(b.Every)}
		}
		// Its end is the time of the machine that took it. If that clock is ahead of
		// ours the backup is still not younger than our knowledge of it.
		if wait = time.Until(newest.Add(b.Every)); time.Until(seen.limit) < wait {
			wait = time.Until(seen.limit)
		}
		if wait > 0 {
			return wait, nil, nil
		}
	}
	defer b.tellSlow(log)()
	if m, err = b.Take(ctx); err != nil {
		err = &takeError{err}
	}
	return 0, m, err
}

// tellSlow logs, again and again, that a backup takes longer than the interval,
// until the function that it returns is called: one that hangs is no failure, and
// nothing else would tell of it.
func (b *Backups) tellSlow(log *slog.Logger) (stop func()) {
	began := time.Now()
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(b.Every)
		defer ticker.Stop()
		for {
			select {
			case <-over:
				return
			case <-ticker.C:
				log.Error("a backup takes longer than the interval, and the next one is overdue", "every", b.Every, "running", time.Since(began).Round(time.Second),
					"hint", "if it does not get on, see whether the server and the repository answer, and stop and start this process: it begins a new one")
			}
		}
	})
	return func() {
		close(over)
		done.Wait()
	}
}

// newestError is a failure to see when the newest backup ended, takeError one to
// take a backup.
type (
	newestError struct{ error }
	takeError   struct{ error }
)

// Unwrap returns the cause.
func (e *newestError) Unwrap() error { return e.error }

// Unwrap returns the cause.
func (e *takeError) Unwrap() error { return e.error }

// known is a backup that was seen, and when the next one is due at the latest.
type known struct{ newest, limit time.Time }

func (b *Backups) complain(log *slog.Logger, err error, failures int, retry time.Duration) {
	args := []any{"error", err, "failures", failures, "retry_in", retry}
	if b.Hint != nil {
		if hint := b.Hint(err); hint != "" {
			args = append(args, "hint", hint)
		}
	}
	text := "no backup was taken, although one is due"
	var unseen *newestError
	if errors.As(err, &unseen) {
		text = "it is not known whether a backup is due"
	}
	log.Error(text, args...)
}

// sleep returns false if the context ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
