//go:build unix

package record_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// The decoder must have so many times the rate of pg_waldump, which uses one
// core, where it has so many cores.
const (
	faster = 3
	cores  = 4
)

// BenchmarkWaldump measures the decoder beside pg_waldump --stats on the same
// WAL, that of pgbench: the loading of its tables, then transactions. All verify
// and decode every record and read the files, but "memory", which has their
// content already: so it is when a segment is pushed. "cores" reads segments in
// parallel, as WAL is indexed; pg_waldump cannot.
func BenchmarkWaldump(b *testing.B) {
	for _, major := range pgtest.Majors() {
		b.Run(fmt.Sprint(major), func(b *testing.B) { benchWaldump(b, major) })
	}
}

func benchWaldump(b *testing.B, major int) {
	c := pgtest.New(b, pgtest.Options{Major: major, Settings: map[string]string{
		"wal_keep_size": "4GB", "max_wal_size": "4GB", "synchronous_commit": "off", "autovacuum": "off",
	}})
	c.PgbenchInit(4)
	c.Psql("CHECKPOINT")
	c.Pgbench("-c", "4", "-t", "4000")
	c.Psql("SELECT pg_switch_wal()")
	end, err := wal.ParseLSN(c.LSN())
	if err != nil {
		b.Fatal(err)
	}
	list := waldump.Segments(b, c, 1, wal.DefaultSegmentSize, end)
	var content []byte
	for _, seg := range list {
		content = append(content, waldump.Content(b, c, seg)...)
	}
	first, last := list[0], list[len(list)-1]
	dir := filepath.Join(c.DataDir(), "pg_wal")
	theirs := 0.0
	measure := func(name string, read func() error) (rate float64) {
		b.Run(name, func(b *testing.B) {
			rate = bestRate(b, len(content), read)
			if theirs == 0 {
				return
			}
			b.ReportMetric(rate/theirs, "times-pg_waldump")
			if name == "cores" && runtime.GOMAXPROCS(0) >= cores && rate < faster*theirs {
				b.Errorf("less than %d times as fast as pg_waldump", faster)
			}
		})
		return rate
	}
	theirs = measure("pg_waldump", func() error {
		cmd := c.Command(context.Background(), "pg_waldump", "--stats", "-p", dir, "-t", "1", "-s", first.Start().String(), "-e", last.End().String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	var r record.Reader
	measure("memory", func() error {
		r.ResetBytes(content, record.Options{Start: first.Start(), SegmentSize: first.Size, Timeline: 1, Length: int64(len(content))})
		return decodeAll(&r)
	})
	measure("file", func() error { return decodeFiles(dir, list, 1) })
	measure("cores", func() error { return decodeFiles(dir, list, runtime.GOMAXPROCS(0)) })
}

// bestRate is the highest rate of the runs, in bytes per second: other load on
// the machine does not count.
func bestRate(b *testing.B, size int, read func() error) float64 {
	best := time.Duration(1<<63 - 1)
	b.SetBytes(int64(size))
	for b.Loop() {
		began := time.Now()
		if err := read(); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	rate := float64(size) / best.Seconds()
	b.ReportMetric(rate/1e6, "best-MB/s")
	return rate
}

func decodeAll(r *record.Reader) error {
	var d record.Decoded
	for r.Next() {
		if err := r.Record().Decode(&d); err != nil {
			return err
		}
	}
	return r.Err()
}

// decodeFiles reads the segments with so many readers at once.
func decodeFiles(dir string, list []wal.Segment, readers int) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, readers)
	for range readers {
		wg.Go(func() {
			var r record.Reader
			for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
				if err := decodeFile(&r, dir, list[i]); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func decodeFile(r *record.Reader, dir string, seg wal.Segment) error {
	f, err := os.Open(filepath.Join(dir, seg.Name()))
	if err != nil {
		return err
	}
	defer f.Close()
	r.Reset(f, record.Options{Start: seg.Start(), SegmentSize: seg.Size, Timeline: seg.Timeline, Length: seg.Size.Bytes()})
	return decodeAll(r)
}
