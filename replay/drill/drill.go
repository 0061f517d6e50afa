package drill

import (
	"context"
	"log/slog"
	"time"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Options say what to prove, and how.
type Options struct {
	// Repo and Incarnation are what to restore from.
	Repo        *repository.Repository
	Incarnation archive.Incarnation
	// Target is the moment, unless Pick chooses one; its Timeline and Backup count in any case.
	Target plan.Target
	// Pick chooses the moment; "": Target is it.
	Pick Pick
	// Scenario is a mishap to play; "": none.
	Scenario Scenario
	// Connection is how the source is reached, to know what is not archived yet: a
	// libpq connection string; empty: it is not asked.
	Connection string
	// Assertions are the user's own checks.
	Assertions []Assertion
	// Database is where assertions run that name none; empty: the only one with a
	// name of its own, else postgres.
	Database string
	// RTO is how long plan, restore and replay may take together, RPO how much may
	// be lost; 0: no objective.
	RTO, RPO time.Duration
	// Skip are checks that are not made: CheckAmcheck, CheckChecksums.
	Skip []string
	// Jobs is how many readers restore and how many connections pg_amcheck uses; 0: they decide.
	Jobs int
	// Scratch is the directory in which the scratch directory is made; empty: the
	// system's for temporary files.
	Scratch string
	// BinDir holds the server's programs; empty: they are looked for.
	BinDir string
	// Docker runs the server, and the programs that look at it, in containers; nil: those
	// of this machine are used.
	Docker *Docker
	// RestoreCommand is the restore_command for a plan. overlay is a file that says with what damage
	// the repository is to be shown; "": none.
	RestoreCommand func(p *plan.Plan, overlay string) (string, error)
	// Expect is where recovery by a plan must stop.
	Expect func(p *plan.Plan) *recovery.Expectation
	// Set are settings for the server in scratch.
	Set map[string]string
	// Version is walden's, for the record.
	Version string
	// Logger gets what a person may want to see when debugging; nil: nothing is logged.
	Logger *slog.Logger
	// Progress is called now and then, by one goroutine at a time; may be nil.
	Progress func(Progress)
}

// Docker says how containers are run. Each has scratch at its own path, and no capability.
type Docker struct {
	// Image has the programs of the right major; empty: postgres:MAJOR.
	Image string
	// Network is that of the containers; none, unless restore_command needs one.
	Network string
	// Memory and CPUs are their limits, as docker run takes them.
	Memory, CPUs string
	// Mounts are paths that are there inside, to be read, and Environment the names of variables
	// that are passed on: what restore_command needs.
	Mounts, Environment []string
	// Owner shall own the files where root restores, by number, as who may read the repository;
	// empty: the image's user postgres.
	Owner string
}

// Assertion is a statement whose first value must be true.
type Assertion struct {
	// Name is for people; empty: the statement.
	Name string
	// Database is where it runs; empty: Options.Database.
	Database string
	SQL      string
}

// Stage is what a drill is doing.
type Stage string

// The stages, in their order.
const (
	Planning  Stage = "planning"
	Restoring Stage = "restoring"
	Replaying Stage = "replaying"
	Checking  Stage = "checking"
)

// Progress is how far a drill has come.
type Progress struct {
	Stage Stage
	// Detail is the check that is made.
	Detail string
	// Done of Total are bytes written, or bytes of WAL replayed; Total is 0 where it is not known.
	Done, Total int64
}

// Run makes one drill. Whether it has proved anything is the record's Result: an error means
// that there was none, or that it was interrupted, or that its record could not be stored;
// the record is then what is known, or nil.
//
// Errors: those of plan.Make where the target was named and does not exist, *recovery.BinariesError,
// *PickError, *ScenarioError, those of scratch, of the repository, and of ctx. recovery.ErrUnsupported where a server cannot be run.
func Run(ctx context.Context, o Options) (*Record, error) { return run(ctx, o) }
