package recovery

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
)

// observe feeds a log, in pieces of n bytes, to a reader and an observer.
func observe(log string, n int) *observer {
	o := &observer{segmentSize: 16 << 20}
	var r logReader
	var all []*entry
	for len(log) > 0 {
		cut := min(n, len(log))
		all = append(all, r.write([]byte(log[:cut]))...)
		log = log[cut:]
	}
	for _, e := range all {
		o.take(e)
	}
	return o
}

const prefix = "2026-11-22 10:00:00.123 CET [4711] 00000 "

func TestObserver(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.UTC)
	cases := map[string]struct {
		log   string
		check func(*observer) bool
	}{
		"before a commit": {"LOG:  recovery stopping before commit of transaction 735, time 2026-11-22 10:00:00.123456+01",
			func(o *observer) bool {
				return o.stop.Kind == StopTransaction && o.stop.Before && !o.stop.Abort && o.stop.XID == 735 && o.stop.Time.Equal(at)
			}},
		"after an abort, in India": {"LOG:  recovery stopping after abort of transaction 4294967295, time 2026-11-22 14:30:00.123456+05:30",
			func(o *observer) bool {
				return !o.stop.Before && o.stop.Abort && o.stop.XID == 1<<32-1 && o.stop.Time.Equal(at)
			}},
		"LSN":                   {`LOG:  recovery stopping before WAL location (LSN) "1/A000028"`, func(o *observer) bool { return o.stop.Kind == StopLSN && o.stop.LSN == 0x1_0A000028 }},
		"LSN as 19 writes it":   {`LOG:  recovery stopping after WAL location (LSN) "1/0A000028"`, func(o *observer) bool { return o.stop.LSN == 0x1_0A000028 && !o.stop.Before }},
		"restore point":         {`LOG:  recovery stopping at restore point "a "b" c", time 2026-11-22 09:00:00.123456+00`, func(o *observer) bool { return o.stop.Name == `a "b" c` && o.stop.Time.Equal(at) }},
		"restore point, 2 rows": {"LOG:  recovery stopping at restore point \"a\n\tb\", time 2026-11-22 09:00:00+00", func(o *observer) bool { return o.stop.Name == "a\nb" }},
		"consistency":           {"LOG:  recovery stopping after reaching consistency", func(o *observer) bool { return o.stop.Kind == StopConsistency }},
		"redo":                  {"LOG:  redo starts at 0/7000028", func(o *observer) bool { return o.redoStart == 0x7000028 && o.stage() == StageReplaying }},
		"progress":              {"LOG:  redo in progress, elapsed time: 10.00 s, current LSN: 0/9000028", func(o *observer) bool { return o.position == 0x9000028 }},
		"redo done":             {"LOG:  redo done at 0/9000100 system usage: CPU: user: 0.00 s", func(o *observer) bool { return o.position == 0x9000100 && o.redoDone }},
		"consistent":            {"LOG:  consistent recovery state reached at 0/07000100", func(o *observer) bool { return o.consistentAt == 0x7000100 && o.stage() == StageConsistent }},
		"last transaction":      {"LOG:  last completed transaction was at log time 2026-11-22 09:00:00.123456+00", func(o *observer) bool { return o.lastTime.Equal(at) }},
		"new timeline":          {"LOG:  selected new timeline ID: 17", func(o *observer) bool { return o.newTimeline == 17 }},
		"history":               {`LOG:  restored log file "0000000A.history" from archive`, func(o *observer) bool { return o.targetLine == 10 }},
		"segment before redo":   {`LOG:  restored log file "00000001000000000000000A" from archive`, func(o *observer) bool { return o.segment != "" && o.position == 0 }},
		"a client's error":      {"ERROR:  recovery stopping before nothing", func(o *observer) bool { return o.stop.Kind == "" && len(o.fatal) == 0 }},
	}
	for name, c := range cases {
		for _, n := range []int{1, 7, 1 << 20} {
			if o := observe(prefix+c.log+"\n", n); !c.check(o) {
				t.Errorf("%s in pieces of %d: %+v", name, n, o)
			}
		}
	}
}

func TestPositionOfSegments(t *testing.T) {
	o := observe(prefix+"LOG:  redo starts at 0/7000028\n"+
		prefix+`LOG:  restored log file "000000010000000000000007" from archive`+"\n"+
		prefix+`LOG:  restored log file "000000010000000000000009" from archive`+"\n", 100)
	if o.position != wal.LSN(0x8000000) {
		t.Errorf("replay has come to %s at least", o.position)
	}
}

func TestDiagnoses(t *testing.T) {
	fatal := func(state, text string) string {
		return "2026-11-22 10:00:00 UTC [1] " + state + " FATAL:  " + text + "\n"
	}
	detail := func(text string) string { return "2026-11-22 10:00:00 UTC [1] 22023 DETAIL:  " + text + "\n" }
	redo := prefix + "LOG:  redo starts at 0/7000028\n"
	cases := map[string]struct {
		log, exit string
		kind      FailureKind
		says      string
	}{
		"too small, before consistency": {redo + fatal("22023", "recovery aborted because of insufficient parameter settings") +
			detail("max_connections = 10 is a lower setting than on the primary server, where its value was 100."), "exit status 1", FailureSettings, "max_connections is 10 here and was 100"},
		"too small, 13": {fatal("22023", "hot standby is not possible because max_wal_senders = 1 is a lower setting than on the master server (its value was 10)"),
			"exit status 1", FailureSettings, "max_wal_senders is 1"},
		"too far":               {redo + fatal("XX000", "recovery ended before configured recovery target was reached"), "exit status 1", FailureTargetNotReached, "configured recovery target"},
		"too early":             {redo + fatal("XX000", "requested recovery stop point is before consistent recovery point"), "exit status 1", FailureInconsistent, "before consistent"},
		"hole in the backup":    {redo + fatal("55000", "WAL ends before end of online backup"), "exit status 1", FailureInconsistent, "WAL ends"},
		"other timeline":        {fatal("XX000", "requested timeline 7 is not a child of this server's history"), "exit status 1", FailureTimeline, "timeline 7"},
		"restore_command":       {redo + fatal("38000", `could not restore file "000000010000000000000007" from archive: command not executable`), "exit status 1", FailureRestoreCommand, "command not executable"},
		"killed":                {redo, "signal: killed", FailureDied, "was killed"},
		"client errors only":    {redo + fatal("28P01", `password authentication failed for user "x"`), "signal: killed", FailureDied, "was killed"},
		"startup process died":  {redo + "2026-11-22 10:00:00 UTC [1] 00000 LOG:  startup process (PID 9) was terminated by signal 9: Killed\n", "exit status 1", FailureDied, "ended before"},
		"earliest words":        {"postgres: could not access the server configuration file \"/x\": No such file or directory\n", "exit status 2", FailureStart, "could not access the server configuration"},
		"unknown earliest word": {"postgres: something new\n", "exit status 2", FailureStart, "something new"},
		"disk full":             {redo + "2026-11-22 10:00:00 UTC [1] 53100 PANIC:  could not write to file \"x\": No space left on device\n", "exit status 1", FailureDied, "No space left"},
	}
	for name, c := range cases {
		f := observe(c.log, 1<<20).diagnose(c.exit, "/log")
		if f.Kind != c.kind || !strings.Contains(f.Error(), c.says) {
			t.Errorf("%s: kind %s, %v", name, f.Kind, f)
		}
	}
}

func TestParseTimeRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, s := range []string{"", "infinity", "2026-11-22 09:00:00", "0044-03-15 12:00:00+00 BC"} {
		if got := parseTime(s); !got.IsZero() {
			t.Errorf("%q is %s", s, got)
		}
	}
	if got := parseTime("1900-01-01 00:19:32+00:19:32"); !got.Equal(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("an offset with seconds: %s", got)
	}
}

// What we print for people to copy means, to a shell, what it should.
func TestShellLine(t *testing.T) {
	args := []string{"printf", "%s|", "plain", "with space", "it's", `back\slash "and" $HOME`, "", "a=b;c", "ü"}
	out, err := exec.Command("/bin/sh", "-c", ShellLine(args...)).Output()
	if err != nil {
		t.Skipf("no shell: %v", err)
	}
	if want := strings.Join(args[2:], "|") + "|"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(prefix+"LOG:  redo starts at 0/7000028\n\tmore\n"), 3)
	f.Add([]byte("FATAL:  x\nDETAIL:  y = 1 is a lower setting than on the primary server, where its value was 2.\n"), 1)
	f.Fuzz(func(t *testing.T, log []byte, n int) {
		if n < 1 || n > len(log) {
			n = len(log) + 1
		}
		o := observe(string(log), n)
		if f := o.diagnose("exit status 1", ""); f.Kind == "" {
			t.Errorf("no kind for %q", log)
		}
		_ = o.stage()
	})
}
