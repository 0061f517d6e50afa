package wal_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
)

func TestParseLSN(t *testing.T) {
	for text, want := range map[string]wal.LSN{
		"0/0": 0, "16/B374D848": 0x16B374D848, "16/b374d848": 0x16B374D848,
		"0/03000028": 0x3000028, "FFFFFFFF/FFFFFFFF": math.MaxUint64, "00000001/00000000": 1 << 32,
	} {
		got, err := wal.ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/", "0", "0/", "/0", "0/0/0", " 0/0", "0/0 ", "+0/0", "0x1/0", "123456789/0", "0/123456789", "g/0", "0/-1", "0/1\n"} {
		if got, err := wal.ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %v, want an error", text, got)
		}
	}
}

func TestLSNPlaces(t *testing.T) {
	l := wal.LSN(0x3002001)
	if l.Page() != 0x3002000 || l.PageOffset() != 1 || l.Align() != 0x3002008 || l.Aligned() || !l.Align().Aligned() {
		t.Errorf("places of %v: page %v offset %d align %v", l, l.Page(), l.PageOffset(), l.Align())
	}
	if wal.LSN(16).Align() != 16 {
		t.Error("an aligned position moved")
	}
}

func TestParseSegmentSize(t *testing.T) {
	for text, want := range map[string]wal.SegmentSize{
		"1MB": 1 << 20, "16MB": 16 << 20, "1GB": 1 << 30, "1024MB": 1 << 30, "16777216": 16 << 20,
	} {
		got, err := wal.ParseSegmentSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSegmentSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MB", "0", "3MB", "2GB", "4096GB", "512kB", "1048577", "+1MB", "01MB", "-1MB", "1 MB", "18446744073709551616"} {
		if got, err := wal.ParseSegmentSize(text); err == nil {
			t.Errorf("ParseSegmentSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  wal.SegmentSize
		start wal.LSN
	}{
		{"000000010000000000000001", 16 << 20, 0x1000000},
		{"0000000A00000016000000B3", 16 << 20, 0x16B3000000},
		{"000000010000000200000FFF", 1 << 20, 0x2FFF00000},
		{"000000010000000200000003", 1 << 30, 0x2C0000000},
		{"FFFFFFFFFFFFFFFF000000FF", 16 << 20, 0xFFFFFFFFFF000000},
	} {
		seg, err := wal.ParseSegment(c.name, c.size)
		if err != nil {
			t.Error(err)
			continue
		}
		if seg.Start() != c.start || seg.Name() != c.name || !seg.Contains(c.start) {
			t.Errorf("%s: starts at %v and is called %s", c.name, seg.Start(), seg.Name())
		}
	}
	for _, name := range []string{"", "00000001000000000000001", "0000000100000000000000010", "000000000000000000000001",
		"000000010000000000000100", "00000001000000000000000a", "0000000100000000000000 1", "+00000010000000000000001"} {
		if seg, err := wal.ParseSegment(name, 16<<20); err == nil {
			t.Errorf("ParseSegment(%q) = %v, want an error", name, seg)
		}
	}
	if _, err := wal.ParseSegment("000000010000000000000004", 1<<30); err == nil {
		t.Error("a fifth segment of 1 GiB in 4 GiB was accepted")
	}
	if _, err := wal.ParseSegment("000000010000000000000001", 3); err == nil {
		t.Error("a segment size of 3 was accepted")
	}
}

func TestSegmentOfPosition(t *testing.T) {
	size := wal.SegmentSize(16 << 20)
	if n := size.Number(0x3000000); n != 3 {
		t.Errorf("number of a boundary: %d", n)
	}
	if n := size.PrevNumber(0x3000000); n != 2 {
		t.Errorf("number before a boundary: %d", n)
	}
	if n := size.PrevNumber(0); n != 0 {
		t.Errorf("number before 0: %d", n)
	}
	seg := wal.SegmentAt(2, 0x1FFFFFFFF, size)
	if seg.Log() != 1 || seg.Next().Log() != 2 || seg.End() != seg.Next().Start() {
		t.Errorf("%v: log %d, next %v", seg, seg.Log(), seg.Next())
	}
}

func TestParseFile(t *testing.T) {
	for name, want := range map[string]wal.FileKind{
		"000000010000000000000003":                 wal.FileSegment,
		"000000010000000000000003.partial":         wal.FilePartial,
		"00000002.history":                         wal.FileHistory,
		"000000010000000000000003.00000028.backup": wal.FileBackup,
	} {
		f, err := wal.ParseFile(name, 16<<20)
		if err != nil || f.Kind != want || f.Name() != name || f.Timeline == 0 {
			t.Errorf("ParseFile(%q) = %+v, %v", name, f, err)
		}
	}
	for _, name := range []string{"", ".history", ".partial", ".backup", "00000000.history", "2.history", "0000000a.history",
		"000000010000000000000003.backup", "000000010000000000000003.partial.partial", "000000010000000000000003.01000000.backup",
		"000000010000000000000003.28.backup", "000000010000000000000003.gz", "../000000010000000000000003", "RECOVERYXLOG"} {
		if f, err := wal.ParseFile(name, 16<<20); err == nil {
			t.Errorf("ParseFile(%q) = %+v, want an error", name, f)
		}
	}
}

// TestParseHistory reads files as servers wrote them: with the parent's copy
// and its extra line break, with a reason that brings its own line break, with
// 19's long positions.
func TestParseHistory(t *testing.T) {
	text := "\n# a comment\n1\t0/3000110\tno recovery target specified\n\n2\t0/40000A0\tbefore 2026-01-01 10:00:00+00\n\n\n3\t0/05000000\tat restore point \"a b\"\r\n"
	h, err := wal.ParseHistory(4, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := wal.History{Timeline: 4, Entries: []wal.HistoryEntry{
		{1, 0x3000110, "no recovery target specified"},
		{2, 0x40000A0, "before 2026-01-01 10:00:00+00"},
		{3, 0x5000000, `at restore point "a b"`},
	}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
	if p, ok := h.Parent(); !ok || p.Timeline != 3 {
		t.Errorf("parent %+v", p)
	}
	for name, bad := range map[string]string{
		"descends": "2\t0/1\n1\t0/2\n", "repeats": "1\t0/1\n1\t0/2\n", "own": "4\t0/1\n", "beyond": "5\t0/1\n",
		"no position": "1\n", "bad position": "1\tx\n", "no number": "x\t0/1\n", "zero": "0\t0/1\n",
		"sign": "+1\t0/1\n", "NUL": "1\t0/1\x00\n", "half a line": "1\t0/\n",
	} {
		if h, err := wal.ParseHistory(4, []byte(bad)); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if h, err := wal.ParseHistory(2, nil); err != nil || len(h.Entries) != 0 {
		t.Errorf("an empty file: %+v, %v", h, err)
	}
}

func TestHistoryPath(t *testing.T) {
	h := wal.History{Timeline: 5, Entries: []wal.HistoryEntry{{Timeline: 1, End: 100}, {Timeline: 2, End: 300}, {Timeline: 3, End: 300}, {Timeline: 4, End: 200}}}
	want := []wal.Span{{1, 0, 100}, {2, 100, 200}, {5, 200, 0}}
	if d := cmp.Diff(want, h.Path()); d != "" {
		t.Error(d)
	}
	for l, tli := range map[wal.LSN]wal.TimelineID{0: 1, 99: 1, 100: 2, 199: 2, 200: 5, 300: 5, math.MaxUint64: 5} {
		if got, begin, end := h.TimelineAt(l); got != tli || l < begin || end != 0 && l >= end {
			t.Errorf("TimelineAt(%d) = %v [%d,%d), want %v", l, got, begin, end, tli)
		}
		if !h.Contains(tli, l) || h.Contains(tli+1, l) {
			t.Errorf("Contains at %d", l)
		}
	}
	if d := cmp.Diff([]wal.Span{{1, 0, 0}}, wal.History{Timeline: 1}.Path()); d != "" {
		t.Error(d)
	}
}

// timelineByRule is tliOfPointInHistory, word for word: newest first.
func timelineByRule(h wal.History, l wal.LSN) wal.TimelineID {
	end := wal.LSN(0)
	tli := h.Timeline
	for i := len(h.Entries); i >= 0; i-- {
		begin := wal.LSN(0)
		if i > 0 {
			begin = h.Entries[i-1].End
		}
		if begin <= l && (i == len(h.Entries) || l < end) {
			return tli
		}
		if i > 0 {
			end, tli = h.Entries[i-1].End, h.Entries[i-1].Timeline
		}
	}
	return 0
}

func FuzzHistory(f *testing.F) {
	f.Add(uint32(4), []byte("1\t0/3000110\tno recovery target specified\n\n2\t0/2000000\tx\n"), uint64(0x2000000))
	f.Add(uint32(9), []byte("# c\n1 0/A\n3\tFFFFFFFF/0"), uint64(3))
	f.Fuzz(func(t *testing.T, tli uint32, b []byte, at uint64) {
		h, err := wal.ParseHistory(wal.TimelineID(tli), b)
		if err != nil {
			return
		}
		again, err := wal.ParseHistory(h.Timeline, h.Encode())
		if err != nil || !cmp.Equal(h, again) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		path := h.Path()
		for i, s := range path {
			if i == 0 && s.Begin != 0 || i > 0 && s.Begin != path[i-1].End || (s.End == 0) != (i == len(path)-1) {
				t.Fatalf("path %+v", path)
			}
		}
		if got, _, _ := h.TimelineAt(wal.LSN(at)); got != timelineByRule(h, wal.LSN(at)) {
			t.Fatalf("%+v: at %d timeline %v, want %v", h, at, got, timelineByRule(h, wal.LSN(at)))
		}
	})
}

func FuzzParseFile(f *testing.F) {
	for _, s := range []string{"000000010000000000000003", "00000002.history", "000000010000000000000003.partial", "000000010000000000000003.00000028.backup"} {
		f.Add(s, uint8(24))
	}
	f.Fuzz(func(t *testing.T, name string, shift uint8) {
		file, err := wal.ParseFile(name, 1<<(shift%32))
		if err == nil && file.Name() != name {
			t.Fatalf("%q became %q", name, file.Name())
		}
	})
}

func FuzzParseLSN(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := wal.ParseLSN(s)
		if err != nil {
			return
		}
		again, err := wal.ParseLSN(l.String())
		if err != nil || again != l {
			t.Fatalf("%q: %v became %v, %v", s, l, again, err)
		}
		var viaText wal.LSN
		if b, _ := l.MarshalText(); viaText.UnmarshalText(b) != nil || viaText != l {
			t.Fatalf("%q: text form", s)
		}
	})
}

func FuzzTime(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(-1))
	f.Add(int64(math.MaxInt64))
	f.Add(int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, us int64) {
		if got := wal.ToPGMicros(wal.FromPGMicros(us)); got != us {
			t.Fatalf("%d became %d", us, got)
		}
	})
}

func TestTimes(t *testing.T) {
	if got := wal.FromPGMicros(1); !got.Equal(time.Date(2000, 1, 1, 0, 0, 0, 1000, time.UTC)) {
		t.Error(got)
	}
	if got := wal.FromUnixSeconds(946684800); !got.Equal(wal.FromPGMicros(0)) {
		t.Error(got)
	}
	if got := wal.FromPGMicros(-1); !got.Equal(time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)) {
		t.Error(got)
	}
}

func TestTimelineID(t *testing.T) {
	if tli, err := wal.ParseTimelineID("17"); err != nil || tli != 17 || tli.Hex() != "00000011" || tli.String() != "17" {
		t.Errorf("%v, %v", tli, err)
	}
	for _, s := range []string{"", "0", "-1", "+1", "01", "0x11", "4294967296", "1 "} {
		if tli, err := wal.ParseTimelineID(s); err == nil {
			t.Errorf("ParseTimelineID(%q) = %v", s, tli)
		}
	}
	if !strings.Contains(wal.Segment{Number: 7, Timeline: 2}.String(), "timeline 2") {
		t.Error("a segment without a size has no description")
	}
}
