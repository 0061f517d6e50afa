package names

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden file anew, after a deliberate change of the format")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123e6, time.UTC)

// exampleChunk has one of everything.
func exampleChunk() *chunk {
	return &chunk{
		number:  4,
		schemas: []Schema{{16384, "public"}, {16500, "\xff\"\n"}},
		relations: []Relation{
			{OID: 16384, Kind: Table, Schema: 2200, Filenode: 16384, Name: "orders"},
			{OID: 16388, Kind: TOAST, Schema: 99, Filenode: 16388, Of: 16384, Name: "pg_toast_16384"},
			{OID: 16390, Kind: Index, Schema: 2200, Filenode: 24000, Tablespace: 16600, Of: 16384, Name: "orders_pkey"},
			{OID: 16400, Kind: View, Schema: 16500, Name: ""},
			{OID: 20479, Kind: Sequence, Schema: 2200, Filenode: 1, Name: "s"},
		},
	}
}

func exampleSnapshot() (s *Snapshot, size int64) {
	own := ID{noon, 2, 0x1005FF0}
	old, older := ID{noon.Add(-time.Hour), 2, 0x1000028}, ID{noon.Add(-2 * time.Hour), 1, 0}
	return &Snapshot{
		ID: own, Until: 0x1006000, ServerVersion: 170002,
		Tablespaces: []Tablespace{{1663, "pg_default"}, {1664, "pg_global"}, {16600, "fast"}},
		Databases: []Database{
			{OID: 1, Name: "template1", Tablespace: 1663, chunks: []int{0}},
			{OID: 4, Name: "template0", Tablespace: 1663, State: Closed, chunks: []int{}},
			{OID: 5, Name: "post\x00gres\xff", Tablespace: 16600, chunks: []int{0, 1, 3}},
			{OID: 16401, Name: "shop", Tablespace: 1663, State: Unread, Reason: "no pg_hba.conf entry", chunks: []int{0, 2}},
		},
		chunks: []chunkRef{
			{content{0, fingerprint{1}}, older, 0, 5000},
			{content{4, fingerprint{1, 2}}, own, 300, 40},
			{content{4, fingerprint{1, 3}}, old, 77, 200},
			{content{1<<20 - 1, fingerprint{0, 1}}, own, 0, 300},
		},
	}, 340
}

// TestGolden holds the format: docs/format-names.md explains these bytes. A change of
// them is a new version.
func TestGolden(t *testing.T) {
	s, size := exampleSnapshot()
	directory := s.encode()
	c := exampleChunk()
	b, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, part := range []struct {
		name string
		b    []byte
	}{{"directory", directory}, {"chunk", b}} {
		fmt.Fprintln(&out, part.name)
		for line := part.b; len(line) > 0; line = line[min(32, len(line)):] {
			fmt.Fprintf(&out, "\t%s\n", hex.EncodeToString(line[:min(32, len(line))]))
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
	decoded, err := decodeSnapshot(golden(t, string(want), "directory"), size)
	if err != nil {
		t.Fatal(err)
	}
	all := cmp.AllowUnexported(Snapshot{}, Database{}, chunkRef{}, content{}, chunk{})
	if d := cmp.Diff(s, decoded, all); d != "" {
		t.Error(d)
	}
	back, err := decodeChunk(golden(t, string(want), "chunk"), 4)
	if err != nil {
		t.Fatal(err)
	}
	c.moved = []int32{4, 2}
	if d := cmp.Diff(c, back, all); d != "" {
		t.Error(d)
	}
}

// golden reads one part of the golden file.
func golden(t *testing.T, text, part string) (b []byte) {
	t.Helper()
	current := ""
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(strings.TrimSpace("|"+strings.TrimSuffix(line, "\n")), "|\t")
		if !ok {
			current = strings.TrimSpace(line)
			continue
		}
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		if current == part {
			b = append(b, raw...)
		}
	}
	return b
}

// TestEveryCutAndFlip: no part of a directory or a chunk is read as another. (Flipped
// bits are the container's to see; here nothing may panic, and what is read must be what
// would be written.)
func TestEveryCutAndFlip(t *testing.T) {
	s, size := exampleSnapshot()
	directory := s.encode()
	b, err := exampleChunk().encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range directory {
		if _, err := decodeSnapshot(directory[:n], size); err == nil {
			t.Errorf("a directory of %d of %d bytes", n, len(directory))
		}
	}
	for n := range b {
		if _, err := decodeChunk(b[:n], 4); err == nil {
			t.Errorf("a chunk of %d of %d bytes", n, len(b))
		}
	}
	for bit := range 8 * len(directory) {
		again := bytes.Clone(directory)
		again[bit/8] ^= 1 << (bit % 8)
		same(t, again)
	}
	if _, err := decodeSnapshot(append(bytes.Clone(directory), 0), size); err == nil {
		t.Error("a byte more")
	}
	if _, err := decodeSnapshot(directory, size+1); err == nil {
		t.Error("a larger object")
	}
	if _, err := decodeChunk(b, 5); err == nil {
		t.Error("another chunk")
	}
}

// same holds that a directory that is read is written as it was.
func same(t *testing.T, b []byte) {
	t.Helper()
	// Its object's size is whatever it says.
	for _, size := range sizes(b) {
		if s, err := decodeSnapshot(b, size); err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%x is read, and written as %x", b, s.encode())
		}
	}
}

// sizes are those of the object that a directory may be of.
func sizes(b []byte) []int64 {
	d := decoder{b: b}
	d.version()
	id := d.id()
	d.uint()
	d.uint()
	var sum int64
	for _, c := range d.chunkRefs(id, d.holders(id)) {
		if c.holder == id {
			sum += c.length
		}
	}
	return []int64{0, 340, sum}
}

func FuzzSnapshot(f *testing.F) {
	s, _ := exampleSnapshot()
	f.Add(s.encode())
	f.Add((&Snapshot{ID: ID{noon, 1, 8}, Until: 8, chunks: nil}).encode())
	f.Fuzz(func(t *testing.T, b []byte) { same(t, b) })
}

func FuzzChunk(f *testing.F) {
	b, err := exampleChunk().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint32(4))
	f.Fuzz(func(t *testing.T, b []byte, number uint32) {
		c, err := decodeChunk(b, number)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is read, and written as %x, %v", b, again, err)
		}
	})
}

func TestID(t *testing.T) {
	id := ID{noon, 0x1F, 0x16B374D848}
	const text = "20261122T120000.123Z-0000001F-00000016B374D848"
	if id.String() != text {
		t.Error(id)
	}
	if back, err := ParseID(text); err != nil || back != id {
		t.Error(back, err)
	}
	for _, bad := range []string{"", "x", text + "x", strings.ToLower(text), text[:len(text)-1], "20261122T120000.123Z-00000000-00000016B374D848",
		"20261122T120000Z-0000001F-00000016B374D848", "20261322T120000.123Z-0000001F-00000016B374D848", "20261122T120000.123Z-+000001F-00000016B374D848"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("%q: %v", bad, id)
		}
	}
}

func TestNamesForAPerson(t *testing.T) {
	for want, n := range map[string]Name{
		"public.orders":           {Schema: "public", Name: "orders", Kind: Table},
		`public."Orders"`:         {Schema: "public", Name: "Orders", Kind: Table},
		`"a.b"."say ""no"""`:      {Schema: "a.b", Name: `say "no"`, Kind: View},
		`public."1st"`:            {Schema: "public", Name: "1st", Kind: Table},
		`public."\x1b[2J\xff\n"`:  {Schema: "public", Name: "\x1b[2J\xff\n", Kind: Table},
		`public."Größe"`:          {Schema: "public", Name: "Größe", Kind: Table},
		`public."back\slash"`:     {Schema: "public", Name: `back\slash`, Kind: Table},
		"TOAST of public.orders":  {Schema: "pg_toast", Name: "pg_toast_1", Kind: TOAST, TableOID: 1, TableSchema: "public", TableName: "orders"},
		"public.orders_pkey":      {Schema: "public", Name: "orders_pkey", Kind: Index, TableOID: 1, TableSchema: "public", TableName: "orders"},
		"pg_toast.pg_toast_16384": {Schema: "pg_toast", Name: "pg_toast_16384", Kind: TOAST},
	} {
		if n.String() != want {
			t.Errorf("%+v: %s, want %s", n, n, want)
		}
	}
}
