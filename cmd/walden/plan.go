package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/plan"
)

// planDocument is the result of plan.
type planDocument struct {
	*plan.Plan
	Databases *partialDocument `json:"databases,omitempty"`
}

func (e *environment) planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "proves that a moment can be restored, and shows how",
		Description: "Names the backup, the WAL, the one record at which PostgreSQL will stop, the transactions just\n" +
			"before and after it, what is downloaded and how long it takes. Writes nothing.\n" +
			"What cannot be reached is refused, with the nearest moments that can, and what would help.",
		CustomHelpTemplate: commandHelpTemplate(targetExitCodes),
		Flags:              append(targetFlags(), databaseFlag(), actionFlag("what the restore will be told to do at the target: `ACTION` pause, promote or shutdown; no plan depends on it")),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if _, err := actionOf(c); err != nil {
				return err
			}
			p, err := e.makePlan(c)
			if err != nil {
				return err
			}
			partial, err := p.planPartial(c)
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(planDocument{p.plan, partial})
			}
			var b strings.Builder
			renderPlan(&b, p.plan)
			renderPartial(&b, partial)
			_, err = io.WriteString(e.stdout, b.String())
			return err
		},
	}
}

func renderPlan(w io.Writer, p *plan.Plan) {
	fmt.Fprintf(w, "restore cluster %s (incarnation %d) to %s\n", p.Cluster, p.Incarnation, p.Target)
	b := p.Backup
	fmt.Fprintf(w, "  backup    %s: %d files, %s (%s stored), finished %s\n", b.ID, b.Files, size(b.Bytes), size(b.StoredBytes), moment(&b.StopTime))
	for i, s := range p.Path {
		label := "WAL"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(w, "  %-9s timeline %s, from %s to %s", label, s.Timeline, s.Begin, s.End)
		if s.Segments > 0 {
			fmt.Fprintf(w, ": %s … %s, %s", s.First, s.Last, counted(s.Segments, "segment"))
		}
		fmt.Fprintln(w)
	}
	fragments := ""
	if p.Fragments > 0 {
		fragments = fmt.Sprintf(", some of them in %d fragments", p.Fragments)
	}
	if p.Partial != "" {
		fragments = fmt.Sprintf(", the last from %s", p.Partial)
	}
	fmt.Fprintf(w, "  %-9s %s%s, %s: no hole, each continues the one before\n", "", counted(p.Segments, "segment"), fragments, size(p.StoredBytes))
	fmt.Fprintf(w, "  download  %s in %s\n", size(p.DownloadBytes), counted(uint64(p.Objects), "object"))
	if e := p.Estimate; e != nil {
		fmt.Fprintf(w, "  duration  about %s to download (%s/s, %s)\n", seconds(e.DownloadSeconds), size(int64(e.DownloadRate)), e.DownloadBasis)
		fmt.Fprintf(w, "  %-9s about %s to replay %s of WAL (%s/s, %s)\n", "", seconds(e.ReplaySeconds),
			size(int64(p.Stop.End-p.Backup.StartLSN)), size(int64(e.ReplayRate)), e.ReplayBasis)
	}
	renderStop(w, p)
	for _, s := range p.Settings {
		fmt.Fprintf(w, "  setting   %s = '%s'\n", s.Name, s.Value)
	}
	for _, s := range p.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
}

// renderStop tells where recovery stops, and what that does to transactions.
func renderStop(w io.Writer, p *plan.Plan) {
	s := p.Stop
	fmt.Fprintf(w, "  stop      %s\n", stopText(p))
	if s.Subtransaction != 0 {
		fmt.Fprintf(w, "  %-9s %d is a subtransaction of %d and ends with it\n", "", s.Subtransaction, s.XID)
	}
	if e := s.Evidence; e != nil {
		fmt.Fprintf(w, "  evidence  no transaction ended later, but %s at %s, %s, shows that the time had passed\n", e.What, e.LSN, plan.FormatTime(e.Time))
	}
	if s.LastKept != nil {
		fmt.Fprintf(w, "  keeps     %s\n", transactionText(*s.LastKept))
	}
	if s.FirstLost != nil {
		fmt.Fprintf(w, "  loses     %s\n", transactionText(*s.FirstLost))
	}
	for _, t := range p.Prepared {
		fmt.Fprintf(w, "  prepared  transaction %d, %q in database %d, since %s: it waits for COMMIT PREPARED or ROLLBACK PREPARED\n",
			t.XID, t.GID, t.Database, plan.FormatTime(t.Time))
	}
	for _, c := range p.Copies {
		fmt.Fprintf(w, "  copy      segment %s is put into pg_wal as %s, too\n", c.Segment, c.As)
	}
}

// counted is a number of things.
func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// seconds rounds a duration to what an estimate is worth.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Second:
		return "a second"
	case d < time.Minute:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

func stopText(p *plan.Plan) string {
	s := p.Stop
	switch {
	case s.LSN == 0 && p.TargetKind == plan.Immediate:
		return fmt.Sprintf("once the cluster is consistent, by %s on timeline %s", s.End, s.Timeline)
	case s.LSN == 0:
		return fmt.Sprintf("at the end of the WAL, %s on timeline %s", s.End, s.Timeline)
	}
	where := "after"
	if s.Before {
		where = "before"
	}
	text := fmt.Sprintf("%s the record at %s on timeline %s", where, s.LSN, s.Timeline)
	switch {
	case s.Evidence != nil && s.Before && s.XID == 0:
	case s.XID != 0 && s.Time != nil:
		text += fmt.Sprintf(" (transaction %d, %s)", s.XID, plan.FormatTime(*s.Time))
	case s.Name != "":
		text += fmt.Sprintf(" (restore point %q)", s.Name)
	}
	return text
}

func transactionText(t plan.Transaction) string {
	what := "commit"
	if t.Aborted {
		what = "abort"
	}
	return fmt.Sprintf("%s of transaction %d at %s, %s", what, t.XID, t.LSN, plan.FormatTime(t.Time))
}
