package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// Point is a moment that can be reached, or an occurrence of what was asked for.
type Point struct {
	LSN      wal.LSN        `json:"lsn"`
	Time     *time.Time     `json:"time,omitempty"`
	Timeline wal.TimelineID `json:"timeline"`
	// What it is, in words.
	What string `json:"what"`
	// Flags restore exactly to it: the command line's target, such as "--lsn 0/3000028".
	Flags string `json:"flags"`
	// TimeFlags name it by its time, where there is one and it is a choice of several:
	// what was committed by then is restored, whatever lies between in the WAL.
	TimeFlags string `json:"time_flags,omitempty"`
}

func (p Point) String() string {
	if p.Time == nil {
		return fmt.Sprintf("%s at %s", p.What, p.LSN)
	}
	return fmt.Sprintf("%s at %s, %s", p.What, p.LSN, FormatTime(*p.Time))
}

// GapError says that WAL on the way to the target is missing or cannot be used.
type GapError struct {
	Target string `json:"target"`
	// Gaps are the holes, in order of position; the first is what stops recovery.
	Gaps []catalog.Gap `json:"gaps"`
	// Backup is the id of the backup that the way began at.
	Backup string `json:"backup"`
	// Advice says what would make the target reachable, as a sentence without a full stop.
	Advice string `json:"hint"`
	// Before is the last known moment that can be reached before the first hole,
	// After the first after it; nil: there is none.
	Before  *Point           `json:"before,omitempty"`
	After   *Point           `json:"after,omitempty"`
	Windows []catalog.Window `json:"reachable"`
}

// UnreachableError says that the target does not exist, or lies where nothing leads.
type UnreachableError struct {
	Target string `json:"target"`
	// Reason is a sentence without a full stop.
	Reason string `json:"reason"`
	// Before and After are the nearest moments that can be reached; nil: there is none.
	Before *Point `json:"before,omitempty"`
	After  *Point `json:"after,omitempty"`
	// Advice says what to do, or what would make the target reachable; "": nothing would.
	Advice  string           `json:"hint,omitempty"`
	Windows []catalog.Window `json:"reachable"`
}

// AmbiguousError says that a restore point's name was used more than once.
type AmbiguousError struct {
	Target  string           `json:"target"`
	Points  []Point          `json:"points"`
	Windows []catalog.Window `json:"reachable"`
}

// Refused is a backup that cannot serve, and why.
type Refused struct {
	Backup string `json:"backup"`
	Reason string `json:"reason"`
}

// NoBackupError says that no backup can start the restore.
type NoBackupError struct {
	Target string `json:"target"`
	// Wanted is the backup that was asked for; "": any.
	Wanted string `json:"wanted,omitempty"`
	// Refused are the backups there are, newest first. It is empty if there is
	// none, or none of the wanted id.
	Refused []Refused `json:"refused"`
	// Incomplete are the ids of backups that were begun and have no manifest.
	Incomplete []string `json:"incomplete,omitempty"`
	// Problems are objects of the catalogue that are missing or damaged: a
	// backup among them might have served.
	Problems []catalog.Problem `json:"problems,omitempty"`
	// Advice says what to do first; "": see Hint.
	Advice  string           `json:"hint,omitempty"`
	Windows []catalog.Window `json:"reachable"`
}

// Absent reports whether there is no such backup at all, as opposed to
// backups that cannot serve this target.
func (e *NoBackupError) Absent() bool { return len(e.Refused) == 0 && len(e.Problems) == 0 }

// Reachable are the windows that can be restored.
func (e *GapError) Reachable() []catalog.Window { return e.Windows }

// Reachable are the windows that can be restored.
func (e *UnreachableError) Reachable() []catalog.Window { return e.Windows }

// Reachable are the windows that can be restored.
func (e *AmbiguousError) Reachable() []catalog.Window { return e.Windows }

// Reachable are the windows that can be restored.
func (e *NoBackupError) Reachable() []catalog.Window { return e.Windows }

// Error says what is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("%s cannot be reached from backup %s: %s", e.Target, e.Backup, catalog.DescribeGaps(e.Gaps))
}

// Hint tells what would make the target reachable.
func (e *GapError) Hint() string { return e.Advice + "." }

// Choices are the nearest moments that can be reached.
func (e *GapError) Choices() []Choice { return choices(e.Before, e.After) }

// Error gives the reason.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s cannot be reached: %s", e.Target, e.Reason)
}

// Hint tells what to do, or what would make the target reachable.
func (e *UnreachableError) Hint() string { return sentence(e.Advice) }

// Choices are the nearest moments that can be reached.
func (e *UnreachableError) Choices() []Choice { return choices(e.Before, e.After) }

func sentence(advice string) string {
	if advice == "" {
		return ""
	}
	return advice + "."
}

// Choice is a moment that can be reached in place of a target that was refused.
type Choice struct {
	// Label says what it is to the target: "before" or "after" it, or "one of" several.
	Label string
	Point
}

func choices(before, after *Point) []Choice {
	var list []Choice
	if before != nil {
		list = append(list, Choice{"before", *before})
	}
	if after != nil {
		list = append(list, Choice{"after", *after})
	}
	return list
}

// Error lists where the name occurs.
func (e *AmbiguousError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is not one moment: the name was used %d times:", e.Target, len(e.Points))
	for i, p := range e.Points {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s on timeline %s", p.LSN, p.Timeline)
		if p.Time != nil {
			fmt.Fprintf(&b, " at %s", FormatTime(*p.Time))
		}
	}
	return b.String()
}

// Hint tells how to name each.
func (e *AmbiguousError) Hint() string {
	return "Name the one that is meant by its position, or by its time for what was committed by then."
}

// Choices are the places at which the name was used.
func (e *AmbiguousError) Choices() []Choice {
	list := make([]Choice, len(e.Points))
	for i, p := range e.Points {
		list[i] = Choice{"one of", p}
	}
	return list
}

// Error lists the backups and why each cannot serve.
func (e *NoBackupError) Error() string {
	var b strings.Builder
	switch {
	case len(e.Refused) > 0:
		fmt.Fprintf(&b, "no backup can start a restore to %s", e.Target)
	case e.Wanted != "":
		fmt.Fprintf(&b, "there is no complete backup %s", e.Wanted)
	default:
		b.WriteString("there is no complete backup")
	}
	separator := ": "
	add := func(format string, args ...any) {
		b.WriteString(separator)
		fmt.Fprintf(&b, format, args...)
		separator = "; "
	}
	for _, r := range e.Refused {
		add("%s: %s", r.Backup, r.Reason)
	}
	for _, p := range e.Problems {
		add("object %s: %s", p.Object, p.Problem)
	}
	for _, id := range e.Incomplete {
		add("%s was begun and has no manifest", id)
	}
	return b.String()
}

// Choices are none: there is nothing to start from.
func (e *NoBackupError) Choices() []Choice { return nil }

// Hint tells what to do.
func (e *NoBackupError) Hint() string {
	switch {
	case e.Advice != "":
		return e.Advice + "."
	case len(e.Problems) > 0:
		return "The repository is damaged: bring the named objects back from a copy of it, or restore from another repository. `walden list` shows what can be restored."
	case e.Absent() && e.Wanted != "":
		return "`walden list` shows the backups there are."
	case e.Absent():
		return "`walden backup` takes one; what happened before it cannot be restored."
	case e.Wanted != "":
		return "Leave out --backup to let Walden choose one."
	}
	return "`walden list` shows what can be restored."
}
