package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

const listExitCodes = `   0    done
   1    objects are missing or damaged; what is in order is listed all the same
   2    wrong usage
   4    no such repository, cluster or incarnation
   130  interrupted`

type listDocument struct {
	*catalog.Snapshot
	// Backups are those of the Snapshot.
	Backups      []listedBackup        `json:"backups"`
	Windows      []catalog.Window      `json:"windows"`
	Gaps         []catalog.Gap         `json:"gaps"`
	Incarnations []archive.Incarnation `json:"incarnations"`
}

// listedBackup is a backup with what verifications say of it.
type listedBackup struct {
	catalog.Backup
	Validation verify.Validation `json:"validation"`
}

// validate adds what the last verification says of backups. What it found wrong is a
// problem here too.
func (d *listDocument) validate(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) error {
	known, err := verify.Validations(ctx, repo, inc)
	if err != nil {
		return err
	}
	d.Backups = []listedBackup{}
	for _, b := range d.Snapshot.Backups {
		v, ok := known[b.ID]
		if !ok {
			v = verify.Validation{Incarnation: inc.Number, Backup: b.ID, State: verify.Unverified}
		}
		d.Backups = append(d.Backups, listedBackup{b, v})
		if v.State == verify.Damaged {
			d.Problems = append(d.Problems, catalog.Problem{
				Object: "backup " + b.ID, Problem: fmt.Sprintf("it could not be restored when it was verified at %s: %s", moment(v.Checked), v.Problem),
			})
		}
	}
	return nil
}

func (e *environment) listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "lists backups, WAL ranges, gaps and windows",
		Description: "A window is an unbroken stretch of moments that can be restored. Its end is the last commit\n" +
			"that is archived, in a sealed segment or in fragments of the one that is being written.",
		CustomHelpTemplate: commandHelpTemplate(listExitCodes),
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "incarnation", Usage: incarnationFlagUsage, DefaultText: "the newest"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.list(c)
		},
	}
}

func (e *environment) list(c *cli.Context) error {
	t, err := e.selectCluster()
	if err != nil {
		return err
	}
	repo, incs, err := t.openRepository(c.Context)
	if err != nil {
		return err
	}
	inc, err := chooseIncarnation(incs, c.Int("incarnation"))
	if err != nil {
		return err
	}
	snap, err := loadSnapshot(c.Context, repo, inc)
	if err != nil {
		return err
	}
	doc := listDocument{Snapshot: snap, Windows: snap.Windows(), Gaps: snap.Gaps(), Incarnations: incs}
	if err := doc.validate(c.Context, repo, inc); err != nil {
		return err
	}
	if e.json {
		err = e.printJSON(doc)
	} else {
		var b strings.Builder
		renderList(&b, doc, inc)
		_, err = io.WriteString(e.stdout, b.String())
	}
	if err == nil && len(snap.Problems) > 0 {
		err = errFindings
	}
	return err
}

// loadSnapshot takes the overview, with the times at which its windows end.
func loadSnapshot(ctx context.Context, repo *repository.Repository, inc archive.Incarnation) (*catalog.Snapshot, error) {
	r := catalog.NewReader(repo, archive.New(repo, inc), 0)
	snap, err := r.Load(ctx)
	if err != nil {
		return nil, err
	}
	err = r.Satisfy(ctx, snap, func() (catalog.Needs, error) { return snap.WindowNeeds(), nil })
	snap.Problems = append(snap.Problems, snap.Details.Damage()...)
	return snap, err
}

func renderList(w io.Writer, d listDocument, inc archive.Incarnation) {
	fmt.Fprintf(w, "cluster %s, incarnation %d, system identifier %d\n", d.Cluster, d.Incarnation, d.SystemID)
	for _, other := range d.Incarnations {
		if other.Number != inc.Number {
			fmt.Fprintf(w, "also: incarnation %d, system identifier %d, since %s (--incarnation %d)\n", other.Number, other.SystemID, moment(&other.Created), other.Number)
		}
	}
	renderBackups(w, d)
	renderWAL(w, d)
	renderLive(w, d)
	renderWindows(w, d)
	if len(d.Problems) > 0 {
		heading(w, "PROBLEMS")
		for _, p := range d.Problems {
			fmt.Fprintf(w, "%s: %s\n", p.Object, p.Problem)
		}
	}
}

func renderBackups(w io.Writer, d listDocument) {
	heading(w, "BACKUPS")
	if len(d.Backups) == 0 {
		fmt.Fprintln(w, "none: run `walden backup`")
	} else {
		var rows []table.Row
		for _, b := range d.Backups {
			from := "primary"
			if b.FromStandby {
				from = "standby"
			}
			rows = append(rows, table.Row{b.ID, moment(&b.StopTime), b.StopTimeline, b.StartLSN, b.StopLSN, size(b.Bytes), size(b.StoredBytes), from, validationText(b.Validation)})
		}
		printTable(w, table.Row{"id", "finished", "timeline", "start", "stop", "size", "stored", "from", "verified"}, rows)
	}
	for _, b := range d.Incomplete {
		fmt.Fprintf(w, "incomplete: %s, begun %s on %s (process %d): running, or cut off\n", b.ID, moment(&b.Start), b.Host, b.PID)
	}
}

// validationText says how far a backup was verified, and when.
func validationText(v verify.Validation) string {
	switch v.State {
	case verify.Sound:
		return "sound, read since " + moment(v.Read)
	case verify.Checked:
		return "looked at " + moment(v.Checked)
	case verify.Damaged:
		return "DAMAGED at " + moment(v.Checked)
	}
	return "never"
}

func renderWAL(w io.Writer, d listDocument) {
	heading(w, "WAL")
	var rows []table.Row
	for _, t := range d.Timelines {
		for _, r := range t.Ranges {
			rows = append(rows, table.Row{t.ID, r.FirstName, r.LastName, r.Segments, r.Start, r.End, size(r.StoredBytes)})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "none: does archive_command call walden? `walden check` tells")
	} else {
		printTable(w, table.Row{"timeline", "first", "last", "segments", "from", "to", "stored"}, rows)
	}
	for _, t := range d.Timelines {
		if t.Parent != 0 {
			fmt.Fprintf(w, "timeline %s left timeline %s at %s: %s\n", t.ID, t.Parent, t.Switch, strings.TrimSpace(t.Reason))
		}
	}
	for _, g := range d.Gaps {
		why := "missing"
		if g.Damaged != "" {
			why = g.Damaged
		}
		fmt.Fprintf(w, "GAP on timeline %s: %d segments, %s to %s, from %s on: %s\n", g.Timeline, g.Segments, g.First, g.Last, g.Start, why)
	}
}

// renderLive shows the segments that are not sealed: their fragments.
func renderLive(w io.Writer, d listDocument) {
	var rows []table.Row
	for _, t := range d.Timelines {
		for _, l := range t.Live {
			rows = append(rows, table.Row{t.ID, l.Segment, l.Start, l.End, l.Fragments, size(l.StoredBytes), liveState(l, lastSwitch(d, t.ID))})
		}
	}
	if len(rows) > 0 {
		heading(w, "FRAGMENTS")
		printTable(w, table.Row{"timeline", "segment", "from", "to", "fragments", "stored", "state"}, rows)
	}
}

// lastSwitch is the last position at which a newer timeline left this one; 0: none has.
func lastSwitch(d listDocument, tli wal.TimelineID) (last wal.LSN) {
	for _, t := range d.Timelines {
		if t.Parent == tli {
			last = max(last, t.Switch)
		}
	}
	return last
}

// liveState says what a segment in fragments is. Of one that newer timelines have
// left behind it says from where on nobody followed: often, after a failover, nothing
// lies there.
func liveState(l catalog.Live, left wal.LSN) string {
	state := "open"
	switch {
	case l.Broken != "":
		state = "broken: " + l.Broken
	case l.Partial:
		state = "a partial segment: the end of a timeline that was left"
	case l.Complete:
		state = "complete, not sealed yet"
	}
	switch {
	case l.Stranded && left < l.End:
		state += fmt.Sprintf("; stranded: what lies behind %s is on no newer timeline", left)
	case l.Stranded:
		state += "; a newer timeline went on from its end"
	}
	return state
}

func renderWindows(w io.Writer, d listDocument) {
	heading(w, "WINDOWS")
	if len(d.Windows) == 0 {
		fmt.Fprintln(w, "none: nothing can be restored yet")
		return
	}
	var rows []table.Row
	for _, win := range d.Windows {
		// The last commit may be older than the backup: then nothing has happened since.
		if from, to := win.From.Time, win.To.Time; from != nil && to != nil && to.Before(*from) {
			win.To.Time = from
		}
		rows = append(rows, table.Row{win.Timeline, moment(win.From.Time), moment(win.To.Time), win.From.LSN, win.To.LSN, len(win.Backups)})
	}
	printTable(w, table.Row{"timeline", "from", "to", "from LSN", "to LSN", "backups"}, rows)
}
