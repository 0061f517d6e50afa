//go:build unix

package recovery_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/replay/recovery"
)

func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	listener := o.Port() // of a running server
	cases := []struct {
		name     string
		settings map[string]string
		damage   func(t *testing.T, dir string)
		options  func(*recovery.Options)
		kind     recovery.FailureKind
		says     string
	}{
		{"restore_command that fails", map[string]string{"restore_command": "echo the bucket is gone >&2; exit 126"}, nil, nil,
			recovery.FailureRestoreCommand, "could not restore file"},
		{"library that is missing", map[string]string{"shared_preload_libraries": "walden_no_such_library"}, nil, nil,
			recovery.FailureStart, "walden_no_such_library"},
		{"port in use", nil, nil, func(r *recovery.Options) { r.KeepListening = true; r.Port = listener },
			recovery.FailureStart, "could not bind"},
		{"unknown setting", map[string]string{"walden": "1"}, nil, nil, recovery.FailureStart, "contains errors"},
		{"permissions", nil, func(t *testing.T, dir string) { os.Chmod(dir, 0o755) }, nil, recovery.FailureStart, "has invalid permissions"},
		{"no command", map[string]string{"restore_command": ""}, nil, nil, recovery.FailureRestoreCommand, "restore_command"},
		{"unknown timeline", map[string]string{"recovery_target_timeline": "77"}, nil, nil, recovery.FailureTimeline, "77"},
		{"no WAL", map[string]string{"restore_command": "false"}, nil, nil, "", "could not locate"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := o.restored(t, c.settings)
			if c.damage != nil {
				c.damage(t, dir)
			}
			got, err := o.run(t, dir, c.options)
			f := failure(t, got, err)
			if f.Kind != c.kind && c.kind != "" || !strings.Contains(f.Reason+strings.Join(f.Messages, "\n"), c.says) {
				t.Errorf("%+v", f)
			}
			if c.name == "restore_command that fails" && !slices.Contains(f.Messages, "the bucket is gone") {
				t.Errorf("what the command said is missing: %q", f.Messages)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	ctx := testContext(t)
	if _, err := recovery.Run(ctx, recovery.Options{Directory: t.TempDir(), BinDir: o.BinDir()}); err == nil || !strings.Contains(err.Error(), "PG_VERSION") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := recovery.Run(ctx, recovery.Options{Directory: o.DataDir(), BinDir: o.BinDir()}); !errors.As(err, new(*recovery.RunningError)) {
		t.Errorf("a running cluster: %v", err)
	}
	dir := o.restored(t, nil)
	os.Remove(filepath.Join(dir, "recovery.signal"))
	if _, err := recovery.Run(ctx, recovery.Options{Directory: dir, BinDir: o.BinDir()}); err == nil || !strings.Contains(err.Error(), "recovery.signal") {
		t.Errorf("no signal file: %v", err)
	}
	write(t, filepath.Join(dir, "recovery.signal"), "")
	var missing *recovery.BinariesError
	if _, err := recovery.Run(ctx, recovery.Options{Directory: dir, BinDir: "/nowhere"}); !errors.As(err, &missing) || len(missing.Attempts) != 1 {
		t.Errorf("no programs: %v", err)
	}
	write(t, filepath.Join(dir, "PG_VERSION"), "11\n")
	if _, err := recovery.Run(ctx, recovery.Options{Directory: dir, BinDir: o.BinDir()}); !errors.As(err, &missing) || missing.Major != 11 ||
		!strings.Contains(err.Error(), fmt.Sprint("PostgreSQL ", o.Major())) {
		t.Errorf("programs of another major: %v", err)
	}
	if _, err := recovery.Run(ctx, recovery.Options{Directory: o.restored(t, nil), BinDir: o.BinDir(),
		Settings: map[string]string{"log_line_prefix": ""}}); err == nil {
		t.Error("a reserved setting was accepted")
	}
}

// The directory is ours, the one it lies in is not.
func TestParentThatCannotBeWritten(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	dir := o.restored(t, nil)
	parent := filepath.Dir(dir)
	if err := os.Chmod(parent, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(parent, 0o700) })
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.Promoted || filepath.Dir(got.LogFile) != got.Server.SocketDirectory {
		t.Errorf("%+v", got)
	}
	t.Cleanup(func() { os.RemoveAll(got.Server.SocketDirectory) })
}

// A cluster that keeps its configuration elsewhere: with it restored beside the
// data directory, and without.
func TestOutsideConfiguration(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	for _, saved := range []bool{true, false} {
		t.Run(fmt.Sprint("saved=", saved), func(t *testing.T) {
			dir := o.restored(t, nil)
			conf := filepath.Join(dir, "postgresql.conf")
			hba := filepath.Join(dir, "pg_hba.conf")
			pgtest.MkdirAll(t, dir+".config")
			if saved {
				text, _ := os.ReadFile(conf)
				write(t, filepath.Join(dir+".config", "postgresql.conf"), string(text)+
					"data_directory = '"+o.DataDir()+"'\nhba_file = '/nowhere/pg_hba.conf'\nexternal_pid_file = '"+dir+".stray'\n")
				text, _ = os.ReadFile(hba)
				write(t, filepath.Join(dir+".config", "pg_hba.conf"), string(text))
			}
			os.Remove(conf)
			os.Remove(hba)
			got, err := o.run(t, dir, func(r *recovery.Options) { r.StopAfter = true; r.User = "" })
			if err != nil {
				t.Fatal(err)
			}
			if got.State != recovery.Promoted || saved != (len(got.Warnings) == 0) {
				t.Errorf("%s, warnings %q", got.State, got.Warnings)
			}
			if _, err := os.Stat(dir + ".stray"); err == nil {
				t.Error("the pid file of the original was written")
			}
			// The command that we name starts this directory, and no other.
			line := strings.TrimPrefix(got.StartCommand, "sudo -u postgres ")
			if saved {
				line = strings.Replace(line, " start", " -o '-c port=5999 -c unix_socket_directories="+filepath.Dir(dir)+" -c listen_addresses=' start", 1)
			}
			if out, err := pgtest.Command(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", line, err, out)
			}
			if _, alive := recovery.RunningServer(dir); !alive {
				t.Errorf("%s started another directory", line)
			}
		})
	}
}
