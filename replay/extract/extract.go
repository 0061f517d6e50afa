// Package extract takes tables, schemas or a database out of a backup: it restores
// what they need into scratch, lets PostgreSQL replay the WAL there to the stop
// that was planned, runs pg_dump, and removes everything again.
//
// # The algorithm
//
// 1. What would fail at the end is looked at first: the server's programs and pg_dump,
// the place of the output.
//
// 2. Scratch is a directory of its own, with a lock that the process holds. What a
// run that was killed has left is known by a lock that nobody holds: its server is
// stopped and it is removed before anything else is done.
//
// 3. The database is restored alone (package databases). A name that the backup does not have
// may be that of a database which was created later, so that it comes with the WAL, or
// was called otherwise: which of them is asked of the server, and in the second case
// the restore is made once more, with that database.
//
// 4. The server opens at the stop (it is promoted): a server that waits there, in recovery,
// would still hold the locks of the transactions that were under way, that of the one that drops the table
// among them. Transactions that are left prepared keep theirs: in the database they are rolled back.
// Nothing of the server's configuration may reach out of scratch: it listens on no network address and on a socket
// that its user alone may use, archives nothing, and loads no libraries unless told to, since these may start workers.
//
// 5. pg_dump dumps of a table only what it holds itself: a partitioned one is nothing
// without its partitions, which have other names. They, and tables that inherit, are named too.
//
// 6. pg_dump writes to a temporary name, which becomes the output's when it is
// complete and durable, or to a stream.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Format is one of pg_dump's.
type Format string

// The formats of pg_dump.
const (
	Plain     Format = "plain"
	Custom    Format = "custom"
	Directory Format = "directory"
	Tar       Format = "tar"
)

// ParseFormat knows the names of the formats and their first letters, as pg_dump does.
func ParseFormat(s string) (Format, error) {
	for _, f := range []Format{Plain, Custom, Directory, Tar} {
		if s == string(f) || s == string(f[:1]) {
			return f, nil
		}
	}
	return "", fmt.Errorf("format %q: it must be plain, custom, directory or tar", s)
}

// Options say what to take out, and where to put it.
type Options struct {
	// Repo, Incarnation and Plan are what to restore from, and the moment.
	Repo        *repository.Repository
	Incarnation archive.Incarnation
	Plan        *plan.Plan
	// Expect is where recovery must stop; nil: where it stops is not compared.
	Expect *recovery.Expectation
	// Database is a name or an OID; empty: the only one, in the backup and at the stop,
	// besides the templates and "postgres".
	Database string
	// Tables and Schemas are patterns of pg_dump; without any the whole database is dumped.
	// With a table come its partitions, and the tables that inherit from it.
	Tables, Schemas []string
	// Format is Plain if empty.
	Format Format
	// Output is the file, or the directory, to make. It must not exist, its parent
	// must. Empty: Stdout gets the dump; the format cannot be Directory then.
	Output string
	// Stdout gets the dump where there is no Output, Stderr what pg_dump says.
	Stdout, Stderr io.Writer
	// DumpArguments are further options of pg_dump's.
	DumpArguments []string
	// Jobs is how many readers restore, and in the directory's format also how many
	// tables are dumped at once; 0: restore decides, and one.
	Jobs int
	// Scratch is the directory in which the scratch directory is made; empty: the
	// system's for temporary files.
	Scratch string
	// BinDir holds the server's programs and pg_dump; empty: they are looked for.
	BinDir string
	// RestoreCommand is as in restore.Options.
	RestoreCommand string
	// Set are settings for the server in scratch; they win over those made here.
	Set map[string]string
	// Logger gets what a person may want to see when debugging; nil: nothing is logged.
	Logger *slog.Logger
	// Progress is called now and then, by one goroutine at a time; may be nil.
	Progress func(Progress)
}

// Stage is what an extraction is doing.
type Stage string

// The stages, in their order.
const (
	Restoring Stage = "restoring"
	Replaying Stage = "replaying"
	Dumping   Stage = "dumping"
)

// Progress is how far an extraction has come.
type Progress struct {
	Stage Stage
	// Done of Total are bytes written, or bytes of WAL replayed; Total is 0 where
	// it is not known. Of a dump Done are its bytes, where they go to a file.
	Done, Total int64
}

// Result tells what was done.
type Result struct {
	// Database is the one that was dumped, by the name it had at the stop.
	Database databases.Database
	// Choice is what was restored: Files and Bytes, for which Download bytes of packs
	// were read.
	Choice       *databases.Choice
	Files, Bytes int64
	Download     int64
	Recovery     *recovery.Outcome
	Output       string
	OutputBytes  int64 // 0 where a stream got it
	RolledBack   []string
	// Children are the tables, as schema.name in SQL, that were dumped since they are
	// partitions of those that were asked for, or inherit from them.
	Children        []string
	Warnings        []string
	Restore, Replay time.Duration
	Dump            time.Duration
}

// Run takes out what the options name. Nothing is left in scratch when it returns,
// and no output when it fails, but for what Stdout has got already.
//
// Errors: *WhichError, *NotThereError, *DumpError, *OutputError, *databases.CatalogError, those of
// restore.Run and of recovery.Run, and of ctx. recovery.ErrUnsupported where a server cannot be run.
func Run(ctx context.Context, o Options) (*Result, error) { return run(ctx, o) }

// WhichError says that there are several databases that could be meant, and none was
// named.
type WhichError struct {
	Databases []databases.Database
	// Tables are patterns for which "postgres" has a table too, or had one; nil: it is not about tables.
	Tables []string
	// AtStop: they were there at the moment; else they are in the backup.
	AtStop bool
}

// Error lists the databases.
func (e *WhichError) Error() string {
	switch {
	case len(e.Tables) > 0:
		return fmt.Sprintf("which database? %s may be in any of %s", strings.Join(e.Tables, ", "), databases.Listing(e.Databases))
	case e.AtStop:
		return "which database? at the moment that was restored to there were " + databases.Listing(e.Databases)
	}
	return "which database? the backup has " + databases.Listing(e.Databases)
}

// Hint says how to name one.
func (e *WhichError) Hint() string { return "name it with --database" }

// NotThereError says that what was asked for did not exist at the moment.
type NotThereError struct {
	// What it is: "database", "table", "schema" or "relation"; Name are the
	// names or patterns that were asked for.
	What, Name string
	// Database is where it was looked for; empty for a database.
	Database string
	// Moment is the target in words.
	Moment string
	// Others are the databases that there were, for a database.
	Others []string
}

// Error names what is missing.
func (e *NotThereError) Error() string {
	where := ""
	if e.Database != "" {
		where = fmt.Sprintf(" in database %q", e.Database)
	}
	s := fmt.Sprintf("there was no %s %s%s at the moment that was restored to (%s)", e.What, e.Name, where, e.Moment)
	if len(e.Others) > 0 {
		s += "; there were " + strings.Join(e.Others, ", ")
	}
	return s
}

// Hint says where to look.
func (e *NotThereError) Hint() string {
	if e.What == "database" {
		return "choose another moment, or another database"
	}
	return "walden find --table NAME tells when a table was dropped or renamed: choose a moment before that. Names without a schema are looked for in search_path; is it another database?"
}

// DumpError is pg_dump's failure.
type DumpError struct {
	// Err is how it ended, Said its last words.
	Err  error
	Said string
	// Streamed: a part of the dump may have gone to the stream.
	Streamed bool
}

// Error tells pg_dump's last words.
func (e *DumpError) Error() string {
	s := "pg_dump failed: " + e.Err.Error()
	if e.Said != "" {
		s += ": " + e.Said
	}
	if e.Streamed {
		s += "; what was written to standard output is no whole dump"
	}
	return s
}

// Unwrap returns how pg_dump ended.
func (e *DumpError) Unwrap() error { return e.Err }

// OutputError refuses a place for the output. Nothing has been done.
type OutputError struct {
	Path, Reason string
	Err          error
}

// Error names the place.
func (e *OutputError) Error() string {
	s := fmt.Sprintf("output %s: %s", e.Path, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *OutputError) Unwrap() error { return e.Err }

// Hint says what can be done.
func (e *OutputError) Hint() string {
	return "name another place with --output; nothing is ever overwritten"
}

// hollowError says that the database that was asked for is one whose files were
// left out: it had another name when the backup was taken.
type hollowError struct{ oid uint32 }

func (e *hollowError) Error() string {
	return fmt.Sprintf("database %d had another name when the backup was taken, and was left out", e.oid)
}

// Hint says how it is not.
func (e *hollowError) Hint() string { return fmt.Sprintf("name it by its OID: --database %d", e.oid) }

var errFormat = errors.New("extract: the directory format needs an output: it cannot be a stream")
