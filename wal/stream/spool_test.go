//go:build unix

package stream_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal/stream"
)

// spooled lists the segments' files of a spool.
func spooled(t *testing.T, root string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(root, "main", "*", "0000*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSpoolBehindRepository: what a spool still holds was archived further by
// others meanwhile, in the same segment or beyond; it does not stand in the way.
func TestSpoolBehindRepository(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(map[bool]string{false: "same segment", true: "sealed"}[sealed], func(t *testing.T) {
			away := &gate{}
			g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
			g.o.Spool, g.o.StopTimeout = t.TempDir(), 100*time.Millisecond
			spool := g.o.Spool
			r := g.start()
			work(g.server, 1)
			r.caughtUp(g.server)
			r.abandon(away)
			// The machine crashed: the end of the file was not synced.
			files := spooled(t, spool)
			if len(files) != 1 {
				t.Fatalf("the spool holds %v", files)
			}
			info, err := os.Stat(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(files[0], info.Size()/2); err != nil {
				t.Fatal(err)
			}
			g.o.StopTimeout = 0
			if sealed {
				g.o.Spool = ""
				r = g.start()
				work(g.server, 5)
				r.caughtUp(g.server)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				g.o.Spool = spool
			}
			r = g.start()
			work(g.server, 3)
			end := r.caughtUp(g.server)
			r.until("it to be acknowledged", func(s stream.Status) bool { return s.Acknowledged >= end })
			e := g.extent(1)
			g.compare(1, e.Begin, end, g.server.DataDir())
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSpoolWithHole: a file of the spool was lost with a machine that crashed. It
// was not acknowledged, the server still has it, and it is received again.
func TestSpoolWithHole(t *testing.T) {
	away := &gate{}
	g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
	g.o.Spool, g.o.StopTimeout = t.TempDir(), 100*time.Millisecond
	r := g.start()
	r.caughtUp(g.server)
	away.shut(true)
	work(g.server, 16)
	end := flushed(t, g.server)
	r.until("all to be received", func(s stream.Status) bool { return s.Received >= end })
	r.abandon(away)
	files := spooled(t, g.o.Spool)
	if len(files) < 4 {
		t.Fatalf("the spool holds %v", files)
	}
	if err := os.WriteFile(files[1], make([]byte, segmentSize.Bytes()), 0o600); err != nil {
		t.Fatal(err)
	}
	g.o.StopTimeout = 0
	r = g.start()
	r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged >= end })
	e := g.extent(1)
	if e.End < end {
		t.Errorf("archived up to %s, acknowledged was %s", e.End, end)
	}
	g.compare(1, e.Begin, end, g.server.DataDir())
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
