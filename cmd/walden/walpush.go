package main

import (
	"fmt"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/wal/archive"
)

const walPushExitCodes = `   0    the file is durable in the repository
   1    failed: PostgreSQL keeps the file and tries again
   2    wrong usage
   4    no such repository or cluster
   130  interrupted`

func (e *environment) walPushCommand() *cli.Command {
	return &cli.Command{
		Name:      "wal-push",
		Usage:     "archives one file of pg_wal: the archive_command",
		ArgsUsage: "PATH",
		Description: "Checks the file (name, size, every page and record) and stores it. Pushing the same\n" +
			"bytes again succeeds; other bytes under the same name are a conflict, and nothing changes.\n" +
			"In postgresql.conf: archive_command = 'walden --config FILE wal-push \"%p\"'",
		CustomHelpTemplate: commandHelpTemplate(walPushExitCodes),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("wal-push needs one PATH, the %%p of archive_command; it was given %d arguments", c.NArg())
			}
			// A panic must not look like an ordinary failure.
			debug.SetTraceback("crash")
			return e.walPush(c)
		},
	}
}

type walPushDocument struct {
	File   string `json:"file"`
	Result string `json:"result"`
}

func (e *environment) walPush(c *cli.Context) error {
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, incs, err := t.openRepository(c.Context)
	if err != nil {
		return err
	}
	path := c.Args().First()
	result, err := archive.PushFile(c.Context, repo, incs, path)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(walPushDocument{File: path, Result: result.String()})
	}
	t.log.Info(fmt.Sprintf("archived %s", path), "result", result.String())
	return nil
}
