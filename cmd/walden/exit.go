package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/extract"
	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// Exit codes. wal-get has codes of its own, because PostgreSQL gives them a
// meaning: see walGetExitCode.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitNotFound    = 4
	exitBusy        = 5
	exitInterrupted = 130

	exitGetAbsent     = 1
	exitGetFailed     = 126
	exitGetTerminated = 143
)

// unreachable is what the planner's refusals have in common.
type unreachable interface {
	error
	// Choices are the nearest moments that can be reached, or those that may be meant.
	Choices() []plan.Choice
	Reachable() []catalog.Window
}

// exitCode maps an error to the exit code of every command but wal-get.
func exitCode(ctx context.Context, err error) int {
	var (
		usage     *usageError
		refusal   unreachable
		noBackup  *plan.NoBackupError
		noCluster *config.UnknownClusterError
		noRepo    *repository.NoRepositoryError
		noIncarn  *archive.NoIncarnationError
		noBase    *databases.UnknownError
		which     *extract.WhichError
		signalled *interruptedError
		busy      *stream.BusyError
		unshipped *stream.UnshippedError
		timeline  *find.UnknownTimelineError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &unshipped):
		return exitFailed // to be interrupted is how it ends
	case ctx.Err() != nil && errors.Is(err, context.Canceled), errors.As(err, &signalled):
		return exitInterrupted
	case errors.As(err, &busy):
		return exitBusy
	case errors.As(err, &usage), errors.As(err, &which):
		return exitUsage
	case errors.As(err, &noBackup) && noBackup.Absent():
		return exitNotFound
	case errors.As(err, &refusal):
		return exitUnreachable
	case errors.As(err, &noCluster), errors.As(err, &noRepo), errors.As(err, &noIncarn), errors.As(err, &noBase), errors.As(err, &timeline):
		return exitNotFound
	}
	return exitFailed
}

// walGetExitCode maps an error to what PostgreSQL must be told: 1 only for
// proven absence; everything else stops recovery instead of ending it early.
func walGetExitCode(ctx context.Context, err error) int {
	var absent *archive.AbsentError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &absent):
		return exitGetAbsent
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitGetTerminated
	}
	return exitGetFailed
}

// finish reports the outcome of a command and returns its exit code.
func (e *environment) finish(ctx context.Context, command string, err error) int {
	code := exitCode(ctx, err)
	if command == walGetName {
		code = walGetExitCode(ctx, err)
	}
	if err == nil || errors.Is(err, errFindings) {
		return code
	}
	var absent *archive.AbsentError
	if command == walGetName && errors.As(err, &absent) {
		// PostgreSQL asks for files that need not exist as a matter of course.
		if e.json {
			e.printErrorJSON(err, "", code)
		}
		fmt.Fprintf(e.stderr, "walden: %v\n", err)
		return code
	}
	if code == exitInterrupted || code == exitGetTerminated {
		err = fmt.Errorf("interrupted: %w", err)
	}
	hint := hintOf(err)
	var usage *usageError
	if errors.As(err, &usage) && hint == "" && command != "" {
		hint = "see `walden help " + command + "`"
	}
	if code == exitInterrupted && hint == "" {
		hint = "nothing has to be cleaned up: run the same command again"
	}
	if e.json {
		e.printErrorJSON(err, hint, code)
	}
	fmt.Fprintf(e.stderr, "walden: %v\n", err)
	if hint != "" {
		fmt.Fprintf(e.stderr, "  hint: %s\n", hint)
	}
	e.printChoices(err)
	return code
}

// printChoices tells what can be reached in place of what was refused.
func (e *environment) printChoices(err error) {
	var refusal unreachable
	if !errors.As(err, &refusal) {
		return
	}
	for _, c := range refusal.Choices() {
		flags := c.Flags
		if c.TimeFlags != "" {
			flags += ", or " + c.TimeFlags
		}
		fmt.Fprintf(e.stderr, "  %s: %s: %s\n", c.Label, c.Point, flags)
	}
}

type errorDocument struct {
	Error    string           `json:"error"`
	Hint     string           `json:"hint,omitempty"`
	ExitCode int              `json:"exit_code"`
	Windows  []catalog.Window `json:"reachable,omitempty"`
	// Before and After are the nearest moments that can be reached, Points those of
	// which one must be chosen, Gaps what stands in the way, Refused backups that cannot serve.
	Before  *plan.Point    `json:"before,omitempty"`
	After   *plan.Point    `json:"after,omitempty"`
	Points  []plan.Point   `json:"points,omitempty"`
	Gaps    []catalog.Gap  `json:"gaps,omitempty"`
	Refused []plan.Refused `json:"refused,omitempty"`
}

func (e *environment) printErrorJSON(err error, hint string, code int) {
	doc := errorDocument{Error: err.Error(), Hint: hint, ExitCode: code}
	var refusal unreachable
	if errors.As(err, &refusal) {
		doc.Windows = refusal.Reachable()
	}
	var (
		gap       *plan.GapError
		beyond    *plan.UnreachableError
		ambiguous *plan.AmbiguousError
		none      *plan.NoBackupError
	)
	switch {
	case errors.As(err, &gap):
		doc.Before, doc.After, doc.Gaps = gap.Before, gap.After, gap.Gaps
	case errors.As(err, &beyond):
		doc.Before, doc.After = beyond.Before, beyond.After
	case errors.As(err, &ambiguous):
		doc.Points = ambiguous.Points
	case errors.As(err, &none):
		doc.Refused = none.Refused
	}
	// An error document that cannot be written is not worth a second error:
	// the same text goes to standard error.
	_ = e.printJSON(doc)
}

// printJSON writes v as the command's one document.
func (e *environment) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// hintOf returns the advice that an error carries.
func hintOf(err error) string {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		if h := hinter.Hint(); h != "" {
			return h
		}
	}
	var failure *recovery.Failure
	if errors.As(err, &failure) && failure.Hint != "" {
		return failure.Hint
	}
	if h := storage.Hint(err); h != "" {
		return h
	}
	if errors.Is(err, syscall.ENOSPC) {
		return "the disk is full: free space there, then run the same command again"
	}
	return ""
}
