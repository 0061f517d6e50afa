package frame

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	codecs   = []Codec{CodecNone, CodecLZ4, CodecZstd}
	testRepo = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

const testName = "main/1-42/wal/00000001/00000000/000000010000000000000001"

func testOptions(c Codec) WriterOptions {
	return WriterOptions{Kind: KindSegment, Codec: c, Name: testName, RepositoryID: testRepo, RawDigest: true, Workers: 2}
}

func testReadOptions() ReadOptions {
	return ReadOptions{Name: testName, RepositoryID: testRepo, WantKind: KindSegment, Workers: 2}
}

// sample returns n bytes that are partly compressible: text-like runs, zeros
// and noise.
func sample(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 0, n+256)
	for len(b) < n {
		switch rnd.IntN(4) {
		case 0:
			b = append(b, make([]byte, 1+rnd.IntN(200))...)
		case 1:
			for range 1 + rnd.IntN(100) {
				b = append(b, byte(rnd.Uint32()))
			}
		default:
			b = append(b, "INSERT INTO accounts (id, balance) VALUES "[:1+rnd.IntN(40)]...)
		}
	}
	return b[:n]
}

func mustEncode(t testing.TB, raw []byte, o WriterOptions, sections ...Section) []byte {
	t.Helper()
	b, f, err := Encode(raw, o, sections...)
	if err != nil {
		t.Fatal(err)
	}
	if f.StoredSize() != int64(len(b)) || f.RawLength != int64(len(raw)) {
		t.Fatalf("footer says %d stored, %d raw; have %d, %d", f.StoredSize(), f.RawLength, len(b), len(raw))
	}
	return b
}

func mustOpen(t testing.TB, src RangeReader, o ReadOptions) *Object {
	t.Helper()
	obj, err := Open(context.Background(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// unsized hides the size of a source, as a store does.
type unsized struct{ RangeReader }

func (unsized) Size() (int64, bool) { return 0, false }

func (u unsized) stat(context.Context) (int64, error) {
	n, _ := u.RangeReader.Size()
	return n, nil
}

// readEverything opens an object and reads all of it, in the way users do.
func readEverything(src RangeReader, o ReadOptions) ([]byte, error) {
	obj, err := Open(context.Background(), src, o)
	if err != nil {
		return nil, err
	}
	return obj.ReadAll(context.Background())
}

// wantError fails unless err is an *Error of the object with an offset.
func wantError(t testing.TB, err error, kinds ...ErrorKind) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %v", err)
	}
	if e.Object != testName || e.Offset < 0 || !strings.Contains(err.Error(), testName) {
		t.Fatalf("lacks object or offset: %v", err)
	}
	for _, k := range kinds {
		if e.Kind == k {
			return
		}
	}
	if len(kinds) > 0 {
		t.Fatalf("kind is %v: %v", e.Kind, err)
	}
}

// noLeaks fails the test if goroutines remain at its end.
func noLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 4000 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
	})
}

func equal(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes read, %d expected; or they differ", len(got), len(want))
	}
}

var _ io.ReaderFrom = (*Writer)(nil)
var _ io.WriterTo = (*reader)(nil)
