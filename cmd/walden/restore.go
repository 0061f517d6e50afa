package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/setup"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/rate"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/restore"
)

func (e *environment) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "restores a cluster to a moment",
		Description: "Plans first, and writes nothing if the moment cannot be reached. Every byte is verified while it\n" +
			"is written. PostgreSQL then replays the WAL to the target: at once with --start, or when you start\n" +
			"it. A restore that was interrupted is begun again by the same command.\n" +
			"The restored cluster does not archive and follows nobody, so that it cannot hurt the one it came\n" +
			"from: see --keep-archiving.",
		CustomHelpTemplate: commandHelpTemplate(targetExitCodes),
		Flags: append(targetFlags(),
			&cli.StringFlag{Name: "to", Usage: "the data directory `DIR` to make; it must be absent or empty", DefaultText: "none; needed"},
			&cli.StringSliceFlag{Name: "tablespace", Usage: "`OLD=NEW`: put the tablespace at location OLD to NEW; may be repeated", DefaultText: "its old location"},
			actionFlag("what PostgreSQL does at the target: `ACTION` pause, promote or shutdown"),
			databaseFlag(),
			&cli.BoolFlag{Name: "standby", Usage: "make a standby that follows the archive (with --latest)", DefaultText: "false"},
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE`: a further setting for the restored cluster; may be repeated", DefaultText: "none"},
			&cli.BoolFlag{Name: "keep-archiving", Usage: "leave archiving as it was: for the cluster that replaces production", DefaultText: "false"},
			&cli.IntFlag{Name: "jobs", Usage: "restore with `N` parallel readers", DefaultText: "by the number of processors"},
			&cli.StringFlag{Name: "owner", Usage: "as root: `USER` that shall own the files", DefaultText: "the owner of DIR, else postgres"},
			&cli.BoolFlag{Name: "start", Usage: "run PostgreSQL to the target and report where it stopped", DefaultText: "false"},
			&cli.StringFlag{Name: "pg-bin", Usage: "with --start: " + pgBinUsage, DefaultText: "looked for in the usual places"},
			&cli.IntFlag{Name: "port", Usage: "with --start: the port in the name of its socket", DefaultText: "5432"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.restore(c)
		},
	}
}

// restoreDocument is the result of restore.
type restoreDocument struct {
	Directory       string               `json:"directory"`
	Backup          string               `json:"backup"`
	Files           int64                `json:"files"`
	Bytes           int64                `json:"bytes"`
	Seconds         float64              `json:"seconds"`
	Tablespaces     []restoredTablespace `json:"tablespaces,omitempty"`
	Settings        []plan.Setting       `json:"settings"`
	Cleared         []string             `json:"cleared"`
	ConfigDirectory string               `json:"config_directory,omitempty"`
	StartCommand    string               `json:"start_command"`
	Warnings        []string             `json:"warnings,omitempty"`
	Databases       *partialDocument     `json:"databases,omitempty"`
	Plan            *plan.Plan           `json:"plan"`
	Recovery        *recoveryDocument    `json:"recovery,omitempty"`
}

type restoredTablespace struct {
	OID  uint32 `json:"oid"`
	From string `json:"from"`
	To   string `json:"to"`
}

func (e *environment) restore(c *cli.Context) error {
	o, err := restoreOptions(c)
	if err != nil {
		return err
	}
	p, err := e.makePlan(c)
	if err != nil {
		return err
	}
	if o.RestoreCommand, err = restoreCommand(p, standbyFlag(o.Standby)); err != nil {
		return err
	}
	if o.Databases, _, err = p.chooseDatabases(c); err != nil {
		return err
	}
	// What --start needs is looked for before hours are spent on the restore.
	var binDir string
	if c.Bool("start") {
		if binDir, err = recovery.FindBinaries(c.Context, p.plan.Backup.ServerVersion/10000, c.String("pg-bin")); err != nil {
			return err
		}
	}
	o.Logger = p.log
	bar := e.newProgress()
	o.Progress = func(p restore.Progress) { bar.show("restoring", p.Bytes, p.TotalBytes) }
	res, err := restore.Run(c.Context, p.repo, p.plan, o)
	bar.finish()
	if err != nil {
		return err
	}
	d := newRestoreDocument(p, res)
	took := rate.Measurement{DownloadBytes: res.Downloaded, DownloadSeconds: d.Seconds}
	defer func() { noteRate(c.Context, p, took) }()
	if !e.json {
		if err := e.printed(func(w io.Writer) { renderRestore(w, d) }); err != nil {
			return err
		}
	}
	if c.Bool("start") {
		if err := e.startRestored(c, d, binDir, p.log); err != nil {
			return err
		}
		if d.Seconds > 0 { // else an earlier run's work was only taken up
			took.ReplayBytes, took.ReplaySeconds = int64(d.Recovery.LSN-p.plan.Backup.StartLSN), d.Recovery.Seconds
		}
	}
	if e.json {
		if err := e.printJSON(d); err != nil {
			return err
		}
	}
	if c.Bool("start") {
		return recovery.Told(d.Directory)
	}
	return nil
}

// noteRate keeps how fast a restore went, for the estimates of later plans. Where that
// is not allowed, nothing is lost but those.
func noteRate(ctx context.Context, p *planned, m rate.Measurement) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := rate.Record(ctx, p.repo, p.inc, m); err != nil {
		p.log.Info("how fast the restore went is not kept for later plans", "error", err)
	}
}

// printed renders into memory first, so that a result is written at once.
func (e *environment) printed(render func(io.Writer)) error {
	var b strings.Builder
	render(&b)
	if _, err := io.WriteString(e.stdout, b.String()); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

func actionFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "action", Usage: usage, Value: string(restore.ActionPause),
		DefaultText: "pause; with --latest promote, for there is no target to wait at"}
}

func actionOf(c *cli.Context) (restore.Action, error) {
	a := restore.Action(c.String("action"))
	switch a {
	case restore.ActionPause, restore.ActionPromote, restore.ActionShutdown:
		return a, nil
	}
	return a, usagef("--action %q: it must be pause, promote or shutdown", a)
}

func restoreOptions(c *cli.Context) (restore.Options, error) {
	o := restore.Options{
		Standby: c.Bool("standby"), KeepArchiving: c.Bool("keep-archiving"),
		Jobs: c.Int("jobs"), Owner: c.String("owner"), Resume: c.Bool("start"),
	}
	if c.String("to") == "" {
		return o, usagef("restore needs --to DIR, the data directory to make")
	}
	var err error
	if o.To, err = filepath.Abs(c.String("to")); err != nil {
		return o, err
	}
	if o.Action, err = actionOf(c); err != nil {
		return o, err
	}
	if c.Bool("latest") && !o.Standby && c.IsSet("action") && o.Action != restore.ActionPromote {
		return o, usagef("--action %s needs a target: at the end of the WAL (--latest) PostgreSQL always opens the cluster for writing", o.Action)
	}
	if o.Standby && len(c.StringSlice("database")) > 0 {
		return o, usagef("--standby follows a whole cluster: it cannot be made of some databases")
	}
	if o.Standby && !c.Bool("latest") {
		return o, usagef("--standby follows the archive to its end and beyond: its only target is --latest")
	}
	if o.Jobs < 0 {
		return o, usagef("--jobs %d: it must be 1 or more", o.Jobs)
	}
	if o.Tablespaces, err = pairs("tablespace", "OLD=NEW", c.StringSlice("tablespace")); err != nil {
		return o, err
	}
	o.Set, err = pairs("set", "NAME=VALUE", c.StringSlice("set"))
	return o, err
}

// pairs reads values of the form A=B.
func pairs(flag, form string, values []string) (map[string]string, error) {
	m := make(map[string]string, len(values))
	for _, v := range values {
		a, b, ok := strings.Cut(v, "=")
		if !ok || a == "" {
			return nil, usagef("--%s %q: it must be %s", flag, v, form)
		}
		if _, twice := m[a]; twice {
			return nil, usagef("--%s names %q twice", flag, a)
		}
		m[a] = b
	}
	return m, nil
}

func standbyFlag(standby bool) string {
	if standby {
		return " --standby"
	}
	return ""
}

// restoreCommand is what the restored cluster fetches its WAL with; flag is one of
// wal-get's, with a blank before it, or empty.
func restoreCommand(p *planned, flag string) (string, error) {
	exe, err := executable()
	if err != nil {
		return "", err
	}
	if p.plan.Partial != "" {
		flag += " --partial"
	}
	rest := fmt.Sprintf(`wal-get%s --incarnation %d "%%f" "%%p"`, flag, p.inc.Number)
	return setup.HookCommand(exe, p.config.Path, p.name, rest), nil
}

func newRestoreDocument(p *planned, r *restore.Result) *restoreDocument {
	d := &restoreDocument{
		Directory: r.Directory, Backup: r.Backup, Files: r.Files, Bytes: r.Bytes, Seconds: r.Duration.Seconds(),
		Settings: r.Settings, Cleared: r.Cleared, ConfigDirectory: r.ConfigDirectory, StartCommand: r.StartCommand,
		Warnings: r.Warnings, Databases: newPartialDocument(r.Databases), Plan: p.plan,
	}
	if p.config.Path == "" {
		d.Warnings = append(d.Warnings, "the configuration came from the environment alone: restore_command needs the same WALDEN_ variables in the server's environment")
	}
	for _, t := range r.Tablespaces {
		d.Tablespaces = append(d.Tablespaces, restoredTablespace(t))
	}
	return d
}

func renderRestore(w io.Writer, d *restoreDocument) {
	fmt.Fprintf(w, "restored backup %s to %s: %d files, %s, all verified, in %.1f s\n", d.Backup, d.Directory, d.Files, size(d.Bytes), d.Seconds)
	renderPartial(w, d.Databases)
	fmt.Fprintf(w, "  target    %s; it will stop %s\n", d.Plan.Target, stopText(d.Plan))
	for _, t := range d.Tablespaces {
		fmt.Fprintf(w, "  tablespace %d  %s → %s\n", t.OID, t.From, t.To)
	}
	if len(d.Cleared) > 0 {
		why := "this cluster cannot hurt the one it came from"
		if !slices.Contains(d.Cleared, "archive_mode") {
			why = "but it archives (--keep-archiving), so the one it came from must not go on"
		}
		fmt.Fprintf(w, "  cleared   %s: %s\n", strings.Join(d.Cleared, ", "), why)
	}
	if d.ConfigDirectory != "" {
		fmt.Fprintf(w, "  config    the files from outside the data directory are in %s\n", d.ConfigDirectory)
	}
	for _, s := range d.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
	fmt.Fprintf(w, "  start     %s\n", d.StartCommand)
}
