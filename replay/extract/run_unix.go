//go:build unix

package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/restore"
	"github.com/walden-pg/walden/replay/scratch"
)

// kind is that of the scratch directories here.
const kind = "extract"

// extraction is one run.
type extraction struct {
	Options
	log      *slog.Logger
	manifest *basebackup.Manifest
	contents *databases.Contents
	choice   *databases.Choice
	wanted   string // the database's name, or OID, as it was asked for; or
	wantOID  uint32 // the OID of the one that is meant without being named
	// whole: relations that pg_dump does not read are restored all the same.
	whole   bool
	leftOut bool // some were not
	renamed bool // the database was found under another name
	// children are the names, as patterns of pg_dump, of tables that are dumped since
	// they are partitions of such as were asked for, or inherit from them.
	children []string
	scratch  *scratch.Dir
	result   *Result
}

func run(ctx context.Context, o Options) (*Result, error) {
	x := &extraction{Options: o, log: o.Logger, result: &Result{}}
	if x.log == nil {
		x.log = slog.New(slog.DiscardHandler)
	}
	if x.Scratch == "" {
		x.Scratch = os.TempDir()
	}
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	for {
		err := x.attempt(ctx)
		var hollow *hollowError
		switch {
		case err == nil:
			return x.result, nil
		case errors.As(err, &hollow) && x.wanted != "" && !x.renamed:
			x.renamed = true
			x.log.Warn("the database had another name when the backup was taken: restoring once more", "database", x.wanted, "oid", hollow.oid)
			if err := x.choose(strconv.FormatUint(uint64(hollow.oid), 10)); err != nil {
				return nil, err
			}
		case errors.Is(err, errTooLittle) && !x.whole:
			x.whole = true
			x.log.Warn("tables are wanted that had other names or files when the backup was taken: restoring all of the database", "cause", err)
			if err := x.choose(strconv.FormatUint(uint64(x.result.Database.OID), 10)); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// errTooLittle says that pg_dump is going to read relations that were left out.
var errTooLittle = errors.New("extract: relations that were left out are wanted")

// prepare makes every check that can be made before something is read from packs.
func (x *extraction) prepare(ctx context.Context) (err error) {
	if x.Format == "" {
		x.Format = Plain
	}
	if x.Output == "" && x.Format == Directory {
		return errFormat
	}
	if err := x.checkOutput(); err != nil {
		return err
	}
	if x.manifest, err = basebackup.Load(ctx, x.Repo, x.Incarnation, x.Plan.Backup.ID); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	if x.BinDir, err = recovery.FindBinaries(ctx, x.manifest.Major, x.BinDir); err != nil {
		return err
	}
	if _, err := os.Stat(x.program("pg_dump")); err != nil {
		return fmt.Errorf("extract: the server's programs have no pg_dump beside them: install the client programs of PostgreSQL %d: %w", x.manifest.Major, err)
	}
	if x.contents, err = databases.Read(ctx, x.Repo, x.Incarnation, x.manifest); err != nil {
		return err
	}
	return x.chooseFirst(ctx)
}

func (x *extraction) program(name string) string { return filepath.Join(x.BinDir, name) }

// chooseFirst decides which databases to restore by what was asked for.
func (x *extraction) chooseFirst(ctx context.Context) error {
	if x.Database == "" {
		d, err := x.only(ctx)
		if err != nil {
			return err
		}
		x.wantOID = d.OID
		return x.choose(strconv.FormatUint(uint64(d.OID), 10))
	}
	x.wanted = x.Database
	err := x.choose(x.Database)
	var unknown *databases.UnknownError
	if errors.As(err, &unknown) {
		x.log.Warn("the backup has no database of that name: it is looked for again at the stop, since the WAL may bring it", "database", x.Database)
		return x.choose()
	}
	return err
}

// only is the database that is meant where none is named: the only one but for
// "postgres", or that one. It is not if a table of such a name is, or was, in
// "postgres". That no other has been created since is seen at the stop.
func (x *extraction) only(ctx context.Context) (databases.Database, error) {
	all := x.contents.Candidates()
	d, ok := x.contents.Sole()
	if !ok {
		return d, &WhichError{Databases: all}
	}
	if len(all) > 1 && len(x.Tables) > 0 {
		holding, err := x.contents.Holding(ctx, x.Repo, x.Incarnation, x.manifest, x.Tables)
		if err != nil {
			return d, err
		}
		if slices.ContainsFunc(holding, func(h databases.Database) bool { return h.OID != d.OID }) {
			return d, &WhichError{Databases: all, Tables: x.Tables}
		}
	}
	return d, nil
}

func (x *extraction) choose(wanted ...string) (err error) {
	x.choice, err = x.contents.Choose(wanted...)
	return err
}

// attempt does everything in one scratch directory.
func (x *extraction) attempt(ctx context.Context) (err error) {
	x.result, x.children = &Result{Warnings: x.result.Warnings}, nil
	removed, sweepErr := scratch.Sweep(x.Scratch, kind, x.BinDir)
	for _, path := range removed {
		x.result.Warnings = append(x.result.Warnings, "removed what an extraction that was killed had left: "+path)
	}
	if sweepErr != nil {
		// What is in the way of another's remains is no reason not to work.
		x.result.Warnings = append(x.result.Warnings, sweepErr.Error())
	}
	// A dump of tables reads no others.
	if len(x.Tables) > 0 && len(x.Schemas) == 0 && !x.whole {
		if x.leftOut, err = x.choice.LeaveOut(ctx, x.Repo, x.Incarnation, x.manifest, x.Tables, x.readsByQuery()); err != nil {
			return err
		}
	} else {
		x.leftOut = false
	}
	if x.scratch, err = scratch.Make(x.Scratch, kind); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.scratch.Remove(x.BinDir)) }()
	restored, err := x.restore(ctx)
	if err != nil {
		return err
	}
	if x.result.Recovery, err = x.replay(ctx, restored); err != nil {
		return x.withoutLogFile(err)
	}
	return x.dump(ctx)
}

func (x *extraction) restore(ctx context.Context) (*restore.Result, error) {
	o := restore.Options{
		To: x.scratch.Path(scratch.DataName), Tablespaces: map[string]string{}, Jobs: x.Jobs, RestoreCommand: x.RestoreCommand,
		Action: restore.ActionPromote, Databases: x.choice, Logger: x.log,
		Progress: func(p restore.Progress) { x.report(Restoring, p.Bytes, p.TotalBytes) },
	}
	for _, ts := range x.manifest.Tablespaces {
		if !ts.InPlace {
			o.Tablespaces[ts.Location] = filepath.Join(x.scratch.Path(scratch.TablespacesName), strconv.FormatUint(uint64(ts.OID), 10))
		}
	}
	res, err := restore.Run(ctx, x.Repo, x.Plan, o)
	if err != nil {
		return nil, err
	}
	r := x.result
	r.Choice, r.Files, r.Bytes, r.Download, r.Restore = x.choice, res.Files, res.Bytes, res.Downloaded, res.Duration
	return res, nil
}

func (x *extraction) replay(ctx context.Context, restored *restore.Result) (*recovery.Outcome, error) {
	settings, err := scratch.Settings(restored.Directory, x.manifest.Major, x.Plan.Minimums, x.Set)
	if err != nil {
		return nil, err
	}
	// Who may connect is not known before the server is: its log tells how far it is.
	o := recovery.Options{
		Directory: restored.Directory, ConfigDirectory: restored.ConfigDirectory, BinDir: x.BinDir,
		HBA: scratch.HBA, Settings: settings, Expect: x.Expect, Whole: x.choice.MustBeWhole, TellLater: true, Logger: x.log,
		Progress: func(p recovery.Progress) {
			if p.Start == 0 || p.LSN < p.Start || p.End <= p.Start {
				x.report(Replaying, 0, 0)
				return
			}
			x.report(Replaying, int64(p.LSN-p.Start), int64(p.End-p.Start))
		},
	}
	if n := len(x.contents.Superusers); n > 0 {
		o.User = x.contents.Superusers[n-1]
	}
	if len(x.choice.Chosen) > 0 {
		o.Database = x.choice.Chosen[0].Name
	} else {
		o.Database = "template1"
	}
	began := time.Now()
	outcome, err := recovery.Run(ctx, o)
	x.result.Replay = time.Since(began)
	if err != nil {
		return outcome, err
	}
	if outcome.State != recovery.Promoted {
		return outcome, fmt.Errorf("extract: the server in scratch is %q after recovery, and should be open", outcome.State)
	}
	return outcome, nil
}

// withoutLogFile prints the server's words that matter, whose file goes with scratch.
func (x *extraction) withoutLogFile(err error) error {
	var f *recovery.Failure
	if errors.As(err, &f) {
		f.LogFile = ""
		for _, m := range f.Messages {
			fmt.Fprintf(x.messages(), "  server: %s\n", m)
		}
	}
	return err
}

func (x *extraction) messages() io.Writer {
	if x.Stderr == nil {
		return io.Discard
	}
	return x.Stderr
}

func (x *extraction) report(s Stage, done, total int64) {
	if x.Progress != nil {
		x.Progress(Progress{Stage: s, Done: done, Total: total})
	}
}

// moment is the plan's target in words.
func (x *extraction) moment() string { return x.Plan.Target }
