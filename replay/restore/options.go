package restore

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/plan"
)

// Action is what PostgreSQL does when it has reached the target.
type Action string

const (
	// ActionPause waits, readable, for a decision. The default.
	ActionPause Action = "pause"
	// ActionPromote ends recovery and accepts writes on a new timeline.
	ActionPromote Action = "promote"
	// ActionShutdown shuts the server down.
	ActionShutdown Action = "shutdown"
)

// Options say where and how to restore.
type Options struct {
	// To is the data directory to make. It must be absent or empty, or hold
	// the remains of an interrupted restore; its parent must exist.
	To string
	// Tablespaces maps a tablespace's old location, as the server had it, to a
	// new one. One that is not named goes to its old location.
	Tablespaces map[string]string
	// ConfigDirectory gets the configuration files that were kept outside the
	// data directory; empty: To + ".config". Without such files it is not made.
	ConfigDirectory string
	// Jobs is the number of parallel readers; 0: as many as the machine's
	// memory for them is bounded to (2 to 8). Each needs some MiB.
	Jobs int
	// RestoreCommand is the value of restore_command, with %f and %p.
	RestoreCommand string
	// Action is ActionPause if empty.
	Action Action
	// Standby makes a standby instead: standby.signal, and no target.
	Standby bool
	// KeepArchiving leaves archiving and logical replication as the backup has
	// them: for a cluster that takes the place of the one it came from.
	KeepArchiving bool
	// Databases are those to restore; the files of the others become hollow, and
	// the directory must not be taken for a whole cluster: see package databases.
	// nil: all.
	Databases *databases.Choice
	// Set are further settings; they win over all others in the data directory.
	Set map[string]string
	// Resume takes a directory up that an earlier run of the same call has
	// restored completely, and on which the recovery that followed was cut off
	// (recovery.UnfinishedName). The caller goes on with that recovery.
	Resume bool
	// Owner is the user who shall own the files, by name or number, when run
	// as root; empty: the owner of the existing target directory unless that
	// is root, else the user postgres. Others can only own what they make.
	Owner string
	// Logger gets what a person may want to see when debugging; nil: nothing is logged.
	Logger *slog.Logger
	// Progress is called at most ten times a second and at the end, by one
	// goroutine at a time. It must be quick. May be nil.
	Progress func(Progress)
}

// Progress is how far a restore has come.
type Progress struct {
	// Bytes of TotalBytes have been written.
	Bytes, TotalBytes int64
	// Files of TotalFiles are complete and verified.
	Files, TotalFiles int64
	// Elapsed is the time since the first write.
	Elapsed time.Duration
}

// Remaining estimates how long the copying will still take; ok is false if
// nothing can be said.
func (p Progress) Remaining() (d time.Duration, ok bool) {
	if p.Bytes <= 0 || p.Elapsed < time.Second {
		return 0, false
	}
	return time.Duration(float64(p.Elapsed) * float64(p.TotalBytes-p.Bytes) / float64(p.Bytes)), true
}

// Tablespace is where a tablespace was put.
type Tablespace struct {
	OID uint32
	// From is its location on the server, To the one it has now; absolute paths.
	From, To string
}

// Result tells what was done.
type Result struct {
	// Directory is the data directory's absolute path, Backup the backup's id.
	Directory, Backup string
	// Files and Bytes count what was written from the backup; hollow files are not among them.
	Files, Bytes int64
	// Downloaded is how many bytes of packs were read for it; 0 where an earlier
	// run had done so.
	Downloaded int64
	Duration   time.Duration
	// Databases is the choice that was restored; nil: everything. If it has Hollow
	// databases they must be dropped before the cluster is used.
	Databases *databases.Choice
	// Tablespaces are those outside the data directory.
	Tablespaces []Tablespace
	// Settings are the lines appended to postgresql.auto.conf, in their order.
	Settings []plan.Setting
	// Cleared are the names of those settings that keep the restored cluster
	// from hurting the one it came from.
	Cleared []string
	// ConfigDirectory holds the configuration files that were outside the data
	// directory; empty: there were none.
	ConfigDirectory string
	// StartCommand is a line for a shell, to be run by the owner of the files.
	StartCommand string
	// Warnings are things a person should know.
	Warnings []string
}

// TargetError refuses a place to restore to. Nothing has been changed.
type TargetError struct {
	// Path is the directory.
	Path string
	// Reason says what is wrong with it, Advice what can be done; may be empty.
	Reason, Advice string
	// Err is the cause, if there is one.
	Err error
}

// Error names the directory and the reason.
func (e *TargetError) Error() string {
	s := e.Path + ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *TargetError) Unwrap() error { return e.Err }

// Hint says what can be done.
func (e *TargetError) Hint() string { return e.Advice }

// FileError says that a file of the backup is not what it should be, although
// every frame it was read from is whole.
type FileError struct {
	// Path is the file's path in the backup.
	Path string
	// Packs are the keys of the objects that hold it.
	Packs []string
	// Reason says what is wrong.
	Reason string
}

// Error names the file, the reason and the packs.
func (e *FileError) Error() string {
	s := fmt.Sprintf("file %s of the backup: %s", e.Path, e.Reason)
	if len(e.Packs) > 0 {
		s += " (it lies in " + strings.Join(e.Packs, ", ") + ")"
	}
	return s
}

// Hint says what can be done.
func (e *FileError) Hint() string {
	return "this backup cannot be restored: choose another one with --backup, and run walden verify"
}
