package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
)

const indexExitCodes = `   0    done
   1    failed, or segments or roll-ups are damaged, or segments do not fit together
   2    wrong usage
   4    no such repository, cluster or incarnation
   130  interrupted`

type indexDocument struct {
	Cluster     string `json:"cluster"`
	Incarnation int    `json:"incarnation"`
	DryRun      bool   `json:"dry_run"`
	*rollup.Report
}

func (e *environment) indexCommand() *cli.Command {
	return &cli.Command{
		Name:  "index",
		Usage: "rebuilds the roll-ups that make plans over many segments fast",
		Description: "A roll-up holds the indexes of a log (4 GiB of WAL). It is derived from the segments, and made where there\n" +
			"is none that holds for all of them; `walden backup` does so at its end. Nothing depends on roll-ups but speed.",
		CustomHelpTemplate: commandHelpTemplate(indexExitCodes),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "make all of them anew, and compare with those that are there", DefaultText: "only what is missing"},
			&cli.BoolFlag{Name: "dry-run", Usage: "store and delete nothing; say what would be done", DefaultText: "false"},
			&cli.IntFlag{Name: "incarnation", Usage: incarnationFlagUsage, DefaultText: "the newest"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.index(c)
		},
	}
}

func (e *environment) index(c *cli.Context) error {
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, inc, err := t.openIncarnation(c.Context, c.Int("incarnation"))
	if err != nil {
		return err
	}
	bar := e.newProgress()
	report, err := rollup.Update(c.Context, archive.New(repo, inc), rollup.NewStore(repo, inc), rollup.UpdateOptions{
		All: c.Bool("all"), DryRun: c.Bool("dry-run"),
		Progress: func(rollup.LogReport) { bar.show("looking at roll-ups", 0, 0) },
	})
	bar.finish()
	if err != nil {
		return err
	}
	doc := indexDocument{Cluster: inc.Cluster, Incarnation: inc.Number, DryRun: c.Bool("dry-run"), Report: report}
	if e.json {
		err = e.printJSON(doc)
	} else {
		var b strings.Builder
		renderIndex(&b, doc)
		_, err = io.WriteString(e.stdout, b.String())
	}
	if err == nil && len(report.Findings) > 0 {
		err = errFindings
	}
	return err
}

// What a backup does about roll-ups at its end.
const (
	// refreshed is how many logs it looks at: some days' worth. The others are
	// left to `walden index`.
	refreshed = 32
	// refreshFrom is how many new segments the last log must have.
	refreshFrom = 64
)

// refreshRollups makes the roll-ups of logs that have been completed of late. That it
// fails is no fault of the command that asks for it, but damage is told.
func (e *environment) refreshRollups(ctx context.Context, t *target, repo *repository.Repository, inc archive.Incarnation) error {
	report, err := rollup.Update(ctx, archive.New(repo, inc), rollup.NewStore(repo, inc), rollup.UpdateOptions{Recent: refreshed, MinNew: refreshFrom})
	if err != nil {
		t.log.Warn("roll-ups were not brought up to date: plans over many segments are slower until `walden index` makes them", "error", err)
	}
	for _, f := range report.Findings {
		fmt.Fprintf(e.stderr, "damaged: %s: %s\n", f.Object, f.Problem)
	}
	if len(report.Findings) > 0 {
		return errFindings
	}
	return nil
}

// manyLogs is how many logs are shown one by one.
const manyLogs = 40

func renderIndex(w io.Writer, d indexDocument) {
	count := map[rollup.Action]int{rollup.Current: d.Current}
	var rows []table.Row
	for _, l := range d.Logs {
		count[l.Action]++
		if len(rows) < manyLogs {
			rows = append(rows, table.Row{l.Timeline, l.Log, l.Action, l.Segments, l.New, size(l.StoredBytes)})
		}
	}
	if len(rows) > 0 {
		printTable(w, table.Row{"timeline", "log", "roll-up", "segments", "new", "stored"}, rows)
		if more := len(d.Logs) - len(rows); more > 0 {
			fmt.Fprintf(w, "… and %d more (--json lists them all)\n", more)
		}
		fmt.Fprintln(w)
	}
	verb := ""
	if d.DryRun {
		verb = "would be "
	}
	fmt.Fprintf(w, "cluster %s, incarnation %d: %d roll-ups %sbuilt, %d %sremoved, %d in order\n",
		d.Cluster, d.Incarnation, count[rollup.Built], verb, count[rollup.Removed], verb, count[rollup.Current])
	for _, f := range d.Undeleted {
		fmt.Fprintf(w, "%s is superseded and could not be deleted (it does no harm): %s\n", f.Object, f.Problem)
	}
	if len(d.Findings) > 0 {
		heading(w, "PROBLEMS")
		for _, f := range d.Findings {
			fmt.Fprintf(w, "%s: %s\n", f.Object, f.Problem)
		}
	}
}
