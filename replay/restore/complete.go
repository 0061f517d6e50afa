package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal/control"
)

// standardDirectories are those that a server expects and that a backup may
// lack since their content is not backed up (initdb.c, basebackup.c).
var standardDirectories = []string{
	"global", "base", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_logical/mappings", "pg_logical/snapshots",
	"pg_multixact", "pg_multixact/members", "pg_multixact/offsets", "pg_notify", "pg_replslot", "pg_serial",
	"pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal",
	"pg_wal/archive_status", "pg_xact",
}

// complete does everything that follows the copying of files.
func (r *restorer) complete(ctx context.Context) error {
	copySegments := func() error { return r.copySegments(ctx) }
	steps := []func() error{
		r.checkControl, r.makeDirectories, r.makeIncluded, r.makeLinks, r.rewriteMap, r.dropFuture, copySegments, r.configure,
		r.syncAll, r.placeControl, r.unmarkAll,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return nil
}

func (r *restorer) data(name string) string {
	return filepath.Join(r.targets.data.path, filepath.FromSlash(name))
}

// checkControl makes sure that the control file can be read and is this cluster's.
func (r *restorer) checkControl() error {
	c, err := control.Read(r.data(controlTemp))
	if err != nil {
		return err
	}
	if c.SystemIdentifier != r.manifest.SystemID {
		return fmt.Errorf("global/pg_control of the backup has the system identifier %d, its manifest %d: choose another backup",
			c.SystemIdentifier, r.manifest.SystemID)
	}
	return nil
}

// makeDirectories makes the standard directories that the backup did not list.
func (r *restorer) makeDirectories() error {
	names := standardDirectories
	if r.manifest.Major >= 17 {
		names = append(names[:len(names):len(names)], "pg_wal/summaries")
	}
	for _, name := range names {
		if err := r.tree.directory(r.data(name), r.targets.data.path, 0); err != nil {
			return err
		}
	}
	return nil
}

// makeLinks makes the links of the tablespaces.
func (r *restorer) makeLinks() error {
	for name, to := range r.layout.tablespaces {
		if err := r.disk.Symlink(to, r.data(name)); err != nil {
			return err
		}
		if r.own != nil {
			if err := r.disk.Chown(r.data(name), r.own.uid, r.own.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewriteMap corrects tablespace_map, if the backup has one: at its first start
// the server makes the links anew from it, and would lead them to the places of
// the cluster that the backup came from.
func (r *restorer) rewriteMap() error {
	const name = "tablespace_map"
	if _, err := os.Lstat(r.data(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	escape := strings.NewReplacer(`\`, `\\`, "\n", "\\\n", "\r", "\\\r")
	var text strings.Builder
	for _, ts := range r.targets.tablespaces {
		fmt.Fprintf(&text, "%d %s\n", ts.OID, escape.Replace(ts.path))
	}
	temp := r.data(name + ".walden")
	if err := r.write(temp, text.String()); err != nil {
		return err
	}
	return r.disk.Rename(temp, r.data(name))
}

// configure writes the settings and the signal file.
func (r *restorer) configure() error {
	old, err := os.ReadFile(r.data(autoConf))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	text := string(old) + r.settings.block(r.manifest.ID, r.plan.Target, r.options.Databases, time.Now())
	temp := r.data(autoConf + ".walden")
	if err := r.write(temp, text); err != nil {
		return err
	}
	if err := r.disk.Rename(temp, r.data(autoConf)); err != nil {
		return err
	}
	// The backup of a standby, or of a cluster in recovery, has its own.
	signal := "recovery.signal"
	if r.options.Standby {
		signal = "standby.signal"
	}
	for _, name := range []string{"recovery.signal", "standby.signal"} {
		if err := r.disk.Remove(r.data(name)); err != nil {
			return err
		}
	}
	return r.write(r.data(signal), "")
}

// write makes a durable file of the cluster's owner, as readable as the others are.
func (r *restorer) write(path, text string) error {
	mode := fs.FileMode(0o600) | r.tree.topMode&0o040
	if err := writeFile(r.disk, path, []byte(text), mode); err != nil {
		return err
	}
	if err := r.disk.Chmod(path, mode); err != nil { // whatever the umask
		return err
	}
	if r.own == nil {
		return nil
	}
	return r.disk.Chown(path, r.own.uid, r.own.gid)
}

// syncAll gives all directories their modes and makes their entries durable.
func (r *restorer) syncAll() error {
	if r.tree.topMode != 0o700 {
		for _, p := range r.targets.all() {
			if err := r.disk.Chmod(p.path, r.tree.topMode); err != nil {
				return err
			}
		}
	}
	var tops []string
	for _, p := range r.targets.all() {
		tops = append(tops, p.path)
	}
	return r.tree.finish(tops...)
}

// placeControl gives pg_control its name: from here on a server can start.
func (r *restorer) placeControl() error {
	if err := r.disk.Rename(r.data(controlTemp), r.data(controlPath)); err != nil {
		return err
	}
	return r.disk.SyncDir(r.data("global"))
}

// unmarkAll removes the marks, that of the data directory last.
func (r *restorer) unmarkAll() error {
	list := r.targets.all()
	for i := len(list) - 1; i > 0; i-- {
		if err := unmark(r.disk, list[i].path); err != nil {
			return err
		}
	}
	if err := r.disk.Remove(filepath.Join(list[0].path, MarkerName)); err != nil {
		return err
	}
	// Everything is durable by now, and the restore complete: if the mark
	// should come back after a power cut nothing is wrong with what it marks.
	if err := r.disk.SyncDir(list[0].path); err != nil {
		r.log.Warn("the removal of the restore's mark may not be durable", "directory", list[0].path, "error", err)
	}
	return nil
}

// result tells what has been done.
func (r *restorer) result() *Result {
	res := &Result{
		Directory: r.targets.data.path, Backup: r.manifest.ID,
		Files: r.manifest.Files, Bytes: r.manifest.Bytes, Databases: r.options.Databases,
		Settings: r.settings.lines, Cleared: r.settings.cleared, Warnings: r.warn(),
	}
	if c := res.Databases; c != nil {
		res.Files, res.Bytes = res.Files-c.HollowFiles, res.Bytes-c.HollowBytes
	}
	for _, ts := range r.targets.tablespaces {
		res.Tablespaces = append(res.Tablespaces, Tablespace{OID: ts.OID, From: ts.Location, To: ts.path})
	}
	if r.targets.config.path != "" {
		res.ConfigDirectory = r.targets.config.path
	}
	res.StartCommand = r.startCommand()
	return res
}

// configArguments are what the server must be told when its configuration is
// not in its data directory.
func (r *restorer) configArguments() []string {
	var args []string
	for _, f := range usualConfig {
		if r.layout.config.has(f.name, r.manifest.ConfigFiles) {
			args = append(args, f.setting+"="+filepath.Join(r.targets.config.path, f.name))
		}
	}
	if len(args) == 0 {
		return nil
	}
	args = append(args, "data_directory="+r.targets.data.path)
	if r.manifest.Settings["external_pid_file"] != "" {
		args = append(args, "external_pid_file="+r.targets.data.path+".pid")
	}
	return args
}

func (r *restorer) startCommand() string {
	args := []string{"pg_ctl", "-D", r.targets.data.path, "-l", r.targets.data.path + ".log"}
	if list := r.configArguments(); len(list) > 0 {
		var options []string
		for _, a := range list {
			options = append(options, "-c", a)
		}
		args = append(args, "-o", recovery.ShellLine(options...))
	}
	return recovery.ShellLine(append(args, "start")...)
}

// warn gathers what a person should know.
func (r *restorer) warn() []string {
	list := append([]string(nil), r.plan.Warnings...)
	for _, name := range r.dropped {
		list = append(list, fmt.Sprintf("%s was left out (pg_verifybackup will miss it): its transaction was prepared after the backup began, "+
			"and comes from the WAL; PostgreSQL 17 and later lose it where the file is there too", name))
	}
	if c := r.options.Databases; c != nil && len(c.Hollow) > 0 {
		list = append(list, fmt.Sprintf("this is no whole cluster: the files of %s are zeros, and whoever connects there gets errors. "+
			"Drop these databases once the cluster is open for writing, then run ALTER SYSTEM RESET ignore_invalid_pages and restart. "+
			"pg_verifybackup does not pass, and a backup of this cluster is worth nothing before that", databases.Listing(c.Hollow)))
	}
	if r.options.Standby && r.plan.Follow != "" && r.plan.Follow != plan.LatestTimeline {
		list = append(list, fmt.Sprintf("the standby stays on timeline %s: it will not follow a promotion unless recovery_target_timeline is set to latest", r.plan.Timeline))
	}
	conf := r.manifest.Settings["config_file"]
	outside := conf != "" && !strings.HasPrefix(slashes(conf), strings.TrimSuffix(slashes(r.manifest.Settings["data_directory"]), "/")+"/")
	switch {
	case outside && !r.layout.config.has("postgresql.conf", r.manifest.ConfigFiles):
		list = append(list, fmt.Sprintf("the cluster's configuration was in %s, outside its data directory, and the backup does not hold it: "+
			"give the server one when you start it", conf))
	case len(r.manifest.ConfigFiles) > 0:
		list = append(list, fmt.Sprintf("configuration files that were outside the data directory are in %s; paths in them still lead to the old places",
			r.targets.config.path))
	}
	return list
}
