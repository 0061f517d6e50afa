package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/demo"
)

const demoExitCodes = `   0    every row came back
   1    a step failed
   2    wrong usage
   130  interrupted`

func (e *environment) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "archives, backs up, drops a table and brings it back, on a throw-away cluster",
		Description: "Needs no configuration, only PostgreSQL's programs on this machine. Everything happens\n" +
			"in a temporary directory, which is removed at the end.",
		CustomHelpTemplate: commandHelpTemplate(demoExitCodes),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "pg-bin", Usage: pgBinUsage, DefaultText: "the newest in /usr/lib/postgresql, else the PATH"},
			&cli.BoolFlag{Name: "keep", Usage: "leave the directory for inspection", DefaultText: "false"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			exe, err := executable()
			if err != nil {
				return err
			}
			story := e.stdout
			if e.json {
				story = io.Discard
			}
			rep, err := demo.Run(c.Context, demo.Options{Walden: exe, BinDir: c.String("pg-bin"), Keep: c.Bool("keep"), Out: story})
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(rep)
			}
			return nil
		},
	}
}

// pgBinUsage describes the flag that names PostgreSQL's programs.
const pgBinUsage = "`DIR` with PostgreSQL's programs"
