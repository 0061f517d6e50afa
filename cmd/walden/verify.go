package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

const verifyExitCodes = `   0    everything was verified, and nothing is wrong
   1    something is wrong, or not everything could be verified
   2    wrong usage
   4    no such repository, cluster or incarnation
   130  interrupted; the same command goes on`

func (e *environment) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "checks every object of the cluster in the repository",
		Description: "Looks at every object: that it is there, whole, in its place, and fits the others; and joins the WAL of\n" +
			"every timeline. With --deep it reads every byte as well. Every finding says which moments cannot be\n" +
			"restored because of it. A deep run that was cut off is gone on with by the same command.\n" +
			"What was verified is kept in the repository: `walden list` shows it for each backup.",
		CustomHelpTemplate: commandHelpTemplate(verifyExitCodes),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "deep", Usage: "read every object from its first byte to its last", DefaultText: "false"},
			&cli.StringFlag{Name: "unverified-for", Usage: "read only what has not been read for `TIME` (12h, 7d), the oldest first", DefaultText: "none; with --deep everything"},
			&cli.StringFlag{Name: "max-rate", Usage: "read no more than `RATE` (50MB/s)", DefaultText: "as fast as it goes"},
			&cli.BoolFlag{Name: "restart", Usage: "with --deep: begin anew, do not go on with a run that was cut off", DefaultText: "false"},
			&cli.BoolFlag{Name: "accept-gone", Usage: "take what is there for what should be: do not tell any more of objects that have gone", DefaultText: "false"},
			&cli.BoolFlag{Name: "no-record", Usage: "write nothing to the repository", DefaultText: "false"},
			&cli.IntFlag{Name: "jobs", Usage: "read `N` objects at a time", DefaultText: "4"},
			&cli.IntFlag{Name: "incarnation", Usage: "verify only incarnation `N` of the cluster", DefaultText: "all"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.verify(c)
		},
	}
}

func (e *environment) verify(c *cli.Context) error {
	o, err := verifyOptions(c)
	if err != nil {
		return err
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	store, ro, err := t.config.Repository.OpenStore(c.Context, t.log)
	if err != nil {
		return err
	}
	o.Cluster, o.Repository = t.name, ro
	bar := e.newProgress()
	o.Progress = func(p verify.Progress) { bar.show(string(p.Phase), p.Bytes, p.TotalBytes) }
	r, failure := verify.Run(c.Context, store, o)
	bar.finish()
	if failure != nil && (c.Context.Err() != nil || nothingThere(failure)) {
		return failure
	}
	if e.json {
		err = e.printJSON(r)
	} else {
		err = e.printed(func(w io.Writer) { renderVerify(w, r) })
	}
	if err != nil {
		return err
	}
	if failure != nil {
		if e.json {
			// The document has it; there is only one.
			fmt.Fprintf(e.stderr, "walden: %v\n", failure)
			return errFindings
		}
		return failure
	}
	if len(r.Findings) > 0 || !r.Complete {
		return errFindings
	}
	return nil
}

// nothingThere reports whether there was nothing to verify.
func nothingThere(err error) bool {
	var (
		repo *repository.NoRepositoryError
		inc  *archive.NoIncarnationError
	)
	return errors.As(err, &repo) || errors.As(err, &inc)
}

func verifyOptions(c *cli.Context) (verify.Options, error) {
	o := verify.Options{
		Deep: c.Bool("deep"), Restart: c.Bool("restart"), AcceptGone: c.Bool("accept-gone"),
		NoRecord: c.Bool("no-record"),
		Readers:  c.Int("jobs"), Incarnation: c.Int("incarnation"),
	}
	var err error
	if text := c.String("unverified-for"); text != "" {
		if o.UnverifiedFor, err = parseAge(text); err != nil {
			return o, usagef("--unverified-for %w", err)
		}
	}
	if text := c.String("max-rate"); text != "" {
		if o.MaxRate, err = config.ParseSize(strings.TrimSuffix(text, "/s")); err != nil || o.MaxRate < 1024 {
			return o, usagef("--max-rate %q is not a rate such as 50MB/s, of at least 1kB/s", text)
		}
	}
	switch {
	case o.Restart && !o.Deep:
		return o, usagef("--restart is about --deep")
	case o.Restart && o.UnverifiedFor > 0:
		return o, usagef("--unverified-for begins nothing that could be restarted")
	case o.Readers < 0 || o.Incarnation < 0:
		return o, usagef("--jobs and --incarnation must be 1 or more")
	}
	return o, nil
}

// parseAge reads a time such as 12h or 7d.
func parseAge(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, found := strings.CutSuffix(text, "d"); found {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil {
			d = time.Duration(n * 24 * float64(time.Hour))
		}
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time such as 12h or 7d", text)
	}
	return d, nil
}

func renderVerify(w io.Writer, r *verify.Report) {
	fmt.Fprintf(w, "cluster %s\n", r.Cluster)
	for _, inc := range r.Incarnations {
		renderVerified(w, inc, r.Deep)
	}
	renderValidations(w, r.Backups)
	if len(r.Findings) > 0 {
		heading(w, "FINDINGS")
		for _, f := range r.Findings {
			fmt.Fprintf(w, "%s\n    %s\n    → %s\n", f.Object, f.Problem, f.Consequence)
		}
	}
	fmt.Fprintln(w)
	switch n := len(r.Findings); {
	case n == 0 && r.Complete:
		fmt.Fprintln(w, "nothing is wrong")
	case n == 1:
		fmt.Fprintln(w, "1 finding")
	default:
		fmt.Fprintf(w, "%d findings\n", n)
	}
	if !r.Complete {
		fmt.Fprintf(w, "INCOMPLETE: %s\n", r.Error)
	}
}

func renderVerified(w io.Writer, inc verify.Incarnation, deep bool) {
	heading(w, fmt.Sprintf("INCARNATION %d, system identifier %d", inc.Number, inc.SystemID))
	var rows []table.Row
	var all verify.Tally
	for _, kind := range verify.Kinds() {
		if t, ok := inc.Objects[kind]; ok {
			rows = append(rows, table.Row{kind, t.Objects, size(t.Bytes)})
			all.Objects += t.Objects
			all.Bytes += t.Bytes
		}
	}
	printTable(w, table.Row{"kind", "objects", "stored"}, rows)
	fmt.Fprintf(w, "%d objects, %s, were looked at", all.Objects, size(all.Bytes))
	if deep {
		fmt.Fprintf(w, "; %d of %d that were due, %s, were read whole", inc.Read.Objects, inc.Due.Objects, size(inc.Read.Bytes))
	}
	if inc.Since != nil {
		fmt.Fprintf(w, ", going on with the run of %s", moment(inc.Since))
	}
	fmt.Fprintln(w)
	if inc.Superseded.Objects > 0 {
		fmt.Fprintf(w, "%d fragments and roll-ups have been superseded and wait to be removed\n", inc.Superseded.Objects)
	}
}

func renderValidations(w io.Writer, list []verify.Validation) {
	if len(list) == 0 {
		return
	}
	heading(w, "BACKUPS")
	var rows []table.Row
	for _, v := range list {
		rows = append(rows, table.Row{v.Backup, v.State, moment(v.Checked), moment(v.Read)})
	}
	printTable(w, table.Row{"id", "state", "looked at", "read whole since"}, rows)
}
