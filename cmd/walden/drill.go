package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/setup"
	"github.com/walden-pg/walden/replay/drill"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/rate"
)

const drillExitCodes = `   0    proven
   1    something was found, or the drill itself failed
   2    wrong usage
   3    the target that was named does not exist
   4    no such backup, cluster or repository
   130  interrupted`

func (e *environment) drillCommand() *cli.Command {
	return &cli.Command{
		Name:      "drill",
		Usage:     "proves that the cluster comes back: restores to a moment into scratch, and checks what came",
		UsageText: "walden drill [TARGET | --pick WAY] [--scenario NAME] [flags]\nwalden drill --report [--html FILE]",
		Description: "Restores into scratch, runs PostgreSQL there to the moment, and checks: that recovery ended at the\n" +
			"very record; that the last commit before it is there and the first after it is not; your assertions;\n" +
			"every table and index with pg_amcheck; every page with pg_checksums; the times and the loss against\n" +
			"your objectives. Scratch is removed at the end, also when interrupted; what a drill that was killed\n" +
			"has left, by the next one. Each drill leaves a record in the repository: see --report.\n" +
			"Without a target it is --latest.",
		CustomHelpTemplate: commandHelpTemplate(drillExitCodes),
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "pick", Usage: "choose the moment: `WAY` random-time, random-xid, last-drop (just before it), before-switch or after-switch (of the newest timeline)", DefaultText: "none"},
			&cli.StringSliceFlag{Name: "assert", Usage: "`SQL`: a statement that must return true; may be repeated", DefaultText: "none"},
			&cli.StringFlag{Name: "assert-file", Usage: "further statements from `FILE`, each ended by a semicolon at the end of a line", DefaultText: "none"},
			&cli.StringFlag{Name: "database", Usage: "run the assertions in the database `NAME`", DefaultText: "the only one that is not postgres or a template"},
			&cli.DurationFlag{Name: "rto", Usage: "objective: plan, restore and replay take at most `DURATION`", DefaultText: "none"},
			&cli.DurationFlag{Name: "rpo", Usage: "objective: at most `DURATION` of commits would be lost with the server", DefaultText: "none"},
			&cli.StringSliceFlag{Name: "skip", Usage: "leave out a `CHECK`: amcheck or checksums; may be repeated", DefaultText: "none"},
			&cli.IntFlag{Name: "jobs", Usage: "restore with `N` parallel readers, and check with that many connections", DefaultText: "by the number of processors; 1"},
			&cli.StringFlag{Name: "scratch", Usage: "`DIR` to work in: it needs room for the cluster and the WAL that is being replayed", DefaultText: "$TMPDIR, else /tmp"},
			&cli.StringFlag{Name: "pg-bin", Usage: pgBinUsage, DefaultText: "looked for in the usual places"},
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE`: a setting for the server in scratch; may be repeated", DefaultText: "none"},
			&cli.StringFlag{Name: "scenario", Usage: "play a mishap on a copy: `NAME` damaged-pack, missing-segment, lost-primary, bucket-down or old-timeline; the repository itself is only read", DefaultText: "none"},
			&cli.StringFlag{Name: "runner", Usage: "`RUNNER` local: programs of this machine; docker: containers", Value: "local", DefaultText: "local"},
			&cli.StringFlag{Name: "image", Usage: "with --runner docker: `IMAGE` with PostgreSQL of the right major", DefaultText: "postgres:MAJOR"},
			&cli.StringFlag{Name: "network", Usage: "with --runner docker: `NETWORK` by which the containers reach the repository", DefaultText: "none; for a bucket bridge"},
			&cli.StringFlag{Name: "memory", Usage: "with --runner docker: limit of each container, `SIZE` as of docker run", Value: "2g", DefaultText: "2g"},
			&cli.StringFlag{Name: "cpus", Usage: "with --runner docker: limit of each container, `NUMBER` of processors", Value: "2", DefaultText: "2"},
			&cli.BoolFlag{Name: "report", Usage: "show the history of drills instead of making one", DefaultText: "false"},
			&cli.StringFlag{Name: "html", Usage: "with --report: write it to `FILE` too, as one page with the times drawn", DefaultText: "none"},
			&cli.StringFlag{Name: "from", Usage: "with --report: only drills since the time `T`, such as -90d", DefaultText: "all"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("report") {
				return e.drillReport(c)
			}
			return e.drill(c)
		},
	}
}

func (e *environment) drill(c *cli.Context) error {
	o, err := e.drillOptions(c)
	if err != nil {
		return err
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, incs, err := t.openRepository(c.Context)
	if err != nil {
		return err
	}
	inc, err := chooseIncarnation(incs, c.Int("incarnation"))
	if err != nil {
		return err
	}
	o.Repo, o.Incarnation, o.Logger, o.Version, o.Expect = repo, inc, t.log, waldenVersion(), expectation
	o.RestoreCommand = func(p *plan.Plan, overlay string) (string, error) {
		flag := " --scratch" + stopFlag(p)
		if overlay != "" {
			flag += " --overlay " + setup.HookArgument(overlay)
		}
		return restoreCommand(&planned{target: t, repo: repo, inc: inc, plan: p}, flag)
	}
	if err := e.inContainers(c, t, &o); err != nil {
		return err
	}
	if inc.Number == incs[len(incs)-1].Number {
		o.Connection = t.cluster.Connection
	}
	bar := e.newProgress()
	o.Progress = func(p drill.Progress) {
		phase := string(p.Stage)
		if p.Detail != "" {
			phase += " " + p.Detail
		}
		bar.show(phase, p.Done, p.Total)
	}
	// A closed terminal is an interruption too: scratch must not stay.
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	r, err := drill.Run(ctx, o)
	bar.finish()
	if r == nil || ctx.Err() != nil {
		return interruptedBy(ctx, err)
	}
	if r.Result == drill.Proven {
		noteRate(ctx, &planned{target: t, repo: repo, inc: inc}, rate.Measurement{
			DownloadBytes: r.DownloadBytes, DownloadSeconds: r.RestoreSeconds, ReplayBytes: r.WALBytes, ReplaySeconds: r.ReplaySeconds,
		})
	}
	if e.json {
		err = joinPrinted(err, e.printJSON(r))
	} else {
		err = joinPrinted(err, e.printed(func(w io.Writer) { renderDrill(w, r) }))
	}
	if err == nil && r.Result != drill.Proven {
		return errFindings
	}
	return err
}

// joinPrinted is the error of the work, or that of printing its result.
func joinPrinted(work, printing error) error {
	if work != nil {
		return work
	}
	return printing
}

func (e *environment) drillOptions(c *cli.Context) (drill.Options, error) {
	o := drill.Options{
		Database: c.String("database"), RTO: c.Duration("rto"), RPO: c.Duration("rpo"), Skip: c.StringSlice("skip"),
		Jobs: c.Int("jobs"), Scratch: c.String("scratch"), BinDir: c.String("pg-bin"),
	}
	for _, f := range []string{"html", "from"} {
		if c.IsSet(f) {
			return o, usagef("--%s belongs to --report", f)
		}
	}
	var err error
	if o.Target, o.Pick, err = drillTarget(c, time.Now()); err != nil {
		return o, err
	}
	if s := c.String("scenario"); s != "" {
		if o.Scenario, err = drill.ParseScenario(s); err != nil {
			return o, usagef("--scenario %w", err)
		}
	}
	for _, s := range o.Skip {
		if s != drill.CheckAmcheck && s != drill.CheckChecksums {
			return o, usagef("--skip %q: it must be amcheck or checksums", s)
		}
	}
	for _, d := range []string{"rto", "rpo"} {
		if c.IsSet(d) && c.Duration(d) <= 0 {
			return o, usagef("--%s %s: it must be more than nothing", d, c.Duration(d))
		}
	}
	if o.Jobs < 0 {
		return o, usagef("--jobs %d: it must be 1 or more", o.Jobs)
	}
	for _, sql := range c.StringSlice("assert") {
		if strings.TrimSpace(sql) == "" {
			return o, usagef("--assert: the statement is empty")
		}
		o.Assertions = append(o.Assertions, drill.Assertion{SQL: sql})
	}
	if path := c.String("assert-file"); path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return o, usagef("--assert-file: %w", err)
		}
		list, err := drill.ParseAssertions(string(b))
		if err != nil {
			return o, usagef("--assert-file %s: %w", path, err)
		}
		o.Assertions = append(o.Assertions, list...)
	}
	o.Set, err = pairs("set", "NAME=VALUE", c.StringSlice("set"))
	return o, err
}

// drillTarget reads the moment: a target as of restore, or a way to pick one, or the latest.
func drillTarget(c *cli.Context, now time.Time) (plan.Target, drill.Pick, error) {
	named := slices.ContainsFunc([]string{"latest", "time", "lsn", "xid", "name", "immediate"}, c.IsSet)
	if named {
		if c.IsSet("pick") {
			return plan.Target{}, "", usagef("there can be only one target: --pick chooses one itself")
		}
		t, err := parseTarget(c, now)
		return t, "", err
	}
	t := plan.Target{Kind: plan.Latest, Timeline: c.String("timeline"), Backup: c.String("backup")}
	if c.Bool("exclusive") {
		return t, "", usagef("--exclusive needs a target that is named: a time, an LSN or a transaction id")
	}
	var pick drill.Pick
	if s := c.String("pick"); s != "" {
		var err error
		if pick, err = drill.ParsePick(s); err != nil {
			return t, "", usagef("--pick %w", err)
		}
		if c.IsSet("timeline") {
			return t, "", usagef("--pick chooses a moment on the way to the newest timeline: it goes without --timeline")
		}
	}
	if err := t.Validate(); err != nil {
		return t, "", &usageError{err}
	}
	return t, pick, nil
}

// resultText says what came of a drill.
var resultText = map[drill.Result]string{
	drill.Proven: "PROVEN", drill.NotProven: "FAILED", drill.Interrupted: "INTERRUPTED",
}

func renderDrill(w io.Writer, r *drill.Record) {
	fmt.Fprintf(w, "drill of cluster %s (incarnation %d) to %s: %s\n", r.Cluster, r.Incarnation, r.Target, resultText[r.Result])
	if r.Result == drill.NotProven {
		fmt.Fprintf(w, "  failed    %s\n", r.Failure)
	}
	if r.Scenario != "" {
		fmt.Fprintf(w, "  scenario  %s\n  expected  %s\n  happened  %s\n", r.Scenario, r.Expected, r.Happened)
	}
	if r.Pick != "" {
		fmt.Fprintf(w, "  picked    %s; the same again: walden drill %s\n", r.Pick, r.Flags)
	}
	for _, c := range r.Checks {
		fmt.Fprintf(w, "  %-7s   %-12s  %s\n", c.State, c.Name, c.Text)
		for _, line := range c.Details {
			fmt.Fprintf(w, "  %-23s %s\n", "", line)
		}
	}
	if r.Backup != "" {
		fmt.Fprintf(w, "  restored  %d files, %s (%s downloaded), and %s of WAL, of backup %s with PostgreSQL %d\n",
			r.Files, size(r.Bytes), size(r.DownloadBytes), size(r.WALBytes), r.Backup, r.Major)
	}
	fmt.Fprintf(w, "  time      %s to plan, %s to restore, %s to replay, %s to check; %s in all\n",
		tenths(r.PlanSeconds), tenths(r.RestoreSeconds), tenths(r.ReplaySeconds), tenths(r.CheckSeconds), tenths(r.Seconds))
	if r.Loss != nil {
		fmt.Fprintf(w, "  loss      %s\n", r.Loss.Text)
	}
	for _, s := range r.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
	fmt.Fprintf(w, "  record    %s\n", r.ID)
}
