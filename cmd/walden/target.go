package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/rate"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// targetFlags are what names a moment; plan and restore share them.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "latest", Usage: "to the end of the archived WAL", DefaultText: "false"},
		&cli.StringFlag{Name: "time", Usage: "to the time `T`: '2026-11-22 10:02:00+01', RFC 3339, or before now as in -15m", DefaultText: "none"},
		&cli.StringFlag{Name: "lsn", Usage: "to the WAL position `LSN`", DefaultText: "none"},
		&cli.StringFlag{Name: "xid", Usage: "to the end of transaction `XID`", DefaultText: "none"},
		&cli.StringFlag{Name: "name", Usage: "to the restore point `NAME`", DefaultText: "none"},
		&cli.BoolFlag{Name: "immediate", Usage: "to the earliest consistent moment of the backup", DefaultText: "false"},
		&cli.BoolFlag{Name: "exclusive", Usage: "stop just before the target (time, lsn, xid)", DefaultText: "false"},
		&cli.StringFlag{Name: "timeline", Usage: "follow `TLI`: a number, current for the backup's own, or latest for the newest that a backup leads to", DefaultText: "latest"},
		&cli.StringFlag{Name: "backup", Usage: "start from the backup `ID`", DefaultText: "the newest that reaches the target"},
		&cli.IntFlag{Name: "incarnation", Usage: incarnationFlagUsage, DefaultText: "the newest"},
	}
}

// parseTarget reads the flags of targetFlags.
func parseTarget(c *cli.Context, now time.Time) (plan.Target, error) {
	t := plan.Target{Exclusive: c.Bool("exclusive"), Timeline: c.String("timeline"), Backup: c.String("backup")}
	var given []string
	for _, f := range []string{"latest", "time", "lsn", "xid", "name", "immediate"} {
		if c.IsSet(f) && (c.String(f) != "" || c.Bool(f)) {
			given = append(given, "--"+f)
		}
	}
	if len(given) == 0 {
		return t, usagef("to which moment? one of --latest, --time, --lsn, --xid, --name, --immediate is needed")
	}
	if len(given) > 1 {
		return t, usagef("there can be only one target, not %s", strings.Join(given, " and "))
	}
	var err error
	switch t.Kind = plan.Kind(strings.TrimPrefix(given[0], "--")); t.Kind {
	case plan.Time:
		t.Time, err = plan.ParseTime(c.String("time"), now)
	case plan.LSN:
		t.LSN, err = wal.ParseLSN(c.String("lsn"))
	case plan.XID:
		t.XID, err = plan.ParseXID(c.String("xid"))
	case plan.Name:
		t.Name = c.String("name")
	}
	if err == nil {
		err = t.Validate()
	}
	if err != nil {
		return t, &usageError{err}
	}
	return t, nil
}

// planned is a plan with what executing it needs.
type planned struct {
	*target
	repo *repository.Repository
	inc  archive.Incarnation
	plan *plan.Plan
}

// makePlan reads what there is and plans.
func (e *environment) makePlan(c *cli.Context) (*planned, error) {
	want, err := parseTarget(c, time.Now())
	if err != nil {
		return nil, err
	}
	t, err := e.selectCluster()
	if err != nil {
		return nil, err
	}
	repo, incs, err := t.openRepository(c.Context)
	if err != nil {
		return nil, err
	}
	inc, err := chooseIncarnation(incs, c.Int("incarnation"))
	if err != nil {
		return nil, err
	}
	p, err := prove(c.Context, repo, inc, want)
	if err != nil {
		return nil, err
	}
	return &planned{target: t, repo: repo, inc: inc, plan: p}, nil
}

// prove loads what the target needs and decides.
func prove(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, want plan.Target) (*plan.Plan, error) {
	r := catalog.NewReader(repo, archive.New(repo, inc), 0)
	snap, err := r.Sketch(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.Satisfy(ctx, snap, func() (plan.Needs, error) { return plan.Need(snap, want) }); err != nil {
		return nil, err
	}
	p, err := plan.Make(snap, want)
	if err != nil {
		return nil, err
	}
	// How long it will take is no reason not to restore.
	measured, err := rate.Load(ctx, repo, inc)
	if err != nil {
		p.Warnings = append(p.Warnings, fmt.Sprintf("How fast earlier restores went cannot be read: %v.", err))
	}
	p.Estimate = rate.Estimate(p, measured, snap.Backups)
	return p, nil
}
