package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/basebackup/protocol"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
)

const backupExitCodes = `   0    done; with --every: stopped
   1    failed, or found something bad; with --every: stopped after the last attempt had failed,
        or ended by what only a person can mend
   2    wrong usage
   4    no such repository or cluster
   130  interrupted (not with --every)`

func (e *environment) backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "takes a base backup",
		Description: "Reads the cluster over a replication connection, from a primary or a standby. The backup is\n" +
			"listed once it is complete: every file agrees with the server's checksum, and the WAL it needs\n" +
			"is in the repository.\n" +
			"With --every it runs until it is told to stop (SIGTERM, SIGINT), and takes a backup when the\n" +
			"newest one is so old, at once if there is none. What fails is told, and tried again for ever.",
		CustomHelpTemplate: commandHelpTemplate(backupExitCodes),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "checkpoint", Usage: "how the server makes the checkpoint it begins with: `MODE` fast or spread", Value: "spread", DefaultText: "spread"},
			&cli.StringFlag{Name: "max-rate", Usage: "read at most `RATE` bytes a second (32kB to 1GB; kB, MB and GB are binary)", DefaultText: "no limit"},
			&cli.StringFlag{Name: "label", Usage: "the backup's `LABEL`", DefaultText: "walden and the backup's id"},
			&cli.DurationFlag{Name: "wal-timeout", Usage: "how long to wait until the archive holds the WAL that the backup needs", Value: time.Minute, DefaultText: "1m"},
			&cli.DurationFlag{Name: "every", Usage: "go on, and take a backup each `TIME`, as in 24h; at least 1s", DefaultText: "one backup, now"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.backup(c)
		},
	}
}

func (e *environment) backup(c *cli.Context) error {
	mode := basebackup.Checkpoint(c.String("checkpoint"))
	if mode != basebackup.CheckpointFast && mode != basebackup.CheckpointSpread {
		return usagef("--checkpoint %q: it must be fast or spread", mode)
	}
	rate, err := parseRate(c.String("max-rate"))
	if err != nil {
		return err
	}
	every := c.Duration("every")
	if c.IsSet("every") {
		if every < time.Second {
			return usagef("--every %s: it must be 1s or more", every)
		}
		e.logsOn()
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	o := basebackup.Options{
		Label: c.String("label"), Checkpoint: mode, MaxRate: rate, WALTimeout: c.Duration("wal-timeout"),
		Version: waldenVersion(), Logger: t.log,
	}
	if every != 0 {
		return e.backupEvery(c.Context, t, o, every)
	}
	taken, err := e.takeBackup(c.Context, t, o)
	if err != nil {
		return err
	}
	if err := e.renderBackup(taken.manifest, taken.repo); err != nil {
		return err
	}
	return e.refreshRollups(c.Context, t, taken.repo, taken.inc)
}

// namesTimeout bounds what a backup waits for the names.
const namesTimeout = time.Minute

// takeNames stores what the numbers in the WAL are called now. A backup is one
// without that too, so it gives warnings.
func takeNames(ctx context.Context, t *target, repo *repository.Repository, inc archive.Incarnation) (warnings []string) {
	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	r, err := names.NewTaker(repo, inc).Take(ctx, names.Source{Conninfo: t.cluster.Connection})
	if err != nil {
		return []string{fmt.Sprintf("no snapshot of names was stored, what is dropped later may have no name: %v", err)}
	}
	for _, u := range r.Unread {
		warnings = append(warnings, u.Error())
	}
	return warnings
}

// takenBackup is a backup, and where it was put.
type takenBackup struct {
	manifest *basebackup.Manifest
	repo     *repository.Repository
	inc      archive.Incarnation
}

// takeBackup takes one backup of the cluster that the server runs.
func (e *environment) takeBackup(ctx context.Context, t *target, o basebackup.Options) (b takenBackup, err error) {
	if b.repo, b.inc, err = t.openRunning(ctx); err != nil {
		return b, err
	}
	source, err := protocol.New(protocol.Options{Conninfo: t.cluster.Connection, Logger: t.log})
	if err != nil {
		return b, err
	}
	bar := e.newProgress()
	o.Repo, o.Incarnation, o.Archive, o.Source, o.Server = b.repo, b.inc, archive.New(b.repo, b.inc), source, source
	o.Names = func(ctx context.Context) []string { return takeNames(ctx, t, b.repo, b.inc) }
	o.Progress = func(p basebackup.Progress) { showBackup(bar, p) }
	b.manifest, err = basebackup.Take(ctx, o)
	bar.finish()
	return b, err
}

// openRunning opens the repository, and finds the incarnation that the server runs.
func (t *target) openRunning(ctx context.Context) (*repository.Repository, archive.Incarnation, error) {
	repo, incs, err := t.openRepository(ctx)
	if err != nil {
		return nil, archive.Incarnation{}, err
	}
	inc, err := runningIncarnation(ctx, t, incs)
	return repo, inc, err
}

// showBackup tells how much is copied only while it is being copied: during a
// wait nothing of that moves.
func showBackup(bar *progress, p basebackup.Progress) {
	if p.Phase == basebackup.PhaseCopying {
		bar.show(phaseText(p), p.Done, p.Total)
		return
	}
	bar.show(phaseText(p), 0, 0)
}

func phaseText(p basebackup.Progress) string {
	if p.Message != "" {
		return p.Message
	}
	return string(p.Phase)
}

// runningIncarnation is the incarnation that the server runs. A server with
// another identity is refused before anything is written.
func runningIncarnation(ctx context.Context, t *target, incs []archive.Incarnation) (archive.Incarnation, error) {
	conn, err := server.Connect(ctx, t.cluster.Connection, server.Replication, nil)
	if err != nil {
		return archive.Incarnation{}, err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing was begun on it
	id, _, err := server.Identify(ctx, conn)
	if err != nil {
		return archive.Incarnation{}, err
	}
	for i := len(incs) - 1; i >= 0; i-- {
		if incs[i].SystemID == id {
			return incs[i], nil
		}
	}
	return archive.Incarnation{}, &foreignServerError{cluster: t.name, found: id, known: incs[len(incs)-1].SystemID}
}

// foreignServerError says that the server is not the one that was set up.
type foreignServerError struct {
	cluster      string
	found, known uint64
}

func (e *foreignServerError) Error() string {
	return fmt.Sprintf("the server has system identifier %d, but cluster %q is known with %d", e.found, e.cluster, e.known)
}

func (e *foreignServerError) Hint() string {
	return "if the cluster was re-initialised or upgraded, run `walden init`; otherwise `connection` leads to the wrong server"
}

func (e *environment) renderBackup(m *basebackup.Manifest, repo *repository.Repository) error {
	for _, w := range m.Warnings {
		fmt.Fprintf(e.stderr, "warning: %s\n", w)
	}
	if e.json {
		return e.printJSON(m)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "backup %s is complete\n", m.ID)
	fmt.Fprintf(&b, "  %d files, %s; %s stored (%s), in %s\n", m.Files, size(m.Bytes), size(m.StoredBytes), repo.Codec(), m.StopTime.Sub(m.StartTime).Round(100*time.Millisecond))
	fmt.Fprintf(&b, "  timeline %s, from %s to %s: every moment from here on can be restored while WAL arrives\n", m.StopTimeline, m.StartLSN, m.StopLSN)
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}

// parseRate reads a number of bytes a second and returns KiB a second, 0 for "".
func parseRate(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	number := strings.TrimRight(s, "kKMGiB")
	factor, ok := map[string]float64{"": 1.0 / 1024, "B": 1.0 / 1024, "k": 1, "kB": 1, "KB": 1, "KiB": 1, "M": 1 << 10, "MB": 1 << 10, "MiB": 1 << 10, "G": 1 << 20, "GB": 1 << 20, "GiB": 1 << 20}[s[len(number):]]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !ok || math.IsNaN(n) {
		return 0, usagef("--max-rate %q: it must be a number and a unit, as in 20MB", s)
	}
	rate := int(min(n*factor, basebackup.MaxMaxRate+1))
	if rate < basebackup.MinMaxRate || rate > basebackup.MaxMaxRate {
		return 0, usagef("--max-rate %q: PostgreSQL accepts 32kB to 1GB a second", s)
	}
	return rate, nil
}
