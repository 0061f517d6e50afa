package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// Status is the outcome of one probe.
type Status string

// The outcomes. A warning does not make check fail; a failure does.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what one probe found.
type Finding struct {
	Probe  string `json:"probe"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// CheckOptions are the wishes of `walden check`.
type CheckOptions struct {
	Config *config.Config
	// Cluster is the name of the cluster to check.
	Cluster string
	// Executable is the absolute path of walden.
	Executable string
	// ArchiveTimeout is how long to wait for a switched segment to arrive; 0: do not switch.
	ArchiveTimeout time.Duration
	// Report is called with each finding as it is made.
	Report func(Finding)
	// Log is told of retries.
	Log *slog.Logger
}

type checker struct {
	CheckOptions
	findings []Finding
	desc     *server.Description
	arch     *archive.Archive
	// slot and streams: see describeStreams.
	slot    string
	streams []hostStreaming
}

// Check probes repository, connections, permissions and settings, in the order
// in which they depend on each other.
func Check(ctx context.Context, o CheckOptions) []Finding {
	c := &checker{CheckOptions: o}
	repo := c.repository(ctx)
	conn := c.connections(ctx)
	if conn != nil {
		defer func() { _ = conn.Close(ctx) }() // the answers are in already
	}
	if repo != nil && c.desc != nil && c.desc.SystemID != 0 {
		c.identity(ctx, repo)
	}
	if c.desc != nil {
		c.describeStreams(ctx)
		c.settings()
		c.rights()
		c.archiver()
		c.streaming()
		c.names(ctx)
	}
	if conn != nil && c.arch != nil && c.ArchiveTimeout > 0 {
		c.roundTrip(ctx, conn)
	}
	return c.findings
}

func (c *checker) add(probe string, s Status, hint, format string, args ...any) {
	f := Finding{Probe: probe, Status: s, Detail: fmt.Sprintf(format, args...), Hint: hint}
	c.findings = append(c.findings, f)
	if c.Report != nil {
		c.Report(f)
	}
}

func (c *checker) fail(probe string, err error) {
	c.add(probe, Fail, hintOf(err), "%v", err)
}

// hintOf is what an error advises; may be empty.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return storage.Hint(err)
}

// uploadRule is what a store can tell about uploads that were never finished.
type uploadRule interface {
	AbandonedUploadsExpire(ctx context.Context) (bool, error)
}

func (c *checker) repository(ctx context.Context) *repository.Repository {
	repo, err := c.Config.Repository.Within(patience).Open(ctx, c.Log, config.OpenOptions{})
	if err != nil {
		c.fail("repository", err)
		return nil
	}
	c.add("repository", OK, "", "%s, format 1, not encrypted", c.Config.Repository.URL)
	if err := storage.ProbeConditional(ctx, repo.Store(), repository.ProbePrefix); err != nil {
		c.fail("repository writes", err)
	} else {
		c.add("repository writes", OK, "", "objects can be created and deleted, and none can be overwritten")
	}
	if s, ok := storage.Unwrap(repo.Store()).(uploadRule); ok {
		expire, err := s.AbandonedUploadsExpire(ctx)
		switch {
		case err != nil:
			c.add("abandoned uploads", Warn, "grant s3:GetLifecycleConfiguration, or look yourself", "the bucket's lifecycle rules cannot be read: %v", err)
		case !expire:
			c.add("abandoned uploads", Warn, "add a lifecycle rule AbortIncompleteMultipartUpload (7 days) to the bucket", "no lifecycle rule ends multipart uploads that were cut off: their parts cost money for ever")
		default:
			c.add("abandoned uploads", OK, "", "a lifecycle rule ends them")
		}
	}
	return repo
}

func (c *checker) connections(ctx context.Context) *pgconn.PgConn {
	conninfo := c.Config.Clusters[c.Cluster].Connection
	conn, err := server.Connect(ctx, conninfo, server.SQL, nil)
	if err != nil {
		c.fail("connection", err)
		return nil
	}
	if c.desc, err = server.Describe(ctx, conn); err != nil {
		c.fail("server", err)
		c.desc = nil
		return conn
	}
	role := "primary"
	if c.desc.InRecovery {
		role = "standby"
	}
	c.add("connection", OK, "", "PostgreSQL %d.%d, %s, segments of %d MiB", c.desc.Major(), c.desc.Version%10000, role, c.desc.SegmentSize.Bytes()>>20)
	repl, err := server.Connect(ctx, conninfo, server.Replication, nil)
	if err != nil {
		c.fail("replication connection", err)
		return conn
	}
	defer func() { _ = repl.Close(ctx) }() // nothing was begun on it
	if c.desc.SystemID, c.desc.Timeline, err = server.Identify(ctx, repl); err != nil {
		c.fail("replication connection", err)
		return conn
	}
	c.add("replication connection", OK, "", "system identifier %d, timeline %d", c.desc.SystemID, c.desc.Timeline)
	return conn
}

func (c *checker) identity(ctx context.Context, repo *repository.Repository) {
	incs, err := archive.Incarnations(ctx, repo, c.Cluster)
	if err != nil {
		c.fail("identity", err)
		return
	}
	inc, ok := archive.FindIncarnation(incs, c.desc.SystemID, c.desc.SegmentSize)
	if !ok {
		c.add("identity", Fail, "run `walden init`: it adds this cluster to the repository", "the repository knows no cluster %q with system identifier %d and segments of %d MiB", c.Cluster, c.desc.SystemID, c.desc.SegmentSize.Bytes()>>20)
		return
	}
	if current := incs[len(incs)-1]; current.Number != inc.Number {
		c.add("identity", Warn, "was an old server started again? `walden list` shows both", "this server is incarnation %d of %q, but incarnation %d is newer", inc.Number, c.Cluster, current.Number)
	} else {
		c.add("identity", OK, "", "incarnation %d of cluster %q", inc.Number, c.Cluster)
	}
	c.arch = archive.New(repo, inc)
}

func (c *checker) settings() {
	s := func(name string) string { return c.desc.Settings[name].Value }
	if v := s("wal_level"); v == "minimal" {
		c.add("wal_level", Fail, "wal_level = replica (restart needed)", "wal_level is minimal: such WAL cannot be restored from")
	} else {
		c.add("wal_level", OK, "", "%s", v)
	}
	if s("full_page_writes") == "off" {
		c.add("full_page_writes", Warn, "full_page_writes = on", "it is off: a crash can tear pages of the running cluster (backups are safe: the server turns it on while one runs)")
	}
	if s("fsync") == "off" {
		c.add("fsync", Warn, "fsync = on", "it is off: a crash of the machine can destroy the cluster")
	}
	if s("data_checksums") != "on" {
		c.add("data_checksums", Warn, "pg_checksums --enable, while the server is stopped", "off: damage to table files on the server's disk goes into backups unnoticed")
	} else {
		c.add("data_checksums", OK, "", "on: the server verifies every page that a backup reads")
	}
	if n, err := strconv.Atoi(s("max_wal_senders")); err == nil && n < minWalSenders {
		c.add("max_wal_senders", Fail, fmt.Sprintf("max_wal_senders = %d or more (restart needed)", minWalSenders), "%d: a base backup needs %d", n, minWalSenders)
	} else {
		c.add("max_wal_senders", OK, "", "%d", n)
	}
	c.archiving(s)
}

func (c *checker) archiving(s func(string) string) {
	mode := s("archive_mode")
	switch {
	case mode == "off" && c.streamed():
		c.add("archive_mode", OK, "", "off: WAL is archived by `walden stream`")
		return
	case mode == "off" && c.desc.Settings["archive_mode"].PendingRestart:
		c.add("archive_mode", Fail, "restart the server", "off; the new value waits for a restart")
		return
	case mode == "off" && c.desc.InRecovery:
		// The primary archives; this server would, once it is promoted.
		c.add("archive_mode", Warn, "archive_mode = on here too, before it is promoted", "off on this standby: promoted, it would archive nothing")
		return
	case mode == "off" && len(c.streams) > 0:
		c.add("archive_mode", Fail, "start `walden stream`, or set archive_mode and archive_command (`walden init` prints them)", "off, and no `walden stream` runs: no WAL is archived")
		return
	case mode == "off":
		c.add("archive_mode", Fail, "run `walden init` again: it prints the lines to apply", "off: no WAL is archived")
		return
	}
	c.add("archive_mode", OK, "", "%s", mode)
	command := s("archive_command")
	want := ArchiveCommand(c.Executable, c.Config.Path, c.Cluster)
	switch {
	case command == want:
		c.add("archive_command", OK, "", "%s", command)
	case strings.Contains(command, "wal-push"):
		c.add("archive_command", Warn, "if this was not on purpose: archive_command = '"+want+"'", "it calls another walden or configuration: %s", command)
	case command == "" && c.streamed():
		c.add("archive_command", Warn, "archive_mode = off (restart needed): `walden stream` archives, and without a command the server keeps every segment", "empty")
	case command == "" && c.desc.Settings["archive_command"] == (server.Setting{}):
		c.add("archive_command", Warn, "GRANT pg_read_all_settings to the role", "this role may not see it")
	default:
		c.add("archive_command", Fail, "archive_command = '"+want+"'", "it does not call walden: %q", command)
	}
}

func (c *checker) rights() {
	switch n := len(c.desc.ExternalConfig); {
	case n == 0 && c.desc.Settings["config_file"].Value == "":
		c.add("configuration files", Warn, "run `walden init` again: it prints the GRANT", "this role may not see where they lie: those outside the data directory are not backed up")
	case n == 0:
		c.add("configuration files", OK, "", "inside the data directory: part of every backup")
	case c.desc.ConfigReadable:
		c.add("configuration files", OK, "", "%s: backed up too", strings.Join(c.desc.ExternalConfig, ", "))
	default:
		c.add("configuration files", Warn, "run `walden init` again: it prints the GRANT", "%s: outside the data directory and not readable for this role, so not backed up", strings.Join(c.desc.ExternalConfig, ", "))
	}
}

func (c *checker) archiver() {
	a := c.desc.Archiver
	switch {
	case a.LastFailedIsMoreRecent:
		c.add("archiver", Fail, "the server's log holds what archive_command printed", "the last attempt failed: %s (%d failures so far); the server keeps its WAL until it succeeds", a.LastFailed, a.Failed)
	case a.LastArchived != "":
		c.add("archiver", OK, "", "last archived %s", a.LastArchived)
	}
}

// roundTrip switches to a new segment and waits until the one that was ended
// is in the repository: the proof that archive_command works.
func (c *checker) roundTrip(ctx context.Context, conn *pgconn.PgConn) {
	const probe = "archiving"
	switch {
	case c.desc.InRecovery:
		c.add(probe, Warn, "run check on the primary", "not tried: a standby cannot end a segment")
		return
	case !c.desc.CanSwitchWAL:
		c.add(probe, Warn, "run `walden init` again: it prints the GRANT", "not tried: this role may not execute pg_switch_wal()")
		return
	case c.desc.Settings["archive_mode"].Value == "off" && !c.streamed():
		return
	}
	err := server.EmitMessage(ctx, conn)
	var name string
	if err == nil {
		name, err = server.SwitchWAL(ctx, conn)
	}
	if err != nil {
		c.fail(probe, err)
		return
	}
	seg, err := wal.ParseSegment(name, c.desc.SegmentSize)
	if err != nil {
		c.fail(probe, err)
		return
	}
	began := time.Now()
	for {
		ok, err := c.arch.Contains(ctx, seg)
		switch {
		case err != nil:
			c.fail(probe, err)
			return
		case ok:
			c.add(probe, OK, "", "segment %s arrived in the repository within %s", name, time.Since(began).Round(10*time.Millisecond))
			return
		case time.Since(began) > c.ArchiveTimeout:
			hint := "the server's log holds what archive_command printed"
			if c.streamed() {
				hint = "the log of `walden stream` tells why; so does the server's, of archive_command"
			}
			c.add(probe, Fail, hint, "segment %s did not arrive in the repository within %s", name, c.ArchiveTimeout)
			return
		}
		select {
		case <-ctx.Done():
			c.fail(probe, ctx.Err())
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
