// Package server talks to a running PostgreSQL server: it connects, says in a
// DBA's words why it cannot, and reads the settings that archiving depends on.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Mode is the kind of connection.
type Mode int

const (
	// SQL is an ordinary connection.
	SQL Mode = iota
	// Replication is a physical replication connection.
	Replication
)

// connectTimeout bounds an attempt where the connection string sets no
// connect_timeout of its own.
const connectTimeout = 15 * time.Second

// defaultApplication is our application_name unless the connection string has one.
const defaultApplication = "walden"

// defaultDatabase is used where a connection string names none.
const defaultDatabase = "postgres"

// ConnectError says why there is no connection. It never contains a password.
type ConnectError struct {
	// Mode is the kind of connection that was tried.
	Mode Mode
	// Host, Port and User are what was tried; Host is a directory for a Unix socket.
	Host string
	Port uint16
	User string
	// Err is the cause.
	Err error
}

func (e *ConnectError) Error() string {
	kind := "server"
	if e.Mode == Replication {
		kind = "server (replication connection)"
	}
	return fmt.Sprintf("connecting to the %s at %s port %d as user %q: %s", kind, e.Host, e.Port, e.User, reason(e.Err))
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// reason is the server's own message where it gave one, else the last cause.
func reason(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Message
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Error()
	}
	msg := err.Error()
	if i := strings.LastIndex(msg, ": "); i > 0 && strings.Contains(msg[:i], "failed to connect") {
		return msg[i+2:]
	}
	return msg
}

// Hint says what to do, by the server's SQLSTATE.
func (e *ConnectError) Hint() string {
	var pg *pgconn.PgError
	if !errors.As(e.Err, &pg) {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			return "the server did not answer in time: check host, port and firewalls in `connection`"
		}
		return "is the server running there? check host and port in `connection` (clusters.NAME.connection in the configuration)"
	}
	switch {
	case pg.Code == "28P01":
		return "the password is wrong or missing: put it into a password file (~/.pgpass of the user that runs walden, or passfile=… in `connection`)"
	case pg.Code == "28000" && strings.Contains(pg.Message, "pg_hba.conf") && e.Mode == Replication:
		return fmt.Sprintf("add a line for database \"replication\" and user %q to pg_hba.conf (for example: local replication %s peer; or: host replication %s ADDRESS/32 scram-sha-256), then SELECT pg_reload_conf()", e.User, e.User, e.User)
	case pg.Code == "28000" && strings.Contains(pg.Message, "pg_hba.conf"):
		return fmt.Sprintf("add a line for user %q to pg_hba.conf, then SELECT pg_reload_conf()", e.User)
	case pg.Code == "28000" && strings.Contains(pg.Message, "does not exist"):
		return fmt.Sprintf("create the role: CREATE ROLE %s LOGIN REPLICATION; GRANT pg_monitor TO %s", e.User, e.User)
	case pg.Code == "28000":
		return "the server refused this user: check pg_hba.conf and, for peer authentication, which operating-system user runs walden"
	case pg.Code == "42501" && e.Mode == Replication:
		return fmt.Sprintf("ALTER ROLE %s REPLICATION", e.User)
	case pg.Code == "53300" && e.Mode == Replication:
		return "all walsender places are taken: raise max_wal_senders (restart needed)"
	case pg.Code == "53300":
		return "all connections are taken: raise max_connections or superuser_reserved_connections"
	case pg.Code == "3D000":
		return "the database in `connection` does not exist: name an existing one with dbname=…, postgres for example"
	case pg.Code == "57P03":
		return "the server is starting up or in recovery without hot_standby: try again when it accepts connections"
	}
	return "check `connection` in the configuration"
}

// Connect opens a connection described by a libpq connection string (keywords
// or URL; passfile and service files work). Where no database is named it uses
// "postgres". adjust, if not nil, is given the settings before they are used.
// Failures are *ConnectError.
func Connect(ctx context.Context, conninfo string, mode Mode, adjust func(*pgconn.Config)) (*pgconn.PgConn, error) {
	cfg, err := Parse(conninfo)
	if err != nil {
		return nil, err
	}
	if cfg.Database == "" {
		cfg.Database = defaultDatabase
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = defaultApplication
	}
	delete(cfg.RuntimeParams, "replication")
	if mode == Replication {
		cfg.RuntimeParams["replication"] = "true"
		replicationAttrs(cfg)
	}
	if found := password(conninfo, mode); found != "" {
		cfg.Password = found
	}
	if adjust != nil {
		adjust(cfg)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &ConnectError{Mode: mode, Host: cfg.Host, Port: cfg.Port, User: cfg.User, Err: err}
	}
	return conn, nil
}

// Parse reads a libpq connection string. Its error says what is wrong, and does
// not repeat the string, which may hold a password: what a string that cannot be
// read means by its words is anybody's guess.
func Parse(conninfo string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(conninfo)
	if err == nil {
		if err := adaptLibpq(cfg); err != nil {
			return nil, err
		}
		return cfg, nil
	}
	// "cannot parse `…`: invalid port"
	why := err.Error()
	if i := strings.LastIndex(why, "`: "); i >= 0 {
		why = why[i+3:]
	}
	return nil, fmt.Errorf("connection string: %s", why)
}

// UserAndDatabase returns the role that a connection string logs in as, and where.
func UserAndDatabase(conninfo string) (user, database string, err error) {
	cfg, err := Parse(conninfo)
	if err != nil {
		return "", "", err
	}
	if cfg.Database == "" {
		cfg.Database = defaultDatabase
	}
	return cfg.User, cfg.Database, nil
}
