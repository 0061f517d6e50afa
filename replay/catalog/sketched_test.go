package catalog_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// holey is a snapshot of two timelines with many holes, and backups here and there.
func holey(r *rand.Rand) *catalog.Snapshot {
	s := &catalog.Snapshot{SegmentSize: size}
	const segments, fork = 60, 30
	for tli := wal.TimelineID(1); tli <= 2; tli++ {
		t := catalog.Timeline{ID: tli, HistoryState: catalog.HistoryNone, Ranges: []catalog.Range{}}
		first := uint64(1)
		if tli == 2 {
			at := wal.LSN(fork)*wal.LSN(size) + 4096
			first, t.HistoryState = fork, catalog.HistoryPresent
			t.History = wal.History{Timeline: 2, Entries: []wal.HistoryEntry{{Timeline: 1, End: at}}}
			t.Parent, t.Switch = 1, at
		}
		holes := r.IntN(12)
		for n := first; n <= segments; n++ {
			if r.IntN(60) < holes || tli == 1 && n > fork+6 {
				continue
			}
			if k := len(t.Ranges); k > 0 && t.Ranges[k-1].Last+1 == n {
				t.Ranges[k-1] = catalog.NewRange(tli, t.Ranges[k-1].First, n, size, 0)
			} else {
				t.Ranges = append(t.Ranges, catalog.NewRange(tli, n, n, size, 0))
			}
		}
		t.SetLive(nil)
		s.Timelines = append(s.Timelines, t)
	}
	for i := range r.IntN(5) {
		at := wal.LSN(1+r.IntN(segments-2)) * wal.LSN(size)
		tli := wal.TimelineID(1)
		if at > fork*wal.LSN(size) {
			tli = 2
		}
		s.Backups = append(s.Backups, catalog.Backup{
			ID: fmt.Sprint(i), Timeline: tli, StopTimeline: tli, StartLSN: at + 40, CheckpointLSN: at + 80, StopLSN: at + wal.LSN(r.IntN(2<<20)) + 100,
		})
	}
	return s
}

// TestAnswersDoNotDependOnWhatIsListed: whatever is asked of a sketched snapshot, once
// what was asked about is listed the answer is that of the whole one.
func TestAnswersDoNotDependOnWhatIsListed(t *testing.T) {
	guesses, spared := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		whole := holey(r)
		p, err := whole.Path(wal.TimelineID(1 + r.IntN(2)))
		if err != nil {
			t.Fatal(err)
		}
		n := r.Uint64N(64)
		m := n + r.Uint64N(30)
		from, to := wal.LSN(n)*wal.LSN(size)+50, wal.LSN(m)*wal.LSN(size)+60
		for name, ask := range map[string]func(s *catalog.Snapshot) any{
			"Has":       func(s *catalog.Snapshot) any { return s.Has(p.Segment(n)) },
			"EndOf":     func(s *catalog.Snapshot) any { return s.EndOf(p.Segment(n)) },
			"RunEnd":    func(s *catalog.Snapshot) any { last, ok := s.RunEnd(p, n); return []any{last, ok} },
			"RunWithin": func(s *catalog.Snapshot) any { last, ok := s.RunWithin(p, n, m); return []any{last, ok} },
			"LastOn":    func(s *catalog.Snapshot) any { last, ok := s.LastOn(p); return []any{last, ok} },
			"Holes":     func(s *catalog.Snapshot) any { return s.Holes(p, n, m) },
			"FirstHole": func(s *catalog.Snapshot) any { g, ok := s.FirstHole(p, n, m); return []any{g, ok} },
			"Missing":   func(s *catalog.Snapshot) any { return s.Missing(p, from, to) },
			"Gaps":      func(s *catalog.Snapshot) any { return s.Gaps() },
			"Windows":   func(s *catalog.Snapshot) any { return s.Windows() },
		} {
			s := whole.Sketched(1 + r.Uint64N(5))
			want := ask(whole)
			for range 1000 {
				got := ask(s)
				asked := s.Unlisted()
				if len(asked) == 0 {
					if !reflect.DeepEqual(got, want) {
						t.Errorf("seed %d, %s: %+v, want %+v", seed, name, got, want)
					}
					break
				}
				guesses++
				s.Reveal(whole, asked)
			}
			if s.Has(wal.Segment{Timeline: 1, Number: 9, Size: size}); len(s.Unlisted()) > 0 {
				spared++
			}
		}
	}
	if guesses < 1000 || spared < 500 {
		t.Errorf("%d guesses, %d times something was not listed: the test tests nothing", guesses, spared)
	}
}
