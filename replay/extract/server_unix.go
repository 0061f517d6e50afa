//go:build unix

package extract

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/scratch"
)

// locate finds the database to dump among those that there are at the stop, and
// the role to dump it with.
func (x *extraction) locate(ctx context.Context) (d databases.Database, role string, err error) {
	conn, role, err := x.enter(ctx)
	if err != nil {
		return d, "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := scratch.Query(ctx, conn, "SELECT oid::text, datname, datallowconn::text, datistemplate::text FROM pg_catalog.pg_database ORDER BY datname")
	if err != nil {
		return d, "", fmt.Errorf("extract: list of the databases: %w", err)
	}
	row, err := x.pick(rows)
	if err != nil {
		return d, "", err
	}
	oid, err := strconv.ParseUint(row[0], 10, 32)
	if err != nil {
		return d, "", fmt.Errorf("extract: OID of database %q: %w", row[1], err)
	}
	d = databases.Database{OID: uint32(oid), Name: row[1]}
	if x.wanted == "" {
		if err := onlyOf(rows, d); err != nil {
			return d, "", err
		}
	}
	for _, known := range x.contents.Databases {
		if known.OID == d.OID {
			d.Files, d.Bytes = known.Files, known.Bytes
		}
	}
	if x.choice.State(d.OID) == databases.Emptied {
		return d, "", &hollowError{d.OID}
	}
	if p := x.result.Recovery.InvalidPages[d.OID]; p.Count > 0 && x.choice.State(d.OID) == databases.Later {
		return d, "", fmt.Errorf("extract: database %q was created after the backup from one whose files were left out (%s): restore everything to get at it", d.Name, p.First)
	}
	if row[2] != "true" {
		if _, err := scratch.Query(ctx, conn, "ALTER DATABASE "+scratch.QuoteIdentifier(d.Name)+" ALLOW_CONNECTIONS true"); err != nil {
			return d, "", fmt.Errorf("extract: %w", err)
		}
	}
	return d, role, nil
}

// onlyOf refuses a database that nobody has named if there is another, by the rows of
// pg_database, that could be meant: one created since the backup, say.
func onlyOf(rows [][]string, d databases.Database) error {
	list := []databases.Database{}
	for _, r := range rows {
		oid, err := strconv.ParseUint(r[0], 10, 32)
		if err != nil {
			return fmt.Errorf("extract: OID of database %q: %w", r[1], err)
		}
		if uint32(oid) == d.OID || r[3] != "true" && r[1] != "postgres" {
			list = append(list, databases.Database{OID: uint32(oid), Name: r[1]})
		}
	}
	if len(list) > 1 {
		return &WhichError{Databases: list, AtStop: true}
	}
	return nil
}

// pick finds what was asked for among the rows of pg_database.
func (x *extraction) pick(rows [][]string) ([]string, error) {
	var names []string
	for _, r := range rows {
		if x.wanted == "" && r[0] == strconv.FormatUint(uint64(x.wantOID), 10) || x.wanted != "" && r[1] == x.wanted {
			return r, nil
		}
		names = append(names, r[1])
	}
	for _, r := range rows {
		if r[0] == x.wanted {
			return r, nil
		}
	}
	name := strconv.Quote(x.wanted)
	for _, d := range x.choice.Chosen {
		if x.wanted == "" {
			name = strconv.Quote(d.String())
		}
	}
	return nil, &NotThereError{What: "database", Name: name, Moment: x.moment(), Others: names}
}

// enter connects to a database that has been restored, as a superuser. Which name
// that one has at the stop is not known for certain: those of the backup are tried,
// and usual ones.
func (x *extraction) enter(ctx context.Context) (*pgconn.PgConn, string, error) {
	roles := slices.Clone(x.contents.Superusers)
	slices.Reverse(roles)
	var names []string
	for _, d := range slices.Concat(x.choice.Chosen, x.choice.Templates) {
		if d.Name != "" && !slices.Contains(names, d.Name) {
			names = append(names, d.Name)
		}
	}
	if x.wanted != "" && !slices.Contains(names, x.wanted) {
		names = append(names, x.wanted)
	}
	conn, role, err := scratch.Enter(ctx, x.result.Recovery.Server, names, roles, nil)
	if err != nil {
		return nil, "", fmt.Errorf("extract: %w", err)
	}
	return conn, role, nil
}

func (x *extraction) connect(ctx context.Context, database, role string) (*pgconn.PgConn, error) {
	return scratch.Connect(ctx, x.result.Recovery.Server, database, role, nil)
}

// releaseLocks rolls back the database's prepared transactions: they may hold locks
// that pg_dump would wait for, and it cannot see what they have done.
func (x *extraction) releaseLocks(ctx context.Context, database, role string) error {
	conn, err := x.connect(ctx, database, role)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	x.result.RolledBack, err = scratch.RollBackPrepared(ctx, conn)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	return nil
}
