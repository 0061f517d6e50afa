package catalog_test

import (
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/bigarchive"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// bigArchive is one of a million segments of 16 MiB: 500 days of the cluster's life, with a
// backup each day.
func bigArchive(t testing.TB, latency time.Duration) *bigarchive.Store {
	t.Helper()
	spec := bigarchive.Spec{Segments: 1_000_000, Size: 16 << 20, BackupEvery: 2000, Packs: 40, Rollups: 1_000_000 / 256}
	a, err := bigarchive.New(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return &bigarchive.Store{Archive: a, Latency: latency}
}

// planOn plans as the command does, from the very beginning.
func planOn(t testing.TB, s *bigarchive.Store, target plan.Target) *plan.Plan {
	t.Helper()
	repo, err := repository.Open(t.Context(), s, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	incs, err := archive.Incarnations(t.Context(), repo, "main")
	if err != nil {
		t.Fatal(err)
	}
	r := catalog.NewReader(repo, archive.New(repo, incs[0]), 0)
	snap, err := r.Sketch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Satisfy(t.Context(), snap, func() (plan.Needs, error) { return plan.Need(snap, target) }); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(snap, target)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMillionSegments counts what plans over a million segments ask of the store. The
// numbers are those of docs/guide.md; more than half of the requests read the 500 backups' manifests.
func TestMillionSegments(t *testing.T) {
	s := bigArchive(t, 0)
	const middle = 777_777
	for _, c := range []struct {
		name        string
		target      plan.Target
		lists, gets int // at most
		segment     uint64
	}{
		{"time", plan.Target{Kind: plan.Time, Time: bigarchive.TimeOf(middle).Add(time.Second)}, 45, 515, middle},
		{"time, where no backup follows", plan.Target{Kind: plan.Time, Time: bigarchive.TimeOf(999_900)}, 50, 580, 999_900},
		{"lsn", plan.Target{Kind: plan.LSN, LSN: wal.LSN(middle)<<24 + 0x1000}, 45, 515, middle},
		{"latest", plan.Target{Kind: plan.Latest}, 45, 580, 1_000_000},
		{"immediate", plan.Target{Kind: plan.Immediate, Backup: bigarchive.BackupID(2 + 2000*388)}, 45, 515, 2 + 2000*388 + 1},
		{"xid", plan.Target{Kind: plan.XID, XID: bigarchive.XIDOf(999_000) + 7}, 60, 620, 999_000},
	} {
		p := planOn(t, s, c.target)
		n := s.Count()
		t.Logf("%s: %s", c.name, n)
		if n.Lists > c.lists || n.Gets > c.gets || n.Stats > 0 {
			t.Errorf("%s: %s; at most %d lists and %d reads were expected", c.name, n, c.lists, c.gets)
		}
		if at := wal.SegmentSize(16 << 20).PrevNumber(p.Stop.End); at != c.segment && p.Stop.End != 0 {
			t.Errorf("%s: it stops in segment %d, want %d: %+v", c.name, at, c.segment, p.Stop)
		}
	}
}

// BenchmarkMillionSegments is the time of a plan where a request takes 20 ms.
func BenchmarkMillionSegments(b *testing.B) {
	s := bigArchive(b, 20*time.Millisecond)
	target := plan.Target{Kind: plan.Time, Time: bigarchive.TimeOf(777_777)}
	planOn(b, s, target) // so that what is asked for has been made once
	for b.Loop() {
		planOn(b, s, target)
	}
}
