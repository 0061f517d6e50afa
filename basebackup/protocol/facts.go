package protocol

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
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

// maxConfigFile bounds a configuration file, maxConfigFiles their number.
const (
	maxConfigFile  = 16 << 20
	maxConfigFiles = 1000
)

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

// readConfigFiles saves the configuration files that BASE_BACKUP does not send.
func (f *factFinder) readConfigFiles(ctx context.Context) {
	dir, ok := f.facts.Settings["data_directory"]
	if !ok || ctx.Err() != nil {
		return
	}
	for _, name := range f.configFiles(ctx, dir) {
		content, err := f.readFile(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if denied(err) {
			f.warn("%s and other configuration files outside the data directory are not saved; run: GRANT pg_read_server_files TO %s; "+
				"GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO %s (in database %s)",
				name, quoteIdentifier(f.user), quoteIdentifier(f.user), f.database(ctx))
			return
		}
		if err != nil {
			f.warn("configuration file %s is not saved: %v", name, err)
			continue
		}
		f.facts.ConfigFiles = append(f.facts.ConfigFiles, basebackup.ConfigFile{Path: name, Content: content})
	}
}

func (f *factFinder) database(ctx context.Context) string {
	rows, err := f.query(ctx, "SELECT current_database()")
	if err != nil || len(rows) != 1 {
		return "?"
	}
	return quoteIdentifier(rows[0][0])
}

func denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501" // insufficient_privilege
}

// configFiles lists the configuration files outside dir, in order.
func (f *factFinder) configFiles(ctx context.Context, dir string) []string {
	found := map[string]bool{}
	for _, name := range []string{"config_file", "hba_file", "ident_file"} {
		found[f.facts.Settings[name]] = true
	}
	// Files that are included by others. The views on pg_hba.conf and
	// pg_ident.conf name their files since 16.
	f.included(ctx, found, "SELECT DISTINCT sourcefile FROM pg_file_settings WHERE sourcefile IS NOT NULL", "pg_file_settings", "pg_show_all_file_settings()")
	if version, _ := strconv.Atoi(f.facts.Settings["server_version_num"]); version >= 160000 {
		f.included(ctx, found, "SELECT DISTINCT file_name FROM pg_hba_file_rules WHERE file_name IS NOT NULL", "pg_hba_file_rules", "pg_hba_file_rules()")
		f.included(ctx, found, "SELECT DISTINCT file_name FROM pg_ident_file_mappings WHERE file_name IS NOT NULL", "pg_ident_file_mappings", "pg_ident_file_mappings()")
	}
	var outside []string
	for name := range found {
		if name != "" && !within(dir, name) {
			outside = append(outside, name)
		}
	}
	slices.Sort(outside)
	if len(outside) > maxConfigFiles {
		f.warn("of %d configuration files outside the data directory only %d are saved", len(outside), maxConfigFiles)
		outside = outside[:maxConfigFiles]
	}
	return outside
}

func (f *factFinder) included(ctx context.Context, found map[string]bool, sql, view, function string) {
	rows, err := f.query(ctx, sql)
	if denied(err) {
		f.warn("included configuration files outside the data directory may be missing; run: GRANT SELECT ON %s TO %s; GRANT EXECUTE ON FUNCTION %s TO %s (in database %s)",
			view, quoteIdentifier(f.user), function, quoteIdentifier(f.user), f.database(ctx))
		return
	}
	if err != nil {
		f.warn("included configuration files may be missing: %s: %v", view, err)
		return
	}
	for _, row := range rows {
		found[row[0]] = true
	}
}

// within reports whether file lies in dir, on a server of any system.
func within(dir, file string) bool {
	slashes := func(s string) string { return path.Clean(strings.ReplaceAll(s, `\`, "/")) }
	dir, file = slashes(dir), slashes(file)
	return strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/")
}

// readFile reads a whole file of the server. One byte too many is asked for,
// so that a file that is too large is noticed.
func (f *factFinder) readFile(ctx context.Context, name string) ([]byte, error) {
	r := f.conn.ExecParams(ctx, "SELECT pg_read_binary_file($1, 0, $2, false)",
		[][]byte{[]byte(name), []byte(strconv.Itoa(maxConfigFile + 1))}, nil, nil, []int16{1}).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return nil, errors.New("the server's answer is not one value")
	}
	if len(r.Rows[0][0]) > maxConfigFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxConfigFile)
	}
	return r.Rows[0][0], nil
}
