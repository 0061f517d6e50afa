package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
)

// ErrUnsupported is returned by Run on systems where it cannot run a server.
var ErrUnsupported = errors.New("recovery: running PostgreSQL is not supported on " + runtime.GOOS)

// UnfinishedName is the file in the data directory that says that a run has
// started a server there and that its end has not been told: it was killed,
// cancelled, or recovery failed. The same run again goes on from there, also where
// recovery itself has come to its end. Run removes it, or Told.
const UnfinishedName = ".walden-recovery"

// Told says that the outcome of a run has been told to whoever waits for it:
// from now on the server is meant to be there, and no further run touches it.
func Told(directory string) error {
	err := os.Remove(filepath.Join(directory, UnfinishedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("recovery: %w", err)
	}
	return nil
}

// StopLeftBehind stops the server that a run which was killed, or had TellLater set, has left on
// o.Directory, if there is one, at once: the directory is going to be removed. Of the other options only BinDir counts. The error is a
// *RunningError if the server there is another, or does not stop.
func StopLeftBehind(ctx context.Context, o Options) error { return stopRun(ctx, o, "immediate") }

// ShutDown ends the server that a run which had TellLater set, or was killed, has left on
// o.Directory, if there is one, so that its files are as after any shutdown. Of the other options only
// BinDir counts. The error is a *RunningError if the server there is another, or does not stop.
func ShutDown(ctx context.Context, o Options) error { return stopRun(ctx, o, "fast") }

// Options say what to run and how.
type Options struct {
	// Directory is the restored data directory. It must contain recovery.signal
	// or standby.signal, or UnfinishedName.
	Directory string
	// BinDir is where the server's programs are; empty: they are looked for.
	BinDir string
	// Wrapped says that the programs in BinDir are wrappers that run the real ones elsewhere, as
	// the owner of the directory: they are started as the caller.
	Wrapped bool
	// ConfigDirectory holds postgresql.conf, pg_hba.conf and pg_ident.conf of a
	// cluster that keeps them outside its data directory; empty:
	// Directory + ".config", if that exists.
	ConfigDirectory string
	// RunDirectory is made for the server's socket; empty: Directory + ".run",
	// or a directory in the system's temporary directory where that path would
	// be too long for a socket, holds a comma or cannot be made.
	RunDirectory string
	// LogFile is appended to; empty: Directory + ".log", or a file in the run
	// directory where that cannot be written.
	LogFile string
	// KeepListening lets the server listen on the addresses and the port of its
	// configuration. By default it listens on no network address.
	KeepListening bool
	// Port is the port, and the number in the socket's name; 0: 5432, or the
	// configuration's with KeepListening.
	Port int
	// HBA is the text of a pg_hba.conf that the server gets instead of its own;
	// empty: its own.
	HBA string
	// Whole tells of a relation's file, by its path in the server's messages
	// (base/16384/2619_vm), whether it must be whole where others are hollow (see
	// replay/databases): with ignore_invalid_pages on, WAL that refers to a page that
	// is not there or all zeros is passed over with a warning. In one of these files that is a
	// *Failure. nil: not looked at.
	Whole func(file string) bool
	// Settings are further settings for the server's command line. They win
	// over the configuration files, and over what this package sets.
	Settings map[string]string
	// User and Database are used to ask the server for its position; empty:
	// the name of the directory's owner, and "postgres". Where that is refused
	// the outcome is told without it.
	User, Database string
	// Expect is where the plan has proved that recovery stops; nil: not known. It
	// serves Progress, and a recovery that ends elsewhere, be it by one record, is a
	// *Failure of kind FailureElsewhere; the server is stopped then.
	Expect *Expectation
	// StopAfter stops the server once it has reached its target.
	StopAfter bool
	// TellLater leaves UnfinishedName in place after a good outcome: the caller calls
	// Told when it has passed that on.
	TellLater bool
	// Logger gets what a person may want to see when debugging; nil: nothing is logged.
	Logger *slog.Logger
	// Progress is called about twice a second, and when the stage changes, from
	// one goroutine; may be nil.
	Progress func(Progress)
}

// Run starts PostgreSQL on a restored directory and returns when recovery has
// come to its end: see the package's description.
//
// The outcome is not nil whenever the server was started, with State Failed if
// the error is not nil. Errors are *Failure when the server did not reach its
// target, *RunningError, *BinariesError, ErrUnsupported, ctx's error (the server
// is then stopped, and the same call may be made again), or those of the file system.
// There is no time limit of its own. A server that a run which was killed has left
// behind is stopped first, and recovery goes on.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	return run(ctx, o)
}
