package archive_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// sparse is an archive of names alone: segments with these numbers on timeline 3,
// every third of them with a partial one beside it.
func sparse(t *testing.T, size wal.SegmentSize, numbers []uint64) (*archive.Archive, *faulty.Store) {
	t.Helper()
	s := faulty.New(mem.New())
	repo, _, err := repository.Init(t.Context(), s, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 7, size, 17)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string) {
		if err := storage.PutBytes(t.Context(), s, key, []byte("x"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range numbers {
		key := archive.SegmentKey(inc, wal.Segment{Timeline: 3, Number: n, Size: size})
		put(key)
		if i%3 == 0 {
			put(key + ".partial")
		}
	}
	// Neighbours that are none of its business.
	put(archive.SegmentKey(inc, wal.Segment{Timeline: 2, Number: 1 << 40 / uint64(size), Size: size}))
	put(archive.SegmentKey(inc, wal.Segment{Timeline: 4, Number: 1, Size: size}))
	return archive.New(repo, inc), s
}

func numbersOf(list []archive.Entry) (numbers []uint64) {
	for _, e := range list {
		numbers = append(numbers, e.Segment.Number)
	}
	return numbers
}

// TestFilesAndBounds compares with what was stored, for archives with few and many
// logs, close together and far apart.
func TestFilesAndBounds(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		size := wal.SegmentSize(1 << (20 + r.IntN(11)))
		per := size.SegmentsPerLog()
		var numbers []uint64
		for range r.IntN(12) {
			at := r.Uint64N(per << (1 + r.IntN(32)))
			for i := range uint64(1 + r.IntN(40)) {
				numbers = append(numbers, min(at+i, per<<32-1))
			}
		}
		slices.Sort(numbers)
		numbers = slices.Compact(numbers)
		a, _ := sparse(t, size, numbers)
		near := uint32(r.Uint64())
		if len(numbers) > 0 && r.IntN(2) == 0 {
			near = uint32(numbers[r.IntN(len(numbers))] / per)
		}
		first, last, ok, err := a.Bounds(t.Context(), 3, near)
		switch {
		case err != nil:
			t.Fatal(err)
		case ok != (len(numbers) > 0):
			t.Errorf("seed %d: any: %v", seed, ok)
		case ok && (uint64(first) != numbers[0]/per || uint64(last) != numbers[len(numbers)-1]/per):
			t.Errorf("seed %d: logs %d to %d of %v, near %d", seed, first, last, numbers, near)
		}
		for range 6 {
			from, to := r.Uint64N(per<<32), uint64(archive.LastSegment)
			if len(numbers) > 0 && r.IntN(3) > 0 {
				from = numbers[r.IntN(len(numbers))]
			}
			if r.IntN(2) == 0 {
				to = from + r.Uint64N(per*80)
			}
			segments, partials, err := a.Files(t.Context(), 3, from, to)
			if err != nil {
				t.Fatal(err)
			}
			var want, wantPartials []uint64
			for i, n := range numbers {
				if n >= from && n <= to {
					want = append(want, n)
					if i%3 == 0 {
						wantPartials = append(wantPartials, n)
					}
				}
			}
			if !slices.Equal(numbersOf(segments), want) || !slices.Equal(numbersOf(partials), wantPartials) {
				t.Errorf("seed %d, %d to %d: %v and %v, want %v and %v", seed, from, to, numbersOf(segments), numbersOf(partials), want, wantPartials)
			}
		}
	}
}

// What it costs to find the end does not depend on what lies before it.
func TestBoundsCostsLittle(t *testing.T) {
	var numbers []uint64
	for log := range uint64(4000) {
		numbers = append(numbers, log*4+1)
	}
	a, s := sparse(t, 1<<30, numbers)
	for near, most := range map[uint32]int{0: 8 + 3*16 + 1, 3990: 8 + 16 + 2, 5000: 8 + 3*16 + 2} {
		s.Clear()
		if _, last, ok, err := a.Bounds(t.Context(), 3, near); err != nil || !ok || last != 3999 {
			t.Errorf("near %d: %d, %v, %v", near, last, ok, err)
		}
		if n := s.Count(faulty.List); n > most {
			t.Errorf("near %d: %d listings, want at most %d", near, n, most)
		}
	}
}
