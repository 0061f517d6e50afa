package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/internal/pgtest/fakepg"
)

func TestParseTellsNoSecret(t *testing.T) {
	for conninfo, want := range map[string]string{
		"host=h password = hushhush port=abc":        "invalid port",
		`host=h password='a b\'c hushhush' port=abc`: "invalid port",
		"postgres://u:hush hush@h/db":                "spaces",
		"postgres://u:hushhush@h:abc/db":             "invalid port",
		"postgres://u@h/?password=hush&sslmode=odd":  "sslmode",
		"host='h password=hushhush":                  "unterminated",
	} {
		_, err := Parse(conninfo)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q", conninfo, err, want)
		}
		for name, err := range map[string]error{
			"Connect": func() error { _, err := Connect(t.Context(), conninfo, SQL, nil); return err }(),
			"User":    func() error { _, _, err := UserAndDatabase(conninfo); return err }(),
		} {
			if err == nil || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s of %s: %v", name, conninfo, err)
			}
		}
	}
}

// answering returns a server that answers queries by their text; a missing one
// is an error.
func answering(t *testing.T, answers map[string][]any) *fakepg.Server {
	t.Helper()
	return fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		row, ok := answers[sql]
		if !ok {
			c.Error("42601", "unexpected: "+sql)
			return true
		}
		c.Rows(strings.TrimSpace(strings.Repeat("c ", len(row))), row)
		c.Ready()
		return true
	})
}

func TestConnectSettings(t *testing.T) {
	srv := answering(t, nil)
	var seen *pgconn.Config
	keep := func(c *pgconn.Config) { seen = c }
	for _, c := range []struct {
		conninfo             string
		mode                 Mode
		replication, program string
		timeout              time.Duration
	}{
		{srv.Conninfo(), SQL, "", "walden", connectTimeout},
		{srv.Conninfo() + " replication=database", SQL, "", "walden", connectTimeout},
		{srv.Conninfo() + " replication=database application_name=mine connect_timeout=3", Replication, "true", "mine", 3 * time.Second},
	} {
		conn, err := Connect(t.Context(), c.conninfo, c.mode, keep)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
		if seen.RuntimeParams["replication"] != c.replication || seen.RuntimeParams["application_name"] != c.program || seen.ConnectTimeout != c.timeout {
			t.Errorf("%s: %v, %s", c.conninfo, seen.RuntimeParams, seen.ConnectTimeout)
		}
	}
	_, err := Connect(t.Context(), "host=/nonexistent user=u", SQL, keep)
	if err == nil || seen.Database != "postgres" {
		t.Errorf("database %q, %v", seen.Database, err)
	}
}

// TestHints holds that every refusal of a server is told with what to do.
func TestHints(t *testing.T) {
	for _, c := range []struct {
		mode          Mode
		code, message string
		want          string
	}{
		{SQL, "28P01", "password authentication failed", "passfile"},
		{SQL, "28000", "no pg_hba.conf entry for host", `user "u" to pg_hba.conf`},
		{Replication, "28000", "no pg_hba.conf entry for replication", `database "replication"`},
		{SQL, "28000", `role "u" does not exist`, "CREATE ROLE"},
		{SQL, "28000", "peer authentication failed", "operating-system user"},
		{Replication, "42501", "must be superuser or replication role", "ALTER ROLE u REPLICATION"},
		{Replication, "53300", "number of requested standby connections exceeds", "max_wal_senders"},
		{SQL, "53300", "too many clients", "max_connections"},
		{SQL, "3D000", "database does not exist", "dbname="},
		{SQL, "57P03", "the database system is starting up", "try again"},
		{SQL, "XX000", "odd", "connection"},
	} {
		err := &ConnectError{Mode: c.mode, Host: "h", Port: 5432, User: "u", Err: fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: c.code, Message: c.message})}
		if !strings.Contains(err.Hint(), c.want) || !strings.HasSuffix(err.Error(), ": "+c.message) {
			t.Errorf("%s %q: %s; hint %q lacks %q", c.code, c.message, err, err.Hint(), c.want)
		}
	}
}

func TestConnectFailures(t *testing.T) {
	// A port on which nobody listens.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	refused := fmt.Sprintf("host=%s port=%s user=u password=hushhush sslmode=disable", host, port)
	_ = l.Close()
	_, err = Connect(t.Context(), refused, Replication, nil)
	var failed *ConnectError
	if !errors.As(err, &failed) || failed.Host != host || !strings.Contains(err.Error(), "refused") ||
		!strings.Contains(err.Error(), "replication connection") || strings.Contains(err.Error(), "hush") || !strings.Contains(failed.Hint(), "running there") {
		t.Errorf("nobody there: %v", err)
	}

	// One that accepts and never answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, port, _ = net.SplitHostPort(silent.Addr().String())
	_, err = Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%s user=u sslmode=disable connect_timeout=1", port), SQL, nil)
	if !errors.As(err, &failed) || !strings.Contains(failed.Hint(), "in time") {
		t.Errorf("no answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, refused, SQL, nil); !errors.Is(err, context.Canceled) || errors.As(err, new(*ConnectError)) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestTryLast: all of a host's entries go to the end, in their order.
func TestTryLast(t *testing.T) {
	cfg, err := Parse("host=a,b,c port=1,2,3 user=u sslmode=prefer")
	if err != nil {
		t.Fatal(err)
	}
	names := func() (list []string) {
		list = append(list, fmt.Sprint(cfg.Host, cfg.Port, cfg.TLSConfig != nil))
		for _, f := range cfg.Fallbacks {
			list = append(list, fmt.Sprint(f.Host, f.Port, f.TLSConfig != nil))
		}
		return list
	}
	before := names()
	TryLast(cfg, Host{"a", 9})
	if got := names(); strings.Join(got, " ") != strings.Join(before, " ") {
		t.Errorf("%v became %v", before, got)
	}
	TryLast(cfg, Host{"a", 1})
	want := append(append([]string{}, before[2:]...), before[:2]...)
	if got := names(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v became %v", before, got)
	}
}
