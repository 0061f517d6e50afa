//go:build unix

package extract

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/scratch"
)

// guard makes sure that no relation is dumped that was left out: if one of those that
// pg_dump is going to dump, by their OIDs, is hollow the error is errTooLittle. Then the files of hollow relations are removed: whoever should read one
// of them after all gets an error, and not the nothing that a file of zeros holds.
func (x *extraction) guard(ctx context.Context, d databases.Database, role string, selected []string) error {
	conn, err := x.connect(ctx, d.Name, role)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	list := strings.Join(selected, ",")
	// Indexes have entries of their own in the dump, for which nobody reads them.
	// Some rows of the tables of an extension are read by a query whatever the options are.
	queried := "EXISTS (SELECT FROM pg_catalog.pg_extension WHERE wanted.oid = ANY (extconfig))"
	if x.readsByQuery() {
		queried = "true"
	}
	rows, err := scratch.Query(ctx, conn, "WITH wanted AS (SELECT oid, reltoastrelid FROM pg_catalog.pg_class WHERE oid = ANY ('{"+list+"}') AND relkind NOT IN ('i', 'I')) "+
		"SELECT DISTINCT pg_catalog.pg_relation_filenode(r)::text FROM (SELECT oid FROM wanted UNION SELECT reltoastrelid FROM wanted "+
		"UNION SELECT indexrelid FROM pg_catalog.pg_index JOIN wanted ON indrelid = reltoastrelid "+
		"UNION SELECT indexrelid FROM pg_catalog.pg_index JOIN wanted ON indrelid = wanted.oid AND "+queried+") AS of (r) WHERE r <> 0")
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
