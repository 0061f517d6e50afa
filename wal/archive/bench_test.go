package archive_test

import (
	"testing"

	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// benchArchive is an archive in a file repository with one 16 MiB segment,
// and that segment's file.
func benchArchive(b *testing.B) (*archive.Archive, wal.Segment, pgWAL) {
	b.Helper()
	s, err := file.New(b.TempDir(), file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	repo := newRepository(b, s)
	a := archive.New(repo, create(b, repo, systemID, wal.DefaultSegmentSize))
	w := waltest.NewBuilder(major, systemID, 1, wal.DefaultSegmentSize)
	fill(w, 1)
	seg := w.Complete()[0]
	d := newDirectory(b)
	mustPush(b, a, seg.Name(), w.Bytes(seg))
	d.write(b, seg.Name(), w.Bytes(seg))
	b.SetBytes(seg.Size.Bytes())
	return a, seg, d
}

// BenchmarkPushIdentical is what a wal-push of a segment that is archived
// already costs, without the start of the process.
func BenchmarkPushIdentical(b *testing.B) {
	a, seg, d := benchArchive(b)
	for b.Loop() {
		if res, err := a.Push(b.Context(), d.path(seg.Name()), archive.PushOptions{}); err != nil || res != archive.Identical {
			b.Fatal(res, err)
		}
	}
}

func BenchmarkPush(b *testing.B) {
	a, seg, d := benchArchive(b)
	for b.Loop() {
		b.StopTimer()
		fresh := newArchive16(b)
		b.StartTimer()
		if res, err := fresh.Push(b.Context(), d.path(seg.Name()), archive.PushOptions{}); err != nil || res != archive.Stored {
			b.Fatal(res, err)
		}
	}
	_ = a
}

func newArchive16(b *testing.B) *archive.Archive {
	b.Helper()
	s, err := file.New(b.TempDir(), file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	repo := newRepository(b, s)
	return archive.New(repo, create(b, repo, systemID, wal.DefaultSegmentSize))
}

func BenchmarkFetch(b *testing.B) {
	a, seg, d := benchArchive(b)
	for b.Loop() {
		if err := a.Fetch(b.Context(), seg.Name(), d.path("RECOVERYXLOG")); err != nil {
			b.Fatal(err)
		}
	}
}
