// Package config reads walden.yaml and the WALDEN_… environment: which
// repository, which clusters. Unknown keys are errors that name the line.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/wal/archive"
)

// Config is the content of walden.yaml after the environment was applied.
type Config struct {
	// Path is the file that was read, absolute; empty if only the environment was used.
	Path string `yaml:"-"`
	// Repository says where everything is stored.
	Repository Repository `yaml:"repository"`
	// Clusters are the configured clusters by name.
	Clusters map[string]Cluster `yaml:"clusters"`
}

// Repository is the section that says where everything is stored.
type Repository struct {
	// URL is file:///DIRECTORY or s3://BUCKET[/PREFIX].
	URL string `yaml:"url"`
	// S3 refines an s3:// URL.
	S3 S3 `yaml:"s3,omitempty"`
	// Compression is lz4 (the default), zstd or none.
	Compression string `yaml:"compression,omitempty"`
	// Retry is how long an S3 operation that makes no progress is tried again,
	// as a duration such as 30s; default 2m, 0s: not at all.
	Retry string `yaml:"retry,omitempty"`
}

// S3 holds the settings of an s3:// repository. Credentials come from the
// standard AWS chain: environment, shared files, instance roles.
type S3 struct {
	// Endpoint is the URL of a server other than AWS; empty: AWS.
	Endpoint string `yaml:"endpoint,omitempty"`
	// Region is the bucket's region; default us-east-1.
	Region string `yaml:"region,omitempty"`
	// PathStyle addresses buckets as ENDPOINT/BUCKET instead of BUCKET.ENDPOINT.
	PathStyle bool `yaml:"path_style,omitempty"`
	// CAFile is a PEM file of certificate authorities to trust besides the system's.
	CAFile string `yaml:"ca_file,omitempty"`
}

// Cluster is one PostgreSQL cluster.
type Cluster struct {
	// Connection is a libpq connection string: keywords or a URL.
	Connection string `yaml:"connection"`
	// DataDirectory is set only where Walden runs beside the server.
	DataDirectory string `yaml:"data_directory,omitempty"`
	// Stream is set where the WAL is streamed; an empty section means with all defaults.
	Stream *Stream `yaml:"stream,omitempty"`
}

// SearchPath lists where a configuration is looked for, in order, when neither
// --config nor $WALDEN_CONFIG names one.
var SearchPath = []string{"./walden.yaml", "/etc/walden/walden.yaml"}

// NotFoundError says that no configuration was found, and where it was sought.
type NotFoundError struct{ Looked []string }

func (e *NotFoundError) Error() string {
	return "no configuration found: looked for " + strings.Join(e.Looked, ", ")
}

// Hint tells how to get a configuration.
func (e *NotFoundError) Hint() string {
	return "run `walden init --repository URL --connection CONNINFO` to write one, or name one with --config or WALDEN_CONFIG"
}

// Find returns the path of the configuration file that is to be used: the
// given one, $WALDEN_CONFIG, or the first of SearchPath that exists. A
// *NotFoundError says that there is none.
func Find(given string, getenv func(string) string) (string, error) {
	if given == "" {
		given = getenv("WALDEN_CONFIG")
	}
	looked := SearchPath
	if given != "" {
		looked = []string{given}
	}
	for _, p := range looked {
		_, err := os.Stat(p)
		if err == nil {
			return filepath.Abs(p)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("configuration: %w", err)
		}
	}
	return "", &NotFoundError{Looked: looked}
}

// Load finds and reads the configuration (see Find), applies the environment
// (a list of NAME=VALUE) and checks the result. Where no file is found but the
// environment names a repository, the environment alone is the configuration.
func Load(given string, environ []string) (*Config, error) {
	env := parseEnviron(environ)
	path, err := Find(given, func(k string) string { return env[k] })
	c := &Config{}
	var missing *NotFoundError
	switch {
	case errors.As(err, &missing):
		if given != "" || env["WALDEN_CONFIG"] != "" || env["WALDEN_REPOSITORY_URL"] == "" {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		if c, err = Parse(path, b); err != nil {
			return nil, err
		}
	}
	if err := c.applyEnvironment(env); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// Parse reads the bytes of a configuration file. Errors name path and line.
// The result is not validated, because the environment may still complete it.
func Parse(path string, b []byte) (*Config, error) {
	c := &Config{Path: path}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fmt.Errorf("configuration %s: the file is empty", path)
	}
	d := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := d.Decode(c); err != nil {
		// Without the lines around it: they may hold a password, and what a hook
		// prints goes into the server's log.
		why := strings.TrimSpace(yaml.FormatError(err, false, false)) // [LINE:COLUMN] what
		why = regexp.MustCompile(`^\[(\d+):(\d+)\] `).ReplaceAllString(why, "line $1, column $2: ")
		return nil, fmt.Errorf("configuration %s: %s", path, strings.Replace(why, "unknown field", "unknown key", 1))
	}
	return c, nil
}

// Validate checks what the file and the environment say together.
func (c *Config) Validate() error {
	where := c.Path
	if where == "" {
		where = "(environment)"
	}
	if c.Repository.URL == "" {
		return fmt.Errorf("configuration %s: repository.url is missing (file:///DIRECTORY or s3://BUCKET/PREFIX)", where)
	}
	if _, err := parseURL(c.Repository.URL); err != nil {
		return fmt.Errorf("configuration %s: repository.url: %w", where, err)
	}
	if _, err := c.Repository.Codec(); err != nil {
		return fmt.Errorf("configuration %s: repository.compression: %w", where, err)
	}
	if _, err := c.Repository.retryFor(); err != nil {
		return fmt.Errorf("configuration %s: repository.retry: %w", where, err)
	}
	for name, cl := range c.Clusters {
		if err := archive.CheckClusterName(name); err != nil {
			return fmt.Errorf("configuration %s: clusters.%s: %w", where, name, err)
		}
		if cl.Stream == nil {
			continue
		}
		if err := cl.Stream.validate(); err != nil {
			return fmt.Errorf("configuration %s: clusters.%s.stream.%w", where, name, err)
		}
	}
	return nil
}

// Codec returns the codec that the configuration asks for.
func (r Repository) Codec() (frame.Codec, error) {
	if r.Compression == "" {
		return frame.CodecLZ4, nil
	}
	return frame.ParseCodec(r.Compression)
}

// defaultRetry is how long the store is tried again where Retry is empty.
const defaultRetry = 2 * time.Minute

// RetryFor is how long an operation that makes no progress is tried again.
func (r Repository) RetryFor() time.Duration {
	d, _ := r.retryFor() // what was loaded has been validated
	return d
}

// Within returns the section with retries that end after limit at the latest.
func (r Repository) Within(limit time.Duration) Repository {
	if d, err := r.retryFor(); err == nil && d > limit {
		r.Retry = limit.String()
	}
	return r
}

func (r Repository) retryFor() (time.Duration, error) {
	if r.Retry == "" {
		return defaultRetry, nil
	}
	d, err := time.ParseDuration(r.Retry)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 30s or 2m", r.Retry)
	}
	return d, nil
}

// ClusterNames returns the names of the configured clusters, sorted.
func (c *Config) ClusterNames() []string {
	names := make([]string, 0, len(c.Clusters))
	for n := range c.Clusters {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// UnknownClusterError says that no cluster of that name is configured.
type UnknownClusterError struct {
	// Name is what was asked for; empty if nothing was.
	Name string
	// Known are the configured clusters.
	Known []string
}

func (e *UnknownClusterError) Error() string {
	known := "none is configured"
	if len(e.Known) > 0 {
		known = "configured: " + strings.Join(e.Known, ", ")
	}
	if e.Name == "" {
		return "which cluster? " + known
	}
	return fmt.Sprintf("no cluster %q is configured (%s)", e.Name, known)
}

// Hint says how to name a cluster.
func (e *UnknownClusterError) Hint() string {
	return "name one with --cluster, or add it under `clusters:` in the configuration"
}

// Cluster returns the named cluster, or the only one if name is empty.
func (c *Config) Cluster(name string) (string, Cluster, error) {
	if name == "" && len(c.Clusters) == 1 {
		name = c.ClusterNames()[0]
	}
	cl, ok := c.Clusters[name]
	if !ok {
		return "", Cluster{}, &UnknownClusterError{Name: name, Known: c.ClusterNames()}
	}
	return name, cl, nil
}

// Marshal renders the configuration as walden.yaml.
func (c *Config) Marshal() ([]byte, error) {
	b, err := yaml.MarshalWithOptions(c, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return append([]byte("# Walden's configuration. Every key can be overridden by WALDEN_… in the environment.\n"), b...), nil
}
