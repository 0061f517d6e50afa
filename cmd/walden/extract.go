package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/walden-pg/walden/replay/extract"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/restore"
)

const extractExitCodes = `   0    done
   1    failed: also if what was asked for did not exist at that moment
   2    wrong usage
   3    the target cannot be reached
   4    no such backup, cluster or repository
   130  interrupted`

func (e *environment) extractCommand() *cli.Command {
	return &cli.Command{
		Name:      "extract",
		Usage:     "rescues tables, a schema or a database as they were at a moment",
		UsageText: "walden extract [--table PATTERN … | --schema PATTERN …] [--database NAME] TARGET [flags] [-- options of pg_dump]",
		Description: "Restores what the database needs into scratch, runs PostgreSQL there to the moment, and dumps\n" +
			"with pg_dump to standard output or to --output. Other databases are not downloaded. Scratch is\n" +
			"removed at the end, also when interrupted; what a run that was killed has left, by the next one.\n" +
			"Without --table and --schema the whole database is dumped. With a table come its partitions\n" +
			"and the tables that inherit from it.",
		CustomHelpTemplate: commandHelpTemplate(extractExitCodes),
		Flags: append(targetFlags(),
			&cli.StringSliceFlag{Name: "table", Aliases: []string{"t"}, Usage: "dump the tables (also views, sequences …) that match `PATTERN`, as with pg_dump; may be repeated", DefaultText: "all"},
			&cli.StringSliceFlag{Name: "schema", Aliases: []string{"n"}, Usage: "dump the schemas that match `PATTERN`, as with pg_dump; may be repeated", DefaultText: "all"},
			&cli.StringFlag{Name: "database", Usage: "the database `NAME` (or OID)", DefaultText: "the only one, postgres not counted"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the dump: plain (for psql), custom, directory or tar (for pg_restore)", Value: string(extract.Plain), DefaultText: "plain"},
			&cli.StringFlag{Name: "action", Usage: "as find prints it: only `ACTION` promote, which extract always does, in scratch", Value: string(restore.ActionPromote), DefaultText: "promote"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`, or to that directory; it must not exist", DefaultText: "standard output"},
			&cli.IntFlag{Name: "jobs", Usage: "restore with `N` parallel readers, and dump that many tables at once in the directory format", DefaultText: "by the number of processors; 1"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` to work in: it needs room for the database and the WAL that is being replayed", DefaultText: "$TMPDIR, else /tmp"},
			&cli.StringFlag{Name: "pg-bin", Usage: pgBinUsage, DefaultText: "looked for in the usual places"},
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE`: a setting for the server in scratch; may be repeated", DefaultText: "none"},
		),
		Action: func(c *cli.Context) error { return e.extract(c) },
	}
}

// extractDocument is the result of extract.
type extractDocument struct {
	Database        string            `json:"database"`
	DatabaseOID     uint32            `json:"database_oid"`
	Tables          []string          `json:"tables,omitempty"`
	Schemas         []string          `json:"schemas,omitempty"`
	Children        []string          `json:"children,omitempty"`
	Format          extract.Format    `json:"format"`
	Output          string            `json:"output,omitempty"`
	OutputBytes     int64             `json:"output_bytes"`
	Backup          string            `json:"backup"`
	Files           int64             `json:"files"`
	Bytes           int64             `json:"bytes"`
	Download        int64             `json:"download_bytes"`
	LeftOut         int64             `json:"left_out_bytes"`
	RolledBack      []string          `json:"rolled_back,omitempty"`
	RestoreSeconds  float64           `json:"restore_seconds"`
	RecoverySeconds float64           `json:"recovery_seconds"`
	DumpSeconds     float64           `json:"dump_seconds"`
	Warnings        []string          `json:"warnings,omitempty"`
	Plan            *plan.Plan        `json:"plan"`
	Recovery        *recoveryDocument `json:"recovery"`
}

func (e *environment) extract(c *cli.Context) error {
	if a := c.String("action"); a != string(restore.ActionPromote) {
		return usagef("--action %q: extract promotes the cluster in scratch to dump from it, and can do nothing else", a)
	}
	o, err := e.extractOptions(c)
	if err != nil {
		return err
	}
	p, err := e.makePlan(c)
	if err != nil {
		return err
	}
	o.Repo, o.Incarnation, o.Plan, o.Expect, o.Logger = p.repo, p.inc, p.plan, expectation(p.plan), p.log
	if o.RestoreCommand, err = restoreCommand(p, " --scratch"+stopFlag(p.plan)); err != nil {
		return err
	}
	bar := e.newProgress()
	o.Progress = func(p extract.Progress) { bar.show(string(p.Stage), p.Done, p.Total) }
	// A closed terminal, and a reader of the dump that goes away, are
	// interruptions too: scratch must not stay.
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	res, err := extract.Run(ctx, o)
	bar.finish()
	if err != nil {
		return interruptedBy(ctx, err)
	}
	d := newExtractDocument(p.plan, o, res)
	if e.json {
		return e.printJSON(d)
	}
	var b strings.Builder
	renderExtract(&b, d)
	// Standard output may be the dump.
	out := e.stdout
	if o.Output == "" {
		out = e.stderr
	}
	_, err = io.WriteString(out, b.String())
	return err
}

// interruptedBy marks an error that came of a signal which other commands do not handle.
func interruptedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &interruptedError{err}
	}
	return err
}

// interruptedError is a command that a signal has ended: exit code 130.
type interruptedError struct{ err error }

func (e *interruptedError) Error() string { return e.err.Error() }
func (e *interruptedError) Unwrap() error { return e.err }

func (e *environment) extractOptions(c *cli.Context) (extract.Options, error) {
	o := extract.Options{
		Database: c.String("database"), Tables: c.StringSlice("table"), Schemas: c.StringSlice("schema"),
		Output: c.String("output"), Stdout: e.stdout, Stderr: e.stderr, DumpArguments: c.Args().Slice(),
		Jobs: c.Int("jobs"), Scratch: c.String("scratch"), BinDir: c.String("pg-bin"),
	}
	var err error
	if o.Format, err = extract.ParseFormat(c.String("format")); err != nil {
		return o, usagef("--%w", err)
	}
	switch f, ok := e.stdout.(*os.File); {
	case o.Output == "" && e.json:
		return o, usagef("--json needs --output: standard output cannot be both the document and the dump")
	case o.Output == "" && o.Format == extract.Directory:
		return o, usagef("--format directory needs --output, the directory to make")
	case o.Output == "" && o.Format != extract.Plain && ok && term.IsTerminal(int(f.Fd())):
		return o, usagef("--format %s is nothing for a terminal: give --output FILE, or redirect standard output", o.Format)
	case o.Jobs < 0:
		return o, usagef("--jobs %d: it must be 1 or more", o.Jobs)
	case len(o.Tables) > 0 && len(o.Schemas) > 0:
		// selectDumpableNamespace in pg_dump.c
		return o, usagef("--table and --schema do not go together: pg_dump would dump the tables alone; name the tables of a schema with --table 'SCHEMA.*'")
	}
	for _, a := range o.DumpArguments {
		if err := checkDumpArgument(a); err != nil {
			return o, err
		}
	}
	o.Set, err = pairs("set", "NAME=VALUE", c.StringSlice("set"))
	return o, err
}

// checkDumpArgument refuses options of pg_dump's that say where to connect or to
// write to: these are walden's. Long options alone are taken, for their names can be known.
func checkDumpArgument(a string) error {
	name, _, _ := strings.Cut(a, "=")
	if !strings.HasPrefix(a, "--") || len(name) < 4 {
		return usagef("%q: only long options of pg_dump with their values in the same word (--NAME=VALUE) can follow --; the database is named with --database", a)
	}
	for _, mine := range []string{"--dbname", "--host", "--port", "--username", "--password", "--no-password", "--role", "--file", "--format", "--jobs", "--help", "--version"} {
		// pg_dump takes abbreviations too.
		if strings.HasPrefix(mine, name) && name != "--no" && mine != "--role" || name == mine {
			return usagef("%s: what pg_dump connects to and writes to is for walden to say", a)
		}
	}
	return nil
}

func newExtractDocument(p *plan.Plan, o extract.Options, r *extract.Result) *extractDocument {
	d := &extractDocument{
		Database: r.Database.Name, DatabaseOID: r.Database.OID, Tables: o.Tables, Schemas: o.Schemas, Children: r.Children, Format: o.Format,
		Output: r.Output, OutputBytes: r.OutputBytes, Backup: p.Backup.ID, Files: r.Files, Bytes: r.Bytes, Download: r.Download,
		LeftOut: r.Choice.HollowBytes, RolledBack: r.RolledBack, RestoreSeconds: r.Restore.Seconds(), RecoverySeconds: r.Replay.Seconds(),
		DumpSeconds: r.Dump.Seconds(), Warnings: append(append([]string(nil), p.Warnings...), r.Warnings...), Plan: p,
		Recovery: newRecoveryDocument(r.Recovery),
	}
	d.Recovery.AsPlanned = asPlanned(p, r.Recovery)
	// What it tells of the server is past: it is gone with scratch.
	rec := d.Recovery
	rec.LogFile, rec.SocketDirectory, rec.Port, rec.PID = "", "", 0, 0
	rec.ConnectCommand, rec.ResumeCommand, rec.StopCommand, rec.StartCommand = "", "", "", ""
	return d
}

func renderExtract(w io.Writer, d *extractDocument) {
	what := "all"
	if list := append(append([]string(nil), d.Tables...), d.Schemas...); len(list) > 0 {
		what = strings.Join(list, ", ")
	}
	where := "standard output"
	if d.Output != "" {
		where = fmt.Sprintf("%s (%s)", d.Output, size(d.OutputBytes))
	}
	fmt.Fprintf(w, "extracted %s of database %q to %s, in pg_dump's %s format\n", what, d.Database, where, d.Format)
	if n := len(d.Children); n > 0 {
		fmt.Fprintf(w, "  children  %d tables that are partitions of these or inherit from them, the first is %s\n", n, d.Children[0])
	}
	fmt.Fprintf(w, "  target    %s; stopped %s\n", d.Plan.Target, stopText(d.Plan))
	fmt.Fprintf(w, "  restored  %d files, %s, of backup %s (%s), for which %s were downloaded\n",
		d.Files, size(d.Bytes), d.Backup, size(d.Plan.Backup.Bytes), size(d.Download))
	fmt.Fprintf(w, "  time      %s to restore, %s to replay the WAL, %s to dump\n",
		tenths(d.RestoreSeconds), tenths(d.RecoverySeconds), tenths(d.DumpSeconds))
	if len(d.RolledBack) > 0 {
		fmt.Fprintf(w, "  prepared  transactions that were not decided at that moment are not in it: %s\n", strings.Join(d.RolledBack, ", "))
	}
	for _, s := range d.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
}

// tenths writes how long something took.
func tenths(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}
