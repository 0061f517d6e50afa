//go:build unix

package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal"
)

// origin is a cluster with an archive, a backup and a few known moments.
type origin struct {
	*pgtest.Cluster
	archive, backup string
	last            string // the last segment that is archived
	// Between the second and the third row.
	afterSecond time.Time
	secondXID   uint32
	beforeThird wal.LSN
	end         wal.LSN
}

func parseLSN(t *testing.T, s string) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newOrigin(t *testing.T, major int) *origin {
	base := pgtest.TempDir(t)
	o := &origin{archive: filepath.Join(base, "archive"), backup: filepath.Join(base, "backup")}
	pgtest.MkdirAll(t, o.archive)
	o.Cluster = pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
		"archive_mode": "on", "archive_command": "cp %p " + o.archive + "/%f", "timezone": "Asia/Kathmandu",
	}})
	o.Exec("create table t (n int)")
	o.Run("pg_basebackup", "-D", o.backup, "-X", "none", "-c", "fast", "--no-sync")
	o.Exec("insert into t values (1)")
	o.Exec("insert into t values (2)")
	row := o.Query("select xmin::text, extract(epoch from clock_timestamp())::text from t where n = 2")[0]
	fmt.Sscan(row[0], &o.secondXID)
	o.Exec("select pg_sleep(0.05)")
	var seconds float64
	fmt.Sscan(o.QueryValue("select extract(epoch from clock_timestamp())::text"), &seconds)
	o.afterSecond = time.UnixMicro(int64(seconds * 1e6)).UTC()
	o.Exec("select pg_sleep(0.05)")
	o.Exec("select pg_create_restore_point('half-way')")
	o.beforeThird = parseLSN(t, o.LSN())
	o.Exec("insert into t values (3)")
	o.end = parseLSN(t, o.LSN())
	o.last = o.SwitchWAL()
	o.WaitArchived(o.last)
	return o
}

// restored copies the backup and prepares it for recovery with settings.
func (o *origin) restored(t *testing.T, settings map[string]string) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "data")
	o.Run("cp", "-a", o.backup, dir)
	var conf strings.Builder
	fmt.Fprintf(&conf, "restore_command = 'cp %s/%%f %%p'\narchive_mode = off\n", o.archive)
	for name, value := range settings {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, value)
	}
	write(t, filepath.Join(dir, "postgresql.auto.conf"), conf.String())
	write(t, filepath.Join(dir, "recovery.signal"), "")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Chown(t, path)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (o *origin) run(t *testing.T, dir string, change func(*recovery.Options)) (*recovery.Outcome, error) {
	t.Helper()
	options := recovery.Options{Directory: dir, BinDir: o.BinDir(), User: "postgres"}
	if change != nil {
		change(&options)
	}
	outcome, err := recovery.Run(testContext(t), options)
	t.Cleanup(func() {
		if s, alive := recovery.RunningServer(dir); alive {
			syscall.Kill(s.PID, syscall.SIGQUIT)
			for range 100 {
				if _, alive = recovery.RunningServer(dir); !alive {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		if t.Failed() {
			log, _ := os.ReadFile(dir + ".log")
			t.Logf("log of the server:\n%s", log)
		}
	})
	return outcome, err
}

// rows reads the table of a running server.
func (o *origin) rows(t *testing.T, outcome *recovery.Outcome) string {
	t.Helper()
	cmd := pgtest.Command(t.Context(), o.Bin("psql"), "-h", outcome.Server.SocketDirectory, "-p", fmt.Sprint(outcome.Server.Port),
		"-U", "postgres", "-XAtc", "select string_agg(n::text, ',' order by n) from t")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestTargets(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, major)
			t.Run("time", func(t *testing.T) { o.testTime(t) })
			t.Run("xid", func(t *testing.T) { o.testXID(t) })
			t.Run("lsn", func(t *testing.T) { o.testLSN(t) })
			t.Run("name", func(t *testing.T) { o.testName(t) })
			t.Run("immediate", func(t *testing.T) { o.testImmediate(t) })
			t.Run("latest", func(t *testing.T) { o.testLatest(t) })
			t.Run("standby", func(t *testing.T) { o.testStandby(t) })
			t.Run("too far", func(t *testing.T) { o.testTooFar(t) })
			t.Run("settings", func(t *testing.T) { o.testSettings(t) })
			t.Run("settings later", func(t *testing.T) { o.testSettingsLater(t) })
		})
	}
}

func (o *origin) testTime(t *testing.T) {
	dir := o.restored(t, map[string]string{
		"recovery_target_time": o.afterSecond.Format("2006-01-02 15:04:05.999999-07:00"), "recovery_target_action": "pause",
	})
	var stages []recovery.Stage
	got, err := o.run(t, dir, func(r *recovery.Options) {
		r.Progress = func(p recovery.Progress) {
			if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.PausedAtTarget || got.Stop.Kind != recovery.StopTransaction || !got.Stop.Before || got.Stop.Abort {
		t.Errorf("state %s, stop %+v", got.State, got.Stop)
	}
	if !got.Stop.Time.After(o.afterSecond) || got.Stop.Time.Sub(o.afterSecond) > time.Minute {
		t.Errorf("the transaction that was left out is of %s, the target %s", got.Stop.Time, o.afterSecond)
	}
	if !got.LSNExact || got.LSN < o.beforeThird || got.LSN >= o.end || got.Timeline != 1 {
		t.Errorf("LSN %s (exact %v) on %s; the third row begins at %s", got.LSN, got.LSNExact, got.Timeline, o.beforeThird)
	}
	if got.LastTransaction.IsZero() || got.LastTransaction.After(o.afterSecond) {
		t.Errorf("last transaction at %s", got.LastTransaction)
	}
	if rows := o.rows(t, got); rows != "1,2" {
		t.Errorf("rows %s", rows)
	}
	if len(stages) == 0 || stages[len(stages)-1] != recovery.StageFinishing {
		t.Errorf("stages %v", stages)
	}
	if got.ResumeCommand == "" || got.StopCommand == "" || got.ConnectCommand == "" {
		t.Errorf("commands missing: %+v", got)
	}
	if _, err := o.run(t, dir, nil); !errors.As(err, new(*recovery.RunningError)) {
		t.Errorf("a second run on a running server: %v", err)
	}
}

func (o *origin) testXID(t *testing.T) {
	dir := o.restored(t, map[string]string{
		"recovery_target_xid": fmt.Sprint(o.secondXID), "recovery_target_inclusive": "on", "recovery_target_action": "promote",
	})
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.Promoted || got.Stop.XID != o.secondXID || got.Stop.Before || got.NewTimeline != 2 || got.Timeline != 1 {
		t.Errorf("%+v", got)
	}
	if !got.LSNExact || got.LSN > o.beforeThird || got.LSN < got.ConsistentAt || got.ConsistentAt < got.RedoStart || got.RedoStart == 0 {
		t.Errorf("redo %s, consistent %s, LSN %s", got.RedoStart, got.ConsistentAt, got.LSN)
	}
	if !got.LastTransaction.Equal(got.Stop.Time) || got.Stop.Time.IsZero() {
		t.Errorf("last transaction %s, stopped after that of %s", got.LastTransaction, got.Stop.Time)
	}
	if rows := o.rows(t, got); rows != "1,2" {
		t.Errorf("rows %s", rows)
	}
}

func (o *origin) testLSN(t *testing.T) {
	dir := o.restored(t, map[string]string{
		"recovery_target_lsn": o.beforeThird.String(), "recovery_target_inclusive": "off", "recovery_target_action": "shutdown",
	})
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.ShutDownAtTarget || got.Server != nil || got.Stop.Kind != recovery.StopLSN || !got.Stop.Before {
		t.Errorf("%+v", got)
	}
	if got.Stop.LSN < o.beforeThird || got.LSN > got.Stop.LSN || got.Timeline != 1 {
		t.Errorf("stopped before %s, at least at %s; wanted %s", got.Stop.LSN, got.LSN, o.beforeThird)
	}
	if _, err := os.Stat(dir + ".run"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory is still there: %v", err)
	}
}

func (o *origin) testName(t *testing.T) {
	dir := o.restored(t, map[string]string{"recovery_target_name": "half-way"})
	got, err := o.run(t, dir, func(r *recovery.Options) { r.StopAfter = true })
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.PausedAtTarget || got.Stop.Name != "half-way" || !got.LSNExact || got.LSN > o.beforeThird {
		t.Errorf("%+v", got)
	}
	if _, alive := recovery.RunningServer(dir); alive || got.Server != nil {
		t.Error("the server runs, it should have been stopped")
	}
	// What was stopped can be taken up again.
	again, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.State != recovery.PausedAtTarget || again.LSN != got.LSN {
		t.Errorf("again: %+v", again)
	}
}

func (o *origin) testImmediate(t *testing.T) {
	dir := o.restored(t, map[string]string{"recovery_target": "immediate", "recovery_target_action": "promote"})
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.Promoted || got.Stop.Kind != recovery.StopConsistency || got.LSN != got.ConsistentAt {
		t.Errorf("%+v", got)
	}
	if rows := o.rows(t, got); rows != "" {
		t.Errorf("rows %s", rows)
	}
}

func (o *origin) testLatest(t *testing.T) {
	dir := o.restored(t, nil)
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.Promoted || got.Stop.Kind != recovery.StopEndOfWAL || got.LSN < o.end {
		t.Errorf("%+v", got)
	}
	if rows := o.rows(t, got); rows != "1,2,3" {
		t.Errorf("rows %s", rows)
	}
}

func (o *origin) testStandby(t *testing.T) {
	dir := o.restored(t, nil)
	os.Rename(filepath.Join(dir, "recovery.signal"), filepath.Join(dir, "standby.signal"))
	got, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != recovery.StandingBy || got.Server == nil || got.Server.Status != "ready" {
		t.Errorf("%+v", got)
	}
}

func failure(t *testing.T, got *recovery.Outcome, err error) *recovery.Failure {
	t.Helper()
	var f *recovery.Failure
	if !errors.As(err, &f) {
		t.Fatalf("outcome %+v, error %v", got, err)
	}
	if got == nil || got.State != recovery.Failed || got.Server != nil {
		t.Errorf("outcome %+v", got)
	}
	return f
}

func (o *origin) testTooFar(t *testing.T) {
	dir := o.restored(t, map[string]string{"recovery_target_time": "2099-01-01 00:00:00+00"})
	got, err := o.run(t, dir, nil)
	f := failure(t, got, err)
	if f.Kind != recovery.FailureTargetNotReached || f.Hint == "" || !strings.Contains(f.Exit, "1") {
		t.Errorf("%+v", f)
	}
	if got.LSN < o.end-wal.LSN(1<<20) {
		t.Errorf("replay got to %s, the WAL ends at %s", got.LSN, o.end)
	}
}

func (o *origin) testSettings(t *testing.T) {
	dir := o.restored(t, map[string]string{"max_connections": "12"})
	got, err := o.run(t, dir, nil)
	f := failure(t, got, err)
	if f.Kind != recovery.FailureSettings || f.Parameter == nil || *f.Parameter != (recovery.Parameter{Name: "max_connections", Value: 12, Primary: 40}) {
		t.Fatalf("%+v", f)
	}
	// What the hint says helps.
	if _, err := o.run(t, dir, func(r *recovery.Options) { r.Settings = map[string]string{"max_connections": "40"} }); err != nil {
		t.Error(err)
	}
}

// The primary raises a setting after the backup: replay pauses in the middle.
func (o *origin) testSettingsLater(t *testing.T) {
	dir := o.restored(t, map[string]string{"recovery_target_time": "2099-01-01 00:00:00+00"})
	c := o.With(t)
	c.Configure(map[string]string{"max_connections": "60"})
	c.Restart()
	c.WaitArchived(c.SwitchWAL())
	got, err := o.run(t, dir, nil)
	f := failure(t, got, err)
	if f.Kind != recovery.FailureSettings || f.Parameter == nil || f.Parameter.Primary != 60 || f.Parameter.Value != 40 {
		t.Errorf("%+v", f)
	}
	if _, alive := recovery.RunningServer(dir); alive {
		t.Error("the server runs")
	}
}

func TestServerThatDies(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	t.Run("killed", func(t *testing.T) {
		dir := o.slow(t)
		got, err := o.run(t, dir, func(r *recovery.Options) { r.Progress = o.signalOnce(t, dir, syscall.SIGKILL) })
		f := failure(t, got, err)
		if f.Kind != recovery.FailureDied || !strings.Contains(f.Exit, "killed") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("stopped by someone", func(t *testing.T) {
		dir := o.slow(t)
		got, err := o.run(t, dir, func(r *recovery.Options) { r.Progress = o.signalOnce(t, dir, syscall.SIGINT) })
		f := failure(t, got, err)
		if f.Kind != recovery.FailureDied || !strings.Contains(f.Reason, "shut down") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		dir := o.slow(t)
		ctx, cancel := context.WithCancel(testContext(t))
		got, err := recovery.Run(ctx, recovery.Options{Directory: dir, BinDir: o.BinDir(), Progress: func(p recovery.Progress) {
			if p.Stage == recovery.StageReplaying || p.Stage == recovery.StageConsistent {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || got == nil || got.State != recovery.Failed {
			t.Fatalf("outcome %+v, error %v", got, err)
		}
		if _, alive := recovery.RunningServer(dir); alive {
			t.Fatal("the server runs")
		}
		// And the directory can be taken up again.
		write(t, dir+".quick", "")
		again, err := o.run(t, dir, nil)
		if err != nil || again.State != recovery.Promoted || o.rows(t, again) != "1,2,3" {
			t.Errorf("again: %+v, %v", again, err)
		}
	})
}

// slow is a restored directory whose recovery goes on for a while after it has
// begun: the last segment takes its time, unless DIR.quick exists.
func (o *origin) slow(t *testing.T) string {
	dir := o.restored(t, nil)
	write(t, filepath.Join(dir, "postgresql.auto.conf"), fmt.Sprintf(
		"restore_command = 'case %%f in %s) test -e %s.quick || sleep 10;; esac; cp %s/%%f %%p'\narchive_mode = off\n", o.last, dir, o.archive))
	return dir
}

// signalOnce sends a signal to the server as soon as it replays.
func (o *origin) signalOnce(t *testing.T, dir string, signal syscall.Signal) func(recovery.Progress) {
	sent := false
	return func(p recovery.Progress) {
		if s, alive := recovery.RunningServer(dir); !sent && alive && p.Stage != recovery.StageStarting {
			sent = true
			if err := syscall.Kill(s.PID, signal); err != nil {
				t.Error(err)
			}
		}
	}
}
