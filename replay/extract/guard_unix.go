//go:build unix

package extract

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/scratch"
)

// guard makes sure that no relation is dumped that was left out. pg_dump itself is
// asked which relations the patterns mean now; if one of them is hollow the error is
// errTooLittle. Then the files of hollow relations are removed: whoever should read one
// of them after all gets an error, and not the nothing that a file of zeros holds.
func (x *extraction) guard(ctx context.Context, d databases.Database, role string) error {
	selected, err := x.selected(ctx, d.Name, role)
	if err != nil {
		return err
	}
	conn, err := x.connect(ctx, d.Name, role)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	list := strings.Join(selected, ",")
	rows, err := scratch.Query(ctx, conn, "WITH wanted AS (SELECT oid, reltoastrelid FROM pg_catalog.pg_class WHERE oid = ANY ('{"+list+"}')) "+
		"SELECT DISTINCT pg_catalog.pg_relation_filenode(r)::text FROM (SELECT oid FROM wanted UNION SELECT reltoastrelid FROM wanted "+
		"UNION SELECT indexrelid FROM pg_catalog.pg_index JOIN wanted ON indrelid = reltoastrelid) AS of (r) WHERE r <> 0")
	if err != nil {
		return fmt.Errorf("extract: files of the tables: %w", err)
	}
	for _, r := range rows {
		number, err := strconv.ParseUint(r[0], 10, 32)
		if err == nil && x.choice.LeavesOut(d.OID, uint32(number)) {
			return fmt.Errorf("%w: file %d of database %q", errTooLittle, number, d.Name)
		}
	}
	// What of them is in the server's memory must not be written any more when the
	// file is gone.
	if _, err := scratch.Query(ctx, conn, "CHECKPOINT"); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	return x.removeHollow()
}

// entry is a line of pg_restore --list: dump id; OID of the catalogue, OID of the object.
var entry = regexp.MustCompile(`(?m)^\d+; 1259 (\d+) `)

// selected asks pg_dump for the OIDs of the relations that it will dump.
func (x *extraction) selected(ctx context.Context, database, role string) ([]string, error) {
	options := []string{"--format=custom", "--strict-names", "--schema-only"}
	for _, a := range x.DumpArguments {
		// Those that select relations; others need not go with --schema-only.
		for _, name := range []string{"--table", "--exclude-table", "--exclude-schema", "--filter", "--extension"} {
			if strings.HasPrefix(a, name) && !strings.HasPrefix(a, "--exclude-table-data") {
				options = append(options, a)
				break
			}
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
	var oids []string
	for _, m := range entry.FindAllStringSubmatch(out.String(), -1) {
		oids = append(oids, m[1])
	}
	return oids, nil
}

// removeHollow removes the files of relations that were left out.
func (x *extraction) removeHollow() error {
	remove := func(root, prefix string) error {
		return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err == nil && x.choice.IsHollowRelation(prefix+filepath.ToSlash(rel)) {
				err = os.Remove(path)
			}
			return err
		})
	}
	if err := remove(filepath.Join(x.scratch.Path(scratch.DataName), "base"), "base/"); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	// In-place tablespaces lie in the data directory, the others in scratch.
	for _, root := range []string{filepath.Join(x.scratch.Path(scratch.DataName), "pg_tblspc"), x.scratch.Path(scratch.TablespacesName)} {
		if err := remove(root, "pg_tblspc/"); err != nil {
			return fmt.Errorf("extract: %w", err)
		}
	}
	return nil
}
