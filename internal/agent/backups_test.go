package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walden-pg/walden/basebackup"
)

// site is a repository that remembers when its newest backup ended.
type site struct {
	began, newest time.Time
	attempts      []time.Duration // when each began, from the start of the test on
	fail          func(attempt int) error
	takes         time.Duration // how long a backup takes
}

func (s *site) backups(every time.Duration) *Backups {
	return &Backups{
		Every:  every,
		Newest: func(context.Context) (time.Time, error) { return s.newest, nil },
		Take: func(ctx context.Context) (*basebackup.Manifest, error) {
			s.attempts = append(s.attempts, time.Since(s.began))
			if s.fail != nil {
				if err := s.fail(len(s.attempts)); err != nil {
					return nil, err
				}
			}
			if !sleep(ctx, s.takes) {
				return nil, ctx.Err()
			}
			s.newest = time.Now()
			return &basebackup.Manifest{ID: fmt.Sprint(len(s.attempts))}, nil
		},
	}
}

// run runs for a time that costs none.
func (s *site) run(t *testing.T, b *Backups, d time.Duration) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	rep, err := b.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func hours(n ...float64) []time.Duration {
	var d []time.Duration
	for _, x := range n {
		d = append(d, time.Duration(x*float64(time.Hour)))
	}
	return d
}

func TestBackupsOnAnInterval(t *testing.T) {
	for name, c := range map[string]struct {
		age     time.Duration // of the newest backup; 0: there is none
		expect  []time.Duration
		backups int
		cut     bool // the last one is cut off
	}{
		"none yet":              {0, hours(0, 25, 50), 2, true},
		"one of five hours ago": {5 * time.Hour, hours(19, 44), 2, false},
		"one that is too old":   {30 * time.Hour, hours(0, 25, 50), 2, true},
		"a clock that is ahead": {-200 * time.Hour, hours(24, 49), 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &site{began: time.Now(), takes: time.Hour}
				if c.age != 0 {
					s.newest = s.began.Add(-c.age)
				}
				rep := s.run(t, s.backups(24*time.Hour), 50*time.Hour+30*time.Minute)
				if !slices.Equal(s.attempts, c.expect) || len(rep.Backups) != c.backups || rep.Failures != 0 || (rep.Overdue != "") != c.cut {
					t.Errorf("attempts at %v, want %v; %+v", s.attempts, c.expect, rep)
				}
			})
		})
	}
}

// TestBackupOfAnother: one that somebody else takes meanwhile counts.
func TestBackupOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{began: time.Now()}
		b := s.backups(24 * time.Hour)
		newest := b.Newest
		b.Newest = func(ctx context.Context) (time.Time, error) {
			if then := s.began.Add(20 * time.Hour); time.Now().After(then) && s.newest.Before(then) {
				s.newest = then
			}
			return newest(ctx)
		}
		s.run(t, b, 45*time.Hour)
		if want := hours(0, 44); !slices.Equal(s.attempts, want) {
			t.Errorf("attempts at %v, want %v", s.attempts, want)
		}
	})
}

func TestFailedBackupsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{began: time.Now(), fail: func(n int) error {
			if n <= 8 {
				return errors.New("the server is away")
			}
			return nil
		}}
		b := s.backups(24 * time.Hour)
		var log bytes.Buffer
		b.Logger = slog.New(slog.NewTextHandler(&log, nil))
		b.Hint = func(error) string { return "start it" }
		rep := s.run(t, b, 12*time.Hour)
		var gaps []time.Duration
		for i := 1; i < len(s.attempts); i++ {
			gaps = append(gaps, s.attempts[i]-s.attempts[i-1])
		}
		m := time.Minute
		if want := []time.Duration{m / 2, m, 2 * m, 4 * m, 8 * m, 15 * m, 15 * m, 15 * m}; !slices.Equal(gaps, want) {
			t.Errorf("tried again after %v, want %v", gaps, want)
		}
		if rep.Failures != 8 || rep.Overdue != "" || !slices.Equal(rep.Backups, []string{"9"}) {
			t.Errorf("%+v", rep)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 8 || !strings.Contains(log.String(), `error="the server is away" failures=8`) || !strings.Contains(log.String(), `hint="start it"`) {
			t.Errorf("%d errors in the log:\n%s", n, &log)
		}
	})
}

// TestOverdue: what failed last is told at the end; a short interval bounds
// the time to the next attempt.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{began: time.Now(), fail: func(int) error { return errors.New("no space") }}
		rep := s.run(t, s.backups(10*time.Second), 35*time.Second)
		if rep.Overdue != "no space" || rep.Failures != 4 || len(rep.Backups) != 0 {
			t.Errorf("%+v", rep)
		}
	})
}

func TestFinalErrorEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foreign := errors.New("another cluster")
		s := &site{began: time.Now(), fail: func(n int) error {
			if n == 2 {
				return foreign
			}
			return errors.New("away")
		}}
		b := s.backups(time.Hour)
		b.Final = func(err error) bool { return errors.Is(err, foreign) }
		if rep, err := b.Run(t.Context()); !errors.Is(err, foreign) || rep.Failures != 2 {
			t.Errorf("%v, %+v", err, rep)
		}
		b = (&site{began: time.Now()}).backups(time.Hour)
		b.Done = func(*basebackup.Manifest) error { return foreign }
		if rep, err := b.Run(t.Context()); !errors.Is(err, foreign) || len(rep.Backups) != 1 {
			t.Errorf("%v, %+v", err, rep)
		}
	})
}

// TestRepositoryAway: not even when the next backup is due is known.
func TestRepositoryAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{began: time.Now()}
		b := s.backups(24 * time.Hour)
		asked := 0
		newest := b.Newest
		b.Newest = func(ctx context.Context) (time.Time, error) {
			if asked++; asked < 4 {
				return time.Time{}, errors.New("bucket away")
			}
			return newest(ctx)
		}
		var log bytes.Buffer
		b.Logger = slog.New(slog.NewTextHandler(&log, nil))
		rep := s.run(t, b, time.Hour)
		if n := strings.Count(log.String(), "it is not known whether a backup is due"); n != 3 || strings.Contains(log.String(), "although one is due") {
			t.Errorf("told %d times:\n%s", n, &log)
		}
		if want := []time.Duration{3*time.Minute + 30*time.Second}; !slices.Equal(s.attempts, want) || rep.Failures != 3 {
			t.Errorf("attempts at %v, want %v; %+v", s.attempts, want, rep)
		}
	})
}

// TestHungBackup: one that does not end is told of at every interval, and counts as
// overdue at the end.
func TestHungBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{began: time.Now(), takes: 1000 * time.Hour}
		b := s.backups(24 * time.Hour)
		var log bytes.Buffer
		b.Logger = slog.New(slog.NewTextHandler(&log, nil))
		rep := s.run(t, b, 73*time.Hour)
		if rep.Overdue != "a backup was cut off 73h0m0s after it was begun" || len(rep.Backups) != 0 {
			t.Errorf("%+v", rep)
		}
		if n := strings.Count(log.String(), "a backup takes longer than the interval"); n != 3 || !strings.Contains(log.String(), "running=72h0m0s") {
			t.Errorf("told %d times:\n%s", n, &log)
		}
	})
}
