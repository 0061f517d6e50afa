package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/agent"
	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// everyDocument is what `backup --every` tells at its end.
type everyDocument struct {
	Cluster string  `json:"cluster"`
	Seconds float64 `json:"every_seconds"`
	agent.Report
}

// backupEvery takes backups until it is told to stop. The server may have been
// initialised anew, or another repository mounted, since the last one: each is
// begun from nothing.
func (e *environment) backupEvery(ctx context.Context, t *target, o basebackup.Options, every time.Duration) error {
	var taken takenBackup
	damaged := false
	b := &agent.Backups{
		Every:  every,
		Newest: func(ctx context.Context) (time.Time, error) { return newestBackup(ctx, t) },
		Take: func(ctx context.Context) (m *basebackup.Manifest, err error) {
			taken, err = e.takeBackup(ctx, t, o)
			return taken.manifest, err
		},
		Done: func(m *basebackup.Manifest) error {
			if e.refreshRollups(ctx, t, taken.repo, taken.inc) != nil {
				damaged = true // it has been told; the backups go on
			}
			if e.json {
				return nil // one document, at the end
			}
			return e.renderBackup(m, taken.repo)
		},
		Final: needsPerson, Hint: hintOf, Logger: t.log,
	}
	rep, err := b.Run(ctx)
	if err != nil {
		return err
	}
	if e.json {
		if err := e.printJSON(everyDocument{Cluster: t.name, Seconds: every.Seconds(), Report: rep}); err != nil {
			return err
		}
	}
	if rep.Overdue != "" {
		fmt.Fprintf(e.stderr, "walden: stopped while a backup was overdue: %s\n", rep.Overdue)
		return errFindings
	}
	if damaged {
		return errFindings
	}
	return nil
}

// newestBackup is when the newest complete backup of what the server runs ended.
func newestBackup(ctx context.Context, t *target) (time.Time, error) {
	repo, inc, err := t.openRunning(ctx)
	if err != nil {
		return time.Time{}, err
	}
	l, err := basebackup.List(ctx, repo, inc)
	if err != nil {
		return time.Time{}, err
	}
	for _, u := range l.Unreadable {
		t.log.Error("a backup cannot be read", "backup", u.ID, "error", u.Err)
	}
	var newest time.Time
	for _, m := range l.Backups {
		if m.StopTime.After(newest) {
			newest = m.StopTime
		}
	}
	return newest, nil
}

// needsPerson says that trying again will not help: the server is another
// cluster, or there is nothing to store a backup in.
func needsPerson(err error) bool {
	var (
		foreign   *foreignServerError
		noRepo    *repository.NoRepositoryError
		noIncarn  *archive.NoIncarnationError
		noCluster *config.UnknownClusterError
	)
	return errors.As(err, &foreign) || errors.As(err, &noRepo) || errors.As(err, &noIncarn) || errors.As(err, &noCluster)
}
