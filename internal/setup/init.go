// Package setup prepares a cluster for Walden (init) and examines whether
// everything archiving and restoring depend on is in order (check).
package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal/archive"
)

// InitOptions are the wishes of `walden init`.
type InitOptions struct {
	// ConfigPath is the configuration file: used as it is if it exists, else written.
	ConfigPath string
	// Environ overrides the configuration (NAME=VALUE).
	Environ []string
	// Cluster is the cluster's name.
	Cluster string
	// Config is what to write where no configuration exists yet.
	Config config.Config
	// Executable is the absolute path of walden for archive_command.
	Executable string
	// Log is told of retries.
	Log *slog.Logger
}

// InitReport says what init found and did.
type InitReport struct {
	Config            string              `json:"config"`
	ConfigWritten     bool                `json:"config_written"`
	Repository        string              `json:"repository"`
	RepositoryCreated bool                `json:"repository_created"`
	Cluster           string              `json:"cluster"`
	Incarnation       archive.Incarnation `json:"incarnation"`
	IncarnationNew    bool                `json:"incarnation_created"`
	// Previous is the incarnation that a new one follows, nil if there was none.
	Previous *archive.Incarnation `json:"previous_incarnation,omitempty"`
	// Streams says that the configuration has a stream section: then archive_command
	// is not asked for.
	Streams bool `json:"streams"`
	// Apply is what the DBA still has to do; empty if nothing.
	Apply Apply `json:"apply"`
}

// Apply is what remains to be done on the server.
type Apply struct {
	// Settings are the lines of postgresql.conf that are missing or differ.
	Settings []SettingLine `json:"settings"`
	// SQL are the statements for a superuser: the settings first, in their order.
	SQL []string `json:"sql"`
	// Database is where the statements must be run: rights on functions are
	// those of one database.
	Database string `json:"database"`
	// Again says that some of what is missing shows only once this is applied.
	Again bool `json:"again"`
	// Restart says that a setting needs a restart of the server; otherwise a reload does.
	Restart bool `json:"restart"`
	// rights is where in SQL the settings end and the rights begin.
	rights int
}

// SettingsSQL are the statements that do what the settings' lines do, RightsSQL
// those that no line can replace.
func (a Apply) SettingsSQL() []string { return a.SQL[:a.rights] }

// RightsSQL are the statements that grant rights: see SettingsSQL.
func (a Apply) RightsSQL() []string { return a.SQL[a.rights:] }

// SettingLine is one line of postgresql.conf.
type SettingLine struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Current string `json:"current"`
	Restart bool   `json:"restart"`
}

// patience bounds how long init and check try a store again that does not
// answer: somebody sits before them and wants to be told what is wrong.
const patience = 10 * time.Second

// Init writes the configuration where there is none, creates the repository
// and the cluster's incarnation, and says what to apply on the server. Run
// again it does only what is left. Nothing is written before the server
// answered on both kinds of connection.
func Init(ctx context.Context, o InitOptions) (*InitReport, error) {
	cfg, exists, err := o.configuration()
	if err != nil {
		return nil, err
	}
	name, cluster, err := cfg.Cluster(o.Cluster)
	if err != nil {
		return nil, err
	}
	desc, err := describe(ctx, cluster.Connection)
	if err != nil {
		return nil, err
	}
	if err := repositoryOutside(cfg.Repository.URL, desc.Settings["data_directory"].Value); err != nil {
		return nil, err
	}
	repo, created, err := cfg.Repository.Within(patience).Init(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	rep := &InitReport{Config: o.ConfigPath, Repository: cfg.Repository.URL, RepositoryCreated: created, Cluster: name}
	before, err := archive.Incarnations(ctx, repo, name)
	if err != nil {
		return nil, err
	}
	rep.Incarnation, rep.IncarnationNew, err = archive.CreateIncarnation(ctx, repo, name, desc.SystemID, desc.SegmentSize, desc.Major())
	if err != nil {
		return nil, err
	}
	if rep.IncarnationNew && len(before) > 0 {
		rep.Previous = &before[len(before)-1]
	}
	if !exists {
		if err := writeConfig(o.ConfigPath, cfg); err != nil {
			return nil, err
		}
		rep.ConfigWritten = true
	}
	user, database, err := server.UserAndDatabase(cluster.Connection)
	if err != nil {
		return nil, err
	}
	rep.Streams = cluster.Stream != nil
	rep.Apply = whatToApply(desc, user, ArchiveCommand(o.Executable, o.ConfigPath, name), rep.Streams)
	rep.Apply.Database = database
	return rep, nil
}

// describe asks the server on both kinds of connection.
func describe(ctx context.Context, conninfo string) (*server.Description, error) {
	conn, err := server.Connect(ctx, conninfo, server.SQL, nil)
	if err != nil {
		return nil, err
	}
	desc, err := server.Describe(ctx, conn)
	err = errors.Join(err, conn.Close(ctx))
	if err != nil {
		return nil, err
	}
	repl, err := server.Connect(ctx, conninfo, server.Replication, nil)
	if err != nil {
		return nil, err
	}
	desc.SystemID, desc.Timeline, err = server.Identify(ctx, repl)
	return desc, errors.Join(err, repl.Close(ctx))
}

// configuration reads the file that exists, or returns the one to be written.
func (o *InitOptions) configuration() (cfg *config.Config, exists bool, err error) {
	_, err = os.Stat(o.ConfigPath)
	if err == nil {
		cfg, err = config.Load(o.ConfigPath, o.Environ)
		if err != nil {
			return nil, true, err
		}
		return cfg, true, o.contradicts(cfg)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("configuration: %w", err)
	}
	b, err := o.Config.Marshal()
	if err != nil {
		return nil, false, err
	}
	if cfg, err = config.Parse(o.ConfigPath, b); err != nil {
		return nil, false, err
	}
	return cfg, false, cfg.Validate()
}

// contradicts refuses flags that say something else than the existing file.
func (o *InitOptions) contradicts(cfg *config.Config) error {
	differs := func(flag, want, have string) error {
		if want == "" || want == have {
			return nil
		}
		return fmt.Errorf("--%s says %q, but %s exists already and says %q: edit the file, or leave the flag out", flag, want, o.ConfigPath, have)
	}
	given := o.Config.Repository
	have := cfg.Repository
	err := errors.Join(
		differs("repository", given.URL, have.URL),
		differs("endpoint", given.S3.Endpoint, have.S3.Endpoint),
		differs("region", given.S3.Region, have.S3.Region),
		differs("ca-file", given.S3.CAFile, have.S3.CAFile),
		differs("compression", given.Compression, have.Compression),
	)
	if given.S3.PathStyle && !have.S3.PathStyle {
		err = errors.Join(err, differs("path-style", "true", "false"))
	}
	_, cluster, unknown := cfg.Cluster(o.Cluster)
	if unknown != nil {
		return errors.Join(err, unknown)
	}
	for _, c := range o.Config.Clusters { // the one that the flags describe
		err = errors.Join(err,
			differs("connection", c.Connection, cluster.Connection),
			differs("data-directory", c.DataDirectory, cluster.DataDirectory))
	}
	return err
}

// repositoryOutside refuses a repository inside the cluster it is to protect:
// it would be lost with it, and would be copied into every backup.
func repositoryOutside(url, dataDirectory string) error {
	dir, ok := strings.CutPrefix(url, "file://")
	if !ok || dataDirectory == "" {
		return nil
	}
	rel, err := filepath.Rel(dataDirectory, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil
	}
	return fmt.Errorf("repository.url %s lies inside the data directory %s: choose a directory outside, on another disk if possible", url, dataDirectory)
}

// writeConfig writes a new file, whole or not at all.
func writeConfig(path string, cfg *config.Config) error {
	b, err := cfg.Marshal()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".walden-*.yaml")
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already after the rename
	_, err = tmp.Write(b)
	// The server's user reads it from archive_command; it holds no secrets:
	// passwords belong into a password file.
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), path) // fails if somebody wrote one meanwhile
	}
	if err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// ArchiveCommand returns the archive_command for a cluster.
func ArchiveCommand(executable, configPath, cluster string) string {
	return HookCommand(executable, configPath, cluster, `wal-push "%p"`)
}

// HookCommand returns a shell command that runs walden as PostgreSQL's
// archive_command or restore_command: rest is its part behind the global flags.
func HookCommand(executable, configPath, cluster, rest string) string {
	parts := []string{HookArgument(executable)}
	if configPath != "" {
		parts = append(parts, "--config", HookArgument(configPath))
	}
	return strings.Join(append(parts, "--cluster", HookArgument(cluster), rest), " ")
}

// HookArgument writes a word of such a command: for the shell, and without a percent sign that
// would start one of PostgreSQL's own escapes.
func HookArgument(s string) string { return strings.ReplaceAll(shellQuote(s), "%", "%%") }

// shellQuote quotes s for /bin/sh where it needs it.
func shellQuote(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:=@,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// whatToApply compares the server with what archiving needs: by archive_command,
// or by a receiver, which needs one walsender more.
func whatToApply(d *server.Description, user, archiveCommand string, streams bool) Apply {
	var a Apply
	want := func(name, value string, restart bool) {
		a.Settings = append(a.Settings, SettingLine{Name: name, Value: value, Current: d.Settings[name].Value, Restart: restart})
		a.Restart = a.Restart || restart
	}
	if v := d.Settings["wal_level"].Value; v != "replica" && v != "logical" {
		want("wal_level", "replica", true)
	}
	senders := minWalSenders
	if streams {
		senders++
	} else {
		if d.Settings["archive_mode"].Value == "off" {
			want("archive_mode", "on", true)
		}
		if d.Settings["archive_command"].Value != archiveCommand {
			want("archive_command", archiveCommand, false)
		}
	}
	atLeast := func(name string, least int) {
		if n, err := strconv.Atoi(d.Settings[name].Value); err == nil && n < least {
			want(name, strconv.Itoa(least), true)
		}
	}
	atLeast("max_wal_senders", senders)
	if streams {
		atLeast("max_replication_slots", minStreamSlots)
	}
	for _, s := range a.Settings {
		a.SQL = append(a.SQL, fmt.Sprintf("ALTER SYSTEM SET %s = '%s';", s.Name, strings.ReplaceAll(s.Value, "'", "''")))
	}
	if len(a.Settings) > 0 && !a.Restart {
		a.SQL = append(a.SQL, "SELECT pg_reload_conf();")
	}
	a.rights = len(a.SQL)
	a.SQL = append(a.SQL, grants(d, user)...)
	// Whether configuration files lie outside the data directory is not known yet.
	a.Again = settingsHidden(d)
	return a
}

// minWalSenders is what a base backup takes: one connection for the data, one
// that holds the WAL it needs.
const minWalSenders = 2

// minStreamSlots: a receiver keeps one, and a backup makes one for a while.
const minStreamSlots = 2

// grants are the rights that the role lacks.
func grants(d *server.Description, user string) []string {
	role := `"` + strings.ReplaceAll(user, `"`, `""`) + `"`
	var sql []string
	if !d.CanReplicate {
		sql = append(sql, fmt.Sprintf("ALTER ROLE %s REPLICATION;", role))
	}
	if settingsHidden(d) {
		sql = append(sql, fmt.Sprintf("GRANT pg_read_all_settings TO %s;", role))
	}
	if !d.CanSwitchWAL {
		sql = append(sql, fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO %s;", role))
	}
	if len(d.ExternalConfig) > 0 && !d.ConfigReadable {
		sql = append(sql, fmt.Sprintf("GRANT pg_read_server_files TO %s;", role),
			fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO %s;", role))
	}
	for _, v := range d.Hidden {
		sql = append(sql, fmt.Sprintf("GRANT SELECT ON %s TO %s;", v.Name, role), fmt.Sprintf("GRANT EXECUTE ON FUNCTION %s TO %s;", v.Function, role))
	}
	return sql
}

// settingsHidden says that the role may not see where the server's files lie.
func settingsHidden(d *server.Description) bool {
	return d.Settings["config_file"].Value == "" || d.Settings["data_directory"].Value == ""
}

// Conf renders the settings as lines of postgresql.conf.
func (a Apply) Conf() string {
	var b bytes.Buffer
	for _, s := range a.Settings {
		fmt.Fprintf(&b, "%s = '%s'", s.Name, strings.ReplaceAll(s.Value, "'", "''"))
		if s.Current != "" {
			fmt.Fprintf(&b, "   # now: %s", s.Current)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
