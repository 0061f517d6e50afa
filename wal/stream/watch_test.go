//go:build unix

package stream_test

import (
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal/stream"
)

// TestWaitingOfAPlainRole: a role that is no superuser does not see the
// synchronous state of its own connection. Commits that begin to wait for it
// are noticed all the same, and that they do so no more.
func TestWaitingOfAPlainRole(t *testing.T) {
	server := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1})
	server.Exec("CREATE ROLE plain LOGIN REPLICATION")
	g := newRig(t, server, nil)
	g.o.Conninfo += " user=plain"
	r := g.start()
	r.until("that nothing waits", func(s stream.Status) bool { return s.Phase == stream.Streaming && s.SlotLag >= 0 && !s.Waiting })
	server.Exec("ALTER SYSTEM SET synchronous_standby_names = 'walden'")
	server.Reload()
	r.until("that commits wait", func(s stream.Status) bool { return s.Waiting })
	server.Exec("ALTER SYSTEM RESET synchronous_standby_names")
	server.Reload()
	r.until("that they do no more", func(s stream.Status) bool { return !s.Waiting })
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
