package scratch

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal/control"
)

// HBA is the server's pg_hba.conf: with unix_socket_permissions of Settings its socket can
// be reached by its user (and root) alone.
const HBA = "# written by walden: the socket is for the user of the server alone\nlocal all all trust\n"

// Settings keep a server in scratch small, and to itself. What the WAL demands of it
// comes from pg_control in the directory, and from the plan. set wins over all.
func Settings(directory string, major int, minimums []plan.Setting, set map[string]string) (map[string]string, error) {
	c, err := control.ReadDirectory(directory)
	if err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	least := map[string]int{
		"max_connections": int(c.Settings.MaxConnections), "max_worker_processes": int(c.Settings.MaxWorkerProcesses),
		"max_wal_senders": int(c.Settings.MaxWALSenders), "max_prepared_transactions": int(c.Settings.MaxPreparedXacts),
		"max_locks_per_transaction": int(c.Settings.MaxLocksPerXact),
	}
	for _, s := range minimums {
		if n, err := strconv.Atoi(s.Value); err == nil {
			least[s.Name] = max(least[s.Name], n)
		}
	}
	m := map[string]string{
		"fsync": "off", "synchronous_commit": "off", "autovacuum": "off", "shared_buffers": "256MB", "huge_pages": "off",
		"unix_socket_permissions": "0700", "bonjour": "off",
		// Libraries may start workers, which would do here what they do there.
		"shared_preload_libraries": "", "session_preload_libraries": "", "local_preload_libraries": "",
	}
	if major >= 17 {
		m["event_triggers"] = "off" // those on login would run for each of our connections
	}
	for name, n := range least {
		m[name] = strconv.Itoa(n)
	}
	for name, value := range set {
		m[name] = value
	}
	return m, nil
}

// Connect connects to a database of the server. options are settings of the session.
func Connect(ctx context.Context, server *recovery.Server, database, role string, options map[string]string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("sslmode=disable application_name=walden")
	if err != nil {
		return nil, fmt.Errorf("scratch: environment for a connection: %w", err)
	}
	config.Host, config.Port = server.SocketDirectory, uint16(server.Port)
	config.User, config.Database = role, database
	config.Fallbacks, config.TLSConfig = nil, nil
	config.ValidateConnect, config.AfterConnect = nil, nil
	for name, value := range options {
		config.RuntimeParams[name] = value
	}
	return pgconn.ConnectConfig(ctx, config)
}

// Enter connects as a superuser. Which names databases and roles have at the stop is not
// known for certain: databases and roles are tried in their order, then roles with usual names.
func Enter(ctx context.Context, server *recovery.Server, databases, roles []string, options map[string]string) (*pgconn.PgConn, string, error) {
	roles = slices.Clone(roles)
	for _, name := range []string{"postgres", systemUser()} {
		if name != "" && !slices.Contains(roles, name) {
			roles = append(roles, name)
		}
	}
	var errs []error
	for _, name := range databases {
		for _, role := range roles {
			conn, err := Connect(ctx, server, name, role, options)
			if err == nil {
				super, err := Query(ctx, conn, "SELECT rolsuper::text FROM pg_catalog.pg_roles WHERE rolname = current_user")
				if err == nil && len(super) == 1 && super[0][0] == "true" {
					return conn, role, nil
				}
				errs = append(errs, fmt.Errorf("role %q is no superuser", role), err)
				_ = conn.Close(ctx) // it is of no use
				continue
			}
			errs = append(errs, err)
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
		}
	}
	return nil, "", fmt.Errorf("no way into the server in scratch: %w", errors.Join(errs...))
}

func systemUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// Query returns the rows of one statement as text; NULL is empty.
func Query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, r := range results {
		for _, raw := range r.Rows {
			row := make([]string, len(raw))
			for i, v := range raw {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// RollBackPrepared rolls back the transactions that are left prepared in the database of the
// connection: they may hold locks that others would wait for. It returns their names.
func RollBackPrepared(ctx context.Context, conn *pgconn.PgConn) ([]string, error) {
	rows, err := Query(ctx, conn, "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY prepared")
	if err != nil {
		return nil, fmt.Errorf("prepared transactions: %w", err)
	}
	var names []string
	for _, r := range rows {
		if _, err := Query(ctx, conn, "ROLLBACK PREPARED "+QuoteLiteral(r[0])); err != nil {
			return names, fmt.Errorf("prepared transaction %q: %w", r[0], err)
		}
		names = append(names, r[0])
	}
	return names, nil
}

// QuoteIdentifier writes a name for SQL.
func QuoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// QuoteLiteral writes a string constant whatever standard_conforming_strings is.
func QuoteLiteral(s string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
