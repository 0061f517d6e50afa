package archive_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// fixture archives, on timeline 1, segments 1 to 4, 6 and 4095 to 4096 (in two
// logs), a partial segment 7 and a backup history file, and timeline 2 from 3 on.
func fixture(t *testing.T, s storage.Store) *archive.Archive {
	t.Helper()
	a := newArchive(t, s)
	b := newWAL(6)
	segs := pushAll(t, a, b)
	if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), segs[4])); err != nil {
		t.Fatal(err)
	}
	open := b.Segments()[6]
	mustPush(t, a, open.Name()+".partial", b.Bytes(open))
	mustPush(t, a, segs[1].Name()+".00000028.backup", backupHistory(segs[1], 0x28))
	pushAll(t, a, newWALAt(4095))

	p := newWAL(2)
	child := p.Fork(2, "x")
	child.EndOfRecovery(1, noon)
	fill(child, 2)
	mustPush(t, a, "00000002.history", child.History().Encode())
	pushAll(t, a, child)
	return a
}

func numbers(entries []archive.Entry) []uint64 {
	var list []uint64
	for _, e := range entries {
		list = append(list, e.Segment.Number)
	}
	return list
}

func TestLists(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := fixture(t, s)
		tlis, err := a.Timelines(t.Context())
		if err != nil || !slices.Equal(tlis, []wal.TimelineID{1, 2}) {
			t.Errorf("timelines %v, %v", tlis, err)
		}
		histories, err := a.Histories(t.Context())
		if err != nil || len(histories) != 1 || histories[2].Entries[0].Timeline != 1 {
			t.Errorf("histories %v, %v", histories, err)
		}
		for _, c := range []struct {
			tli      wal.TimelineID
			from, to uint64
			want     []uint64
		}{
			{1, 0, archive.LastSegment, []uint64{1, 2, 3, 4, 6, 4095, 4096}},
			{1, 2, 4, []uint64{2, 3, 4}},
			{1, 5, 5, nil},
			{1, 6, 6, []uint64{6}},
			{1, 4, 4095, []uint64{4, 6, 4095}},
			{1, 4096, 1 << 40, []uint64{4096}},
			{1, 4097, archive.LastSegment, nil},
			{1, 9, 8, nil},
			{2, 0, archive.LastSegment, []uint64{3, 4}},
			{3, 0, archive.LastSegment, nil},
		} {
			got, err := a.Segments(t.Context(), c.tli, c.from, c.to)
			if err != nil || !slices.Equal(numbers(got), c.want) {
				t.Errorf("segments of %s from %d to %d: %v, %v; want %v", c.tli, c.from, c.to, numbers(got), err, c.want)
			}
			for _, e := range got {
				if e.Partial || e.Size == 0 || e.ModTime.IsZero() || e.Segment.Timeline != c.tli || e.Segment.Size != size {
					t.Errorf("entry %+v", e)
				}
			}
		}
		partial, err := a.Partials(t.Context(), 1, 0, archive.LastSegment)
		if err != nil || !slices.Equal(numbers(partial), []uint64{7}) || !partial[0].Partial {
			t.Errorf("partial segments %v, %v", partial, err)
		}
		ranges, err := a.Ranges(t.Context(), 1)
		for i := range ranges {
			if ranges[i].Bytes == 0 {
				t.Errorf("range %+v has no bytes", ranges[i])
			}
			ranges[i].Bytes = 0
		}
		want := []archive.Range{{Timeline: 1, First: 1, Last: 4}, {Timeline: 1, First: 6, Last: 6}, {Timeline: 1, First: 4095, Last: 4096}}
		if d := cmp.Diff(want, ranges); err != nil || d != "" {
			t.Errorf("ranges: %v\n%s", err, d)
		}
	})
}

func TestListsWalkOnlyTheRange(t *testing.T) {
	s := mem.New()
	a := fixture(t, s)
	counted := &countingStore{Store: s}
	a = archive.New(openRepository(t, counted), a.Incarnation())
	if _, err := a.Segments(t.Context(), 1, 6, 6); err != nil {
		t.Fatal(err)
	}
	// Segment 6 and the partial 7 that tells where to stop.
	if n := counted.listed.Load(); n > 2 {
		t.Errorf("%d objects were listed for one segment", n)
	}
	if n := counted.calls.Load(); n != 1 {
		t.Errorf("%d listings for one log", n)
	}
}

func TestIndexes(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	b := newWAL(2)
	segs := pushAll(t, a, b)
	open := b.Segments()[2]
	mustPush(t, a, open.Name()+".partial", b.Bytes(open))
	x, err := a.Index(t.Context(), segs[1])
	if err != nil || x.Segment != segs[1] || x.Records == 0 || x.Commits == 0 || !x.MinTime.Equal(noon) {
		t.Errorf("index %+v, %v", x, err)
	}
	x, err = a.PartialIndex(t.Context(), open)
	if err != nil || x.EndOfRecords != b.Position() {
		t.Errorf("the partial segment ends at %v, %v; want %s", x, err, b.Position())
	}
	obj, err := a.OpenSegment(t.Context(), segs[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := obj.ReadAll(t.Context()); err != nil || !bytes.Equal(got, b.Bytes(segs[0])) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for seg, want := range map[wal.Segment]bool{segs[0]: true, open: false} {
		if found, err := a.Contains(t.Context(), seg); err != nil || found != want {
			t.Errorf("contains %s: %v, %v", seg.Name(), found, err)
		}
	}
}
