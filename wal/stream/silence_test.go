//go:build unix

package stream_test

import (
	"bytes"
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
