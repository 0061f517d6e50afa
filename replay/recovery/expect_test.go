//go:build unix

package recovery_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal"
)

// Whatever an outcome tells that is not what was proved is a difference; what it
// does not tell is none.
func TestDiffers(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	x := recovery.Expectation{Record: 0x3000100, End: 0x3000150, Timeline: 2, LastTransaction: noon}
	right := recovery.Outcome{
		State: recovery.PausedAtTarget, LSN: 0x3000150, LSNExact: true, Timeline: 2, LastTransaction: noon,
		Stop: recovery.Stop{Kind: recovery.StopLSN, LSN: 0x3000100},
	}
	for name, c := range map[string]struct {
		change func(x *recovery.Expectation, o *recovery.Outcome)
		want   string
	}{
		"the same":         {func(*recovery.Expectation, *recovery.Outcome) {}, ""},
		"another record":   {func(_ *recovery.Expectation, o *recovery.Outcome) { o.Stop.LSN += 8 }, "0/3000108"},
		"the other side":   {func(_ *recovery.Expectation, o *recovery.Outcome) { o.Stop.Before = true }, "stopped before"},
		"a record further": {func(_ *recovery.Expectation, o *recovery.Outcome) { o.LSN += 0x28 }, "0/3000178"},
		"a record less":    {func(_ *recovery.Expectation, o *recovery.Outcome) { o.LSN -= 0x50 }, "up to 0/3000100"},
		"another timeline": {func(_ *recovery.Expectation, o *recovery.Outcome) { o.Timeline = 1 }, "timeline 1"},
		"to the end":       {func(_ *recovery.Expectation, o *recovery.Outcome) { o.Stop.Kind = recovery.StopEndOfWAL }, "end of the WAL"},
		"another transaction": {func(_ *recovery.Expectation, o *recovery.Outcome) {
			o.LastTransaction = noon.Add(time.Microsecond)
		}, "12:00:00.000001+00"},
		"a transaction where none was": {func(x *recovery.Expectation, _ *recovery.Outcome) { x.LastTransaction = time.Time{} }, "none"},
		"not known where": {func(_ *recovery.Expectation, o *recovery.Outcome) {
			o.LSNExact, o.LSN, o.Timeline, o.LastTransaction = false, 0x3000000, 1, time.Time{}
		}, ""},
		"not known where, but too far": {func(_ *recovery.Expectation, o *recovery.Outcome) { o.LSNExact, o.LSN = false, 0x3000151 }, "0/3000151"},
		"the end":                      {func(x *recovery.Expectation, _ *recovery.Outcome) { x.Record = 0 }, ""},
		"the end, and more":            {func(x *recovery.Expectation, o *recovery.Outcome) { x.Record, o.LSN = 0, o.LSN+1<<20 }, ""},
		"the end, and less":            {func(x *recovery.Expectation, o *recovery.Outcome) { x.Record, o.LSN = 0, o.LSN-8 }, "goes on to 0/3000150"},
		"a standby":                    {func(_ *recovery.Expectation, o *recovery.Outcome) { o.State, o.LSN = recovery.StandingBy, 1<<40 }, ""},
	} {
		x, o := x, right
		c.change(&x, &o)
		if got := x.Differs(&o); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

var recordLine = regexp.MustCompile(`(?m)^rmgr: .*, lsn: ([0-9A-F]+/[0-9A-F]+), prev `)

// records are where the records of the segment with the second row start, as
// PostgreSQL's own reader says.
func (o *origin) records(t *testing.T) []wal.LSN {
	t.Helper()
	// It ends with an error where the WAL of the segment's last record does.
	out, err := o.Command(t.Context(), "pg_waldump", o.archive+"/"+o.last).Output()
	if len(out) == 0 {
		t.Fatalf("pg_waldump: %v", err)
	}
	var list []wal.LSN
	for _, m := range recordLine.FindAllStringSubmatch(string(out), -1) {
		list = append(list, parseLSN(t, m[1]))
	}
	return list
}

// A plan that is off by one record, forwards or backwards, is found out, whatever
// the server does at the target.
func TestOffByOneRecord(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	records := o.records(t)
	at := len(records) - 4
	for _, action := range []string{"pause", "promote", "shutdown"} {
		for shift := -1; shift <= 1; shift++ {
			dir := o.restored(t, map[string]string{
				"recovery_target_lsn": records[at].String(), "recovery_target_inclusive": "off", "recovery_target_action": action,
			})
			got, err := o.run(t, dir, func(r *recovery.Options) {
				r.StopAfter = true
				// Stopping before a record, the one before it is the last that is replayed.
				r.Expect = &recovery.Expectation{Record: records[at+shift], Before: true, End: records[at+shift], Timeline: 1}
				r.Expect.LastTransaction = lastTransaction(t, o, records[at])
			})
			if shift == 0 {
				if err != nil || got.State == recovery.Failed {
					t.Errorf("%s, where the plan says: %+v, %v", action, got, err)
				}
				continue
			}
			f := failure(t, got, err)
			if f.Kind != recovery.FailureElsewhere || f.Hint == "" || !strings.Contains(f.Reason, records[at+shift].String()) {
				t.Errorf("%s, off by %d: %+v", action, shift, f)
			}
			if _, alive := recovery.RunningServer(dir); alive {
				t.Errorf("%s, off by %d: the server runs", action, shift)
			}
		}
	}
}

var commitLine = regexp.MustCompile(`(?m)^rmgr: Transaction .*, lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: (?:COMMIT|ABORT) (\S+ \S+) `)

// lastTransaction is the time of the last one that ends before a record.
func lastTransaction(t *testing.T, o *origin, before wal.LSN) (at time.Time) {
	t.Helper()
	cmd := o.Command(t.Context(), "pg_waldump", o.archive+"/"+o.last)
	cmd.Env = append(cmd.Env, "TZ=UTC")
	out, err := cmd.Output()
	if len(out) == 0 {
		t.Fatalf("pg_waldump: %v", err)
	}
	for _, m := range commitLine.FindAllStringSubmatch(string(out), -1) {
		if parseLSN(t, m[1]) >= before {
			break
		}
		if at, err = time.Parse("2006-01-02 15:04:05.999999", m[2]); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// A server that stops after a transaction, told its position, does not count it. The
// outcome does.
func TestStopAfterATransaction(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, pgtest.Newest())
	commit, ended := lastCommit(t, o)
	for _, wrong := range []time.Duration{0, time.Second} {
		dir := o.restored(t, map[string]string{"recovery_target_lsn": commit.String()})
		got, err := o.run(t, dir, func(r *recovery.Options) {
			r.StopAfter = true
			next := o.records(t)
			i := slices.Index(next, commit)
			r.Expect = &recovery.Expectation{
				Record: commit, End: next[i+1], Timeline: 1, Ended: ended, LastTransaction: lastTransaction(t, o, commit).Add(wrong),
			}
		})
		switch {
		case wrong == 0 && (err != nil || !got.LastTransaction.Equal(ended)):
			t.Errorf("last transaction %s, want %s: %v", got.LastTransaction, ended, err)
		case wrong != 0 && failure(t, got, err).Kind != recovery.FailureElsewhere:
			t.Errorf("with another transaction before: %v", err)
		}
	}
}

// lastCommit is where the record starts that ends the last transaction, and its time.
func lastCommit(t *testing.T, o *origin) (at wal.LSN, ended time.Time) {
	t.Helper()
	for _, r := range o.records(t) {
		if before, after := lastTransaction(t, o, r), lastTransaction(t, o, r+1); !before.Equal(after) {
			at, ended = r, after
		}
	}
	return at, ended
}
