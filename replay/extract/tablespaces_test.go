package extract

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
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
func TestCheckTablespaces(t *testing.T) {
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
			err := CheckTablespaces(path, seg.Name(), size)
			var found *TablespaceError
			if errors.As(err, &found) != c.refused || !c.refused && err != nil {
				t.Fatalf("error %v", err)
			}
			if c.refused && (found.Location != c.location || found.Segment != seg.Name() || c.location != "" && found.OID != 5) {
				t.Errorf("%+v", found)
			}
			if err := CheckTablespaces(path, "00000002.history", size); err != nil {
				t.Errorf("a history file: %v", err)
			}
		})
	}
	if err := CheckTablespaces(filepath.Join(t.TempDir(), "absent"), "000000010000000000000001", size); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestParseFormat(t *testing.T) {
	for _, s := range []string{"plain", "p", "custom", "c", "directory", "d", "tar", "t"} {
		if f, err := ParseFormat(s); err != nil || f[0] != s[0] {
			t.Errorf("%s: %s, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "pl", "zip", "Plain"} {
		if f, err := ParseFormat(s); err == nil {
			t.Errorf("%q is %s", s, f)
		}
	}
}
