package recovery

import (
	"fmt"
	"strings"
)

// FailureKind tells the ways apart in which a recovery can fail.
type FailureKind string

const (
	// FailureStart: the server did not come up: a port in use, a missing
	// library, wrong permissions, a broken configuration.
	FailureStart FailureKind = "start"
	// FailureSettings: a setting is lower than it was on the primary, so hot
	// standby is impossible. See Failure.Parameter.
	FailureSettings FailureKind = "settings"
	// FailureTargetNotReached: the WAL ended before the target.
	FailureTargetNotReached FailureKind = "target-not-reached"
	// FailureInconsistent: the target, or the end of the WAL, lies before the
	// point where the backup is consistent.
	FailureInconsistent FailureKind = "inconsistent"
	// FailureElsewhere: recovery ended well, but not where Options.Expect says.
	FailureElsewhere FailureKind = "elsewhere"
	// FailureTimeline: the requested timeline does not descend from the backup's.
	FailureTimeline FailureKind = "timeline"
	// FailureRestoreCommand: restore_command failed in a way that is not "no such file".
	FailureRestoreCommand FailureKind = "restore-command"
	// FailureInvalidPages: WAL refers to pages of a database that should be whole,
	// and they are not there, or all zeros.
	FailureInvalidPages FailureKind = "invalid-pages"
	// FailureDied: the server, or its startup process, crashed or was killed.
	FailureDied FailureKind = "died"
)

// Parameter is a setting that is too small for hot standby.
type Parameter struct {
	// Name is the setting's name: max_connections, max_worker_processes,
	// max_wal_senders, max_prepared_transactions or max_locks_per_transaction.
	Name string
	// Value is what the restored server has, Primary what the primary had: the least that is needed.
	Value, Primary int
}

// Failure is a recovery that did not reach its target.
type Failure struct {
	// Kind is the sort of failure.
	Kind FailureKind
	// Reason says in one sentence what happened.
	Reason string
	// Hint says what can be done; may be empty.
	Hint string
	// Parameter is the setting that is too small (FailureSettings); else nil.
	Parameter *Parameter
	// Messages are the server's own words that matter, with their details, oldest first.
	Messages []string
	// Exit describes how the server process ended ("exit status 1", "signal: killed"); empty: it was stopped by us.
	Exit string
	// LogFile is where the server's whole log is.
	LogFile string
}

// Error tells the reason and the server's decisive message.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString("recovery: ")
	b.WriteString(f.Reason)
	if f.Exit != "" {
		fmt.Fprintf(&b, " (server: %s)", f.Exit)
	}
	if f.LogFile != "" {
		fmt.Fprintf(&b, "; see %s", f.LogFile)
	}
	return b.String()
}

// RunningError is returned when a server runs on the directory already.
type RunningError struct {
	// Directory is the data directory.
	Directory string
	// Server is what its postmaster.pid says.
	Server Server
}

// Error names the directory and the process.
func (e *RunningError) Error() string {
	return fmt.Sprintf("recovery: a server is running on %s already (pid %d)", e.Directory, e.Server.PID)
}

// Attempt is a place where the server's programs were looked for.
type Attempt struct {
	// Path is the program.
	Path string
	// Found says what was there: "not found", "PostgreSQL 17", an error.
	Found string
}

// BinariesError is returned when no server of the right major version was found.
type BinariesError struct {
	// Major is the major version that the directory needs.
	Major int
	// Attempts are the places that were looked at, in order.
	Attempts []Attempt
}

// Hint says how to name another place.
func (e *BinariesError) Hint() string {
	return fmt.Sprintf("install the server of PostgreSQL %d, or name the directory of its programs with --pg-bin; the restore itself needs none: without --start PostgreSQL is started later", e.Major)
}

// Error names the version and every place that was looked at.
func (e *BinariesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "recovery: no PostgreSQL %d server found; looked at", e.Major)
	for i, a := range e.Attempts {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s (%s)", a.Path, a.Found)
	}
	return b.String()
}
