package rate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/rate"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

const mib = 1 << 20

func newRepository(t *testing.T) (*repository.Repository, archive.Incarnation) {
	t.Helper()
	repo, _, err := repository.Init(t.Context(), mem.New(), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 7, 1<<24, 17)
	if err != nil {
		t.Fatal(err)
	}
	return repo, inc
}

// What was recorded is read back, the last few of it; what says nothing is not kept.
func TestRecordAndLoad(t *testing.T) {
	repo, inc := newRepository(t)
	for _, m := range []rate.Measurement{
		{DownloadBytes: 100 * mib, DownloadSeconds: 2, ReplayBytes: mib, ReplaySeconds: 1},
		{DownloadBytes: mib, DownloadSeconds: 1},                                          // too little
		{ReplayBytes: 100 * mib},                                                          // no time
		{DownloadBytes: mib, DownloadSeconds: 1, ReplayBytes: 64 * mib, ReplaySeconds: 4}, // the replay counts
	} {
		if err := rate.Record(t.Context(), repo, inc, m); err != nil {
			t.Fatal(err)
		}
	}
	key := inc.Prefix() + "rates/20200101T000000Z-aaaaaaaa"
	if _, err := repo.Put(t.Context(), key, []byte("{"), repository.ObjectOptions{Kind: frame.KindRecord}); err != nil {
		t.Fatal(err)
	}
	list, err := rate.Load(t.Context(), repo, inc)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	downloads, replays := 0, 0
	for _, m := range list {
		if m.DownloadBytes == 100*mib && m.DownloadSeconds == 2 && m.ReplayBytes == 0 {
			downloads++
		}
		if m.ReplayBytes == 64*mib && m.ReplaySeconds == 4 && m.DownloadBytes == 0 {
			replays++
		}
		if time.Since(m.Time) > time.Minute || m.Host == "" {
			t.Errorf("taken at %s on %q", m.Time, m.Host)
		}
	}
	if downloads != 1 || replays != 1 {
		t.Errorf("%+v", list)
	}
	for range 9 {
		if err := rate.Record(t.Context(), repo, inc, rate.Measurement{ReplayBytes: 32 * mib, ReplaySeconds: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if list, err = rate.Load(t.Context(), repo, inc); err != nil || len(list) != 5 {
		t.Errorf("%d measurements, %v", len(list), err)
	}
}

// An estimate says where its rates come from: measured, else the backup's, else assumed.
func TestEstimate(t *testing.T) {
	began := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	backup := catalog.Backup{ID: "B", StoredBytes: 1000 * mib, StartLSN: 100 * mib, StartTime: began, StopTime: began.Add(100 * time.Second)}
	p := &plan.Plan{Backup: backup, Stop: plan.Stop{End: 300 * mib}}
	for name, c := range map[string]struct {
		list                       []rate.Measurement
		backups                    []catalog.Backup
		download, replay           float64 // seconds
		downloadBasis, replayBasis string
	}{
		"nothing": {nil, []catalog.Backup{{StoredBytes: mib, StartTime: began, StopTime: began.Add(time.Hour)}}, 20, 10, "assumed", "assumed"},
		"backup":  {nil, []catalog.Backup{backup}, 100, 10, "backup B", "assumed"},
		"measured": {[]rate.Measurement{
			{Host: "one", Time: began, DownloadBytes: 200 * mib, DownloadSeconds: 1},
			{Host: "two", Time: began, DownloadBytes: 100 * mib, DownloadSeconds: 1, ReplayBytes: 50 * mib, ReplaySeconds: 1},
			{Host: "three", Time: began, DownloadBytes: 10 * mib, DownloadSeconds: 1},
		}, []catalog.Backup{backup}, 10, 4, "median of 3 restores, the last by three on 2026-11-22", "measured when two restored"},
	} {
		e := rate.Estimate(p, c.list, c.backups)
		if e.DownloadSeconds != c.download || e.ReplaySeconds != c.replay ||
			!strings.Contains(e.DownloadBasis, c.downloadBasis) || !strings.Contains(e.ReplayBasis, c.replayBasis) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
