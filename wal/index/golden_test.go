package index_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

var update = flag.Bool("update", false, "write the golden file anew, after a deliberate change of the format")

// TestGolden holds the format: docs/format-wal-index.md explains these bytes. A
// change of them is a new version of the section.
func TestGolden(t *testing.T) {
	b := waltest.NewBuilder(17, 7345678901234567890, 2, size)
	b.Seek(0x1005, 0x1004FFF10)
	b.Commit(731, noon)
	b.Prepare(732, 5, "order 66", noon)
	b.AbortWith(730, noon.Add(-1), waltest.Transaction{Database: 5})
	b.RestorePoint("before", noon)
	b.OnlineCheckpoint(0x100500028, noon)
	b.ParameterChange(100, 1)
	b.Rows(736, orders, waltest.Row{Op: record.HeapDelete})
	b.CreateFile(736, items, 0)
	b.DropDatabase(736, 16400, 1663)
	b.CommitWith(735, noon, waltest.Transaction{Database: 5, Subxacts: []uint32{736}, Relations: [][3]uint32{orders}, Stats: [][3]uint32{{2, 5, 16384}}})
	b.FillTo(0x100600000 - 40)
	b.CommitWith(733, noon, waltest.Transaction{Subxacts: []uint32{734}})
	b.FillSegment()
	var out strings.Builder
	for _, ix := range buildAll(t, b) {
		for _, s := range ix.Sections() {
			fmt.Fprintf(&out, "%s %#x\n", ix.Segment.Name(), s.Type)
			for line := s.Data; len(line) > 0; line = line[min(32, len(line)):] {
				fmt.Fprintf(&out, "\t%s\n", hex.EncodeToString(line[:min(32, len(line))]))
			}
		}
	}
	const file = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the encoding has changed:\n%s", out.String())
	}
	decodeGolden(t, string(want))
}

// decodeGolden reads the golden file back, without the code that wrote it.
func decodeGolden(t *testing.T, text string) {
	t.Helper()
	sections := map[string]map[string][]byte{}
	var into func(b []byte)
	for line := range strings.Lines(text) {
		data, isData := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "\t")
		if !isData {
			var name, kind string
			if _, err := fmt.Sscan(line, &name, &kind); err != nil {
				t.Fatal(err)
			}
			if sections[name] == nil {
				sections[name] = map[string][]byte{}
			}
			into = func(b []byte) { sections[name][kind] = append(sections[name][kind], b...) }
			continue
		}
		b, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		into(b)
	}
	ix, err := index.Decode(func(kind uint16) ([]byte, bool) {
		b, ok := sections["000000020000000100000005"][fmt.Sprintf("%#x", kind)]
		return b, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	if ix.SystemID != 7345678901234567890 || ix.Commits != 2 || ix.Aborts != 1 || ix.MinXID != 730 || !ix.FirstTime.Equal(noon) ||
		ix.Tail.LSN != wal.LSN(0x1005FFFD8) || len(ix.Landmarks) != 4 || len(ix.Effects) != 2 || ix.MaxXID != 736 || !ix.HasDetails() || ix.Landmarks[0].Name != "before" {
		t.Errorf("%+v", ix)
	}
}
