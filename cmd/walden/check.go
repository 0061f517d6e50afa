package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/setup"
)

const checkExitCodes = `   0    everything needed is in order (warnings do not count)
   1    at least one probe failed
   2    wrong usage
   4    no such cluster
   130  interrupted`

type checkDocument struct {
	Cluster  string          `json:"cluster"`
	Findings []setup.Finding `json:"findings"`
	Failed   int             `json:"failed"`
	Warnings int             `json:"warnings"`
}

func (e *environment) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "probes every connection, permission and setting",
		Description: "Each probe is ok, warn or fail, with a hint what to do. The last one ends a WAL segment\n" +
			"on the server and waits until it is in the repository.",
		CustomHelpTemplate: commandHelpTemplate(checkExitCodes),
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "archive-timeout", Usage: "how long to wait for the ended segment; 0: do not end one", Value: time.Minute, DefaultText: "1m"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.check(c)
		},
	}
}

func (e *environment) check(c *cli.Context) error {
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	exe, err := executable()
	if err != nil {
		return err
	}
	o := setup.CheckOptions{Config: t.config, Cluster: t.name, Executable: exe, Log: t.log, ArchiveTimeout: c.Duration("archive-timeout")}
	if !e.json {
		o.Report = e.renderFinding
	}
	d := checkDocument{Cluster: t.name, Findings: setup.Check(c.Context, o)}
	if err := c.Context.Err(); err != nil {
		return err // what was not waited for is no finding
	}
	for _, f := range d.Findings {
		switch f.Status {
		case setup.Fail:
			d.Failed++
		case setup.Warn:
			d.Warnings++
		}
	}
	if e.json {
		if err := e.printJSON(d); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "\n%d probes, %d failed, %d warnings\n", len(d.Findings), d.Failed, d.Warnings)
	}
	if d.Failed > 0 {
		return errFindings
	}
	return nil
}

func (e *environment) renderFinding(f setup.Finding) {
	fmt.Fprintf(e.stdout, "%-4s  %-22s %s\n", f.Status, f.Probe, f.Detail)
	if f.Hint != "" {
		fmt.Fprintf(e.stdout, "      %-22s → %s\n", "", f.Hint)
	}
}
