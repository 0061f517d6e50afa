//go:build unix

package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walden-pg/walden/wal/control"
)

// setting is one NAME=VALUE of the server's command line.
type setting struct{ name, value string }

// setup is everything that is decided before the server starts.
type setup struct {
	directory string
	major     int
	binDir    string
	control   control.File
	owner     *owner
	runDir    string
	logPath   string
	configDir string    // where the configuration was restored to; may not exist
	over      bool      // recovery had ended with a promotion before this run
	needed    []setting // what any start of this directory needs
	settings  []setting // all, later ones win
	warnings  []string
}

// reserved are the settings that this package depends on.
var reserved = []string{
	"data_directory", "config_file", "logging_collector", "log_destination", "lc_messages", "log_line_prefix",
	"log_min_messages", "log_error_verbosity", "unix_socket_directories", "hot_standby",
}

// prepare checks the directory, finds the programs and decides on the settings.
func prepare(ctx context.Context, o Options) (*setup, error) {
	if o.Directory == "" {
		return nil, errors.New("recovery: no directory given")
	}
	directory, err := filepath.Abs(o.Directory)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	for name := range o.Settings {
		if slices.Contains(reserved, strings.ToLower(name)) {
			return nil, fmt.Errorf("recovery: %s cannot be set while the server is watched: start it by hand for that", name)
		}
	}
	s := &setup{directory: directory, configDir: o.ConfigDirectory, logPath: o.LogFile}
	if s.major, err = Major(directory); err != nil {
		return nil, err
	}
	if running, alive := RunningServer(directory); alive && !exists(filepath.Join(directory, UnfinishedName)) {
		return nil, &RunningError{directory, *running}
	}
	if s.over, err = recoveryOver(directory); err != nil {
		return nil, err
	}
	if s.owner, err = ownerOf(directory); err != nil {
		return nil, err
	}
	if s.owner != nil {
		s.owner.wrapped = o.Wrapped
	}
	if s.binDir, err = FindBinaries(ctx, s.major, o.BinDir); err != nil {
		return nil, err
	}
	if err := s.endEarlier(ctx, "fast", o.Wrapped); err != nil {
		return nil, err
	}
	if s.control, err = control.ReadDirectory(directory); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	if s.configDir == "" {
		s.configDir = directory + ".config"
	}
	if s.runDir, err = s.makeRunDirectory(o.RunDirectory); err != nil {
		return nil, err
	}
	if s.logPath == "" {
		s.logPath = s.defaultLog()
	}
	if err := s.decideSettings(ctx, o); err != nil {
		s.removeRunDirectory()
		return nil, err
	}
	return s, nil
}

// recoveryOver tells that the directory needs no recovery any more, which is an
// error unless a run was cut off there that could not say so.
func recoveryOver(directory string) (bool, error) {
	for _, name := range []string{"recovery.signal", "standby.signal"} {
		if _, err := os.Lstat(filepath.Join(directory, name)); err == nil {
			return false, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("recovery: %w", err)
		}
	}
	if exists(filepath.Join(directory, UnfinishedName)) {
		return true, nil
	}
	return false, fmt.Errorf("recovery: %s has neither recovery.signal nor standby.signal: "+
		"its recovery is over, or it was not restored for one; start it with pg_ctl", directory)
}

// maxSocketDirectory leaves room for "/.s.PGSQL.65535.lock" in the 104 bytes
// that a socket's path may have on the strictest system.
const maxSocketDirectory = 103 - len("/.s.PGSQL.65535.lock")

// temporaryRun begins the name of a run directory among temporary files.
const temporaryRun = "walden-run-"

func (s *setup) makeRunDirectory(path string) (string, error) {
	chosen := path != ""
	if !chosen {
		path = s.directory + ".run"
	}
	err := errors.ErrUnsupported
	if len(path) <= maxSocketDirectory && !strings.Contains(path, ",") { // clients take a list of hosts
		err = os.Mkdir(path, 0o755)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		if chosen && !errors.Is(err, errors.ErrUnsupported) {
			return "", fmt.Errorf("recovery: directory for the socket: %w", err)
		}
		// No client could name the path, or the directory's parent is not ours to write to.
		if path, err = os.MkdirTemp("", temporaryRun); err != nil {
			return "", fmt.Errorf("recovery: directory for the socket: %w", err)
		}
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", fmt.Errorf("recovery: directory for the socket: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("recovery: %s is in the way: a directory for the socket is needed there", path)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		return "", fmt.Errorf("recovery: directory for the socket: %w", err)
	}
	return path, s.owner.give(path)
}

// defaultLog is beside the data directory or, where that cannot be written,
// in the run directory.
func (s *setup) defaultLog() string {
	path := s.directory + ".log"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return filepath.Join(s.runDir, "postgresql.log")
	}
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return path
}

// removeRunDirectory takes away what was made for a server that has ended. What
// others put there stays.
func (s *setup) removeRunDirectory() {
	for _, name := range []string{generatedConf, generatedHBA} {
		_ = os.Remove(filepath.Join(s.runDir, name))
	}
	_ = os.Remove(s.runDir)
}

const (
	generatedConf = "postgresql.conf"
	generatedHBA  = "pg_hba.conf"
)

// decideSettings fills in settings and needed.
func (s *setup) decideSettings(ctx context.Context, o Options) error {
	if err := s.locateConfig(); err != nil {
		return err
	}
	s.guard(ctx)
	s.settings = append(slices.Clone(s.needed), []setting{
		{"data_directory", s.directory},
		{"logging_collector", "off"}, {"log_destination", "stderr"}, {"lc_messages", "C"},
		{"log_line_prefix", logPrefix}, {"log_min_messages", "warning"}, {"log_error_verbosity", "default"},
		{"hot_standby", "on"}, {"unix_socket_directories", quoteInList(s.runDir)},
	}...)
	if !o.KeepListening {
		// Without a network there is no use for certificates, which this
		// machine may not have.
		s.settings = append(s.settings, setting{"listen_addresses", ""}, setting{"ssl", "off"})
		if o.Port == 0 {
			s.settings = append(s.settings, setting{"port", "5432"})
		}
	}
	if o.Port != 0 {
		s.settings = append(s.settings, setting{"port", strconv.Itoa(o.Port)})
	}
	if s.major >= 15 {
		s.settings = append(s.settings, setting{"log_startup_progress_interval", "1s"})
	} else {
		// Debian used to point this to a directory shared by name with the original.
		s.settings = append(s.settings, setting{"stats_temp_directory", "pg_stat_tmp"})
	}
	names := make([]string, 0, len(o.Settings))
	for name := range o.Settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s.settings = append(s.settings, setting{name, o.Settings[name]})
	}
	return s.locateHBA(ctx, o.HBA)
}

// quoteInList writes a directory as an element of a list of directories, where
// commas divide and blanks at the ends are dropped (SplitDirectoriesString).
func quoteInList(dir string) string { return `"` + strings.ReplaceAll(dir, `"`, `""`) + `"` }

// guard makes sure that a configuration which was written for the original's
// directory cannot lead the server there at a later start.
func (s *setup) guard(ctx context.Context) {
	s.settings = slices.Clone(s.needed)
	if at, err := s.ask(ctx, "data_directory"); err != nil || filepath.Clean(at) != s.directory {
		s.needed = append(s.needed, setting{"data_directory", s.directory})
	}
	// An empty name does it too, but makes the server complain.
	if pid, err := s.ask(ctx, "external_pid_file"); err == nil && pid != "" {
		s.needed = append(s.needed, setting{"external_pid_file", s.directory + ".pid"})
	}
}

// locateConfig finds postgresql.conf: restored beside the data directory, in
// it, or nowhere; then a minimal one is written.
func (s *setup) locateConfig() error {
	beside := filepath.Join(s.configDir, "postgresql.conf")
	switch {
	case exists(beside):
		s.needed = append(s.needed, setting{"config_file", beside})
	case !exists(filepath.Join(s.directory, "postgresql.conf")):
		path := filepath.Join(s.runDir, generatedConf)
		if err := s.generate(path, s.minimalConf()); err != nil {
			return err
		}
		s.needed = append(s.needed, setting{"config_file", path})
		s.warnings = append(s.warnings, fmt.Sprintf("the backup holds no postgresql.conf, the server runs with a minimal one: %s", path))
	}
	if ident := filepath.Join(s.configDir, "pg_ident.conf"); exists(ident) {
		s.needed = append(s.needed, setting{"ident_file", ident})
	}
	return nil
}

// locateHBA finds pg_hba.conf: restored beside the data directory, where the
// configuration says, or nowhere; then one is written that lets users in as
// themselves through the socket only. One that the caller gives wins.
func (s *setup) locateHBA(ctx context.Context, given string) error {
	path := filepath.Join(s.configDir, "pg_hba.conf")
	if given != "" {
		path = filepath.Join(s.runDir, generatedHBA)
		if err := s.generate(path, given); err != nil {
			return err
		}
	} else if !exists(path) {
		configured, err := s.ask(ctx, "hba_file")
		if err != nil || exists(configured) {
			return ctx.Err() // a broken configuration is told by the start
		}
		path = filepath.Join(s.runDir, generatedHBA)
		if err := s.generate(path, "# written by walden: the backup holds no pg_hba.conf\nlocal all all peer\n"); err != nil {
			return err
		}
		s.warnings = append(s.warnings, fmt.Sprintf("the backup holds no pg_hba.conf, the server lets in by the socket alone: %s", path))
	}
	s.needed = append(s.needed, setting{"hba_file", path})
	s.settings = append(s.settings, setting{"hba_file", path})
	return nil
}

// ask returns the value that a setting will have.
func (s *setup) ask(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.binDir, "postgres"), append(s.arguments(), "-C", name)...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.directory, s.environment(), s.owner.attributes(false)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// minimalConf gives what a server must have to be read during recovery.
func (s *setup) minimalConf() string {
	c := s.control.Settings
	return fmt.Sprintf("# written by walden: the backup holds no postgresql.conf\n"+
		"max_connections = %d\nmax_worker_processes = %d\nmax_wal_senders = %d\n"+
		"max_prepared_transactions = %d\nmax_locks_per_transaction = %d\n",
		c.MaxConnections, c.MaxWorkerProcesses, c.MaxWALSenders, c.MaxPreparedXacts, c.MaxLocksPerXact)
}

func (s *setup) generate(path, text string) error {
	_ = os.Remove(path) // never write through what lies there
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	return s.owner.give(path)
}

// arguments is the server's command line.
func (s *setup) arguments() []string {
	args := []string{"-D", s.directory}
	for _, v := range s.settings {
		args = append(args, "-c", v.name+"="+v.value)
	}
	return args
}

// environment is ours without what would speak to the server as to a libpq
// client, and with the home of its user.
func (s *setup) environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "PG") || name == "LC_ALL" || name == "LANGUAGE" {
			continue
		}
		env = append(env, v)
	}
	env = append(env, "LC_ALL=C")
	return s.owner.environment(env)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
