package server

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/wal"
)

// OldestMajor and NewestMajor bound the PostgreSQL versions that Walden knows.
const (
	OldestMajor = 14
	NewestMajor = 19
)

// Setting is one row of pg_settings.
type Setting struct {
	// Value is the setting in its base unit.
	Value string
	// PendingRestart says that the configuration file holds another value,
	// which waits for a restart.
	PendingRestart bool
}

// Description is what a server says of itself.
type Description struct {
	// SystemID is the cluster's system identifier.
	SystemID uint64
	// Timeline is the server's current timeline.
	Timeline wal.TimelineID
	// Version is server_version_num, for example 170010.
	Version int
	// SegmentSize is wal_segment_size.
	SegmentSize wal.SegmentSize
	// InRecovery is true on a standby.
	InRecovery bool
	// Superuser and CanReplicate are attributes of the connected role.
	Superuser, CanReplicate bool
	// Settings are the rows of pg_settings that matter for archiving.
	Settings map[string]Setting
	// ConfigReadable says that configuration files outside the data directory can be read.
	ConfigReadable bool
	// Hidden are the views that tell which files configuration files include, as far
	// as the role may not read them, with their functions.
	Hidden []View
	// ExternalConfig are the configuration files outside the data directory.
	ExternalConfig []string
	// CanSwitchWAL says that the role may execute pg_switch_wal().
	CanSwitchWAL bool
	// Archiver is the row of pg_stat_archiver.
	Archiver Archiver
}

// View is a system view and the function that it calls.
type View struct{ Name, Function string }

// views name the files that configuration files include; those on pg_hba.conf
// and pg_ident.conf do since 16.
var views = []struct {
	View
	since int
}{
	{View{"pg_file_settings", "pg_show_all_file_settings()"}, 0},
	{View{"pg_hba_file_rules", "pg_hba_file_rules()"}, 16},
	{View{"pg_ident_file_mappings", "pg_ident_file_mappings()"}, 16},
}

// Archiver is the row of pg_stat_archiver; texts are empty where it holds NULL.
type Archiver struct {
	Archived, Failed       int64
	LastArchived           string
	LastFailed             string
	LastFailedIsMoreRecent bool
}

// Major returns the major version.
func (d *Description) Major() int { return d.Version / 10000 }

// UnsupportedVersionError says that the server's major version is not known.
type UnsupportedVersionError struct{ Major int }

func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("PostgreSQL %d is not supported: Walden knows %d to %d", e.Major, OldestMajor, NewestMajor)
}

// Identify asks a replication connection for system identifier and timeline.
func Identify(ctx context.Context, conn *pgconn.PgConn) (systemID uint64, tli wal.TimelineID, err error) {
	row, err := one(ctx, conn, "IDENTIFY_SYSTEM")
	if err != nil {
		return 0, 0, err
	}
	if systemID, err = strconv.ParseUint(row[0], 10, 64); err != nil {
		return 0, 0, fmt.Errorf("IDENTIFY_SYSTEM: system identifier %q: %w", row[0], err)
	}
	t, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("IDENTIFY_SYSTEM: timeline %q: %w", row[1], err)
	}
	return systemID, wal.TimelineID(t), nil
}

const settingsQuery = `SELECT name, setting, pending_restart FROM pg_catalog.pg_settings WHERE name IN (
 'archive_mode','archive_command','archive_library','archive_timeout','wal_level','max_wal_senders','max_replication_slots',
 'full_page_writes','data_checksums','wal_segment_size','data_directory','config_file','hba_file','ident_file','fsync',
 'server_version_num','max_slot_wal_keep_size','wal_keep_size')`

const roleQuery = `SELECT r.rolsuper, r.rolreplication OR r.rolsuper,
 pg_catalog.has_function_privilege('pg_catalog.pg_switch_wal()', 'EXECUTE'),
 r.rolsuper OR (pg_catalog.pg_has_role('pg_read_server_files', 'USAGE')
  AND pg_catalog.has_function_privilege('pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE')),
 pg_catalog.pg_is_in_recovery()
 FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

const archiverQuery = `SELECT archived_count, failed_count, coalesce(last_archived_wal,''), coalesce(last_failed_wal,''),
 coalesce(last_failed_time > coalesce(last_archived_time,'-infinity'), false) FROM pg_catalog.pg_stat_archiver`

// Describe asks a server for what archiving depends on, over one ordinary
// connection. SystemID and Timeline come from Identify on a replication
// connection, and are left zero here.
func Describe(ctx context.Context, conn *pgconn.PgConn) (*Description, error) {
	d := &Description{Settings: make(map[string]Setting)}
	rows, err := query(ctx, conn, settingsQuery)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		d.Settings[r[0]] = Setting{Value: r[1], PendingRestart: r[2] == "t"}
	}
	if d.Version, err = strconv.Atoi(d.Settings["server_version_num"].Value); err != nil {
		return nil, fmt.Errorf("server_version_num %q: %w", d.Settings["server_version_num"].Value, err)
	}
	if m := d.Major(); m < OldestMajor || m > NewestMajor {
		return nil, &UnsupportedVersionError{Major: m}
	}
	size, err := strconv.ParseUint(d.Settings["wal_segment_size"].Value, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("wal_segment_size %q: %w", d.Settings["wal_segment_size"].Value, err)
	}
	d.SegmentSize = wal.SegmentSize(size)
	role, err := one(ctx, conn, roleQuery)
	if err != nil {
		return nil, err
	}
	d.Superuser, d.CanReplicate, d.CanSwitchWAL = role[0] == "t", role[1] == "t", role[2] == "t"
	d.ConfigReadable, d.InRecovery = role[3] == "t", role[4] == "t"
	if err := d.readArchiver(ctx, conn); err != nil {
		return nil, err
	}
	if err := d.readHidden(ctx, conn); err != nil {
		return nil, err
	}
	for _, name := range []string{"config_file", "hba_file", "ident_file"} {
		// A role without pg_read_all_settings does not see these rows at all.
		if p := d.Settings[name].Value; p != "" && !inside(d.Settings["data_directory"].Value, p) {
			d.ExternalConfig = append(d.ExternalConfig, p)
		}
	}
	return d, nil
}

func (d *Description) readArchiver(ctx context.Context, conn *pgconn.PgConn) error {
	row, err := one(ctx, conn, archiverQuery)
	if err != nil {
		return err
	}
	a := Archiver{LastArchived: row[2], LastFailed: row[3], LastFailedIsMoreRecent: row[4] == "t"}
	if a.Archived, err = strconv.ParseInt(row[0], 10, 64); err != nil {
		return fmt.Errorf("pg_stat_archiver: %w", err)
	}
	if a.Failed, err = strconv.ParseInt(row[1], 10, 64); err != nil {
		return fmt.Errorf("pg_stat_archiver: %w", err)
	}
	d.Archiver = a
	return nil
}

func (d *Description) readHidden(ctx context.Context, conn *pgconn.PgConn) error {
	for _, v := range views {
		if d.Major() < v.since {
			continue
		}
		row, err := one(ctx, conn, fmt.Sprintf("SELECT pg_catalog.has_table_privilege('pg_catalog.%s', 'SELECT') AND pg_catalog.has_function_privilege('pg_catalog.%s', 'EXECUTE')", v.Name, v.Function))
		if err != nil {
			return err
		}
		if row[0] != "t" {
			d.Hidden = append(d.Hidden, v.View)
		}
	}
	return nil
}

func inside(dir, path string) bool {
	return dir != "" && len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}

// query runs one statement and returns its rows as text, NULL as "".
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("query %.40q: %w", sql, err)
	}
	var out [][]string
	for _, res := range results {
		for _, r := range res.Rows {
			row := make([]string, len(r))
			for i, v := range r {
				row[i] = string(v)
			}
			out = append(out, row)
		}
	}
	return out, nil
}

func one(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	rows, err := query(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("query %.40q: %d rows instead of one", sql, len(rows))
	}
	return rows[0], nil
}

// SwitchWAL ends the current segment and returns the name of the file that
// holds the end of what was written.
func SwitchWAL(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	row, err := one(ctx, conn, "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())")
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// EmitMessage writes a small record into the WAL, so that a switch on an idle
// server has something to switch away from.
func EmitMessage(ctx context.Context, conn *pgconn.PgConn) error {
	_, err := one(ctx, conn, "SELECT pg_catalog.pg_logical_emit_message(false, 'walden', 'check')")
	return err
}
