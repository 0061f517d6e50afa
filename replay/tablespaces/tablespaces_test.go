package tablespaces

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

func createTablespace(oid uint32, location string) waltest.Record {
	main := binary.LittleEndian.AppendUint32(nil, oid)
	return waltest.Record{RMGR: record.RMTablespace, Info: tablespaceCreate, XID: 700, Main: append(append(main, location...), 0)}
}

// What a server in scratch must not replay is found wherever in a segment it is, and
// where it reaches into the next.
func TestCheckInScratch(t *testing.T) {
	scratch := Guard{Scratch: true}
	const size = 1 << 20
	end := func(b *waltest.Builder, left wal.LSN) {
		b.FillTo(b.Segments()[0].End() - left)
	}
	for name, c := range map[string]struct {
		write    func(b *waltest.Builder)
		location string
		refused  bool
	}{
		"none":     {func(b *waltest.Builder) { b.Message(100) }, "", false},
		"in place": {func(b *waltest.Builder) { b.Record(createTablespace(5, "")) }, "", false},
		"first":    {func(b *waltest.Builder) { b.Record(createTablespace(5, "/srv/a b")) }, "/srv/a b", true},
		"over pages": {func(b *waltest.Builder) {
			b.FillTo(b.Segments()[0].Start() + 8192*3 - 40)
			b.Record(createTablespace(5, "/srv/space"))
		}, "/srv/space", true},
		"last":     {func(b *waltest.Builder) { end(b, 64); b.Record(createTablespace(5, "/srv/x")) }, "/srv/x", true},
		"crossing": {func(b *waltest.Builder) { end(b, 40); b.Record(createTablespace(5, "/srv/a/long/location")) }, "", true},
		"dropped": {func(b *waltest.Builder) {
			b.Record(waltest.Record{RMGR: record.RMTablespace, Info: 0x10, XID: 700, Main: []byte{5, 0, 0, 0}})
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := waltest.NewBuilder(17, 7345, 1, size)
			b.Message(10)
			c.write(b)
			b.FillSegment()
			seg := b.Segments()[0]
			path := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			if err := os.WriteFile(path, b.Bytes(seg), 0o600); err != nil {
				t.Fatal(err)
			}
			err := scratch.Check(path, seg.Name(), size)
			var found *Error
			if errors.As(err, &found) != c.refused || !c.refused && err != nil {
				t.Fatalf("error %v", err)
			}
			if c.refused && (found.Location != c.location || found.Segment != seg.Name() || c.location != "" && found.OID != 5) {
				t.Errorf("%+v", found)
			}
			if err := scratch.Check(path, "00000002.history", size); err != nil {
				t.Errorf("a history file: %v", err)
			}
		})
	}
	if err := scratch.Check(filepath.Join(t.TempDir(), "absent"), "000000010000000000000001", size); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Beside the original a tablespace is created only where no cluster has files but the server itself, and
// what lies behind the stop is nobody's concern.
func TestCheckBesideTheOriginal(t *testing.T) {
	const size = 1 << 20
	location := func(t *testing.T, names ...string) string {
		dir := filepath.Join(t.TempDir(), "space")
		for _, n := range names {
			if err := os.MkdirAll(filepath.Join(dir, n), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, c := range map[string]struct {
		holds   []string
		linked  string // what the data directory's link leads to; "location" for the record's
		stop    int64  // after the record's start
		refused bool
	}{
		"absent":            {},
		"no cluster's":      {holds: []string{"lost+found"}},
		"another's":         {holds: []string{"PG_17_202406281"}, refused: true},
		"its own":           {holds: []string{"PG_17_202406281"}, linked: "location"},
		"put elsewhere":     {holds: []string{"PG_17_202406281"}, linked: "/elsewhere", refused: true},
		"behind the stop":   {holds: []string{"PG_17_202406281"}, stop: -8},
		"at the stop":       {holds: []string{"PG_17_202406281"}, stop: 0},
		"before the stop":   {holds: []string{"PG_17_202406281"}, stop: 8, refused: true},
		"far from the stop": {holds: []string{"PG_17_202406281"}, stop: 8 << 20, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			space, data := location(t, c.holds...), t.TempDir()
			if c.linked != "" {
				to := c.linked
				if to == "location" {
					to = space
				}
				if err := errors.Join(os.Mkdir(filepath.Join(data, "pg_tblspc"), 0o700), os.Symlink(to, filepath.Join(data, "pg_tblspc", "5"))); err != nil {
					t.Fatal(err)
				}
			}
			b := waltest.NewBuilder(17, 7345, 1, size)
			b.Message(10)
			start, _ := b.Record(createTablespace(5, space))
			b.FillSegment()
			seg := b.Segments()[0]
			path := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			if err := os.WriteFile(path, b.Bytes(seg), 0o600); err != nil {
				t.Fatal(err)
			}
			g := Guard{DataDirectory: data}
			if c.stop != 0 || name == "at the stop" {
				g.Stop = wal.LSN(int64(start) + c.stop)
			}
			err := g.Check(path, seg.Name(), size)
			var found *Error
			if errors.As(err, &found) != c.refused || !c.refused && err != nil {
				t.Fatalf("error %v", err)
			}
			if c.refused && (found.Location != space || found.LSN != start || !strings.Contains(found.Hint(), "--take-tablespaces")) {
				t.Errorf("%+v: %s", found, found.Hint())
			}
		})
	}
}
