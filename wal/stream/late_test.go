//go:build unix

package stream_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal/stream"
)

// TestHangingUpload: an upload that hangs without an error is told of once, and when it
// is over.
func TestHangingUpload(t *testing.T) {
	p := newPrimary(t, 0)
	slow := &gate{}
	g := p.rig(slow.decorate)
	var log bytes.Buffer
	g.o.Logger = logTo(&log)
	g.late = 300 * time.Millisecond
	slow.latency.Store(int64(2 * time.Second))
	r := g.start()
	r.until("it to be overdue", func(s stream.Status) bool { return s.Overdue })
	if s := r.Status(); s.Failure != "" || s.Delay < g.late {
		t.Errorf("%+v", s)
	}
	r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end && !s.Overdue })
	time.Sleep(g.late / 2) // it looks every tenth of it
	r.found(0)
	warned, over := strings.Count(log.String(), "level=WARN msg=\"what was received does not get"), strings.Count(log.String(), "what was overdue is in the repository")
	if warned != 1 || over != 1 {
		t.Errorf("it was told %d times, its end %d times:\n%s", warned, over, log.String())
	}
}
