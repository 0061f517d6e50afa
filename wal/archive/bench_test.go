package archive_test

import (
	"bytes"
	"testing"

	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// newBenchArchive is an empty archive of 16 MiB segments in a file repository.
func newBenchArchive(b *testing.B) *archive.Archive {
	b.Helper()
	s, err := file.New(b.TempDir(), file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	repo := newRepository(b, s)
	return archive.New(repo, create(b, repo, systemID, wal.DefaultSegmentSize))
}

// benchFile is a complete segment in a file of its own.
func benchFile(b *testing.B) (d pgWAL, name string) {
	b.Helper()
	w := waltest.NewBuilder(major, systemID, 1, wal.DefaultSegmentSize)
	fill(w, 1)
	seg := w.Complete()[0]
	d = newDirectory(b)
	d.write(b, seg.Name(), w.Bytes(seg))
	b.SetBytes(seg.Size.Bytes())
	return d, seg.Name()
}

func benchPush(b *testing.B, a *archive.Archive, path string, want archive.PushResult) {
	b.Helper()
	if res, err := a.Push(b.Context(), path, archive.PushOptions{}); err != nil || res != want {
		b.Fatal(res, err)
	}
}

func BenchmarkPush(b *testing.B) {
	d, name := benchFile(b)
	for b.Loop() {
		b.StopTimer()
		a := newBenchArchive(b)
		b.StartTimer()
		benchPush(b, a, d.path(name), archive.Stored)
	}
}

// BenchmarkPushIdentical is what a wal-push of a segment that is archived
// already costs, without the start of the process.
func BenchmarkPushIdentical(b *testing.B) {
	d, name := benchFile(b)
	a := newBenchArchive(b)
	benchPush(b, a, d.path(name), archive.Stored)
	for b.Loop() {
		benchPush(b, a, d.path(name), archive.Identical)
	}
}

func BenchmarkFetch(b *testing.B) {
	d, name := benchFile(b)
	a := newBenchArchive(b)
	benchPush(b, a, d.path(name), archive.Stored)
	for b.Loop() {
		if err := a.Fetch(b.Context(), name, d.path("RECOVERYXLOG")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutFragment is what makes a synchronous commit durable.
func BenchmarkPutFragment(b *testing.B) {
	a := newBenchArchive(b)
	seg := wal.Segment{Timeline: 1, Size: wal.DefaultSegmentSize}
	content := bytes.NewReader(make([]byte, wal.DefaultSegmentSize.Bytes()))
	const size = 4096
	b.SetBytes(size)
	for b.Loop() {
		f := archive.Fragment{Segment: seg, From: size, To: 2 * size}
		for range 100 { // as many as a segment may have
			f.From += 8
			f.To = f.From + size
			if _, err := a.PutFragment(b.Context(), f, content); err != nil {
				b.Fatal(err)
			}
		}
		seg.Number++
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "µs/fragment")
}
