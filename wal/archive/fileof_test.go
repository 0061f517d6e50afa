package archive

import (
	"testing"

	"github.com/walden-pg/walden/wal"
)

// TestFileOfIsExact: of all keys only the one that FileKey makes is that of a file.
func TestFileOfIsExact(t *testing.T) {
	inc := Incarnation{Cluster: "main", Number: 1, SystemID: 7, SegmentSize: 16 << 20}
	a := New(nil, inc)
	for _, name := range []string{"000000020000000A000000FF", "000000020000000A000000FF.partial", "000000020000000A000000FF.00000028.backup", "00000002.history"} {
		f, err := wal.ParseFile(name, inc.SegmentSize)
		if err != nil {
			t.Fatal(err)
		}
		key := FileKey(inc, f)
		if got, ok := a.FileOf(key); !ok || got != f {
			t.Errorf("%s: %+v, %v", key, got, ok)
		}
		dir := walPrefix(inc)
		for _, bad := range []string{
			dir + "00000002/0000000B/" + name, dir + "00000003/0000000A/" + name, dir + "00000002/" + name, "x" + key, key + "x",
			dir + "00000002-0000000A/" + name, dir + "00000002/0000000A//" + name, dir + "00000002/0000000A/x/" + name, dir + "0000002/0000000A/" + name, name, dir,
			"other/1-7/wal/00000002/0000000A/" + name,
		} {
			if got, ok := a.FileOf(bad); ok {
				t.Errorf("%s: taken for %+v", bad, got)
			}
		}
	}
}
