package frame

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/storage"
)

// damaged reads an object in full and requires an *Error with name and offset.
func damaged(t *testing.T, src RangeReader, what string) {
	t.Helper()
	got, err := readEverything(src, testReadOptions())
	var e *Error
	if !errors.As(err, &e) || e.Object != testName || e.Offset < 0 {
		t.Fatalf("%s: %d bytes were read, error %v", what, len(got), err)
	}
}

// TestEveryBitFlip flips every bit of small objects, one at a time.
func TestEveryBitFlip(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	for _, codec := range codecs {
		for _, size := range []int{0, 1, 700, 9000} {
			o := testOptions(codec)
			o.PageHash = true
			stored := mustEncode(t, sample(size, 3), o, Section{0x10, []byte("facts")}, Section{0x11, nil})
			if testing.Short() && size > 1 {
				continue
			}
			for i := range stored {
				for bit := range 8 {
					stored[i] ^= 1 << bit
					damaged(t, BytesRange(stored), fmt.Sprintf("%v, %d bytes, bit %d of byte %d", codec, size, bit, i))
					stored[i] ^= 1 << bit
				}
			}
		}
	}
}

// TestEveryTruncation cuts small objects at every length, at either end, and
// appends to them.
func TestEveryTruncation(t *testing.T) {
	size := 9000
	if testing.Short() {
		size = 700
	}
	for _, codec := range codecs {
		stored := mustEncode(t, sample(size, 3), testOptions(codec), Section{0x10, []byte("facts")})
		for n := range stored {
			_, err := readEverything(unsized{BytesRange(stored[:n])}, testReadOptions())
			wantError(t, err, Truncated, Foreign)
			if n >= 4 {
				wantError(t, err, Truncated) // its beginning is seen to be ours
			}
			if n > 0 {
				damaged(t, unsized{BytesRange(stored[n:])}, fmt.Sprintf("%v without the first %d bytes", codec, n))
			}
		}
		for _, more := range [][]byte{{0}, make([]byte, 255), make([]byte, 256), make([]byte, 5000), make([]byte, tailSize)} {
			_, err := readEverything(unsized{BytesRange(append(bytes.Clone(stored), more...))}, testReadOptions())
			wantError(t, err, Foreign, Truncated)
		}
		damaged(t, unsized{BytesRange(append(bytes.Clone(stored), stored...))}, "two objects in one")
	}
}

// TestLargeDamage samples flips and cuts of an object of several frames, whose
// tail is not the whole of it.
func TestLargeDamage(t *testing.T) {
	noLeaks(t)
	raw := sample(6*MaxFrame+99, 8)
	rnd := rand.New(rand.NewPCG(23, 42))
	samples := 60
	if testing.Short() {
		samples = 10
	}
	for _, codec := range codecs {
		stored := mustEncode(t, raw, testOptions(codec), Section{0x10, []byte("facts")})
		obj := mustOpen(t, BytesRange(stored), testReadOptions())
		for range samples {
			at, bit := rnd.IntN(len(stored)), byte(1)<<rnd.IntN(8)
			stored[at] ^= bit
			damaged(t, unsized{BytesRange(stored)}, fmt.Sprintf("%v, byte %d", codec, at))
			// An object that was open before the damage.
			if int64(at) < obj.footer.IndexOffset {
				_, err := obj.ReadAll(context.Background())
				wantError(t, err, Corrupt)
			}
			wantError(t, obj.Verify(context.Background()))
			stored[at] ^= bit
		}
		for range samples / 4 {
			n := rnd.IntN(len(stored))
			damaged(t, unsized{BytesRange(stored[:n])}, fmt.Sprintf("%v, cut at %d", codec, n))
			damaged(t, unsized{BytesRange(stored[max(1, n):])}, fmt.Sprintf("%v, without the first %d", codec, n))
		}
		if err := obj.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedFrameIsNamed checks that the offset is that of the frame, and
// that the frames before it can still be read.
func TestDamagedFrameIsNamed(t *testing.T) {
	raw := sample(4*MaxFrame, 8)
	stored := mustEncode(t, raw, testOptions(CodecZstd))
	obj := mustOpen(t, BytesRange(stored), testReadOptions())
	info := obj.index.frames[2]
	stored[info.offset+1000] ^= 4
	r := obj.NewReader(context.Background(), 0, -1)
	defer r.Close()
	got, err := io.ReadAll(struct{ io.Reader }{r})
	equal(t, got, raw[:2*MaxFrame])
	var e *Error
	if !errors.As(err, &e) || e.Offset != info.offset || e.Kind != Corrupt {
		t.Errorf("%v, want offset %d", err, info.offset)
	}
	if _, again := r.Read(make([]byte, 1)); !errors.Is(again, err) {
		t.Errorf("the error is not sticky: %v", again)
	}
}

// TestObjectIsReplacedWhileOpen lets Verify see that the end is another one.
func TestObjectIsReplacedWhileOpen(t *testing.T) {
	raw := sample(100_000, 1)
	stored := mustEncode(t, raw, testOptions(CodecNone))
	for name, change := range map[string]func(b []byte) []byte{
		"appended":  func(b []byte) []byte { return append(b, 0) },
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"no footer": func(b []byte) []byte { return b[:len(b)-FooterSize] },
		"no index":  func(b []byte) []byte { return b[:len(b)-FooterSize-40] },
		"footer":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"index":     func(b []byte) []byte { b[len(b)-FooterSize-1] ^= 1; return b },
		"frames":    func(b []byte) []byte { return b[:50_000] },
	} {
		src := &swapSource{stored}
		obj := mustOpen(t, src, testReadOptions())
		src.b = change(bytes.Clone(stored))
		if err := obj.Verify(context.Background()); err == nil {
			t.Errorf("%s: not seen", name)
		} else {
			wantError(t, err, Corrupt, Truncated)
		}
	}
}

type swapSource struct{ b []byte }

func (s *swapSource) Size() (int64, bool) { return 0, false }
func (s *swapSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return BytesRange(s.b).ReadRange(ctx, off, n)
}

// patched changes the footer of an object and makes its checksum right again.
func patched(stored []byte, change func(footer []byte)) []byte {
	b := bytes.Clone(stored)
	footer := b[len(b)-FooterSize:]
	change(footer)
	binary.LittleEndian.PutUint32(footer[footerCRC:], crc32c.Checksum(footer[:footerCRC]))
	return b
}

func TestFooterRefused(t *testing.T) {
	stored := mustEncode(t, sample(9000, 3), testOptions(CodecLZ4))
	le := binary.LittleEndian
	put64 := func(at int, v uint64) func(b []byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	set := func(at int, v byte) func(b []byte) { return func(b []byte) { b[at] = v } }
	for name, c := range map[string]struct {
		change func(b []byte)
		want   ErrorKind
	}{
		"version 0":            {set(16, 0), Version},
		"version 2":            {set(16, 2), Version},
		"kind 0":               {set(18, 0), Corrupt},
		"codec 3":              {set(20, 3), Version},
		"age envelope":         {func(b []byte) { b[21], b[24] = 1, 7 }, Encrypted},
		"unknown envelope":     {set(21, 2), Version},
		"unknown flag":         {set(22, 3), Version},
		"epoch of a plain one": {set(24, 1), Corrupt},
		"reserved":             {set(28, 1), Corrupt},
		"raw length":           {put64(32, 1<<63), Corrupt},
		"body length":          {put64(40, 1<<62), Corrupt},
		"index offset":         {put64(48, 1), Corrupt},
		"index before footer":  {put64(56, 36), Corrupt},
		"index of nothing":     {func(b []byte) { put64(56, 0)(b); put64(48, le.Uint64(b[40:]))(b) }, Corrupt},
		"digest without flag":  {set(22, 0), Corrupt},
		"unknown signature":    {set(160, 1), Version},
		"signature bytes":      {set(200, 1), Corrupt},
		"key id":               {set(168, 1), Corrupt},
		"last zeros":           {set(250, 1), Corrupt},
		"other repository":     {set(64, 99), WrongObject},
		"other name":           {set(80, stored[len(stored)-FooterSize+80]^1), WrongObject},
		"other kind":           {set(18, 6), WrongObject},
		"more body": {func(b []byte) {
			put64(40, le.Uint64(b[40:])+1)(b)
			put64(48, le.Uint64(b[48:])+1)(b)
		}, Truncated},
		"less body": {func(b []byte) {
			put64(40, le.Uint64(b[40:])-1)(b)
			put64(48, le.Uint64(b[48:])-1)(b)
		}, Corrupt},
		"fewer raw bytes":  {put64(32, 8000), Corrupt},
		"as many pages":    {put64(32, 9001), Corrupt},
		"another frame":    {put64(32, MaxFrame+1), Corrupt},
		"codec other":      {set(20, 2), Corrupt},
		"codec none":       {set(20, 0), Corrupt},
		"raw bytes beyond": {put64(32, 1<<61), Corrupt},
	} {
		bad := patched(stored, c.change)
		if bytes.Equal(bad, stored) {
			t.Errorf("%s: nothing was changed", name)
		}
		_, err := readEverything(unsized{BytesRange(bad)}, testReadOptions())
		if err == nil {
			t.Errorf("%s: not refused", name)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Kind != c.want || e.Object != testName || e.Offset < 0 {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		change func(b []byte)
	}{"raw digest": {set(96, 0x55)}, "stored digest": {set(128, 0x55)}} {
		obj := mustOpen(t, BytesRange(patched(stored, c.change)), testReadOptions())
		if err := obj.Verify(context.Background()); err == nil {
			t.Errorf("%s: Verify saw nothing", name)
		} else {
			wantError(t, err, Corrupt)
		}
	}
	// Nothing is asked for: anything whole is accepted.
	if _, err := readEverything(BytesRange(stored), ReadOptions{}); err != nil {
		t.Error(err)
	}
}

func TestFooterOnly(t *testing.T) {
	stored := mustEncode(t, sample(9000, 3), testOptions(CodecLZ4))
	src := &countingSource{RangeReader: unsized{BytesRange(stored)}}
	f, err := ReadFooter(context.Background(), src, testReadOptions())
	if err != nil || f.RawLength != 9000 || src.reads != 1 || src.bytes != FooterSize {
		t.Errorf("%+v, %d reads of %d bytes: %v", f, src.reads, src.bytes, err)
	}
	for n := range FooterSize + 1 {
		_, err := ReadFooter(context.Background(), unsized{BytesRange(stored[:n])}, testReadOptions())
		wantError(t, err, Truncated, Foreign)
	}
	_, err = ReadFooter(context.Background(), unsized{BytesRange(stored[:len(stored)-1])}, testReadOptions())
	wantError(t, err, Truncated)
	_, err = ReadFooter(context.Background(), unsized{BytesRange(sample(70_000, 1))}, testReadOptions())
	wantError(t, err, Foreign)
	_, err = ReadFooter(context.Background(), unsized{BytesRange(nil)}, testReadOptions())
	wantError(t, err, Truncated)
}

// repacked changes the index of an object and makes all checksums right again.
func repacked(t *testing.T, stored []byte, change func(index []byte) []byte) []byte {
	t.Helper()
	f, bad := parseFooter(stored[len(stored)-FooterSize:])
	if bad != nil {
		t.Fatal(bad)
	}
	x := change(bytes.Clone(stored[f.IndexOffset:f.BodyLength]))
	binary.LittleEndian.PutUint32(x[len(x)-4:], crc32c.Checksum(x[:len(x)-4]))
	f.IndexLength = int64(len(x))
	f.BodyLength = f.IndexOffset + f.IndexLength
	return appendFooter(append(bytes.Clone(stored[:f.IndexOffset]), x...), f)
}

func TestIndexRefused(t *testing.T) {
	stored := mustEncode(t, sample(MaxFrame+9000, 3), testOptions(CodecLZ4), Section{0x10, []byte("facts")}, Section{0x11, []byte("more")})
	le := binary.LittleEndian
	const pages = (MaxFrame + 9000 + PageSize - 1) / PageSize
	const sections = indexHeaderSize + 2*frameEntrySize + 4*pages
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(x []byte) []byte { le.PutUint32(x[at:], v); return x }
	}
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(x []byte) []byte { le.PutUint16(x[at:], v); return x }
	}
	for name, change := range map[string]func([]byte) []byte{
		"magic":             put32(0, footerMagic),
		"length":            put32(4, 100),
		"word":              put32(8, 0),
		"frames":            put32(16, 3),
		"hostile frames":    put32(16, 1<<32-1),
		"hostile pages":     put32(20, 1<<32-1),
		"no pages":          put32(20, 0),
		"fewer sections":    put16(24, 1),
		"more sections":     put16(24, 3),
		"hostile sections":  put16(24, 65535),
		"page hashes":       put16(26, 1),
		"unknown flags":     put16(26, 2),
		"reserved":          put32(28, 1),
		"stored length":     put32(32, 5),
		"no stored length":  put32(32, 0),
		"large frame":       put32(32, maxStoredFrame+1),
		"raw length":        put32(36, MaxFrame-1),
		"last raw length":   put32(36+frameEntrySize, 9001),
		"stored crc":        put32(40, 1),
		"raw crc":           put32(44, 1),
		"page crc":          put32(indexHeaderSize+2*frameEntrySize, 1),
		"order of sections": put16(sections, 0x12),
		"twice a section":   put16(sections, 0x11),
		"section length":    put32(sections+2, 6),
		"hostile section":   put32(sections+2, 1<<32-1),
		"cut":               func(x []byte) []byte { return x[:len(x)-20] },
		"cut to nothing":    func(x []byte) []byte { return x[:minIndexSize] },
		"grown":             func(x []byte) []byte { return append(x, 0) },
	} {
		for _, fixLength := range []bool{false, true} {
			if name == "length" && fixLength {
				continue
			}
			_, err := readEverything(unsized{BytesRange(repacked(t, stored, func(x []byte) []byte {
				x = change(x)
				if fixLength {
					le.PutUint32(x[4:], uint32(len(x)-skippableTop))
				}
				return x
			}))}, testReadOptions())
			if err == nil {
				t.Errorf("%s: not refused", name)
				continue
			}
			wantError(t, err)
		}
	}
	same := repacked(t, stored, func(x []byte) []byte { return x })
	if !bytes.Equal(same, stored) {
		t.Error("an unchanged index is repacked as another")
	}
}

// TestHostileAllocation opens small objects that announce huge ones.
func TestHostileAllocation(t *testing.T) {
	stored := mustEncode(t, []byte("raw"), testOptions(CodecLZ4))
	le := binary.LittleEndian
	for name, bad := range map[string][]byte{
		"raw length": patched(stored, func(b []byte) { le.PutUint64(b[32:], 1<<50) }),
		"index length": patched(stored, func(b []byte) {
			le.PutUint64(b[40:], 1<<40+1<<29)
			le.PutUint64(b[48:], 1<<40)
			le.PutUint64(b[56:], 1<<29)
		}),
		"counts": repacked(t, patched(stored, func(b []byte) { le.PutUint64(b[32:], (1<<32-1)<<20) }), func(x []byte) []byte {
			le.PutUint32(x[16:], 1<<32-1)
			le.PutUint32(x[20:], (1<<32-1)&^127)
			return x
		}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		// A source that pretends to be as large as the footer says: only what
		// arrives may take memory.
		_, err := readEverything(endSource{bad}, testReadOptions())
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
			t.Errorf("%s: %d bytes of memory were taken", name, taken)
		}
	}
}

// endSource is the end of an object of unknown size, with nothing before it.
type endSource struct{ b []byte }

func (endSource) Size() (int64, bool) { return 0, false }
func (s endSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off >= 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return io.NopCloser(bytes.NewReader(append(make([]byte, max(0, -off-int64(len(s.b)))), s.b[max(0, int64(len(s.b))+off):]...))), nil
}

// TestBrokenSource checks that errors of a source are passed on, not taken
// for damage, and that a body that just ends is damage.
func TestBrokenSource(t *testing.T) {
	noLeaks(t)
	raw := sample(5*MaxFrame, 4)
	stored := mustEncode(t, raw, testOptions(CodecNone))
	broken := errors.New("connection reset")
	for _, after := range []int64{0, 1, 1000, MaxFrame + 5, 3 * MaxFrame} {
		for _, cause := range []error{broken, io.ErrUnexpectedEOF, io.EOF} {
			src := &brokenSource{RangeReader: BytesRange(stored), after: 1 << 40}
			obj := mustOpen(t, src, testReadOptions())
			src.after, src.err = after, cause
			for name, do := range map[string]func() error{
				"read":   func() error { _, err := obj.ReadAll(context.Background()); return err },
				"verify": func() error { return obj.Verify(context.Background()) },
				"one frame": func() error {
					r := obj.NewReader(context.Background(), MaxFrame, MaxFrame)
					defer r.Close()
					src.after = min(after, MaxFrame)
					_, err := io.ReadAll(r)
					src.after = after
					return err
				},
			} {
				err := do()
				var e *Error
				switch {
				case err == nil:
					t.Errorf("%s, after %d, %v: no error", name, after, cause)
				case errors.Is(cause, io.EOF):
					wantError(t, err, Truncated)
				case errors.As(err, &e) || !errors.Is(err, cause):
					t.Errorf("%s, after %d, %v: %v", name, after, cause, err)
				}
			}
			src.after = after % tailSize
			if _, err := Open(context.Background(), src, testReadOptions()); err == nil {
				t.Errorf("Open, after %d, %v: no error", after, cause)
			}
		}
	}
	src := &brokenSource{RangeReader: BytesRange(stored), openErr: storage.ErrNotExist}
	if _, err := Open(context.Background(), src, testReadOptions()); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// brokenSource's readers fail after some bytes.
type brokenSource struct {
	RangeReader
	after   int64
	err     error
	openErr error
}

func (s *brokenSource) Size() (int64, bool) { return 0, false }

func (s *brokenSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if s.openErr != nil {
		return nil, s.openErr
	}
	r, err := s.RangeReader.ReadRange(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, s.after), failingReader{s.err}), r}, nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
