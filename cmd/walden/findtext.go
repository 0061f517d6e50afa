package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/walden-pg/walden/replay/find"
	"github.com/walden-pg/walden/replay/plan"
)

// findText shows events for a person to read.
type findText struct {
	w      io.Writer
	events int
}

func (f *findText) event(ev find.Event) error {
	var b strings.Builder
	if f.events++; f.events > 1 {
		b.WriteByte('\n')
	}
	when := "no time"
	if ev.Time != nil {
		when = plan.FormatTime(*ev.Time)
	}
	b.WriteString(when)
	if ev.XID != 0 {
		fmt.Fprintf(&b, "  transaction %d", ev.XID)
	}
	if ev.GID != "" {
		fmt.Fprintf(&b, " (prepared as %q)", ev.GID)
	}
	switch {
	case ev.Database != "":
		fmt.Fprintf(&b, "  database %s", ev.Database)
	case ev.DatabaseOID != 0:
		fmt.Fprintf(&b, "  database %d", ev.DatabaseOID)
	}
	fmt.Fprintf(&b, "  %s on timeline %s\n", ev.LSN, ev.Timeline)
	for _, line := range actionLines(ev) {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	unreachable := ""
	if !ev.Restorable {
		unreachable = "   (no backup reaches it)"
	}
	fmt.Fprintf(&b, "  just before: %s%s\n  just after:  %s\n", ev.Before.Flags, unreachable, ev.After.Flags)
	return f.write(b.String())
}

func (f *findText) write(s string) error {
	if _, err := io.WriteString(f.w, s); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// actionLines says what an event was; more than a few relations of one schema
// that the same was done to are told together.
func actionLines(ev find.Event) []string {
	if len(ev.Actions) == 0 {
		return []string{ev.Text}
	}
	const few, shown = 3, 5
	var lines []string
	for rest := ev.Actions; len(rest) > 0; {
		n := 1
		for n < len(rest) && alike(rest[0], rest[n]) {
			n++
		}
		group := rest[:n]
		rest = rest[n:]
		if n <= few && (n == 1 || group[0].Relation == nil || group[0].Relation.Known) {
			for _, a := range group {
				lines = append(lines, actionLine(ev, a))
			}
			continue
		}
		if !group[0].Relation.Known {
			lines = append(lines, unnamedLine(group))
			continue
		}
		names := make([]string, 0, shown)
		for _, a := range group[:min(shown, n)] {
			names = append(names, a.Relation.Name)
		}
		verb, _, _ := strings.Cut(group[0].Text, " "+group[0].Relation.Type+" ")
		line := fmt.Sprintf("%s %d %ss of schema %s: %s", verb, n, group[0].Relation.Type, group[0].Relation.Schema, strings.Join(names, ", "))
		if n > shown {
			line += fmt.Sprintf(" and %d more", n-shown)
		}
		if at := nameTime(group[0]); at != "" {
			line += " (their names at " + at + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

// unnamedLine tells of relations of one database that are in no snapshot.
func unnamedLine(group []find.Action) string {
	const shown = 8
	r := group[0].Relation
	verb, _, _ := strings.Cut(group[0].Text, " relation ")
	database := r.Database
	if database == "" {
		database = fmt.Sprint(r.DatabaseOID)
	}
	var numbers []string
	for _, a := range group[:min(shown, len(group))] {
		numbers = append(numbers, fmt.Sprint(a.Relation.File))
	}
	if n := len(group) - shown; n > 0 {
		numbers = append(numbers, fmt.Sprintf("and %d more", n))
	}
	return fmt.Sprintf("%s %d relations of database %s that are in no name snapshot: %s", verb, len(group), database, strings.Join(numbers, ", "))
}

// alike reports whether two actions can be told together.
func alike(a, b find.Action) bool {
	return a.Rows == 0 && b.Rows == 0 && a.Kind == b.Kind && a.Uncertain == b.Uncertain && a.Relation != nil && b.Relation != nil &&
		a.Relation.Known == b.Relation.Known && (a.Relation.Known || a.Relation.File != 0 && b.Relation.File != 0) && a.Relation.Schema == b.Relation.Schema && a.Relation.Type == b.Relation.Type &&
		a.Relation.DatabaseOID == b.Relation.DatabaseOID && nameTime(a) == nameTime(b)
}

// nameTime is when a name was looked up that may have been another when it happened; "": it
// was that one.
func nameTime(a find.Action) string {
	if r := a.Relation; r != nil && r.NameDoubt && r.NameTime != nil {
		return plan.FormatTime(*r.NameTime)
	}
	return ""
}

func actionLine(ev find.Event, a find.Action) string {
	text := a.Text
	if ev.Incomplete && a.Rows > 0 {
		text += ", or more: not all that it did is known"
	}
	if at := nameTime(a); at != "" {
		text += " (its name at " + at + ")"
	}
	return text
}

func (f *findText) end(t findTail, o find.Options) error {
	var b strings.Builder
	if f.events > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s in %s.", counted(uint64(f.events), "event"), counted(uint64(t.Segments), "WAL segment"))
	if f.events > 0 {
		b.WriteString(" To restore: walden restore --to DIR, with the flags above.")
	}
	b.WriteByte('\n')
	if n := o.Rows(); n > 1 {
		fmt.Fprintf(&b, "Changes of fewer than %d rows of a table are not told (--min-rows).\n", n)
	}
	if t.Omitted > 0 {
		fmt.Fprintf(&b, "The indexes leave out %d small changes, of at most %d rows of a table in a segment.\n", t.Omitted, t.LargestOmitted)
	}
	if t.Forgotten > 0 {
		fmt.Fprintf(&b, "GIVEN UP: what %s had done that had not ended, to bound memory: what they did until then is not known\n", counted(uint64(t.Forgotten), "transaction"))
	}
	if t.Snapshots == 0 {
		b.WriteString("There is no snapshot of names: `walden backup` and `walden stream` take them.\n")
	}
	for _, p := range t.Unnamed {
		fmt.Fprintf(&b, "NAMES: %s\n", p)
	}
	for _, g := range t.Gaps {
		fmt.Fprintf(&b, "GAP on timeline %s: %s: what happened there is not known\n", g.Timeline, g)
	}
	return f.write(b.String())
}
