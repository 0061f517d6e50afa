package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
)

const key = "main/1-42/wal/00000001/00000000/000000010000000000000007"

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>3 ^ i)
	}
	return b
}

func TestPutAndRead(t *testing.T) {
	r := mustInit(t, mem.New(), Options{Codec: frame.CodecLZ4})
	raw := content(3 << 20)
	f, err := r.Put(ctx, key, raw, ObjectOptions{Kind: frame.KindSegment}, frame.Section{Type: 0x10, Data: []byte("s")})
	if err != nil {
		t.Fatal(err)
	}
	if f.Codec != frame.CodecLZ4 || f.HasRawDigest || f.RepositoryID != r.ID() || f.Kind != frame.KindSegment {
		t.Errorf("footer: %+v", f)
	}
	if got, err := r.Footer(ctx, key, frame.KindSegment); err != nil || got != f {
		t.Errorf("Footer: %v", err)
	}
	got, err := r.Read(ctx, key, frame.KindSegment, 3<<20)
	if err != nil || !bytes.Equal(got, raw) {
		t.Errorf("Read: %v", err)
	}
	if _, err := r.Read(ctx, key, frame.KindSegment, 3<<20-1); !errors.Is(err, storage.ErrTooLarge) || !strings.Contains(err.Error(), key) {
		t.Errorf("Read with a small limit: %v", err)
	}
	obj, err := r.Open(ctx, key, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := obj.Section(0x10); !ok || string(s) != "s" {
		t.Error("the section is missing")
	}
	var wrong *frame.Error
	if _, err := r.Open(ctx, key, frame.KindPack); !errors.As(err, &wrong) || wrong.Kind != frame.WrongObject {
		t.Errorf("as a pack: %v", err)
	}
	if _, err := r.Put(ctx, key, raw, ObjectOptions{Kind: frame.KindSegment}); !errors.Is(err, storage.ErrExist) {
		t.Errorf("second Put: %v", err)
	}
	if _, err := r.Open(ctx, key+"0", 0); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	zstd := frame.CodecZstd
	if f, err = r.Put(ctx, key+"1", raw, ObjectOptions{Kind: frame.KindPack, Codec: &zstd, PageHash: true, Workers: 1}); err != nil || f.Codec != zstd {
		t.Errorf("with zstd: %+v, %v", f, err)
	}
	if _, err := r.Put(ctx, key+"2", raw, ObjectOptions{}); err == nil {
		t.Error("an object without a kind was stored")
	}
}

// TestForeignPlaces moves whole objects to where they don't belong.
func TestForeignPlaces(t *testing.T) {
	a, b := mem.New(), mem.New()
	ra, rb := mustInit(t, a, Options{}), mustInit(t, b, Options{})
	if _, err := ra.Put(ctx, key, []byte("raw"), ObjectOptions{Kind: frame.KindSegment}); err != nil {
		t.Fatal(err)
	}
	stored, err := storage.ReadAll(ctx, a, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s   *mem.Store
		r   *Repository
		key string
	}{{a, ra, "main/1-42/other"}, {b, rb, key}} {
		if err := storage.PutBytes(ctx, c.s, c.key, stored, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		var e *frame.Error
		if _, err := c.r.Read(ctx, c.key, 0, 100); !errors.As(err, &e) || e.Kind != frame.WrongObject || e.Object != c.key {
			t.Errorf("%s: %v", c.key, err)
		}
	}
}

func TestPutIdempotent(t *testing.T) {
	s := mem.New()
	r := mustInit(t, s, Options{Codec: frame.CodecLZ4})
	put := func(codec frame.Codec, raw []byte) (frame.Footer, bool, error) {
		return r.PutIdempotent(ctx, key, bytes.NewReader(raw), int64(len(raw)), ObjectOptions{Kind: frame.KindSegment, Codec: &codec})
	}
	raw := content(100_000)
	first, identical, err := put(frame.CodecLZ4, raw)
	if err != nil || identical || !first.HasRawDigest {
		t.Fatal(identical, err)
	}
	// The same bytes by another codec.
	if f, identical, err := put(frame.CodecZstd, raw); err != nil || !identical || f != first {
		t.Errorf("again: %v, %v", identical, err)
	}
	other := bytes.Clone(raw)
	other[99_999] ^= 1
	_, _, err = put(frame.CodecLZ4, other)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Key != key || conflict.Existing != first || errors.Is(err, storage.ErrExist) ||
		!strings.Contains(err.Error(), key) {
		t.Errorf("other bytes: %v", err)
	}
	if got, err := r.Read(ctx, key, 0, 1<<20); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("the object changed: %v", err)
	}
	// What exists is no object at all.
	if err := s.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutBytes(ctx, s, key, raw[:5000], storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var e *frame.Error
	if _, _, err := put(frame.CodecLZ4, raw); !errors.As(err, &e) || e.Object != key {
		t.Errorf("a foreign object: %v", err)
	}
}

// TestPutIdempotentWithoutDigest meets an object that cannot be compared.
func TestPutIdempotentWithoutDigest(t *testing.T) {
	r := mustInit(t, mem.New(), Options{})
	o := ObjectOptions{Kind: frame.KindHistory}
	if _, err := r.Put(ctx, key, []byte("same"), o); err != nil {
		t.Fatal(err)
	}
	var conflict *ConflictError
	if _, _, err := r.PutIdempotent(ctx, key, strings.NewReader("same"), 4, o); !errors.As(err, &conflict) {
		t.Errorf("PutIdempotent: %v", err)
	}
}

func TestSources(t *testing.T) {
	r := mustInit(t, mem.New(), Options{})
	o := ObjectOptions{Kind: frame.KindSegment}
	// Only the announced part of a longer source is stored.
	if _, err := r.PutReaderAt(ctx, key, strings.NewReader("abcdef"), 3, o); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Read(ctx, key, 0, 10); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := r.PutReaderAt(ctx, key+"x", strings.NewReader("abc"), 4, o); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short source: %v", err)
	}
	if _, err := r.Store().Stat(ctx, key+"x"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("a short source was stored: %v", err)
	}
}

func TestWriter(t *testing.T) {
	s := mem.New()
	r := mustInit(t, s, Options{Codec: frame.CodecLZ4})
	write := func(raw []byte) (*ObjectWriter, error) {
		w, err := r.Create(ctx, key, ObjectOptions{Kind: frame.KindPack})
		if err != nil {
			return nil, err
		}
		if _, err := w.ReadFrom(bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		return w, nil
	}
	raw := content(5<<20 + 1)
	w, err := write(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Align(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	w.AddSection(frame.Section{Type: 0x20, Data: []byte("x")})
	if w.Offset() != 5<<20+frame.PageSize+3 {
		t.Errorf("offset %d", w.Offset())
	}
	if _, err := s.Stat(ctx, key); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("visible before Commit: %v", err)
	}
	f, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err == nil {
		t.Error("a second Commit succeeded")
	}
	w.Abort()
	want := append(append(bytes.Clone(raw), make([]byte, frame.PageSize-1)...), "end"...)
	if got, err := r.Read(ctx, key, frame.KindPack, 1<<30); err != nil || !bytes.Equal(got, want) || f.RawLength != int64(len(want)) {
		t.Errorf("Read: %v", err)
	}
	// Aborted ones leave nothing.
	if err := s.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if w, err = write(raw); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := w.Commit(); err == nil {
		t.Error("Commit after Abort succeeded")
	}
	if _, err := s.Stat(ctx, key); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("after Abort: %v", err)
	}
}

// TestCommitLostReply commits, loses the reply, and must see its own success;
// but not take another's object for it.
func TestCommitLostReply(t *testing.T) {
	inner := mem.New()
	s := faulty.New(inner)
	r := mustInit(t, s, Options{})
	for _, other := range []bool{false, true} {
		k := fmt.Sprint(key, other)
		w, err := r.Create(ctx, k, ObjectOptions{Kind: frame.KindPack})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("mine")); err != nil {
			t.Fatal(err)
		}
		if other {
			if _, err := r.Put(ctx, k, []byte("another's"), ObjectOptions{Kind: frame.KindPack}); err != nil {
				t.Fatal(err)
			}
		} else {
			s.Inject(faulty.Fault{Op: faulty.Commit, LostReply: true})
		}
		_, err = w.Commit()
		if other != errors.Is(err, storage.ErrExist) || !other && err != nil {
			t.Errorf("another's %v: %v", other, err)
		}
	}
	// A commit that failed without effect is a failure.
	w, err := r.Create(ctx, key, ObjectOptions{Kind: frame.KindPack})
	if err != nil {
		t.Fatal(err)
	}
	s.Inject(faulty.Fault{Op: faulty.Commit})
	if _, err := w.Commit(); !errors.Is(err, faulty.ErrInjected) {
		t.Errorf("Commit: %v", err)
	}
}

// TestWriterFailures makes each write of the store fail.
func TestWriterFailures(t *testing.T) {
	raw := content(3 << 20)
	for n := range 6 { // 4 frames, index, footer
		inner := mem.New()
		r := mustInit(t, inner, Options{})
		s := faulty.New(inner)
		s.Inject(faulty.Fault{Op: faulty.Write, Skip: n, Permanent: true})
		r.store = s
		w, err := r.Create(ctx, key, ObjectOptions{Kind: frame.KindPack})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(append(raw, 1))
		if _, err2 := w.Commit(); err == nil {
			err = err2
		}
		w.Abort()
		if !errors.Is(err, faulty.ErrInjected) {
			t.Errorf("write %d: %v", n, err)
		}
		if _, err := inner.Stat(ctx, key); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("write %d: the object exists", n)
		}
	}
}

func TestSpool(t *testing.T) {
	r := &Repository{}
	raw := content(5*chunkSize + 77)
	for _, limit := range []int64{0, 1, chunkSize, 3*chunkSize - 1, int64(len(raw)), 1 << 40} {
		dir := t.TempDir()
		r.o.TempDir = dir
		s := r.newSpool()
		s.limit = limit
		for rest := raw; len(rest) > 0; {
			n := min(len(rest), 300_001)
			if m, err := s.Write(rest[:n]); err != nil || m != n {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if inFile := s.file != nil; inFile != (limit < int64(len(raw))) {
			t.Errorf("limit %d: in a file: %v", limit, inFile)
		}
		if got, err := io.ReadAll(io.NewSectionReader(s, 0, s.size)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("limit %d: other bytes, %v", limit, err)
		}
		p := make([]byte, 1000)
		for _, off := range []int64{0, chunkSize - 500, s.size - 1000} {
			if n, err := s.ReadAt(p, off); n != 1000 || err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p, raw[off:off+1000]) {
				t.Errorf("limit %d: ReadAt %d: %d, %v", limit, off, n, err)
			}
		}
		if n, err := s.ReadAt(p, s.size-10); n != 10 || !errors.Is(err, io.EOF) {
			t.Errorf("limit %d: at the end: %d, %v", limit, n, err)
		}
		s.close()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("limit %d: %v is left, %v", limit, left, err)
		}
	}
}

// TestLargePut goes by a temporary file.
func TestLargePut(t *testing.T) {
	t.Run("default", func(t *testing.T) { testLargePut(t, Options{}, spoolMemory) })
	t.Run("little memory", func(t *testing.T) { testLargePut(t, Options{Memory: chunkSize}, chunkSize) })
}

func testLargePut(t *testing.T, o Options, limit int) {
	o.TempDir = t.TempDir()
	dir := o.TempDir
	r := mustInit(t, mem.New(), o)
	raw := make([]byte, limit+12345)
	copy(raw[limit:], content(12345))
	if _, err := r.Put(ctx, key, raw, ObjectOptions{Kind: frame.KindSegment}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Read(ctx, key, 0, 1<<30); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("Read: %v", err)
	}
	r.o.TempDir = dir + "/absent"
	if _, err := r.Put(ctx, key+"x", raw, ObjectOptions{Kind: frame.KindSegment}); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("without a directory: %v", err)
	}
}
