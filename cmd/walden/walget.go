package main

import (
	"errors"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/replay/tablespaces"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/overlay"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

const walGetName = "wal-get"

const walGetExitCodes = `   0    the file was delivered
   1    proven absent: the listing succeeded, the file is not there, and nothing later on its timeline is
   126  anything else, wrong usage and configuration included: PostgreSQL stops instead of ending recovery early
   143  terminated`

func (e *environment) walGetCommand() *cli.Command {
	return &cli.Command{
		Name:      walGetName,
		Usage:     "delivers one file of the archive: the restore_command",
		ArgsUsage: "NAME PATH",
		Description: "Verifies every byte, writes to a temporary name, and renames when it is whole.\n" +
			"restore writes the restore_command itself; on a standby:\n" +
			"restore_command = 'walden --config FILE wal-get --standby \"%f\" \"%p\"'",
		CustomHelpTemplate: commandHelpTemplate(walGetExitCodes),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "incarnation", Usage: incarnationFlagUsage, DefaultText: "that of the data directory it runs in, else the newest"},
			&cli.BoolFlag{Name: "partial", Usage: "deliver a segment of which nothing better is archived from its .partial file: restore writes this where the target's timeline ends in one", DefaultText: "false"},
			&cli.BoolFlag{Name: "standby", Usage: "after its retries a storage fault on a segment exits 1, so that a standby waits instead of dying", DefaultText: "false"},
			&cli.BoolFlag{Name: "scratch", Usage: "refuse WAL that creates a tablespace outside of the data directory; extract and drill ask for this", DefaultText: "false"},
			&cli.BoolFlag{Name: "spare-tablespaces", Usage: "refuse WAL that creates a tablespace where another cluster has files: restore writes this", DefaultText: "false"},
			&cli.StringFlag{Name: "stop", Usage: "with the two before: recovery stops at the position `LSN`, and what lies behind it may be whatever it is", DefaultText: "none"},
			&cli.StringFlag{Name: "overlay", Usage: "show the repository with the damage that `FILE` says; drill --scenario asks for this", DefaultText: "as it is", Hidden: true},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("wal-get needs NAME and PATH, the %%f and %%p of restore_command; it was given %d arguments", c.NArg())
			}
			// A Go panic exits 2, which PostgreSQL reads as "no such file":
			// abort instead.
			debug.SetTraceback("crash")
			err := e.walGet(c)
			if c.Bool("standby") {
				return archive.ForStandby(c.Args().Get(0), err)
			}
			return err
		},
	}
}

// walGetDocument is the result of wal-get.
type walGetDocument struct {
	File string `json:"file"`
	Path string `json:"path"`
}

// guardOf is what is refused of WAL that creates tablespaces; nil: nothing is.
func guardOf(c *cli.Context) (*tablespaces.Guard, error) {
	g := &tablespaces.Guard{Scratch: c.Bool("scratch"), DataDirectory: "."} // PostgreSQL runs the command there
	if s := c.String("stop"); s != "" {
		var err error
		if g.Stop, err = wal.ParseLSN(s); err != nil {
			return nil, usagef("--stop: %w", err)
		}
	}
	if !g.Scratch && !c.Bool("spare-tablespaces") {
		if g.Stop != 0 {
			return nil, usagef("--stop goes with --spare-tablespaces or --scratch")
		}
		return nil, nil
	}
	return g, nil
}

func (e *environment) walGet(c *cli.Context) error {
	guard, err := guardOf(c)
	if err != nil {
		return err
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	var open config.OpenOptions
	if file := c.String("overlay"); file != "" {
		damage, err := overlay.Read(file)
		if err != nil {
			return err
		}
		open.Wrap = func(s storage.Store) storage.Store { return overlay.New(s, damage) }
	}
	repo, incs, err := t.openRepositoryWith(c.Context, t.config.Repository, open)
	if err != nil {
		return err
	}
	name, path := c.Args().Get(0), c.Args().Get(1)
	inc, err := chooseIncarnation(incs, c.Int("incarnation"))
	if err != nil {
		return err
	}
	if c.Int("incarnation") == 0 {
		if inc, err = archive.IncarnationOf(incs, path); err != nil {
			return err
		}
	}
	a := archive.New(repo, inc)
	if c.Bool("partial") {
		a = a.AcceptPartial()
	}
	if err := a.Fetch(c.Context, name, path); err != nil {
		return err
	}
	if guard != nil {
		if err := guard.Check(path, name, inc.SegmentSize); err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	if !e.json {
		return nil
	}
	return e.printJSON(walGetDocument{File: name, Path: path})
}
