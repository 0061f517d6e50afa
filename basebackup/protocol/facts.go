package protocol

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/server"
)

// settings are those recorded with a backup: the ones a hot standby must not
// undercut, the ones that describe the data directory, and the ones that a
// person who rebuilds the server will look for.
var settings = []string{
	"server_version", "server_version_num", "data_checksums", "block_size", "segment_size", "wal_block_size", "wal_segment_size",
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"wal_level", "archive_mode", "full_page_writes", "wal_log_hints", "track_commit_timestamp",
	"data_directory", "config_file", "hba_file", "ident_file", "external_pid_file",
	"shared_preload_libraries", "server_encoding", "lc_collate", "lc_ctype", "lc_messages", "lc_monetary", "lc_numeric", "lc_time",
	"default_tablespace", "temp_tablespaces", "TimeZone", "unix_socket_directories", "port", "cluster_name",
}

// Facts implements basebackup.Server.
func (s *Server) Facts(ctx context.Context) (basebackup.Facts, error) {
	f := &factFinder{facts: basebackup.Facts{Settings: map[string]string{}}}
	conn, err := s.connect(ctx, server.SQL, nil)
	if err != nil {
		if ctx.Err() != nil {
			return basebackup.Facts{}, ctx.Err()
		}
		f.warn("no SQL connection: settings and configuration files outside the data directory are not saved: %v", err)
		return f.facts, nil
	}
	defer closeConn(conn)
	f.conn, f.user = conn, s.user()
	f.readSettings(ctx)
	f.readConfigFiles(ctx)
	return f.facts, ctx.Err()
}

func (s *Server) user() string {
	config, err := server.Parse(s.o.Conninfo)
	if err != nil {
		return ""
	}
	return config.User
}

// factFinder gathers facts; what it cannot have becomes a warning.
type factFinder struct {
	conn  *pgconn.PgConn
	user  string
	facts basebackup.Facts
	// mayRead: the role may call the function that reads files.
	mayRead bool
}

func (f *factFinder) warn(format string, args ...any) {
	f.facts.Warnings = append(f.facts.Warnings, fmt.Sprintf(format, args...))
}

// query runs a statement and returns its rows as text.
func (f *factFinder) query(ctx context.Context, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	r := f.conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	rows := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// readSettings reads pg_settings, which leaves out what the role may not see.
func (f *factFinder) readSettings(ctx context.Context) {
	rows, err := f.query(ctx, "SELECT name, setting FROM pg_settings WHERE name = ANY (string_to_array($1, ','))", strings.Join(settings, ","))
	if err != nil {
		f.warn("the server's settings cannot be read: %v", err)
		return
	}
	for _, row := range rows {
		f.facts.Settings[row[0]] = row[1]
	}
	if _, ok := f.facts.Settings["data_directory"]; !ok {
		f.warn("configuration files outside the data directory are not saved: where they are is hidden from this role; run: GRANT pg_read_all_settings TO %s",
			quoteIdentifier(f.user))
	}
}

func (f *factFinder) database(ctx context.Context) string {
	rows, err := f.query(ctx, "SELECT current_database()")
	if err != nil || len(rows) != 1 {
		return "?"
	}
	return quoteIdentifier(rows[0][0])
}
