package server_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/server"
)

// TestHosts: of several servers the one that is wanted is taken, and known.
func TestHosts(t *testing.T) {
	primary := pgtest.New(t, pgtest.Options{})
	standby := primary.Standby("second")
	p := server.Host{Name: primary.SocketDir(), Port: uint16(primary.Port())}
	s := server.Host{Name: standby.SocketDir(), Port: uint16(standby.Port())}
	user := primary.QueryValue("SELECT current_user")
	conninfo := fmt.Sprintf("host=%s,%s port=%d,%d user=%s dbname=postgres", s.Name, p.Name, s.Port, p.Port, user)
	if list, err := server.Hosts(conninfo); err != nil || len(list) != 2 || list[0] != s || list[1] != p {
		t.Fatalf("%v, %v", list, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for attrs, want := range map[string]server.Host{
		"any": s, "read-write": p, "primary": p, "read-only": s, "standby": s, "prefer-standby": s,
	} {
		for _, mode := range []server.Mode{server.SQL, server.Replication} {
			conn, got, err := server.ConnectFirst(ctx, conninfo+" target_session_attrs="+attrs, mode, nil)
			if err != nil {
				t.Errorf("%s, mode %d: %v", attrs, mode, err)
				continue
			}
			_ = conn.Close(ctx)
			if got != want {
				t.Errorf("%s, mode %d: connected to %s", attrs, mode, got)
			}
		}
	}
	// One of them, whatever the string says of it.
	for _, h := range []server.Host{p, s} {
		conn, err := server.ConnectHost(ctx, conninfo+" target_session_attrs=read-write", h, server.SQL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if standby := conn.ParameterStatus("in_hot_standby") == "on"; standby != (h == s) {
			t.Errorf("%s is a standby: %v", h, standby)
		}
		_ = conn.Close(ctx)
	}
	// By name, over TCP.
	_, tcp, err := server.ConnectFirst(ctx, fmt.Sprintf("host=localhost port=%d user=%s", p.Port, user), server.SQL, nil)
	if err != nil || tcp != (server.Host{Name: "localhost", Port: p.Port}) {
		t.Errorf("%s, %v", tcp, err)
	}
}
