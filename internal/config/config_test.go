package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sample = `repository:
  url: s3://bucket/pre/fix
  s3: { endpoint: "https://s3.example", region: eu-central-1, path_style: true }
  compression: zstd
clusters:
  main:
    connection: host=/var/run/postgresql user=walden
`

func write(t *testing.T, content string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "walden.yaml")
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoad(t *testing.T) {
	c, err := Load(write(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Repository.S3.Region != "eu-central-1" || !c.Repository.S3.PathStyle || c.Repository.Compression != "zstd" {
		t.Errorf("repository: %+v", c.Repository)
	}
	name, cl, err := c.Cluster("")
	if err != nil || name != "main" || cl.Connection != "host=/var/run/postgresql user=walden" {
		t.Errorf("cluster: %q %+v %v", name, cl, err)
	}
}

func TestEnvironmentOverridesEveryKey(t *testing.T) {
	c, err := Load(write(t, sample), []string{
		"WALDEN_REPOSITORY_URL=file:///srv/walden",
		"WALDEN_REPOSITORY_S3_ENDPOINT=http://e", "WALDEN_REPOSITORY_S3_REGION=r",
		"WALDEN_REPOSITORY_S3_PATH_STYLE=false", "WALDEN_REPOSITORY_S3_CA_FILE=/ca",
		"WALDEN_REPOSITORY_COMPRESSION=none",
		"WALDEN_CLUSTERS_MAIN_CONNECTION=host=h", "WALDEN_CLUSTERS_MAIN_DATA_DIRECTORY=/d",
		"WALDEN_CLUSTERS_OTHER_CONNECTION=host=o", "HOME=/root",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Repository{URL: "file:///srv/walden", S3: S3{Endpoint: "http://e", Region: "r", CAFile: "/ca"}, Compression: "none"}
	if c.Repository != want {
		t.Errorf("repository: %+v", c.Repository)
	}
	if c.Clusters["main"] != (Cluster{Connection: "host=h", DataDirectory: "/d"}) || c.Clusters["other"].Connection != "host=o" {
		t.Errorf("clusters: %+v", c.Clusters)
	}
}

func TestEnvironmentAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := Load("", []string{"WALDEN_REPOSITORY_URL=file:///srv/walden", "WALDEN_CLUSTERS_MAIN_CONNECTION=host=h"})
	if err != nil || c.Path != "" || c.Clusters["main"].Connection != "host=h" {
		t.Fatalf("%+v %v", c, err)
	}
	_, err = Load("", nil)
	var missing *NotFoundError
	if !errors.As(err, &missing) || len(missing.Looked) != len(SearchPath) || missing.Hint() == "" {
		t.Errorf("without a configuration: %v", err)
	}
}

// TestErrors holds that each mistake is told with what is wrong and where.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"unknown key":        {"repository:\n  url: file:///x\n  colour: red\n", "line 3, column 3: unknown key \"colour\""},
		"unknown section":    {"repository:\n  url: file:///x\nrepo:\n  a: b\n", "line 3, column 1: unknown key \"repo\""},
		"not yaml":           {"repository: [", "line 1, column 13"},
		"empty":              {" \n", "empty"},
		"no url":             {"clusters: {}\n", "repository.url is missing"},
		"relative file":      {"repository:\n  url: file://var/lib\n", "must be absolute"},
		"scheme":             {"repository:\n  url: gs://bucket\n", "only file:///DIRECTORY and s3://BUCKET/PREFIX"},
		"credentials":        {"repository:\n  url: s3://KEY:hushhush@bucket/x\n", "credentials do not belong"},
		"broken credentials": {"repository:\n  url: s3://KEY:hush hush@bucket/x\n", "is not a URL"},
		"fragment":           {"repository:\n  url: file:///srv/walden#2\n", "%23"},
		"query":              {"repository:\n  url: s3://bucket/walden?2\n", "%3F"},
		"beside a password":  {"repository:\n  url: file:///x\nclusters:\n  a:\n    connection: host=h password=hushhush\n    colour: red\n", "line 6, column 5: unknown key \"colour\""},
		"codec":              {"repository:\n  url: file:///x\n  compression: gzip\n", "gzip"},
		"cluster name":       {"repository:\n  url: file:///x\nclusters:\n  Main/x:\n    connection: a\n", "Main/x"},
		"wrong type":         {"repository:\n  url: file:///x\n  s3: { path_style: often }\n", "line 3, "},
		"duplicate cluster":  {"repository:\n  url: file:///x\nclusters:\n  a: {connection: x}\n  a: {connection: y}\n", "line 5, column 3"},
	} {
		t.Run(name, func(t *testing.T) {
			p := write(t, c.yaml)
			_, err := Load(p, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p) {
				t.Errorf("got %v, want %q and the path", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the message tells a secret: %v", err)
			}
		})
	}
	if _, err := Load(write(t, sample), []string{"WALDEN_REPOSITORY_S3_PATH_STYLE=perhaps"}); err == nil || !strings.Contains(err.Error(), "WALDEN_REPOSITORY_S3_PATH_STYLE") {
		t.Errorf("bad boolean in the environment: %v", err)
	}
	for _, name := range []string{"WALDEN_REPOSITORY_S3_COLOUR", "WALDEN_CLUSTERS_MAIN_COLOUR"} {
		if _, err := Load(write(t, sample), []string{name + "=x"}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s, which is no key: %v", name, err)
		}
	}
}

func TestWithin(t *testing.T) {
	for have, want := range map[string]string{"": "10s", "3m": "10s", "5s": "5s", "0s": "0s", "odd": "odd"} {
		if got := (Repository{Retry: have}).Within(10 * time.Second).Retry; got != want {
			t.Errorf("%q: %q, want %q", have, got, want)
		}
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	c, err := Parse("x", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("x", b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if again.Repository != c.Repository || again.Clusters["main"] != c.Clusters["main"] {
		t.Errorf("%+v became %+v\n%s", c, again, b)
	}
}
