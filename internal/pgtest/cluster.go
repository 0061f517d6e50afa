//go:build unix

package pgtest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/freeport"
)

// Options say what cluster [New] makes.
type Options struct {
	// Major is the PostgreSQL major; 0 means the newest of Majors.
	Major int
	// SegmentSizeMB is wal_segment_size in MiB, a power of two from 1 to 1024;
	// 0 means 16. One makes tests of many segments cheap.
	SegmentSizeMB int
	// DataChecksums turns data checksums on. Off is the default whatever the
	// major's own default is, so that all majors behave alike.
	DataChecksums bool
	// Locale is initdb's --locale; "" means C. The encoding is UTF8.
	Locale string
	// InitdbArgs are further arguments of initdb.
	InitdbArgs []string
	// Settings go into postgresql.conf and override the harness's own, which
	// are made for speed: fsync, synchronous_commit and full_page_writes keep
	// PostgreSQL's defaults but fsync is off.
	Settings map[string]string
	// HBA are lines that go before the harness's own in pg_hba.conf, which
	// trust everybody from the socket and from 127.0.0.1.
	HBA []string
	// Dir is the data directory to make; "" means one below a TempDir. It must
	// be where the server user may write.
	Dir string
	// NoStart leaves the cluster initialized and stopped.
	NoStart bool
}

// Cluster is one PostgreSQL data directory and, while it runs, its server.
// Methods end the test with t.Fatal when what they do fails, so they must be
// called from the test's goroutine; those that return an error may be called
// from any.
type Cluster struct {
	t testing.TB
	*instance
}

// instance is what all views of one cluster share.
type instance struct {
	major     int
	binDir    string
	dataDir   string
	socketDir string
	logFile   string
	port      int
	// overrides are settings given on the server's command line: what must
	// differ from the postgresql.conf a copied directory brings along.
	overrides map[string]string
	server    *server
}

// New makes a cluster and starts its server, which is stopped when the test
// ends. When the test has failed, the end of the server's log is printed.
//
// With -short the test is skipped: `make test` runs everything without the race
// detector, and with it, in short mode, what needs no server.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server: run by the part of the tests that is not short")
	}
	if o.Major == 0 {
		o.Major = Newest()
	}
	c := prepare(t, o.Major)
	if o.Dir != "" {
		c.dataDir = o.Dir
	}
	c.initdb(o)
	if !o.NoStart {
		c.Start()
	}
	return c
}

// Attach wraps a data directory that exists already, such as a restored one,
// without changing anything in it; the server is not started. Port and socket
// directory are given on the server's command line, so it may run beside the
// cluster it was copied from.
func Attach(t testing.TB, major int, dataDir string) *Cluster {
	t.Helper()
	c := prepare(t, major)
	c.dataDir = dataDir
	c.overrides = map[string]string{
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.socketDir,
		"listen_addresses":        "127.0.0.1",
	}
	return c
}

// AttachRestored is [Attach] for a directory that was restored from this
// cluster: the same major.
func (c *Cluster) AttachRestored(dataDir string) *Cluster {
	c.t.Helper()
	return Attach(c.t, c.major, dataDir)
}

// With returns a view of the cluster that reports to t, for use in a subtest.
// The server still stops when the test it was made in ends.
func (c *Cluster) With(t testing.TB) *Cluster { return &Cluster{t: t, instance: c.instance} }

func prepare(t testing.TB, major int) *Cluster {
	t.Helper()
	bin := BinDir(t, major)
	base := TempDir(t)
	c := &Cluster{t: t, instance: &instance{
		major:     major,
		binDir:    bin,
		dataDir:   filepath.Join(base, "data"),
		socketDir: base,
		logFile:   filepath.Join(base, "log"),
		port:      freePort(t),
	}}
	// Runs before the directory is removed: clean-ups run last in, first out.
	t.Cleanup(func() {
		c.end()
		if t.Failed() {
			t.Logf("end of the log of PostgreSQL %d in %s:\n%s", c.major, c.dataDir, tail(c.Log(), 60))
		}
	})
	return c
}

func (c *Cluster) initdb(o Options) {
	c.t.Helper()
	size := o.SegmentSizeMB
	if size == 0 {
		size = 16
	}
	locale := o.Locale
	if locale == "" {
		locale = "C"
	}
	args := []string{"-D", c.dataDir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync",
		"--no-instructions", "--locale", locale, "--wal-segsize", strconv.Itoa(size)}
	switch {
	case o.DataChecksums:
		args = append(args, "--data-checksums")
	case o.Major >= 18: // checksums are on unless refused
		args = append(args, "--no-data-checksums")
	}
	c.run(c.command(context.Background(), "initdb", append(args, o.InitdbArgs...)...))

	settings := map[string]string{
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.socketDir,
		"listen_addresses":        "127.0.0.1",
		"fsync":                   "off",
		"shared_buffers":          "32MB",
		"max_connections":         "40",
		"max_wal_senders":         "10",
		"max_replication_slots":   "10",
		"wal_level":               "replica",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_line_prefix":         "%m [%p] ",
		"lc_messages":             "C",
		"autovacuum":              "on",
	}
	if size == 1 {
		// The defaults are for 16 MiB segments; min_wal_size must be at least
		// two segments and max_wal_size may stay.
		settings["min_wal_size"] = "5MB"
	}
	if size > 16 {
		settings["min_wal_size"] = fmt.Sprintf("%dMB", 2*size)
		settings["max_wal_size"] = fmt.Sprintf("%dMB", max(1024, 4*size))
	}
	maps.Copy(settings, o.Settings)
	c.appendConf(settings)
	c.writeHBA(o.HBA)
}

// writeHBA replaces pg_hba.conf: the caller's lines, then trust for everybody.
func (c *Cluster) writeHBA(lines []string) {
	c.t.Helper()
	lines = append(slices.Clone(lines),
		"local all all trust",
		"local replication all trust",
		"host all all 127.0.0.1/32 trust",
		"host replication all 127.0.0.1/32 trust")
	path := filepath.Join(c.dataDir, "pg_hba.conf")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		c.t.Fatalf("pg_hba.conf: %v", err)
	}
	chown(c.t, path)
}

// Configure appends settings to postgresql.conf; they count from the next
// [Cluster.Start] or, where PostgreSQL allows that, [Cluster.Reload].
func (c *Cluster) Configure(settings map[string]string) {
	c.t.Helper()
	c.appendConf(settings)
}

func (c *Cluster) appendConf(settings map[string]string) {
	c.t.Helper()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(settings[k], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(c.dataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatalf("postgresql.conf: %v", err)
	}
	_, err = f.WriteString(b.String())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		c.t.Fatalf("postgresql.conf: %v", err)
	}
}

// Major returns the cluster's PostgreSQL major.
func (c *Cluster) Major() int { return c.major }

// DataDir returns the data directory.
func (c *Cluster) DataDir() string { return c.dataDir }

// BinDir returns the directory of the programs of the cluster's major.
func (c *Cluster) BinDir() string { return c.binDir }

// Bin returns the path of one of the major's programs, such as pg_waldump.
func (c *Cluster) Bin(name string) string { return filepath.Join(c.binDir, name) }

// Port returns the server's port, on 127.0.0.1 and in its socket's name.
func (c *Cluster) Port() int { return c.port }

// SocketDir returns the directory of the server's Unix socket.
func (c *Cluster) SocketDir() string { return c.socketDir }

// Log returns what the server has written so far.
func (c *Cluster) Log() string {
	b, err := os.ReadFile(c.logFile)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(b)
}

// Conninfo returns a libpq connection string for the database ("" means
// postgres) through the Unix socket, as superuser.
func (c *Cluster) Conninfo(dbname string) string { return c.conninfo(c.socketDir, dbname) }

// TCPConninfo is [Cluster.Conninfo] over 127.0.0.1, for tests that put a proxy
// between or need a password asked for.
func (c *Cluster) TCPConninfo(dbname string) string { return c.conninfo("127.0.0.1", dbname) }

func (c *Cluster) conninfo(host, dbname string) string {
	if dbname == "" {
		dbname = "postgres"
	}
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", host, c.port, dbname)
}

// ReplicationConninfo returns a connection string for physical replication.
func (c *Cluster) ReplicationConninfo() string { return c.Conninfo("") + " replication=true" }

// freePort reserves a port for as long as the test runs.
func freePort(t testing.TB) int {
	t.Helper()
	port, release, err := freeport.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return port
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// timeout bounds what the harness waits for in one step: generous, since CI
// has two cores and many servers.
const timeout = 2 * time.Minute
