package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/restore"
)

// databaseFlag selects databases, for plan and restore.
func databaseFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "database", DefaultText: "all",
		Usage: "restore only the database `NAME` (or OID), the templates and what databases share; the others' files become zeros; may be repeated"}
}

// partialDocument tells what of a backup is restored.
type partialDocument struct {
	*databases.Choice
	// Amount is only known to plan.
	Amount *restore.Amount `json:"amount,omitempty"`
}

// contents reads which databases the plan's backup holds.
func (p *planned) contents(ctx context.Context) (*databases.Contents, *basebackup.Manifest, error) {
	m, err := basebackup.Load(ctx, p.repo, p.inc, p.plan.Backup.ID)
	if err != nil {
		return nil, nil, err
	}
	c, err := databases.Read(ctx, p.repo, p.inc, m)
	return c, m, err
}

// chooseDatabases decides by the flag; nil: all of them.
func (p *planned) chooseDatabases(c *cli.Context) (*databases.Choice, *basebackup.Manifest, error) {
	wanted := c.StringSlice("database")
	if len(wanted) == 0 {
		return nil, nil, nil
	}
	contents, m, err := p.contents(c.Context)
	if err != nil {
		return nil, nil, err
	}
	choice, err := contents.Choose(wanted...)
	return choice, m, err
}

// planPartial tells what a restore of some databases reads, and puts it into the
// plan, which knew of all; nil: all are restored.
func (p *planned) planPartial(c *cli.Context) (*partialDocument, error) {
	choice, m, err := p.chooseDatabases(c)
	if err != nil || choice == nil {
		return nil, err
	}
	a, err := restore.Estimate(c.Context, p.repo, p.inc, m, choice)
	if err != nil {
		return nil, err
	}
	all := int64(0)
	for _, ref := range m.Packs {
		all += ref.Size
	}
	p.plan.DownloadBytes -= all - a.Download
	p.plan.Objects -= int64(len(m.Packs)) - a.Packs
	if e := p.plan.Estimate; e != nil && e.DownloadRate > 0 {
		e.DownloadSeconds = float64(p.plan.Backup.StoredBytes-all+a.Download) / e.DownloadRate
	}
	return &partialDocument{Choice: choice, Amount: &a}, nil
}

// newPartialDocument is that of a restore.
func newPartialDocument(choice *databases.Choice) *partialDocument {
	if choice == nil {
		return nil
	}
	return &partialDocument{Choice: choice}
}

func renderPartial(w io.Writer, d *partialDocument) {
	if d == nil {
		return
	}
	fmt.Fprintf(w, "  PARTIAL   %s only, and the templates %s\n", d.String(), databases.Listing(d.Templates))
	if d.Amount != nil {
		fmt.Fprintf(w, "            %d files, %s, for which %s are downloaded\n", d.Amount.Files, size(d.Amount.Bytes), size(d.Amount.Download))
	}
	if len(d.Hollow) == 0 {
		fmt.Fprintln(w, "            the backup has no other databases: nothing is left out")
		return
	}
	fmt.Fprintf(w, "            zeros: %s (%d files, %s)\n", databases.Listing(d.Hollow), d.HollowFiles, size(d.HollowBytes))
	if d.Amount == nil {
		fmt.Fprintf(w, "            once it is open for writing: %s\n", dropStatements(d.Hollow))
	}
}

// dropStatements remove hollow databases.
func dropStatements(list []databases.Database) string {
	const few = 10
	var b strings.Builder
	for i, d := range list {
		if i == few {
			fmt.Fprintf(&b, "and so on for %d more", len(list)-few)
			break
		}
		if d.Name == "" {
			continue // pg_database has none: what is left of one that was being made or dropped
		}
		fmt.Fprintf(&b, "DROP DATABASE %s; ", quoteIdentifier(d.Name))
	}
	return strings.TrimSpace(b.String())
}

// quoteIdentifier writes a name for SQL.
func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
