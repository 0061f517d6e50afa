//go:build unix

package setup

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/server"
)

// installation is a server and a configuration for it.
type installation struct {
	t   *testing.T
	pg  *pgtest.Cluster
	cfg *config.Config
}

func newInstallation(t *testing.T, settings map[string]string) *installation {
	pg := pgtest.New(t, pgtest.Options{Settings: settings})
	repo := filepath.Join(t.TempDir(), "repo")
	cfg := &config.Config{
		Repository: config.Repository{URL: "file://" + repo},
		Clusters:   map[string]config.Cluster{"main": {Connection: pg.Conninfo("")}},
	}
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "walden.yaml")
	if _, err := Init(t.Context(), InitOptions{ConfigPath: path, Cluster: "main", Config: *cfg, Executable: "/walden", Log: log}); err != nil {
		t.Fatal(err)
	}
	return &installation{t: t, pg: pg, cfg: cfg}
}

func (i *installation) stream(s *config.Stream) {
	c := i.cfg.Clusters["main"]
	c.Stream = s
	i.cfg.Clusters["main"] = c
}

// check runs the probes, and returns those of one name, status first.
func (i *installation) check(probe string) string {
	i.t.Helper()
	var out []string
	for _, f := range Check(context.Background(), CheckOptions{Config: i.cfg, Cluster: "main", Executable: "/walden", Log: slog.New(slog.DiscardHandler)}) {
		if f.Probe == probe {
			out = append(out, string(f.Status)+": "+f.Detail)
		}
	}
	return strings.Join(out, "\n")
}

// expect holds that a probe says so; "" that it was not made.
func (i *installation) expect(probe, want string) {
	i.t.Helper()
	got := i.check(probe)
	if want == "" && got != "" || want != "" && !strings.Contains(got, want) {
		i.t.Errorf("%s: %q, want %q", probe, got, want)
	}
}

func TestCheckOfStreaming(t *testing.T) {
	i := newInstallation(t, map[string]string{"max_slot_wal_keep_size": "1GB", "max_wal_senders": "5", "archive_mode": "off"})
	i.expect("slot", "")
	i.expect("synchronous commits", "")
	i.expect("archive_mode", "fail: off: no WAL is archived")

	i.stream(&config.Stream{})
	i.expect("slot", "warn: there is no slot walden")
	i.expect("archive_mode", "no `walden stream` runs")
	i.expect("walsenders", "")

	i.pg.Exec("SELECT pg_create_physical_replication_slot('walden', true)")
	i.stream(nil)
	i.expect("slot", "and nobody streams over it") // the slot alone tells that streaming is meant
	i.expect("slot", "max_slot_wal_keep_size leaves 1")

	receiver := i.pg.Command(t.Context(), "pg_receivewal", "-d", i.pg.Conninfo("")+" application_name=walden", "-S", "walden", "-D", pgtest.TempDir(t), "--synchronous")
	if err := receiver.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = receiver.Process.Kill(); _ = receiver.Wait() }()
	i.pg.WaitFor("a receiver", func() bool {
		return i.pg.QueryValue("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1"
	})
	i.expect("slot", "ok: walden: holds back")
	i.expect("archive_mode", "ok: off: WAL is archived by `walden stream`")
	i.expect("synchronous commits", "ok: they do not wait")

	i.pg.Configure(map[string]string{"synchronous_standby_names": "*"})
	i.pg.Reload()
	i.pg.WaitFor("the setting", func() bool { return i.pg.QueryValue("SHOW synchronous_standby_names") == "*" })
	i.expect("synchronous commits", "warn: synchronous_standby_names = '*' makes commits wait for any receiver")
	i.pg.Configure(map[string]string{"synchronous_standby_names": "FIRST 1 (walden)"})
	i.pg.Reload()
	i.pg.WaitFor("the setting", func() bool { return i.pg.QueryValue("SHOW synchronous_standby_names") != "*" })
	i.expect("synchronous commits", "ok: synchronous_standby_names = 'FIRST 1 (walden)' names walden")
	i.stream(&config.Stream{Acknowledge: "local", Spool: t.TempDir()})
	i.expect("acknowledge", "warn: commits wait only for this machine's spool")
	i.pg.Exec("CREATE ROLE careful; ALTER ROLE careful SET synchronous_commit = remote_apply")
	i.expect("synchronous commits", "remote_apply (of role careful) commits wait for ever")
}

func TestCheckOfTheSpool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(t.TempDir(), "a", "b")
	for _, c := range []struct {
		section config.Stream
		want    Status
		text    string
	}{
		{config.Stream{Spool: t.TempDir(), SpoolLimit: "2MB"}, OK, "writable"},
		{config.Stream{Spool: absent, SpoolLimit: "2MB"}, OK, "for spool_limit 2.0 MiB"},
		{config.Stream{Spool: t.TempDir(), SpoolLimit: "1000000TB"}, Warn, "spool_limit is 977 PiB"},
		{config.Stream{Spool: file}, Fail, "is not a directory"},
	} {
		k := &checker{}
		k.spool(c.section)
		if f := k.findings[0]; len(k.findings) != 1 || f.Status != c.want || !strings.Contains(f.Detail, c.text) {
			t.Errorf("%+v: %+v", c.section, k.findings)
		}
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("check made the spool")
	}
}

func TestWhatToApplyForStreaming(t *testing.T) {
	d := &server.Description{CanReplicate: true, CanSwitchWAL: true, Settings: map[string]server.Setting{
		"wal_level": {Value: "replica"}, "archive_mode": {Value: "off"}, "max_wal_senders": {Value: "2"}, "max_replication_slots": {Value: "10"},
		"config_file": {Value: "/d/postgresql.conf"}, "data_directory": {Value: "/d"},
	}}
	names := func(a Apply) string {
		var list []string
		for _, s := range a.Settings {
			list = append(list, s.Name+"="+s.Value)
		}
		return strings.Join(list, " ")
	}
	if got, want := names(whatToApply(d, "walden", "cmd", false)), "archive_mode=on archive_command=cmd"; got != want {
		t.Errorf("archive_command: %q, want %q", got, want)
	}
	if got, want := names(whatToApply(d, "walden", "cmd", true)), "max_wal_senders=3"; got != want {
		t.Errorf("stream: %q, want %q", got, want)
	}
}
