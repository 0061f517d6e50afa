package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/wal/stream"
)

// streamConfig writes a configuration whose repository is an empty directory.
func streamConfig(t *testing.T, section string) string {
	t.Helper()
	dir := t.TempDir()
	cfg := filepath.Join(dir, "walden.yaml")
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o700); err != nil {
		t.Fatal(err)
	}
	content := "repository:\n  url: file://" + dir + "/none\nclusters:\n  main:\n    connection: host=/nonexistent\n" + section
	if err := os.WriteFile(cfg, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestStreamUsage(t *testing.T) {
	bare, spooled := streamConfig(t, ""), streamConfig(t, "    stream: {spool: /var/spool/walden, acknowledge: local}\n")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--slot", "Walden"}, 2, `--slot: "Walden"`},
		{[]string{"--acknowledge", "never"}, 2, `--acknowledge: "never": it must be remote or local`},
		{[]string{"--acknowledge", "local"}, 2, "--acknowledge: local needs a spool"},
		{[]string{"--max-delay", "soon"}, 2, `--max-delay: "soon"`},
		{[]string{"--spool", "here"}, 2, "must be absolute"},
		{[]string{"--spool-limit", "10"}, 2, `--spool-limit: "10" is not a size`},
		{[]string{"--spool-limit", "10GB"}, 2, "no spool to limit"},
		{[]string{"here"}, 2, "takes no argument"},
		{[]string{"--log-level", "loud"}, 2, "loud"},
		{nil, 4, "there is no repository here"},
	} {
		code, _, errOut := walden(t, nil, append([]string{"stream", "--config", bare}, c.args...)...)
		if code != c.code || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: exit %d, want %d and %q: %s", c.args, code, c.code, c.want, errOut)
		}
	}
	// What the configuration says is completed by flags.
	code, _, errOut := walden(t, nil, "stream", "--config", spooled, "--spool-limit", "1GB", "--slot", "other")
	if code != 4 {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

func TestStreamOptions(t *testing.T) {
	target := &target{cluster: config.Cluster{
		Connection: "host=a", DataDirectory: "/d",
		Stream: &config.Stream{Slot: "s1", Acknowledge: "local", MaxDelay: "2s", Spool: "/spool"},
	}}
	got, err := target.streamOptions(config.Stream{Slot: "s2", SpoolLimit: "1GB"})
	want := stream.Options{Conninfo: "host=a", DataDirectory: "/d", Slot: "s2", Acknowledge: stream.Local, MaxDelay: 2 * time.Second, Spool: "/spool", SpoolLimit: 1 << 30}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMetricsAddressThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, _, errOut := walden(t, nil, "stream", "--config", streamConfig(t, ""), "--metrics-listen", l.Addr().String())
	if code != 1 || !strings.Contains(errOut, "metrics: ") || !strings.Contains(errOut, l.Addr().String()) || !strings.Contains(errOut, "hint:") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

// TestStreamLogsWithoutATerminal holds that a service's log tells more than warnings.
func TestStreamLogsWithoutATerminal(t *testing.T) {
	cfg := streamConfig(t, "")
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, true}, {[]string{"--log-level", "warn"}, false},
	} {
		_, _, errOut := walden(t, nil, append([]string{"stream", "--config", cfg, "--metrics-listen", "127.0.0.1:0"}, c.args...)...)
		if got := strings.Contains(errOut, "level=INFO"); got != c.want {
			t.Errorf("%q: %s", c.args, errOut)
		}
	}
}

func TestStreamExitCodes(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		err  error
		code int
	}{
		{&stream.BusyError{Dir: "/spool"}, 5},
		{fmt.Errorf("x: %w", &stream.UnshippedError{Bytes: 1, Err: context.Canceled}), 1},
		{&stream.UnshippedError{Bytes: 1}, 1},
		{&stream.ForeignServerError{}, 1},
		{errFindings, 1},
		{context.Canceled, 130},
	} {
		if code := exitCode(stopped, c.err); code != c.code {
			t.Errorf("%v: exit %d, want %d", c.err, code, c.code)
		}
	}
}

func TestStatusText(t *testing.T) {
	s := stream.Status{Phase: stream.Streaming, Host: "db1", Port: 5432, Timeline: 3, Durable: 0x5000040, LagBytes: 4096, LagSeconds: 0.25, Waiting: true}
	if got, want := statusText("main", s, 3<<20), "main: 0/5000040 on timeline 3 is safe, lag 4.0 KiB, 0.2 s, 3.0 MiB/s, from db1:5432, commits wait for it"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s = stream.Status{Phase: stream.Connecting, Failure: "no\nroute", Gaps: []stream.GapError{{}}}
	if got, want := statusText("main", s, 0), "main: nothing received yet, connecting, 1 GAPS, FAILING: no route"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestStatusLine holds that what is written stays above the line, and that the
// line never wraps.
func TestStatusLine(t *testing.T) {
	var out bytes.Buffer
	l := &statusLine{terminal: true, out: &out, width: func() int { return 11 }}
	l.show("0123456789abc")
	if _, err := l.Write([]byte("a warning\n")); err != nil {
		t.Fatal(err)
	}
	l.clear()
	if _, err := l.Write([]byte("the end\n")); err != nil {
		t.Fatal(err)
	}
	if want := clearLine + "0123456789" + clearLine + "a warning\n0123456789" + clearLine + "the end\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestThroughput(t *testing.T) {
	var r throughput
	t0 := time.Unix(1000, 0)
	for i, want := range []float64{0, 10, 10, 10, 10, 10, 10, 10, 10} {
		if got := r.update(int64(10*i), t0.Add(time.Duration(i)*time.Second)); got != want {
			t.Errorf("second %d: %g", i, got)
		}
	}
	if got := r.update(80, t0.Add(20*time.Second)); got != 0 {
		t.Errorf("after a pause: %g", got)
	}
	if len(r.seen) > 3 {
		t.Errorf("%d are remembered", len(r.seen))
	}
}

// TestStreamSummary: what stood in the way at the end is told, whether or not anything was received.
func TestStreamSummary(t *testing.T) {
	for _, c := range []struct {
		status stream.Status
		want   []string
	}{
		{stream.Status{}, []string{"nothing was received"}},
		{stream.Status{Failure: "no route"}, []string{"nothing was received", "no WAL was being received at the end: no route"}},
		{stream.Status{Timeline: 3, Durable: 0x2000000, Failure: "behind"}, []string{"0/2000000 on timeline 3", "at the end: behind"}},
	} {
		text := streamSummary(c.status)
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q lacks %q", text, want)
			}
		}
		if c.status.Failure == "" && strings.Contains(text, "at the end") {
			t.Errorf("%q", text)
		}
	}
}
