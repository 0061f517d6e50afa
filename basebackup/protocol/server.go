package protocol

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// Options say how to reach the server.
type Options struct {
	// Conninfo is a libpq connection string or URL, without replication=….
	Conninfo string
	// Logger receives the server's notices at debug level; nil: none.
	Logger *slog.Logger
}

// Server is a PostgreSQL server that backups are taken from. Its methods are
// safe for concurrent use: each opens connections of its own.
type Server struct {
	o Options
}

var (
	_ basebackup.Source = (*Server)(nil)
	_ basebackup.Server = (*Server)(nil)
)

// New checks the connection string. It does not connect.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if _, err := server.Parse(o.Conninfo); err != nil {
		return nil, err
	}
	return &Server{o: o}, nil
}

// connect opens a connection. Notices go to notice, if it is not nil.
func (s *Server) connect(ctx context.Context, mode server.Mode, notice func(*pgconn.Notice)) (*pgconn.PgConn, error) {
	return server.Connect(ctx, s.o.Conninfo, mode, func(config *pgconn.Config) {
		if mode == server.Replication {
			// The connection that holds a slot is idle while files are copied.
			config.RuntimeParams["idle_session_timeout"] = "0"
		}
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			s.o.Logger.Debug("notice of the server", "severity", n.Severity, "message", n.Message, "detail", n.Detail)
			if notice != nil {
				notice(n)
			}
		}
	})
}

// closeConn says goodbye, without waiting long for a server that is gone.
func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// Identify implements basebackup.Server.
func (s *Server) Identify(ctx context.Context) (basebackup.Identity, error) {
	conn, err := s.connect(ctx, server.Replication, nil)
	if err != nil {
		return basebackup.Identity{}, err
	}
	defer closeConn(conn)
	return identify(ctx, conn)
}

func identify(ctx context.Context, conn *pgconn.PgConn) (id basebackup.Identity, err error) {
	row, err := queryRow(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return id, err
	}
	if id.SystemID, err = strconv.ParseUint(row[0], 10, 64); err != nil {
		return id, fmt.Errorf("system identifier %q: %w", row[0], err)
	}
	if id.Timeline, err = parseTimeline(row[1]); err != nil {
		return id, err
	}
	if id.ServerVersion, err = serverVersion(ctx, conn); err != nil {
		return id, err
	}
	size, err := show(ctx, conn, "wal_segment_size")
	if err != nil {
		return id, err
	}
	if id.SegmentSize, err = wal.ParseSegmentSize(size); err != nil {
		return id, err
	}
	if id.ArchiveMode, err = show(ctx, conn, "archive_mode"); err != nil {
		return id, err
	}
	// in_hot_standby is what a server of 14 and later reports by itself.
	id.InRecovery = conn.ParameterStatus("in_hot_standby") == "on"
	return id, nil
}

func serverVersion(ctx context.Context, conn *pgconn.PgConn) (int, error) {
	text, err := show(ctx, conn, "server_version_num")
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("server_version_num %q: %w", text, err)
	}
	return v, nil
}

func show(ctx context.Context, conn *pgconn.PgConn, name string) (string, error) {
	row, err := queryRow(ctx, conn, "SHOW "+name, 1)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// queryRow runs a replication command that answers with one row of at least
// columns columns. NULLs are empty strings.
func queryRow(ctx context.Context, conn *pgconn.PgConn, sql string, columns int) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s: the server's answer is not one row of %d columns", sql, columns)
	}
	var row []string
	for _, v := range results[0].Rows[0] {
		row = append(row, string(v))
	}
	return row, nil
}

func parseTimeline(s string) (wal.TimelineID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("the server sent an illegal timeline %q", s)
	}
	return wal.TimelineID(n), nil
}

func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// notices gathers the server's warnings, a bounded number of them.
type notices struct {
	mu    sync.Mutex
	lines []string
	more  int
}

const maxNotices = 20

func (n *notices) add(notice *pgconn.Notice) {
	if s := notice.SeverityUnlocalized; s != "WARNING" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	line := notice.Message
	if notice.Detail != "" {
		line += " (" + notice.Detail + ")"
	}
	// The server walks through its files twice, to measure and to send them.
	if slices.Contains(n.lines, line) {
		return
	}
	if len(n.lines) >= maxNotices {
		n.more++
		return
	}
	n.lines = append(n.lines, line)
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := append([]string(nil), n.lines...)
	if n.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more warnings", n.more))
	}
	return lines
}
