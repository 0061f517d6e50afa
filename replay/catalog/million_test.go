package catalog_test

import (
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/bigarchive"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

func million(t testing.TB, latency time.Duration, change func(*bigarchive.Spec)) *bigarchive.Store {
	t.Helper()
	spec := bigarchive.Spec{Segments: 1_000_000, Size: 16 << 20, BackupEvery: 2000, Packs: 40, Rollups: 3906}
	if change != nil {
		change(&spec)
	}
	a, err := bigarchive.New(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return &bigarchive.Store{Archive: a, Latency: latency}
}

// planOn plans as the command does, from the very beginning.
func planOn(t testing.TB, s *bigarchive.Store, target plan.Target) (*plan.Plan, error) {
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
	return plan.Make(snap, target)
}

func TestMillion(t *testing.T) {
	s := million(t, 20*time.Millisecond, nil)
	for _, target := range []plan.Target{
		{Kind: plan.Time, Time: bigarchive.TimeOf(777_777)},
		{Kind: plan.Time, Time: bigarchive.TimeOf(777_777)},
	} {
		began := time.Now()
		p, err := planOn(t, s, target)
		took := time.Since(began)
		t.Logf("%s: %v; %s", target, took, s.Count())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", p.Stop)
	}
}
