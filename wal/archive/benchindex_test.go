//go:build unix

package archive_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// indexShare is the part of the time of a push, in per cent, that the decoding and
// indexing of the segment may take.
const indexShare = 10

// BenchmarkPushIndex pushes segments that a real server wrote, one full of the rows
// that pgbench loads and one of its transactions, and says which part of the time
// the index takes: the building of the same index alone.
func BenchmarkPushIndex(b *testing.B) {
	c := pgtest.New(b, pgtest.Options{Settings: map[string]string{"wal_keep_size": "4GB", "max_wal_size": "4GB", "synchronous_commit": "off", "autovacuum": "off"}})
	c.PgbenchInit(2)
	c.Psql("SELECT pg_switch_wal(); CHECKPOINT")
	c.Pgbench("-c", "4", "-t", "6000")
	c.Psql("SELECT pg_switch_wal()")
	end, err := wal.ParseLSN(c.LSN())
	if err != nil {
		b.Fatal(err)
	}
	list := waldump.Segments(b, c, 1, wal.DefaultSegmentSize, end)
	for name, seg := range map[string]wal.Segment{"rows": list[1], "transactions": list[len(list)-2]} {
		b.Run(name, func(b *testing.B) {
			d := newDirectory(b)
			d.write(b, seg.Name(), waldump.Content(b, c, seg))
			benchIndex(b, c.SystemID(), seg, d.path(seg.Name()))
		})
	}
}

func benchIndex(b *testing.B, systemID uint64, seg wal.Segment, path string) {
	b.SetBytes(seg.Size.Bytes())
	push, build := time.Hour, time.Hour // the shortest: other load on the machine does not count
	for b.Loop() {
		b.StopTimer()
		s, err := file.New(b.TempDir(), file.Options{})
		if err != nil {
			b.Fatal(err)
		}
		repo := newRepository(b, s)
		a := archive.New(repo, create(b, repo, systemID, seg.Size))
		b.StartTimer()
		began := time.Now()
		benchPush(b, a, path, archive.Stored)
		push = min(push, time.Since(began))
		b.StopTimer()
		took, err := buildIndex(path, seg)
		if err != nil {
			b.Fatal(err)
		}
		build = min(build, took)
		b.StartTimer()
	}
	share := 100 * build.Seconds() / push.Seconds()
	b.ReportMetric(share, "index-%")
	b.ReportMetric(float64(build.Microseconds()), "index-µs")
	if share > indexShare {
		b.Errorf("the index takes %.1f %% of the time of a push, %v of %v", share, build, push)
	}
}

func buildIndex(path string, seg wal.Segment) (time.Duration, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	began := time.Now()
	if _, err := index.Build(f, seg, index.Options{Complete: true}); err != nil {
		return 0, fmt.Errorf("index of %s: %w", seg.Name(), err)
	}
	return time.Since(began), nil
}
