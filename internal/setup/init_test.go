package setup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/server"
)

// TestContradicts holds that no flag is silently ignored where a configuration exists.
func TestContradicts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "walden.yaml")
	if err := os.WriteFile(path, []byte("repository:\n  url: s3://bucket/a\nclusters:\n  main:\n    connection: host=a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := func(cluster, connection string, r config.Repository) InitOptions {
		return InitOptions{ConfigPath: path, Cluster: cluster, Config: config.Config{
			Repository: r, Clusters: map[string]config.Cluster{cluster: {Connection: connection}},
		}}
	}
	for _, c := range []struct {
		o    InitOptions
		want string // "": accepted
	}{
		{flags("", "", config.Repository{}), ""},
		{flags("main", "host=a", config.Repository{URL: "s3://bucket/a"}), ""},
		{flags("", "host=b", config.Repository{}), "--connection"},
		{flags("main", "host=b", config.Repository{}), "--connection"},
		{flags("", "", config.Repository{S3: config.S3{PathStyle: true}}), "--path-style"},
	} {
		_, _, err := c.o.configuration()
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
	o := flags("second", "host=b", config.Repository{})
	var unknown *config.UnknownClusterError
	if _, _, err := o.configuration(); !errors.As(err, &unknown) || unknown.Name != "second" {
		t.Errorf("a cluster that the file does not have: %v", err)
	}
}

func TestWhatToApply(t *testing.T) {
	d := &server.Description{CanReplicate: true, CanSwitchWAL: true, Settings: map[string]server.Setting{
		"wal_level": {Value: "replica"}, "archive_mode": {Value: "on"}, "archive_command": {Value: "old"},
		"max_wal_senders": {Value: "10"}, "config_file": {Value: "/d/postgresql.conf"}, "data_directory": {Value: "/d"},
	}}
	a := whatToApply(d, "walden", "new", false)
	if a.Restart || a.Again || len(a.RightsSQL()) != 0 || !slices.Equal(a.SettingsSQL(), []string{"ALTER SYSTEM SET archive_command = 'new';", "SELECT pg_reload_conf();"}) {
		t.Errorf("a changed command: %+v", a)
	}
	// A role that may not see where the files lie: what else it lacks is not known.
	d.Settings["archive_mode"] = server.Setting{Value: "off"}
	delete(d.Settings, "config_file")
	a = whatToApply(d, "walden", "new", false)
	if !a.Restart || !a.Again || len(a.SettingsSQL()) != 2 || !slices.Equal(a.RightsSQL(), []string{`GRANT pg_read_all_settings TO "walden";`}) {
		t.Errorf("hidden settings: %+v", a)
	}
}

// TestArchiveModeOfAStandby holds that a standby need not archive to be in order.
func TestArchiveModeOfAStandby(t *testing.T) {
	for standby, want := range map[bool]Status{false: Fail, true: Warn} {
		c := &checker{desc: &server.Description{InRecovery: standby, Settings: map[string]server.Setting{"archive_mode": {Value: "off"}}}}
		c.archiving(func(name string) string { return c.desc.Settings[name].Value })
		if len(c.findings) != 1 || c.findings[0].Status != want {
			t.Errorf("standby %v: %+v", standby, c.findings)
		}
	}
}
