package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/plan"
)

// planDocument is the result of plan.
type planDocument struct {
	*plan.Plan
	Partial *partialDocument `json:"partial,omitempty"`
}

func (e *environment) planCommand() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "proves that a moment can be restored, and shows how",
		Description: "Names the backup, the WAL and the record at which PostgreSQL will stop. Writes nothing.\n" +
			"What cannot be reached is refused, with the nearest moments that can.",
		CustomHelpTemplate: commandHelpTemplate(targetExitCodes),
		Flags:              append(targetFlags(), databaseFlag()),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
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
			fmt.Fprintf(w, ": %s … %s, %d segments", s.First, s.Last, s.Segments)
		}
		fmt.Fprintln(w)
	}
	fragments := ""
	if p.Fragments > 0 {
		fragments = fmt.Sprintf(", some of them in %d fragments", p.Fragments)
	}
	fmt.Fprintf(w, "  %-9s %d segments%s, %s: no hole, each continues the one before\n", "", p.Segments, fragments, size(p.StoredBytes))
	fmt.Fprintf(w, "  stop      %s\n", stopText(p))
	if k := p.Stop.LastKept; k != nil {
		fmt.Fprintf(w, "  keeps     %s\n", transactionText(*k))
	}
	if l := p.Stop.FirstLost; l != nil {
		fmt.Fprintf(w, "  loses     %s\n", transactionText(*l))
	}
	for _, s := range p.Settings {
		fmt.Fprintf(w, "  setting   %s = '%s'\n", s.Name, s.Value)
	}
	for _, s := range p.Warnings {
		fmt.Fprintf(w, "  warning   %s\n", s)
	}
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
	if !s.Exact {
		text = fmt.Sprintf("%s the first record at or after %s on timeline %s", where, s.LSN, s.Timeline)
	}
	switch {
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
