//go:build unix

package extract

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/scratch"
)

// survey finds out which relations pg_dump is going to dump, by their OIDs; nil: all.
// To tables that were asked for by their names it adds their children. The warnings
// are of rows that one may expect in the dump, and that will not be there.
func (x *extraction) survey(ctx context.Context, d databases.Database, role string) (selected, warnings []string, err error) {
	conn, err := x.connect(ctx, d.Name, role)
	if err != nil {
		return nil, nil, fmt.Errorf("extract: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if x.selects() {
		if selected, err = x.selected(ctx, d.Name, role); err != nil {
			return nil, nil, err
		}
		if selected, warnings, err = x.addChildren(ctx, conn, d, role, selected); err != nil {
			return nil, nil, err
		}
	}
	which := "c.oid >= 16384" // FirstNormalObjectId in transam.h
	if selected != nil {
		which = "c.oid = ANY ('{" + strings.Join(selected, ",") + "}')"
	}
	unlogged, err := scratch.Query(ctx, conn, "SELECT "+nameInSQL+" FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "+
		"WHERE c.relpersistence = 'u' AND c.relkind = 'r' AND "+which+" ORDER BY 1")
	if err != nil {
		return nil, nil, fmt.Errorf("extract: unlogged tables: %w", err)
	}
	if len(unlogged) > 0 {
		warnings = append(warnings, "recovery empties unlogged tables, so the dump has no rows of "+listed(column(unlogged, 0)))
	}
	return selected, warnings, nil
}

// nameInSQL is the name of a relation as SQL and the patterns of pg_dump take it.
const nameInSQL = `'"' || pg_catalog.replace(n.nspname, '"', '""') || '"."' || pg_catalog.replace(c.relname, '"', '""') || '"'`

// addChildren has pg_dump dump the partitions of the tables that were asked for too, and
// what inherits from them: they hold the rows. What the options exclude stays
// excluded. Where pg_dump was asked for schemas it would not take tables besides: it is said what is missing then.
func (x *extraction) addChildren(ctx context.Context, conn *pgconn.PgConn, d databases.Database, role string, selected []string) (all, warnings []string, err error) {
	// A temporary table that a crash has left can be nobody's to read.
	rows, err := scratch.Query(ctx, conn, "WITH RECURSIVE asked AS (SELECT pg_catalog.unnest('{"+strings.Join(selected, ",")+"}'::pg_catalog.oid[]) AS oid), "+
		"family AS (SELECT oid FROM asked UNION SELECT inhrelid FROM pg_catalog.pg_inherits JOIN family ON inhparent = family.oid) "+
		"SELECT c.oid::text, "+nameInSQL+" FROM family JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "+
		"WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND c.oid NOT IN (SELECT oid FROM asked) ORDER BY 2")
	if err != nil {
		return nil, nil, fmt.Errorf("extract: partitions and other children of the tables: %w", err)
	}
	if len(rows) == 0 {
		return selected, nil, nil
	}
	if !x.selectsTables() {
		return selected, []string{"not in the dump, for they are in other schemas or excluded: the children (partitions, or tables that inherit) " +
			listed(column(rows, 1)) + ": their parents are in it without the rows of these"}, nil
	}
	x.children = column(rows, 1)
	if all, err = x.selected(ctx, d.Name, role); err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		if slices.Contains(all, r[0]) {
			x.result.Children = append(x.result.Children, r[1])
		}
	}
	return all, nil, nil
}

func column(rows [][]string, n int) []string {
	list := make([]string, len(rows))
	for i, r := range rows {
		list[i] = r[n]
	}
	return list
}

// listed names the first of many.
func listed(names []string) string {
	const most = 10
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// isOption tells whether an argument of pg_dump's is one of some long options, or what
// may be its abbreviation.
func isOption(argument string, options ...string) bool {
	name, _, _ := strings.Cut(argument, "=")
	return slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, name) })
}

// selecting tells whether an argument of pg_dump's decides which relations are dumped.
func selecting(argument string) bool {
	return isOption(argument, "--table", "--table-and-children", "--exclude-table", "--exclude-table-and-children",
		"--schema", "--exclude-schema", "--filter", "--extension", "--exclude-extension")
}

// selects tells whether not all of the database was asked for.
func (x *extraction) selects() bool {
	return len(x.Tables) > 0 || len(x.Schemas) > 0 || slices.ContainsFunc(x.DumpArguments, selecting)
}

// selectsTables tells whether tables were asked for by their names.
func (x *extraction) selectsTables() bool {
	return len(x.Tables) > 0 || slices.ContainsFunc(x.DumpArguments, func(a string) bool {
		return isOption(a, "--table", "--table-and-children")
	})
}

// readsByQuery tells whether pg_dump reads tables with SELECT, whose planner opens their
// indexes, and not with COPY: it does to write INSERT.
func (x *extraction) readsByQuery() bool {
	return slices.ContainsFunc(x.DumpArguments, func(a string) bool {
		return isOption(a, "--inserts", "--column-inserts", "--attribute-inserts", "--rows-per-insert")
	})
}

// entry is a line of pg_restore --list: dump id; OID of the catalogue, OID of the object.
var entry = regexp.MustCompile(`(?m)^\d+; 1259 (\d+) `)

// selected asks pg_dump for the OIDs of the relations that it will dump.
func (x *extraction) selected(ctx context.Context, database, role string) ([]string, error) {
	options := []string{"--format=custom", "--strict-names", "--schema-only"}
	for _, a := range x.DumpArguments {
		if selecting(a) { // others need not go with --schema-only
			options = append(options, a)
		}
	}
	var dump, out bytes.Buffer
	said := &lastWords{to: x.messages()}
	cmd := x.dumpCommand(ctx, database, role, options...)
	cmd.Stdout, cmd.Stderr = &dump, said
	if err := cmd.Run(); err != nil {
		return nil, x.dumpFailed(ctx, database, err, said, false)
	}
	cmd = x.client(ctx, "pg_restore", "--list")
	said = &lastWords{to: x.messages()}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &dump, &out, said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("extract: pg_restore --list: %w: %s", err, said.last())
	}
	oids := []string{}
	for _, m := range entry.FindAllStringSubmatch(out.String(), -1) {
		oids = append(oids, m[1])
	}
	return oids, nil
}
