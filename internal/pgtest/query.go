//go:build unix

package pgtest

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Connect opens a connection to the database ("" means postgres) that is
// closed when the test ends. It uses the simple protocol, in which arguments
// are written into the statement.
func (c *Cluster) Connect(ctx context.Context, dbname string) (*pgx.Conn, error) {
	conn, err := c.connect(ctx, dbname)
	if err != nil {
		return nil, err
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone, which is no failure here
	})
	return conn, nil
}

func (c *Cluster) connect(ctx context.Context, dbname string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(c.Conninfo(dbname))
	if err != nil {
		return nil, err
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, cfg)
}

// Exec runs one or more statements in the database postgres.
func (c *Cluster) Exec(sql string, args ...any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.TryExec(ctx, "", sql, args...); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

// TryExec runs one or more statements in the database ("" means postgres) and
// returns the error. It may be called from any goroutine.
func (c *Cluster) TryExec(ctx context.Context, dbname, sql string, args ...any) error {
	conn, err := c.connect(ctx, dbname)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// Query returns the rows of a query in the database postgres as text; NULL is
// the empty string.
func (c *Cluster) Query(sql string, args ...any) [][]string {
	c.t.Helper()
	return c.QueryIn("", sql, args...)
}

// QueryIn is [Cluster.Query] in another database.
func (c *Cluster) QueryIn(dbname, sql string, args ...any) [][]string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	rows, err := c.TryQuery(ctx, dbname, sql, args...)
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// TryQuery is [Cluster.QueryIn] that returns the error. It may be called from
// any goroutine.
func (c *Cluster) TryQuery(ctx context.Context, dbname, sql string, args ...any) ([][]string, error) {
	conn, err := c.connect(ctx, dbname)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		raw := rows.RawValues()
		row := make([]string, len(raw))
		for i, v := range raw {
			row[i] = string(v)
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// QueryValue returns the only column of the only row of a query.
func (c *Cluster) QueryValue(sql string, args ...any) string {
	c.t.Helper()
	rows := c.Query(sql, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		c.t.Fatalf("%s: want one value, got %d rows: %v", sql, len(rows), rows)
	}
	return rows[0][0]
}

// WaitFor waits until what is meant by name has become true.
func (c *Cluster) WaitFor(name string, isTrue func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(timeout); !isTrue(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited %v in vain for %s", timeout, name)
		}
	}
}

// SystemID returns the cluster's system identifier.
func (c *Cluster) SystemID() uint64 {
	c.t.Helper()
	v := c.QueryValue("SELECT system_identifier FROM pg_control_system()")
	id, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		c.t.Fatalf("system identifier %q: %v", v, err)
	}
	return id
}

// LSN returns where the next WAL record goes, as PostgreSQL writes it (X/X).
func (c *Cluster) LSN() string {
	c.t.Helper()
	return c.QueryValue("SELECT pg_current_wal_insert_lsn()")
}

// Timeline returns the timeline that the server writes WAL on. (Its control
// file tells only that of the last checkpoint.)
func (c *Cluster) Timeline() uint32 {
	c.t.Helper()
	name := c.QueryValue("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	tli, err := strconv.ParseUint(name[:min(8, len(name))], 16, 32)
	if err != nil {
		c.t.Fatalf("timeline of segment %q: %v", name, err)
	}
	return uint32(tli)
}

// SwitchWAL ends the current segment and returns the name of the segment that
// ended. A record is written first, so that there is always one to end.
func (c *Cluster) SwitchWAL() string {
	c.t.Helper()
	c.Exec("SELECT pg_logical_emit_message(false, 'pgtest', 'switch')")
	// The switch returns its end, whose segment may be the next one already.
	return c.QueryValue("SELECT pg_walfile_name(pg_switch_wal())")
}

// WaitArchived waits until archive_command has succeeded for the segment and
// so for all before it.
func (c *Cluster) WaitArchived(segment string) {
	c.t.Helper()
	c.WaitFor("the archiving of "+segment, func() bool {
		// Timeline histories and backup labels are archived too: compare only
		// names of segments, whose order is that of their text on one timeline.
		last := c.QueryValue("SELECT last_archived_wal FROM pg_stat_archiver")
		return len(last) == len(segment) && last >= segment
	})
}
