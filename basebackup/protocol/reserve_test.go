package protocol_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/basebackup/protocol"
	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/wal"
)

// holder is a scripted server that holds WAL for a backup. first answers the
// first START_REPLICATION; every later one is served.
func holder(t *testing.T, first func(c *fakepg.Conn) bool) *fakepg.Server {
	starts := 0
	return fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		switch {
		case sql == "IDENTIFY_SYSTEM":
			c.Rows("systemid timeline xlogpos dbname", []any{"7345678901234567890", 3, "0/3000000", nil})
		case sql == "SHOW server_version_num":
			c.Rows("server_version_num", []any{170004})
		case sql == "SHOW wal_segment_size":
			c.Rows("wal_segment_size", []any{"1MB"})
		case sql == "SHOW archive_mode":
			c.Rows("archive_mode", []any{"off"})
		case strings.HasPrefix(sql, "CREATE_REPLICATION_SLOT"):
			c.Rows("slot_name consistent_point snapshot_name output_plugin", []any{"s", "0/0", nil, nil})
		case strings.HasPrefix(sql, "START_REPLICATION"):
			if starts++; starts == 1 {
				return first(c)
			}
			serveSegment(c)
		default:
			c.Error("42601", "syntax error: "+sql)
			return true
		}
		c.Ready()
		return true
	})
}

// serveSegment streams the segment from 0/300000 on and waits for the end of the copy.
func serveSegment(c *fakepg.Conn) {
	c.Send(&pgproto3.CopyBothResponse{})
	message := make([]byte, 25+1<<20)
	message[0] = 'w'
	binary.BigEndian.PutUint64(message[1:], 0x300000)
	c.Data(message)
	if c.Flush() != nil {
		return
	}
	for {
		switch msg, err := c.Receive(); msg.(type) {
		case *pgproto3.CopyDone:
			c.Send(&pgproto3.CopyDone{})
			c.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_REPLICATION")})
			return
		default:
			if err != nil {
				return
			}
		}
	}
}

func fetchHeld(t *testing.T, server *fakepg.Server) (fetched int, err error) {
	t.Helper()
	s, err := protocol.New(protocol.Options{Conninfo: server.Conninfo()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	held, err := s.Reserve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close(ctx)
	err = held.Fetch(ctx, 3, 0x300000, 0x400000, func(context.Context, wal.Segment, io.ReaderAt) error {
		fetched++
		return nil
	})
	return fetched, err
}

func fatal(code, message string) func(c *fakepg.Conn) bool {
	return func(c *fakepg.Conn) bool {
		c.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message})
		return false
	}
}

// TestFetchAfterTheConnectionIsLost: however a connection that waited was
// ended, the WAL is fetched over another, without the slot that went with it.
func TestFetchAfterTheConnectionIsLost(t *testing.T) {
	for name, first := range map[string]func(c *fakepg.Conn) bool{
		"by an administrator": fatal("57P01", "terminating connection due to administrator command"),
		"by a time limit":     fatal("57P05", "terminating connection due to idle-session timeout"),
		"by the network":      func(*fakepg.Conn) bool { return false },
	} {
		t.Run(name, func(t *testing.T) {
			server := holder(t, first)
			if n, err := fetchHeld(t, server); n != 1 || err != nil {
				t.Fatalf("%d segments, %v", n, err)
			}
			queries := server.Queries()
			if last := queries[len(queries)-1]; strings.Contains(last, "SLOT") {
				t.Errorf("the slot is gone, and it was asked for: %s", last)
			}
		})
	}
}

// TestFetchIsRefused: what the server itself refuses is not asked for again.
func TestFetchIsRefused(t *testing.T) {
	server := holder(t, func(c *fakepg.Conn) bool {
		c.Error("58P01", "requested WAL segment 000000030000000000000003 has already been removed")
		return true
	})
	n, err := fetchHeld(t, server)
	var said *pgconn.PgError
	if n != 0 || !errors.As(err, &said) || said.Code != "58P01" {
		t.Fatalf("%d segments, %v", n, err)
	}
	starts := 0
	for _, q := range server.Queries() {
		if strings.HasPrefix(q, "START_REPLICATION") {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("it was asked for %d times", starts)
	}
}
