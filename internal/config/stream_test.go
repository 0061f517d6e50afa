package config

import (
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal/stream"
)

const streaming = `repository:
  url: file:///srv/walden
clusters:
  main:
    connection: host=a,b
    stream: { slot: s1, acknowledge: local, max_delay: 500ms, spool: /var/spool/walden, spool_limit: 2GB, names_interval: 30s }
  bare:
    connection: host=c
    stream: {}
  none:
    connection: host=d
`

func TestStreamSection(t *testing.T) {
	c, err := Load(write(t, streaming), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Clusters["main"].Stream.Options()
	want := stream.Options{Slot: "s1", Acknowledge: stream.Local, MaxDelay: 500 * time.Millisecond, Spool: "/var/spool/walden", SpoolLimit: 2 << 30, NamesInterval: 30 * time.Second}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if s := c.Clusters["bare"].Stream; s == nil || *s != (Stream{}) {
		t.Errorf("an empty section: %+v", s)
	}
	if s := c.Clusters["none"].Stream; s != nil {
		t.Errorf("no section: %+v", s)
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("x", b)
	if err != nil || *again.Clusters["main"].Stream != *c.Clusters["main"].Stream || again.Clusters["bare"].Stream == nil || again.Clusters["none"].Stream != nil {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestStreamFromTheEnvironment(t *testing.T) {
	c, err := Load(write(t, streaming), []string{
		"WALDEN_CLUSTERS_MAIN_STREAM_SLOT=s2", "WALDEN_CLUSTERS_MAIN_STREAM_ACKNOWLEDGE=remote", "WALDEN_CLUSTERS_MAIN_STREAM_MAX_DELAY=2s",
		"WALDEN_CLUSTERS_MAIN_STREAM_SPOOL=/s", "WALDEN_CLUSTERS_MAIN_STREAM_SPOOL_LIMIT=64MB",
		"WALDEN_CLUSTERS_MAIN_STREAM_NAMES_INTERVAL=off",
		"WALDEN_CLUSTERS_BARE_STREAM_SLOT=s3", "WALDEN_CLUSTERS_NONE_STREAM_MAX_DELAY=3s",
		"WALDEN_CLUSTERS_NEW_CONNECTION=host=e", "WALDEN_CLUSTERS_NEW_STREAM_SLOT=s4",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Stream{
		"main": {"s2", "remote", "2s", "/s", "64MB", "off"}, "bare": {Slot: "s3"}, "none": {MaxDelay: "3s"}, "new": {Slot: "s4"},
	} {
		if got := c.Clusters[name].Stream; got == nil || *got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if len(c.Clusters) != 4 || c.Clusters["new"].Connection != "host=e" {
		t.Errorf("clusters: %v", c.ClusterNames())
	}
	if _, err := Load(write(t, streaming), []string{"WALDEN_CLUSTERS_MAIN_STREAM_SLOT=Bad-Slot"}); err == nil || !strings.Contains(err.Error(), "clusters.main.stream.slot: \"Bad-Slot\"") {
		t.Errorf("a bad slot in the environment: %v", err)
	}
}

func TestMisspeltVariableOfTheSection(t *testing.T) {
	for _, name := range []string{"WALDEN_CLUSTERS_MAIN_STREAM_SLOTT", "WALDEN_CLUSTERS_NONE_STREAM"} {
		if _, err := Load(write(t, streaming), []string{name + "=x"}); err == nil || !strings.Contains(err.Error(), name+": the configuration has no such key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	for section, want := range map[string]string{
		"{slot: Walden}":                       `clusters.main.stream.slot: "Walden": a slot's name has`,
		"{acknowledge: sometimes}":             `stream.acknowledge: "sometimes": it must be remote or local`,
		"{acknowledge: local}":                 "stream.acknowledge: local needs a spool",
		"{max_delay: 1}":                       `stream.max_delay: "1" is not a duration`,
		"{max_delay: 0s}":                      "stream.max_delay: \"0s\": between",
		"{max_delay: 2h}":                      "stream.max_delay: \"2h\": between",
		"{spool: spool}":                       "stream.spool: \"spool\": the directory must be absolute",
		"{spool_limit: 10GB}":                  "stream.spool_limit: there is no spool",
		"{spool: /s, spool_limit: 1MB}":        "at least 2MB",
		"{spool: /s, spool_limit: ten}":        `"ten" is not a size`,
		"{spool: /s, spool_limit: 10}":         `"10" is not a size`,
		"{spool: /s, spool_limit: -1GB}":       "not a size",
		"{spool: /s, spool_limit: 99999999TB}": "not a size",
		"{spool: /s, spool_limit: NaNMB}":      "not a size",
		"{names_interval: sometimes}":          `"sometimes" is not a duration`,
		"{names_interval: 10ms}":               `"10ms": between 1s and 24h, or off`,
		"{names_interval: 48h}":                `between 1s and 24h`,
		"{slots: a}":                           `line 5, column 14: unknown key "slots"`,
		"[a]":                                  "line 5, column 13",
	} {
		_, err := Load(write(t, "repository:\n  url: file:///x\nclusters:\n  main:\n    stream: "+section+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", section, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for v, want := range map[string]int64{"10GB": 10 << 30, "1.5GiB": 3 << 29, "64kB": 64 << 10, "0B": 0, "512 MB": 512 << 20, "1TB": 1 << 40} {
		if got, err := ParseSize(v); got != want || err != nil {
			t.Errorf("%q: %d, %v", v, got, err)
		}
	}
}

func TestNamesOff(t *testing.T) {
	for _, v := range []string{"off", "0"} {
		if o, err := (Stream{NamesInterval: v}).Options(); err != nil || o.NamesInterval >= 0 {
			t.Errorf("%s: %v, %v", v, o.NamesInterval, err)
		}
	}
}
