package basebackup

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEntryJSON(t *testing.T) {
	mtime := time.Unix(1_700_000_000, 0).UTC()
	for _, test := range []struct {
		entry FileEntry
		want  string
	}{
		{FileEntry{Path: "base/1/112", Kind: KindFile, Size: 8193, Mode: 0o600, ModTime: mtime, CRC: 0xab12, Extents: []Extent{{Pack: 1, Offset: 8192, Length: 8192}, {Backup: "b", Pack: 2, Length: 1}}},
			`{"path":"base/1/112","kind":"file","size":8193,"mode":"0600","mtime":1700000000,"crc32c":"0000ab12","extents":[{"pack":1,"offset":8192,"length":8192},{"backup":"b","pack":2,"offset":0,"length":1}]}`},
		{FileEntry{Path: "empty", Kind: KindFile, Mode: 0o640}, `{"path":"empty","kind":"file","mode":"0640","crc32c":"00000000"}`},
		{FileEntry{Path: "a\xff", Kind: KindDir, Mode: 0o700}, `{"path_hex":"61ff","kind":"dir","mode":"0700"}`},
		{FileEntry{Path: "pg_tblspc/1", Kind: KindSymlink, Target: "/x\xfe"}, `{"path":"pg_tblspc/1","kind":"symlink","target_hex":"2f78fe"}`},
	} {
		b, err := json.Marshal(test.entry)
		if err != nil || string(b) != test.want {
			t.Errorf("%s\nwant %s (%v)", b, test.want, err)
		}
		var back FileEntry
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, test.entry) {
			t.Errorf("%+v became %+v (%v)", test.entry, back, err)
		}
		if err := back.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestEntryValidate(t *testing.T) {
	for _, e := range []FileEntry{
		{Path: "a", Kind: "fifo"},
		{Path: "../a", Kind: KindFile},
		{Path: "/a", Kind: KindFile},
		{Path: "a//b", Kind: KindDir},
		{Path: "", Kind: KindDir},
		{Path: "a\x00", Kind: KindFile},
		{Path: "a", Kind: KindConfig},
		{Path: "pg_tblspc/1", Kind: KindSymlink},
		{Path: "a", Kind: KindFile, Size: 1},
		{Path: "a", Kind: KindFile, Size: -1},
		{Path: "a", Kind: KindDir, Size: 1, Extents: []Extent{{Length: 1}}},
		{Path: "a", Kind: KindFile, Size: 1, Extents: []Extent{{Length: 2}}},
		{Path: "a", Kind: KindFile, Size: 2, Extents: []Extent{{Length: 1}}},
		{Path: "a", Kind: KindFile, Size: 1, Extents: []Extent{{Length: 1, Offset: 1}}},
		{Path: "a", Kind: KindFile, Size: 1, Extents: []Extent{{Length: 1, Offset: -8192}}},
		{Path: "a", Kind: KindFile, Size: 1, Extents: []Extent{{Length: 1, Pack: -1}}},
		{Path: "a", Kind: KindFile, Size: 8192, Extents: []Extent{{Length: 8192}, {Length: 0}}},
		{Path: "a", Kind: KindFile, Size: 1, Extents: []Extent{{Length: 1<<63 - 1}, {Length: 1<<63 - 1}}},
	} {
		if e.Validate() == nil {
			t.Errorf("%+v is valid", e)
		}
	}
	for _, path := range []string{"/etc/postgresql.conf", `C:\pg\postgresql.conf`, "C:/pg/x", `\\host\share\x`} {
		e := FileEntry{Path: path, Kind: KindConfig}
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// A manifest as PostgreSQL 15 wrote it (version 1).
const manifest15 = `{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "backup_label", "Size": 225, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "01020304" },
{ "Encoded-Path": "ff41", "Size": 0, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }
],
"WAL-Ranges": [
{ "Timeline": 2, "Start-LSN": "0/3000000", "End-LSN": "0/4000100" },
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/3000000" }
],
`

func TestReadServerManifest(t *testing.T) {
	text := withChecksum(manifest15)
	var files []manifestFile
	m, err := readServerManifest(strings.NewReader(text), func(f manifestFile) error { files = append(files, f); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if m.version != 1 || len(files) != 2 || files[0] != (manifestFile{"backup_label", 225, 0x04030201}) || files[1] != (manifestFile{"\xffA", 0, 0}) {
		t.Errorf("%+v %+v", m, files)
	}
	if !slices.Equal(m.ranges, []WALRange{{2, 0x3000000, 0x4000100}, {1, 0x2000028, 0x3000000}}) {
		t.Errorf("ranges %+v", m.ranges)
	}
	// PostgreSQL 19 pads the low half.
	padded := withChecksum(strings.Replace(manifest15, `"0/2000028"`, `"0/02000028"`, 1))
	if _, err := readServerManifest(strings.NewReader(padded), func(manifestFile) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestServerManifestIsStrict(t *testing.T) {
	read := func(s string) error {
		_, err := readServerManifest(strings.NewReader(s), func(manifestFile) error { return nil })
		return err
	}
	text := withChecksum(manifest15)
	// Every cut and every flipped bit is found.
	for n := range len(text) {
		if err := read(text[:n]); err == nil && n < len(text)-1 {
			t.Fatalf("cut after %d bytes: no error", n)
		}
		b := []byte(text)
		b[n] ^= 1 << (n % 8)
		if read(string(b)) == nil {
			t.Fatalf("bit %d of byte %d: no error", n%8, n)
		}
	}
	for name, change := range map[string][2]string{
		"version 3":        {"Version\": 1", "Version\": 3"},
		"unknown key":      {`"Size": 225`, `"Size": 225, "Owner": 1`},
		"no size":          {`"Size": 225, `, ``},
		"negative size":    {`225`, `-1`},
		"other checksum":   {`"CRC32C", "Checksum": "01020304"`, `"SHA224", "Checksum": "01020304"`},
		"short checksum":   {`01020304`, `010203`},
		"two paths":        {`"Path": "backup_label"`, `"Path": "backup_label", "Encoded-Path": "41"`},
		"path leads out":   {`backup_label`, `../backup_label`},
		"missing comma":    {"\" },\n{ \"Encoded", "\" }\n{ \"Encoded"},
		"additional comma": {"00000000\" }\n", "00000000\" },\n"},
		"backward range":   {`"0/4000100"`, `"0/2000100"`},
		"no timeline":      {`"Timeline": 1`, `"Timeline": 0`},
	} {
		if changed := strings.Replace(manifest15, change[0], change[1], 1); changed == manifest15 || read(withChecksum(changed)) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if read(text+"x") == nil || read("") == nil || read(strings.Repeat("x", 1<<20)) == nil {
		t.Error("junk was accepted")
	}
}

func FuzzServerManifest(f *testing.F) {
	f.Add(withChecksum(manifest15))
	f.Add(withChecksum(strings.Replace(manifest15, "1,\n", "2,\n\"System-Identifier\": 7345678901234567890,\n", 1)))
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = readServerManifest(strings.NewReader(s), func(m manifestFile) error {
			if m.size < 0 || checkRelative(m.path) != nil {
				t.Errorf("impossible file %+v", m)
			}
			return nil
		})
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(`{"path":"base/1/112","kind":"file","size":1,"mode":"0600","mtime":1700000000,"crc32c":"0000ab12","extents":[{"pack":1,"offset":8192,"length":1}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := decodeEntry([]byte(s), "20261122T213000Z-k3f9")
		if err != nil {
			return
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeEntry(b, "")
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Errorf("%+v became %+v: %v", e, again, err)
		}
	})
}

func entriesOf(files []manifestFile) func(func(FileEntry, error) bool) {
	return func(yield func(FileEntry, error) bool) {
		for _, f := range files {
			if !yield(FileEntry{Path: f.path, Kind: KindFile, Size: f.size, CRC: f.crc}, nil) {
				return
			}
		}
	}
}

// TestCompareInAnyOrder: the order of the shards does not matter.
func TestCompareInAnyOrder(t *testing.T) {
	files := []manifestFile{{"backup_label", 225, 0x04030201}, {"\xffA", 0, 0}}
	for range 10 {
		rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		if _, err := compareFiles(strings.NewReader(withChecksum(manifest15)), entriesOf(files)); err != nil {
			t.Error(err)
		}
	}
	twice := append(slices.Clone(files), files[0], files[0])
	var wrong *MismatchError
	if _, err := compareFiles(strings.NewReader(withChecksum(manifest15)), entriesOf(twice)); !errors.As(err, &wrong) {
		t.Errorf("a file received three times: %v", err)
	}
	broken := func(yield func(FileEntry, error) bool) { yield(FileEntry{}, io.ErrUnexpectedEOF) }
	if _, err := compareFiles(strings.NewReader(withChecksum(manifest15)), broken); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("unreadable shard: %v", err)
	}
}

func TestOrderRangesAndSpans(t *testing.T) {
	start := StartInfo{Timeline: 1, StartLSN: 0x2000028}
	end := EndInfo{Timeline: 2, StopLSN: 0x4000100}
	newestFirst := []WALRange{{2, 0x3000200, 0x4000100}, {1, 0x2000028, 0x3000200}}
	ordered, err := orderRanges(newestFirst, start, end)
	if err != nil || ordered[0].Timeline != 1 {
		t.Fatal(ordered, err)
	}
	// The segment of the switch, 3, is taken from timeline 2.
	want := []span{{timeline: 1, first: 2, last: 2}, {timeline: 2, first: 3, last: 4, begin: 0x3000200}}
	if got := spans(ordered, 1<<24); !slices.Equal(got, want) {
		t.Errorf("spans %+v", got)
	}
	// All within one segment: only the newest timeline's file is needed.
	if got := spans([]WALRange{{1, 0x2000028, 0x2000100}, {2, 0x2000100, 0x2000200}}, 1<<24); len(got) != 1 || got[0].timeline != 2 {
		t.Errorf("spans %+v", got)
	}
	for _, bad := range [][]WALRange{
		nil,
		{{1, 0x2000028, 0x3000200}},
		{{2, 0x3000200, 0x4000100}},
		{{2, 0x3000201, 0x4000100}, {1, 0x2000028, 0x3000200}},
		{{1, 0x2000028, 0x3000200}, {2, 0x3000200, 0x4000100}},
	} {
		if _, err := orderRanges(bad, start, end); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestCheckID(t *testing.T) {
	now := time.Date(2026, 11, 22, 21, 30, 0, 0, time.FixedZone("", 3600))
	id := newID(now)
	if CheckID(id) != nil || !strings.HasPrefix(id, "20261122T203000Z-") {
		t.Errorf("id %s", id)
	}
	for _, bad := range []string{"", "20261122T213000Z", "20261322T213000Z-abcd", "20261122T213000Z-ABCD", "20261122T213000Z-abcd/x", "x20261122T213000Z-abcd"} {
		if CheckID(bad) == nil {
			t.Errorf("%q is an id", bad)
		}
	}
}

func TestParseBackupLabel(t *testing.T) {
	l, err := parseBackupLabel([]byte("START WAL LOCATION: 0/02000028 (file 000000030000000000000002)\nCHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\nSTART TIME: 2026-11-22 21:30:00 UTC\nLABEL: a: b\nSTART TIMELINE: 3\n"))
	if err != nil || l != (backupLabel{0x2000028, 0x2000060, 3, true, "a: b"}) {
		t.Errorf("%+v %v", l, err)
	}
	for _, bad := range []string{"", "START WAL LOCATION: x\n", "START WAL LOCATION: 0/1\nSTART TIMELINE: 1\n"} {
		if _, err := parseBackupLabel([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestRemaining(t *testing.T) {
	begin := time.Unix(1000, 0)
	p := Progress{Phase: PhaseCopying, Done: 250, Total: 1000, PhaseStart: begin}
	if d, ok := p.Remaining(begin.Add(10 * time.Second)); !ok || d != 30*time.Second {
		t.Errorf("%s %v", d, ok)
	}
	p.Done = 1100
	if d, ok := p.Remaining(begin.Add(10 * time.Second)); !ok || d != 0 {
		t.Errorf("%s %v", d, ok)
	}
	p.Total = 0
	if _, ok := p.Remaining(begin.Add(time.Minute)); ok {
		t.Error("an estimate from nothing")
	}
}
