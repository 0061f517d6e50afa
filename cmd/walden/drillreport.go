package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/drill"
	"github.com/walden-pg/walden/replay/plan"
)

// drillReport shows the history of drills.
func (e *environment) drillReport(c *cli.Context) error {
	var from time.Time
	if s := c.String("from"); s != "" {
		var err error
		if from, err = plan.ParseTime(s, time.Now()); err != nil {
			return usagef("--from: %w", err)
		}
	}
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, inc, err := t.openIncarnation(c.Context, c.Int("incarnation"))
	if err != nil {
		return err
	}
	records, unreadable, err := drill.Load(c.Context, repo, inc, from)
	if err != nil {
		return err
	}
	r := drill.NewReport(inc.Cluster, inc.Number, records, unreadable)
	if path := c.String("html"); path != "" {
		var page bytes.Buffer
		if err := r.WriteHTML(&page, time.Now()); err != nil {
			return err
		}
		if err := replaceFile(path, page.Bytes()); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	if e.json {
		err = e.printJSON(r)
	} else {
		err = e.printed(func(w io.Writer) { renderDrills(w, r) })
	}
	if err == nil && (r.Summary.Failing || len(r.Unreadable) > 0) {
		return errFindings
	}
	return err
}

// replaceFile makes a file, or replaces it as a whole.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func renderDrills(w io.Writer, r *drill.Report) {
	s := r.Summary
	fmt.Fprintf(w, "drills of cluster %s (incarnation %d): %d, of which %d proven, %d failed, %d interrupted, %d scenarios\n",
		r.Cluster, r.Incarnation, s.Drills, s.Proven, s.Failed, s.Interrupted, s.Scenarios)
	switch {
	case s.Failing:
		fmt.Fprintf(w, "  newest    failed, %s: %s\n", plan.FormatTime(s.LastFailed.Truncate(time.Second)), s.LastFailure)
	case s.LastProven != nil:
		fmt.Fprintf(w, "  newest    proven, %s; %d in a row\n", plan.FormatTime(s.LastProven.Truncate(time.Second)), s.Streak)
	default:
		fmt.Fprintf(w, "  newest    nothing has been proven yet\n")
	}
	if s.ReadySeconds > 0 {
		before := ""
		if s.BeforeReadySeconds > 0 {
			before = fmt.Sprintf("; %s in the %d before", tenths(s.BeforeReadySeconds), drill.Recent)
		}
		fmt.Fprintf(w, "  ready     after %s (median of the last %d that were proven), %s at most%s\n", tenths(s.ReadySeconds), drill.Recent, tenths(s.MaxReadySeconds), before)
	}
	if s.MaxLossSeconds >= 0 {
		fmt.Fprintf(w, "  loss      %s at most, in the same\n", tenths(s.MaxLossSeconds))
	}
	if len(r.Drills) > 0 {
		var rows []table.Row
		for _, d := range r.Drills {
			loss := ""
			if d.Loss != nil && d.Loss.Seconds >= 0 {
				loss = tenths(d.Loss.Seconds)
			}
			rows = append(rows, table.Row{
				moment(&d.Time), string(d.Result), tenths(d.PlanSeconds + d.RestoreSeconds),
				tenths(d.ReplaySeconds), tenths(d.CheckSeconds), loss, drillMoment(d),
			})
		}
		fmt.Fprintln(w)
		printTable(w, table.Row{"time", "result", "restore", "replay", "check", "loss", "moment"}, rows)
	}
	for _, u := range r.Unreadable {
		fmt.Fprintf(w, "  unreadable  %s: %s\n", u.ID, u.Error)
	}
}

// drillMoment is the last column: the moment, and what was found there.
func drillMoment(d *drill.Record) string {
	s := d.Target
	if d.Scenario != "" {
		s = "scenario " + string(d.Scenario) + ": " + s
	}
	if d.Failure != "" {
		f := strings.Join(strings.Fields(d.Failure), " ")
		if r := []rune(f); len(r) > 100 {
			f = string(r[:99]) + "…"
		}
		s += ": " + f
	}
	return s
}
