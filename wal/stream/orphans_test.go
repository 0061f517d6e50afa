//go:build unix

package stream_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/wal/stream"
)

// TestOrphanedSpool: what the spool of another incarnation still holds is told, at
// every start, and left alone.
func TestOrphanedSpool(t *testing.T) {
	p := newPrimary(t, 1)
	g := p.rig(nil)
	g.o.Spool = t.TempDir()
	var log bytes.Buffer
	g.o.Logger = logTo(&log)
	place := func(name, file string) string {
		path := filepath.Join(g.o.Spool, "main", name, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("WAL"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := place("0-7300000000000000000", p.segment(3).Name())
	place("0-7300000000000000001", "lock") // was used, and is empty
	place("notes", "README")
	r := g.start()
	r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
	r.found(1)
	if _, err := os.Stat(old); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "directory="+filepath.Dir(old)) || !strings.Contains(log.String(), "hint=") {
		t.Errorf("the log does not name %s:\n%s", filepath.Dir(old), &log)
	}
	if n := strings.Count(log.String(), "directory="); n != 1 {
		t.Errorf("%d directories are told of:\n%s", n, &log)
	}
}
