package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/plan"
)

// walden runs one command line in this process.
func walden(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(context.Background(), args, environ, &out, &errOut)
	return code, out.String(), errOut.String()
}

// TestEveryFlagSaysItsDefault holds what the help promises.
func TestEveryFlagSaysItsDefault(t *testing.T) {
	app := (&environment{}).app()
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		flags = append(flags, c.Flags...)
	}
	for _, f := range flags {
		if f == cli.HelpFlag {
			continue
		}
		if !strings.Contains(f.String(), "(default: ") {
			t.Errorf("the help of --%s says no default: %s", f.Names()[0], f)
		}
		if d, ok := f.(cli.DocGenerationFlag); !ok || d.GetUsage() == "" {
			t.Errorf("--%s has no help", f.Names()[0])
		}
	}
}

func TestEveryCommandsHelpEndsWithItsExitCodes(t *testing.T) {
	for _, c := range (&environment{}).app().Commands {
		code, out, _ := walden(t, nil, "help", c.Name)
		_, tail, found := strings.Cut(out, "EXIT CODES:\n")
		if code != 0 || !found || !strings.Contains(tail, "   0    ") || strings.Contains(tail, "OPTIONS") {
			t.Errorf("help %s: exit %d\n%s", c.Name, code, out)
		}
		if code2, out2, _ := walden(t, nil, c.Name, "--help"); code2 != 0 || out2 != out {
			t.Errorf("%s --help differs from help %s", c.Name, c.Name)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	cfg := filepath.Join(t.TempDir(), "walden.yaml")
	if err := os.WriteFile(cfg, []byte("repository:\n  url: file:///nonexistent/repo\nclusters:\n  main:\n    connection: host=/nonexistent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"frobnicate"}, 2, `unknown command "frobnicate"`},
		{[]string{"version", "--frob"}, 2, "frob"},
		{[]string{"version", "extra"}, 2, `"extra"`},
		{[]string{"--cluster"}, 2, "needs a value"},
		{[]string{"wal-push"}, 2, "needs one PATH"},
		{[]string{"completion", "csh"}, 2, "bash, zsh, fish"},
		{[]string{"list", "--log-level"}, 2, "needs a value"},
		{[]string{"backup", "--checkpoint", "slow"}, 2, "fast or spread"},
		{[]string{"backup", "--max-rate", "much"}, 2, "20MB"},
		{[]string{"backup", "--max-rate", "1kB"}, 2, "32kB to 1GB"},
		{[]string{"verify", "--config", cfg, "--max-rate", "50"}, 2, "50MB/s"},
		{[]string{"verify", "--config", cfg, "--unverified-for", "-1d"}, 2, "12h or 7d"},
		{[]string{"verify", "--config", cfg, "--restart"}, 2, "--deep"},
		{[]string{"backup", "--every", "0s"}, 2, "1s or more"},
		{[]string{"backup", "--every", "daily"}, 2, "daily"},
		{[]string{"plan", "--config", cfg}, 2, "--latest"},
		{[]string{"plan", "--config", cfg, "--latest", "--immediate"}, 2, "one target"},
		{[]string{"plan", "--config", cfg, "--time", "2026-11-22 10:00:00"}, 2, "offset"},
		{[]string{"plan", "--config", cfg, "--lsn", "0-5"}, 2, "0-5"},
		{[]string{"plan", "--config", cfg, "--xid", "minus"}, 2, "minus"},
		{[]string{"restore", "--config", cfg, "--latest"}, 2, "--to"},
		{[]string{"restore", "--config", cfg, "--latest", "--to", "x", "--action", "pause"}, 2, "--action pause needs a target"},
		{[]string{"restore", "--config", cfg, "--latest", "--to", "x", "--action", "promote"}, 1, "/nonexistent/repo"},
		{[]string{"plan", "--config", cfg, "--latest", "--action", "promote"}, 1, "/nonexistent/repo"},
		{[]string{"plan", "--config", cfg, "--latest", "--action", "wait"}, 2, "pause, promote or shutdown"},
		{[]string{"extract", "--config", cfg, "--latest", "--action", "promote"}, 1, "/nonexistent/repo"},
		{[]string{"extract", "--config", cfg, "--latest", "--action", "pause"}, 2, "extract promotes"},
		{[]string{"extract", "--config", cfg, "--latest", "--table", "a", "--schema", "b"}, 2, "do not go together"},
		{[]string{"list", "--config", cfg, "--cluster", "other"}, 4, `no cluster "other"`},
		{[]string{"list", "--config", "/nonexistent.yaml"}, 1, "/nonexistent.yaml"},
		// A restore_command must never report "no such file" for these.
		{[]string{"wal-get"}, 126, "NAME and PATH"},
		{[]string{"wal-get", "--frob", "a", "b"}, 126, "frob"},
		{[]string{"wal-get", "--config", "/nonexistent.yaml", "000000010000000000000001", "x"}, 126, "/nonexistent.yaml"},
		{[]string{"--config", cfg, "wal-get", "000000010000000000000001", "x"}, 126, "/nonexistent/repo"},
		{[]string{"--config", "wal-get", "000000010000000000000001", "x"}, 126, "unknown command"},
		{[]string{"--", "wal-get", "000000010000000000000001"}, 126, "NAME and PATH"},
		// An archive_command must never succeed without having done anything.
		{[]string{"--config", cfg, "--", "wal-push", "000000010000000000000001"}, 1, "/nonexistent/repo"},
	} {
		code, out, errOut := walden(t, nil, c.args...)
		if code != c.code || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "panic") {
			t.Errorf("walden %s: exit %d, want %d and %q\nstdout: %s\nstderr: %s", strings.Join(c.args, " "), code, c.code, c.want, out, errOut)
		}
	}
}

// TestGlobalFlagsAnywhere holds that flags may stand behind the command and
// between its arguments.
func TestGlobalFlagsAnywhere(t *testing.T) {
	for _, args := range [][]string{{"--json", "version"}, {"version", "--json"}, {"version", "--log-level", "debug", "--json"}} {
		code, out, errOut := walden(t, nil, args...)
		var d versionDocument
		if err := json.Unmarshal([]byte(out), &d); code != 0 || err != nil || d.Go == "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errOut)
		}
	}
	got, err := orderArguments((&environment{}).app(), []string{"wal-get", "A", "--cluster", "x", "--standby", "B", "--", "--c"})
	want := []string{"--cluster=x", "wal-get", "--standby", "--", "A", "B", "--c"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("order: %q, %v", got, err)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	code, out, _ := walden(t, nil, "list", "--json", "--config", "/nonexistent.yaml")
	var d errorDocument
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != 1 || d.ExitCode != 1 || d.Error == "" || d.Hint == "" {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]int{"": 0, "32kB": 32, "1MB": 1024, "1.5MiB": 1536, "1GB": 1 << 20, "65536": 64, "20 MB": 20480} {
		if got, err := parseRate(s); got != want || err != nil {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"1,5GB", "10x", "12a5MB", "MB", "31kB", "1.1GB", "infGB", "nanGB", "-1GB"} {
		if got, err := parseRate(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

func TestCompletion(t *testing.T) {
	code, out, _ := walden(t, nil, "completion", "bash")
	if code != 0 || !strings.Contains(out, "complete ") {
		t.Errorf("exit %d: %s", code, out)
	}
	// The library looks at the process's own arguments for the word before.
	saved := os.Args
	defer func() { os.Args = saved }()
	candidates := func(args ...string) string {
		os.Args = append([]string{"walden"}, args...)
		_, out, _ := walden(t, nil, args...)
		return out
	}
	out = candidates("--generate-bash-completion")
	if !strings.Contains(out, "restore") {
		t.Errorf("candidates: %q", out)
	}
	out = candidates("restore", "--ti", "--generate-bash-completion")
	if !strings.Contains(out, "--time") {
		t.Errorf("candidates of restore: %q", out)
	}
	out = candidates("restore", "--", "--generate-bash-completion")
	if !strings.Contains(out, "--time") || !strings.Contains(out, "--to") {
		t.Errorf("candidates behind two dashes: %q", out)
	}
}

// TestOneJSONDocument holds that --json prints exactly one document, whatever ends the command.
func TestOneJSONDocument(t *testing.T) {
	repo := t.TempDir()
	cfg := filepath.Join(repo, "walden.yaml")
	if err := os.WriteFile(cfg, []byte("repository:\n  url: file://"+repo+"/none\nclusters:\n  main:\n    connection: host=/nonexistent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		args []string
		code int
	}{
		{t.Context(), []string{"check", "--config", cfg}, 1},
		{interrupted, []string{"check", "--config", cfg}, 130},
		{t.Context(), []string{"list", "--config", cfg}, 1},
		{t.Context(), []string{"plan", "--config", cfg, "--latest"}, 1},
		{t.Context(), []string{"wal-get", "--config", cfg, "000000010000000000000001", "x"}, 126},
		{t.Context(), []string{"wal-push", "--config", cfg, "000000010000000000000001"}, 1},
		{t.Context(), []string{"list", "--log-level"}, 2},
		{t.Context(), []string{"wal-get", "--incarnation"}, 126},
		{t.Context(), []string{"frobnicate"}, 2},
		{t.Context(), []string{"restore", "--frob"}, 2},
		{t.Context(), []string{"version"}, 0},
	} {
		for _, args := range [][]string{append([]string{"--json"}, c.args...), slices.Insert(slices.Clone(c.args), 1, "--json")} {
			var out, errOut bytes.Buffer
			code := run(c.ctx, args, nil, &out, &errOut)
			d := json.NewDecoder(&out)
			var first, second map[string]any
			if err := d.Decode(&first); err != nil || d.Decode(&second) != io.EOF {
				t.Errorf("%q: not one document: %v, %v and %v", args, err, first, second)
			}
			if n, failed := first["exit_code"].(float64); code != c.code || failed && int(n) != code {
				t.Errorf("%q: exit %d, want %d: %v", args, code, c.code, first)
			}
		}
	}
}

func TestRepeatableFlagsTakeCommas(t *testing.T) {
	e := &environment{stdout: io.Discard, stderr: io.Discard}
	app := e.app()
	var got []string
	app.Command("restore").Action = func(c *cli.Context) error { got = c.StringSlice("set"); return nil }
	want := []string{"shared_preload_libraries=a, b", "search_path=\"$user\",public"}
	args, err := orderArguments(app, []string{"restore", "--set", want[0], "--set", want[1]})
	if err == nil {
		err = app.Run(append([]string{"walden"}, args...))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestStopText holds that what a backup of a standby is restored to at once is
// not called the end of the WAL: where it stops is not one record.
func TestStopText(t *testing.T) {
	for _, c := range []struct {
		plan plan.Plan
		want string
	}{
		{plan.Plan{TargetKind: plan.Latest, Stop: plan.Stop{End: 0x5000000, Timeline: 2}}, "at the end of the WAL, 0/5000000 on timeline 2"},
		{plan.Plan{TargetKind: plan.Immediate, Stop: plan.Stop{End: 0x5000000, Timeline: 2}}, "once the cluster is consistent, by 0/5000000 on timeline 2"},
		{plan.Plan{TargetKind: plan.Immediate, Stop: plan.Stop{LSN: 0x4000028, End: 0x4000050, Timeline: 1}}, "after the record at 0/4000028 on timeline 1"},
	} {
		if got := stopText(&c.plan); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
