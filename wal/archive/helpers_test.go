package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/control"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	systemID = 7345001122334455667
	size     = wal.MinSegmentSize
	major    = 17
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// stores are the drivers the tests run on.
var stores = map[string]func(t *testing.T) storage.Store{
	"mem": func(*testing.T) storage.Store { return mem.New() },
	"file": func(t *testing.T) storage.Store {
		s, err := file.New(t.TempDir(), file.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	},
}

func onAllStores(t *testing.T, test func(t *testing.T, s storage.Store)) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func newRepository(t testing.TB, s storage.Store) *repository.Repository {
	t.Helper()
	if _, _, err := repository.Init(t.Context(), s, repository.Options{}); err != nil {
		t.Fatal(err)
	}
	return openRepository(t, s)
}

func openRepository(t testing.TB, s storage.Store) *repository.Repository {
	t.Helper()
	repo, err := repository.Open(t.Context(), s, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func create(t testing.TB, repo *repository.Repository, id uint64, size wal.SegmentSize) archive.Incarnation {
	t.Helper()
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", id, size, major)
	if err != nil {
		t.Fatal(err)
	}
	return inc
}

// newArchive is the archive of a new repository's only incarnation.
func newArchive(t testing.TB, s storage.Store) *archive.Archive {
	t.Helper()
	repo := newRepository(t, s)
	a := archive.New(repo, create(t, repo, systemID, size))
	a.LookAgainAfter(time.Millisecond)
	return a
}

// newWAL is a builder with n complete segments, which records cross.
func newWAL(n int) *waltest.Builder {
	b := waltest.NewBuilder(major, systemID, 1, size)
	fill(b, n)
	return b
}

// fill writes until n more segments are complete.
func fill(b *waltest.Builder, n int) {
	want := len(b.Complete()) + n
	for xid := uint32(700); len(b.Complete()) < want; xid++ {
		b.Message(70_000)
		b.Commit(xid, noon)
	}
}

// pgWAL is a data directory with a pg_wal.
type pgWAL string

func newDirectory(t testing.TB) pgWAL {
	t.Helper()
	d := pgWAL(t.TempDir())
	if err := os.Mkdir(d.path(""), 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d pgWAL) path(name string) string { return filepath.Join(string(d), "pg_wal", name) }

func (d pgWAL) write(t testing.TB, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(d.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return d.path(name)
}

// names are the files in pg_wal.
func (d pgWAL) names(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(d.path(""))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// push writes a file and pushes it.
func push(t testing.TB, a *archive.Archive, name string, content []byte) (archive.PushResult, error) {
	t.Helper()
	return a.Push(t.Context(), newDirectory(t).write(t, name, content), archive.PushOptions{})
}

func mustPush(t testing.TB, a *archive.Archive, name string, content []byte) {
	t.Helper()
	if res, err := push(t, a, name, content); err != nil || res != archive.Stored {
		t.Fatalf("push %s: %v, %v", name, res, err)
	}
}

// pushAll pushes the complete segments of b.
func pushAll(t testing.TB, a *archive.Archive, b *waltest.Builder) []wal.Segment {
	t.Helper()
	for _, seg := range b.Complete() {
		if _, err := a.PutSegment(t.Context(), seg, bytes.NewReader(b.Bytes(seg))); err != nil {
			t.Fatal(err)
		}
	}
	return b.Complete()
}

// fetch fetches a file into a new directory. It fails the test if anything
// but the whole file is left there, or anything at all after an error.
func fetch(t testing.TB, a *archive.Archive, name string) ([]byte, error) {
	t.Helper()
	d := newDirectory(t)
	const target = "RECOVERYXLOG"
	err := a.Fetch(t.Context(), name, d.path(target))
	left := d.names(t)
	if err != nil {
		if len(left) != 0 {
			t.Errorf("fetch %s failed (%v) and left %v", name, err, left)
		}
		return nil, err
	}
	if len(left) != 1 || left[0] != target {
		t.Errorf("fetch %s left %v", name, left)
	}
	b, err := os.ReadFile(d.path(target))
	if err != nil {
		t.Fatal(err)
	}
	return b, nil
}

// keys lists all keys of a store.
func keys(t testing.TB, s storage.Store) []string {
	t.Helper()
	var list []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Key)
	}
	return list
}

// replace gives an object other stored bytes.
func replace(t testing.TB, s storage.Store, key string, content []byte) {
	t.Helper()
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutBytes(t.Context(), s, key, content, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func stored(t testing.TB, s storage.Store, key string) []byte {
	t.Helper()
	b, err := storage.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// backupHistory is the content of a backup history file.
func backupHistory(seg wal.Segment, offset uint32) []byte {
	start := seg.Start() + wal.LSN(offset)
	return fmt.Appendf(nil, "START WAL LOCATION: %s (file %s)\nSTOP WAL LOCATION: %s (file %s)\nBACKUP METHOD: streamed\nLABEL: nightly\n",
		start, seg.Name(), start+0x100, seg.Name())
}

// writeControl gives the data directory a control file of PostgreSQL 17.
func (d pgWAL) writeControl(t testing.TB, systemID uint64, size wal.SegmentSize) {
	t.Helper()
	b := make([]byte, control.FileSize)
	binary.LittleEndian.PutUint64(b, systemID)
	binary.LittleEndian.PutUint32(b[8:], 1700)
	binary.LittleEndian.PutUint32(b[12:], 202406281)
	binary.LittleEndian.PutUint32(b[228:], uint32(size))
	binary.LittleEndian.PutUint32(b[288:], crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	dir := filepath.Join(string(d), "global")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_control"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

var background = context.Background()

// newWALAt is a builder whose first segment has that number, with two complete ones.
func newWALAt(number uint64) *waltest.Builder {
	b := waltest.NewBuilder(major, systemID, 1, size)
	b.Seek(number, wal.LSN(number*uint64(size)-0x100))
	b.FillSegment()
	b.FillSegment()
	return b
}
