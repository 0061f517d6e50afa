//go:build unix

package recovery_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/replay/recovery"
)

// A run that is killed leaves its server and its mark behind: the same run again
// goes on with it. A server whose run has told its end is left alone.
func TestServerOfAKilledRun(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	dir := o.restored(t, map[string]string{"recovery_target_name": "half-way"})
	first, err := o.run(t, dir, func(r *recovery.Options) { r.TellLater = true })
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(dir, recovery.UnfinishedName)
	if _, err := os.Lstat(mark); err != nil {
		t.Errorf("before the end is told: %v", err)
	}
	for range 2 {
		if err := recovery.Told(dir); err != nil {
			t.Error(err)
		}
	}
	var running *recovery.RunningError
	if _, err := o.run(t, dir, nil); !errors.As(err, &running) {
		t.Errorf("while a server is meant to run: error %v", err)
	}
	write(t, mark, "")
	again, err := o.run(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.State != recovery.PausedAtTarget || again.LSN != first.LSN || again.Server.PID == first.Server.PID ||
		!strings.Contains(strings.Join(again.Warnings, "\n"), "cut off") {
		t.Errorf("the second time %+v, at first %+v", again, first)
	}
	if rows := o.rows(t, again); rows != "1,2" {
		t.Errorf("rows %s", rows)
	}
}

// A run that was killed after the promotion, and before it could tell of it.
func TestPromotionThatWasNotTold(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	for _, settings := range []map[string]string{nil, {"recovery_target_name": "half-way", "recovery_target_action": "promote"}} {
		dir := o.restored(t, settings)
		expect := func(r *recovery.Options) {
			r.TellLater = true
			if settings == nil {
				r.Expect = &recovery.Expectation{End: o.end}
			}
		}
		first, err := o.run(t, dir, expect)
		if err != nil {
			t.Fatal(err)
		}
		again, err := o.run(t, dir, expect)
		if err != nil {
			t.Fatal(err)
		}
		if again.State != recovery.Promoted || again.LSN != first.LSN || !again.LSNExact || again.NewTimeline != 2 || again.Timeline != 1 ||
			(again.Stop.Kind == recovery.StopEndOfWAL) != (settings == nil) || again.Stop.Message == "" {
			t.Errorf("the second time %+v, at first %+v", again, first)
		}
		if rows, want := o.rows(t, again), map[bool]string{true: "1,2,3", false: "1,2"}[settings == nil]; rows != want {
			t.Errorf("rows %s, want %s", rows, want)
		}
	}
}

// Without a target the server takes a segment that has gone for the end of the
// WAL. The plan knew better.
func TestEndBeforeTheProvedOne(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	dir := o.restored(t, nil)
	got, err := o.run(t, dir, func(r *recovery.Options) { r.Expect = &recovery.Expectation{End: o.end + 1<<24} })
	f := failure(t, got, err)
	if f.Kind != recovery.FailureTargetNotReached || !strings.Contains(f.Error(), (o.end+1<<24).String()) || f.Hint == "" {
		t.Errorf("%+v", f)
	}
	if _, alive := recovery.RunningServer(dir); alive {
		t.Error("the server runs")
	}
}

// A directory whose name divides a list of directories, and one with blanks.
func TestOddDirectories(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	for _, name := range []string{"a,b", `quo"te`, " blank "} {
		from := o.restored(t, map[string]string{"recovery_target_name": "half-way"})
		dir := filepath.Join(filepath.Dir(from), name)
		if err := os.Rename(from, dir); err != nil {
			t.Fatal(err)
		}
		got, err := o.run(t, dir, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if rows := o.rows(t, got); rows != "1,2" {
			t.Errorf("%q: rows %s", name, rows)
		}
	}
}
