package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

func (e *environment) streamCommand() *cli.Command {
	return &cli.Command{
		Name:        "stream",
		Usage:       "receives WAL as it is written and ships it to the repository: the replication client",
		Description: "Runs until it is told to stop (SIGTERM, SIGINT); then it ships and acknowledges what it has.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "slot", Usage: "the replication slot `NAME`, made where it is missing", DefaultText: "clusters.NAME.stream.slot, else walden"},
			&cli.StringFlag{Name: "acknowledge", Usage: "report WAL as flushed when it is in the repository (remote) or synced to the spool (local): `WHEN`", DefaultText: "clusters.NAME.stream.acknowledge, else remote"},
			&cli.DurationFlag{Name: "max-delay", Usage: "upload WAL at most `TIME` after it arrived; at once where a commit waits for it", DefaultText: "clusters.NAME.stream.max_delay, else 1s"},
			&cli.StringFlag{Name: "spool", Usage: "hold WAL in the directory `DIR` while the repository cannot be reached", DefaultText: "clusters.NAME.stream.spool, else none: the slot holds it on the server"},
			&cli.StringFlag{Name: "spool-limit", Usage: "let the spool grow to `SIZE`", DefaultText: "clusters.NAME.stream.spool_limit, else 10GB"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.stream(c)
		},
	}
}

func (e *environment) stream(c *cli.Context) error {
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, incs, err := t.openRepository(c.Context)
	if err != nil {
		return err
	}
	r, err := stream.New(stream.Options{
		Conninfo: t.cluster.Connection, Archive: archive.New(repo, incs[len(incs)-1]),
		Slot: c.String("slot"), Acknowledge: stream.Acknowledge(c.String("acknowledge")), MaxDelay: c.Duration("max-delay"),
		Spool: c.String("spool"), DataDirectory: t.cluster.DataDirectory, Logger: t.log,
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Second):
				s := r.Status()
				fmt.Fprintf(e.stderr, "%+v\n", s)
			}
		}
	}()
	return r.Run(c.Context)
}
