package archive_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// scattered is WAL of records of all sizes over two segments and a beginning, and
// where each starts and ends.
func scattered(t *testing.T) (b *waltest.Builder, records [][2]wal.LSN) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	b = waltest.NewBuilder(major, systemID, 1, size)
	first := wal.SegmentAt(1, b.Position(), size)
	for wal.SegmentAt(1, b.Position(), size).Number < first.Number+2 {
		start, end := b.Message([]int{r.IntN(100), r.IntN(9000), r.IntN(60000)}[r.IntN(3)])
		records = append(records, [2]wal.LSN{start, end})
	}
	for range 20 {
		start, end := b.Message(r.IntN(3000))
		records = append(records, [2]wal.LSN{start, end})
	}
	return b, records
}

// expected is what FindRecord should find, of records that end by known.
func expected(records [][2]wal.LSN, seg wal.Segment, at, known wal.LSN, before bool) (start, end wal.LSN) {
	for _, r := range records {
		if !seg.Contains(r[0]) || r[1] > known || (r[0] < at) != before {
			continue
		}
		if start, end = r[0], r[1]; !before {
			break
		}
	}
	if end > seg.End() {
		end = 0
	}
	return start, end
}

// TestFindRecord looks for records around random positions in a sealed segment, in
// fragments, and in a partial segment.
func TestFindRecord(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b, records := scattered(t)
	a := newArchive(t, mem.New())
	segs := b.Segments()
	for _, seg := range segs[:2] {
		if _, err := a.PutSegment(t.Context(), seg, bytes.NewReader(b.Bytes(seg))); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, a *archive.Archive, seg wal.Segment, known wal.LSN) {
		t.Helper()
		for range 200 {
			at := seg.Start() + wal.LSN(r.Int64N(int64(min(known, seg.End())-seg.Start())))
			if i := r.IntN(len(records)); r.IntN(2) == 0 && seg.Contains(records[i][0]) {
				at = records[i][0] + wal.LSN(r.IntN(2)*8)
			}
			before := r.IntN(2) == 0
			start, end, err := a.FindRecord(t.Context(), seg, at, before)
			wantStart, wantEnd := expected(records, seg, at, known, before)
			if err != nil || start != wantStart || end != wantEnd {
				t.Fatalf("%s at %s, before %v: found %s to %s, %v; want %s to %s", what, at, before, start, end, err, wantStart, wantEnd)
			}
		}
	}
	check("sealed", a, segs[0], 1<<60)
	check("sealed", a, segs[1], 1<<60)

	last := segs[2]
	if _, _, err := a.FindRecord(t.Context(), last, last.Start(), false); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("in a segment that is not there: %v", err)
	}
	pushPartial(t, a, last, b.Bytes(last))
	if _, _, err := a.FindRecord(t.Context(), last, last.Start(), false); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("in a partial segment, without leave: %v", err)
	}
	check("partial", a.AcceptPartial(), last, b.Position())
	known := (b.Position() - last.Start()) / 2
	f := archive.Fragment{Segment: last, From: 0, To: int64(known)}
	if _, err := a.PutFragment(t.Context(), f, bytes.NewReader(b.Bytes(last)[:known])); err != nil {
		t.Fatal(err)
	}
	check("fragments, which outrank a partial segment", a.AcceptPartial(), last, last.Start()+known)
	if _, _, err := a.FindRecord(t.Context(), last, last.Start()-8, false); err == nil {
		t.Error("a position outside the segment is looked for")
	}
}

func pushPartial(t *testing.T, a *archive.Archive, seg wal.Segment, content []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), seg.Name()+".partial")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Push(t.Context(), path, archive.PushOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A damaged segment is told of, and not taken for one that ends early.
func TestFindRecordInDamagedWAL(t *testing.T) {
	b, records := scattered(t)
	store := mem.New()
	repo := newRepository(t, store)
	a := archive.New(repo, create(t, repo, systemID, size))
	seg := b.Segments()[0]
	key := archive.SegmentKey(a.Incarnation(), seg)
	if _, err := a.PutSegment(t.Context(), seg, bytes.NewReader(b.Bytes(seg))); err != nil {
		t.Fatal(err)
	}
	spoil(t, store, key)
	at := records[len(records)/4][0]
	if start, _, err := a.FindRecord(t.Context(), seg, at, false); err == nil {
		t.Errorf("found a record at %s", start)
	}
}

// spoil flips a bit in the midst of an object.
func spoil(t *testing.T, s storage.Store, key string) {
	t.Helper()
	info, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content := make([]byte, info.Size)
	if _, err := r.Read(content); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		content[int(info.Size)/4+i] ^= 0x40
	}
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), key, bytes.NewReader(content), info.Size, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Only who asks for it is delivered a partial segment under the segment's name, and
// only where nothing better is there.
func TestFetchPartial(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		b, _ := scattered(t)
		seg := b.Segments()[2]
		content := b.Bytes(seg)
		pushPartial(t, a, seg, content)
		path := filepath.Join(t.TempDir(), "RECOVERYXLOG")
		var absent *archive.AbsentError
		if err := a.Fetch(t.Context(), seg.Name(), path); !errors.As(err, &absent) {
			t.Errorf("without leave: %v", err)
		}
		delivers := func(when string, want []byte) {
			t.Helper()
			if err := a.AcceptPartial().Fetch(t.Context(), seg.Name(), path); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d other bytes, %v", when, len(got), err)
			}
		}
		delivers("partial", content)
		half := append(bytes.Clone(content[:8192]), make([]byte, len(content)-8192)...)
		if _, err := a.PutFragment(t.Context(), archive.Fragment{Segment: seg, From: 0, To: 8192}, bytes.NewReader(content[:8192])); err != nil {
			t.Fatal(err)
		}
		delivers("fragments", half)
		b.Switch()
		if _, err := a.PutSegment(t.Context(), seg, bytes.NewReader(b.Bytes(seg))); err != nil {
			t.Fatal(err)
		}
		delivers("sealed", b.Bytes(seg))
	})
}
