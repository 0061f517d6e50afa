//go:build unix

package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/wal/stream"
)

// frozenAt is a server that is the primary until it is asked something: then it
// keeps the connection and says nothing.
func frozenAt(t *testing.T, p *primary, command string) *fakepg.Server {
	t.Helper()
	thaw := make(chan struct{})
	srv := fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		if strings.HasPrefix(sql, command) {
			<-thaw
			return false
		}
		return p.handle(c, sql)
	})
	t.Cleanup(func() { close(thaw) }) // before the server's own, which waits
	return srv
}

// TestFrozenServer: a server that takes connections and stops to answer is told of,
// and the next host is streamed from.
func TestFrozenServer(t *testing.T) {
	for _, command := range []string{"IDENTIFY_SYSTEM", "READ_REPLICATION_SLOT", "CREATE_REPLICATION_SLOT", "START_REPLICATION"} {
		t.Run(command, func(t *testing.T) {
			p := newPrimary(t, 1)
			if command == "CREATE_REPLICATION_SLOT" {
				p.slot = 0
			}
			g := p.rig(nil)
			g.patience = 500 * time.Millisecond
			frozen := frozenAt(t, p, command)
			port := regexp.MustCompile(`port=(\d+)`)
			second := port.FindStringSubmatch(p.server.Conninfo())[1]
			g.o.Conninfo = port.ReplaceAllString(frozen.Conninfo(), fmt.Sprintf("port=$1,%s", second))
			g.o.Conninfo = strings.Replace(g.o.Conninfo, "host=127.0.0.1", "host=127.0.0.1,127.0.0.1", 1)
			if command == "CREATE_REPLICATION_SLOT" {
				time.AfterFunc(g.patience/2, func() { p.change(func() { p.slot = p.segment(1).Start() }) })
			}
			var log bytes.Buffer
			g.o.Logger = logTo(&log)
			r := g.start()
			r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
			if s := r.Status(); fmt.Sprint(s.Port) != second {
				t.Errorf("streamed from port %d, want %s", s.Port, second)
			}
			if err := r.ends(); err != nil {
				t.Error(err)
			}
			first := net.JoinHostPort("127.0.0.1", port.FindStringSubmatch(frozen.Conninfo())[1])
			if want := "nothing was heard of the server at " + first; !strings.Contains(log.String(), want) ||
				!strings.Contains(log.String(), "does not answer "+command) || !strings.Contains(log.String(), "hint=") {
				t.Errorf("the log lacks %q:\n%s", want, &log)
			}
		})
	}
}

// TestStoppedWithoutServer: who stops a receiver that gets no WAL is told so; after
// the shutdown of a server that had sent all, nothing is amiss.
func TestStoppedWithoutServer(t *testing.T) {
	expect := func(t *testing.T, r *running, what string) {
		t.Helper()
		err := r.ends()
		var idle *stream.NotReceivingError
		if got := errors.As(err, &idle); got != (what != "") || got && !strings.Contains(err.Error(), what) {
			t.Errorf("Run returned %v, want %q", err, what)
		}
		if got := r.Status().Failure; what != "" && !strings.Contains(got, what) {
			t.Errorf("the status says %q", got)
		}
	}
	failing := func(s stream.Status) bool { return s.Failure != "" }
	t.Run("behind", func(t *testing.T) {
		p := newPrimary(t, 4)
		g := p.rig(nil)
		g.seal(p, 1, 2, 3, 4)
		p.end = p.segment(2).Start() + 1000
		r := g.start()
		r.until("the server to be seen to be behind", failing)
		expect(t, r, "is archived already")
	})
	t.Run("gone", func(t *testing.T) {
		p := newPrimary(t, 1)
		g := p.rig(nil)
		g.patience = 2 * time.Second
		r := g.start()
		r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
		p.server.Stop()
		r.until("its end to be noticed", func(s stream.Status) bool { return strings.Contains(s.Failure, "connecting to the server") })
		time.Sleep(g.patience)
		expect(t, r, "connecting to the server")
	})
	t.Run("gone a moment ago", func(t *testing.T) {
		p := newPrimary(t, 1)
		g := p.rig(nil)
		r := g.start()
		r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
		p.server.Stop()
		r.until("its end to be noticed", func(s stream.Status) bool { return strings.Contains(s.Failure, "connecting to the server") })
		expect(t, r, "")
	})
	t.Run("back again", func(t *testing.T) {
		p := newPrimary(t, 1)
		g := p.rig(nil)
		r := g.start()
		r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
		p.server.Disconnect()
		r.until("a new connection", func(s stream.Status) bool { return s.Connections > 1 && s.Phase == stream.Streaming })
		expect(t, r, "")
	})
	t.Run("shut down", func(t *testing.T) {
		p := newPrimary(t, 1)
		g := p.rig(nil)
		r := g.start()
		r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
		p.change(func() { p.shutdown = true })
		r.until("the shutdown to be noticed", failing)
		p.server.Stop()
		r.until("its end to be noticed", func(s stream.Status) bool { return strings.Contains(s.Failure, "connecting to the server") })
		expect(t, r, "")
	})
}

// TestShutdownWhileFull: a server that shuts down while no more fits is not kept
// waiting, even where nobody may look at it beside the stream.
func TestShutdownWhileFull(t *testing.T) {
	for name, before := range map[string]string{"refused before": "42501", "no hot standby": "57P03"} {
		t.Run(name, func(t *testing.T) {
			p := newPrimary(t, 6)
			p.refusal = before
			away := &gate{}
			g := p.rig(away.decorate)
			g.o.Spool, g.o.SpoolLimit, g.o.StopTimeout = t.TempDir(), 2*segmentSize.Bytes(), 100*time.Millisecond
			g.patience = 2 * time.Second
			away.shut(true)
			r := g.start()
			r.until("the spool to be full", func(s stream.Status) bool { return s.Buffered >= g.o.SpoolLimit })
			if before != "57P03" {
				time.Sleep(2 * g.patience)
				if s := r.Status(); s.Connections != 1 || s.Phase != stream.Streaming {
					t.Fatalf("the connection was given up: %+v", s)
				}
			}
			p.change(func() { p.refusal = "57P03" })
			r.until("the server to be let go", func(s stream.Status) bool { return strings.Contains(s.Failure, "let go") || s.Connections > 1 })
			var unshipped *stream.UnshippedError
			if err := r.ends(); !errors.As(err, &unshipped) {
				t.Errorf("Run returned %v", err)
			}
			away.shut(false)
		})
	}
}
