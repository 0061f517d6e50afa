package frame

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"testing/iotest"

	"github.com/zeebo/blake3"

	"github.com/walden-pg/walden/internal/crc32c"
)

var boundarySizes = []int{
	0, 1, 2, 15, 8191, 8192, 8193, 128<<10 + 1,
	MaxFrame - 1, MaxFrame, MaxFrame + 1, 2 * MaxFrame, 3*MaxFrame + 5,
}

func TestRoundTrip(t *testing.T) {
	noLeaks(t)
	for _, codec := range codecs {
		for _, size := range boundarySizes {
			t.Run(fmt.Sprintf("%v/%d", codec, size), func(t *testing.T) {
				raw := sample(size, uint64(size))
				o := testOptions(codec)
				o.PageHash = size%2 == 1
				stored := mustEncode(t, raw, o, Section{0x11, []byte("eleven")}, Section{0x10, nil})
				for _, src := range []RangeReader{BytesRange(stored), unsized{BytesRange(stored)}} {
					obj := mustOpen(t, src, testReadOptions())
					got, err := obj.ReadAll(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					equal(t, got, raw)
					if err := obj.Verify(context.Background()); err != nil {
						t.Fatal(err)
					}
					checkFacts(t, obj, raw, o)
				}
			})
		}
	}
}

// checkFacts compares the footer, the pages and the sections of an object.
func checkFacts(t *testing.T, obj *Object, raw []byte, o WriterOptions) {
	t.Helper()
	f := obj.Footer()
	h := NewRawHasher(testRepo)
	h.Write(raw)
	if !f.HasRawDigest || !bytes.Equal(h.Sum(nil), f.RawDigest[:]) {
		t.Error("raw digest is wrong")
	}
	if f.Version != FormatVersion || f.Kind != o.Kind || f.Codec != o.Codec || f.RepositoryID != testRepo ||
		f.NameDigest != NameDigest(testName) || obj.Size() != int64(len(raw)) || obj.Name() != testName {
		t.Errorf("footer is wrong: %+v", f)
	}
	pages := int64(0)
	for rest := raw; len(rest) > 0; pages++ {
		part := rest[:min(PageSize, len(rest))]
		rest = rest[len(part):]
		if crc, ok := obj.PageCRC(pages); !ok || crc != crc32c.Checksum(part) {
			t.Fatalf("page %d: wrong checksum", pages)
		}
		hash, ok := obj.PageHash(pages)
		want := blake3.Sum256(part)
		if ok != o.PageHash || ok && !bytes.Equal(hash[:], want[:16]) {
			t.Fatalf("page %d: wrong hash", pages)
		}
	}
	for _, page := range []int64{-1, pages, pages + 1} {
		if _, ok := obj.PageCRC(page); ok {
			t.Errorf("page %d exists", page)
		}
		if _, ok := obj.PageHash(page); ok {
			t.Errorf("page %d has a hash", page)
		}
	}
	if s, ok := obj.Section(0x11); !ok || string(s) != "eleven" {
		t.Error("section 0x11 is wrong")
	}
	if s, ok := obj.Section(0x10); !ok || len(s) != 0 {
		t.Error("section 0x10 is wrong")
	}
	if _, ok := obj.Section(0x12); ok {
		t.Error("there is a section 0x12")
	}
}

// tool returns the path of a command that the machine must have on CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: %v", name, err)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// TestStandardTools holds the promise that no Walden is needed to decompress.
func TestStandardTools(t *testing.T) {
	for _, codec := range codecs {
		name := "lz4"
		if codec == CodecZstd {
			name = "zstd"
		}
		t.Run(codec.String(), func(t *testing.T) {
			path := tool(t, name)
			for _, size := range boundarySizes {
				raw := sample(size, uint64(size))
				stored := mustEncode(t, raw, testOptions(codec), Section{0x10, []byte("facts")})
				file := t.TempDir() + "/object"
				if err := os.WriteFile(file, stored, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, args := range [][]string{{"-dc", file}, {"-dc"}} {
					cmd := exec.Command(path, args...)
					cmd.Stdin = bytes.NewReader(stored)
					var stderr bytes.Buffer
					cmd.Stderr = &stderr
					got, err := cmd.Output()
					if err != nil {
						t.Fatalf("%s %v, %d bytes: %v: %s", name, args, size, err, &stderr)
					}
					equal(t, got, raw)
				}
			}
		})
	}
}

// TestLevels reads back every level, and shows that the codecs do compress.
func TestLevels(t *testing.T) {
	raw := sample(300_000, 3)
	for codec, levels := range map[Codec][]int{CodecNone: {0, 5}, CodecLZ4: {0, 1, 5, 9}, CodecZstd: {0, 1, 3, 9, 22}} {
		for _, level := range levels {
			o := testOptions(codec)
			o.Level = level
			stored := mustEncode(t, raw, o)
			got, err := readEverything(BytesRange(stored), testReadOptions())
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, raw)
			if codec != CodecNone && len(stored) > len(raw)*2/3 {
				t.Errorf("%v level %d: %d bytes from %d", codec, level, len(stored), len(raw))
			}
		}
	}
	for codec, level := range map[Codec]int{CodecLZ4: 10, CodecZstd: 23, 3: 0} {
		o := testOptions(codec)
		o.Level = level
		if _, _, err := Encode(raw, o); err == nil {
			t.Errorf("%v level %d was accepted", codec, level)
		}
	}
}

// TestIncompressible checks that noise grows by headers only.
func TestIncompressible(t *testing.T) {
	raw := make([]byte, 2*MaxFrame+77)
	rnd := rand.New(rand.NewPCG(5, 5))
	for i := range raw {
		raw[i] = byte(rnd.Uint32())
	}
	for _, codec := range codecs {
		stored := mustEncode(t, raw, testOptions(codec))
		if grown := len(stored) - len(raw); grown > 3*4096 {
			t.Errorf("%v: grew by %d", codec, grown)
		}
		got, err := readEverything(BytesRange(stored), testReadOptions())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, raw)
	}
}

// TestDeterministic writes the same bytes in different pieces with different
// numbers of workers.
func TestDeterministic(t *testing.T) {
	noLeaks(t)
	raw := sample(5*MaxFrame+12345, 9)
	for _, codec := range codecs {
		want := mustEncode(t, raw, testOptions(codec))
		rnd := rand.New(rand.NewPCG(11, uint64(codec)))
		for _, workers := range []int{1, 3, 7} {
			o := testOptions(codec)
			o.Workers = workers
			var out bytes.Buffer
			w, err := NewWriter(&out, o)
			if err != nil {
				t.Fatal(err)
			}
			for rest := raw; len(rest) > 0; {
				n := min(len(rest), 1+rnd.IntN(MaxFrame+MaxFrame/2))
				if rnd.IntN(2) == 0 {
					_, err = w.Write(rest[:n])
				} else {
					_, err = w.ReadFrom(bytes.NewReader(rest[:n]))
				}
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if w.Offset() != int64(len(raw)) {
				t.Errorf("offset %d", w.Offset())
			}
			f, err := w.Close()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := w.Close(); err != nil || again != f {
				t.Error("the second Close differs")
			}
			w.Abort()
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%v with %d workers: other bytes", codec, workers)
			}
		}
	}
}

func TestAlign(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, testOptions(CodecLZ4))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	var want []byte
	for _, n := range []int{0, 1, 8192, 8193, MaxFrame - 1, 5} {
		part := bytes.Repeat([]byte{byte(n + 1)}, n)
		want = append(want, part...)
		want = append(want, make([]byte, (PageSize-len(want)%PageSize)%PageSize)...)
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Align(); err != nil {
			t.Fatal(err)
		}
		if w.Offset() != int64(len(want)) {
			t.Fatalf("offset %d after aligning, want %d", w.Offset(), len(want))
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := readEverything(BytesRange(out.Bytes()), testReadOptions())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, want)
}

func TestRandomAccess(t *testing.T) {
	noLeaks(t)
	raw := sample(4*MaxFrame+4321, 13)
	rnd := rand.New(rand.NewPCG(17, 1))
	for _, codec := range codecs {
		obj := mustOpen(t, unsized{BytesRange(mustEncode(t, raw, testOptions(codec)))}, testReadOptions())
		ranges := [][2]int{{0, 0}, {0, 1}, {len(raw), 0}, {len(raw) - 1, 1}, {MaxFrame - 1, 2}, {MaxFrame, MaxFrame}, {0, len(raw)}, {7, -1}}
		for range 60 {
			off := rnd.IntN(len(raw))
			ranges = append(ranges, [2]int{off, rnd.IntN(min(len(raw)-off+1, 1<<(1+rnd.IntN(23))))})
		}
		for _, r := range ranges {
			off, n := r[0], r[1]
			want := raw[off:]
			if n >= 0 {
				want = want[:n]
			}
			reader := obj.NewReader(context.Background(), int64(off), int64(n))
			// Both ways of reading.
			var got []byte
			var err error
			if rnd.IntN(2) == 0 {
				got, err = io.ReadAll(struct{ io.Reader }{reader})
			} else {
				var b bytes.Buffer
				_, err = reader.(io.WriterTo).WriteTo(&b)
				got = b.Bytes()
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, want)
			if n, err := reader.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("after the end: %d, %v", n, err)
			}
			reader.Close()
			if _, err := reader.Read(make([]byte, 1)); !errors.Is(err, errReaderClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		for _, r := range [][2]int64{{-1, 1}, {obj.Size() + 1, 0}, {obj.Size() + 1, -1}, {1, obj.Size()}, {5, 1 << 62}} {
			reader := obj.NewReader(context.Background(), r[0], r[1])
			if _, err := io.ReadAll(reader); err == nil {
				t.Errorf("range %v was accepted", r)
			}
			reader.Close()
		}
	}
}

// TestOneRangedRead counts the reads that a range costs.
func TestOneRangedRead(t *testing.T) {
	raw := sample(6*MaxFrame, 21)
	src := &countingSource{RangeReader: unsized{BytesRange(mustEncode(t, raw, testOptions(CodecNone)))}}
	obj := mustOpen(t, src, testReadOptions())
	if src.reads != 1 {
		t.Errorf("Open took %d reads", src.reads)
	}
	src.reads, src.bytes = 0, 0
	r := obj.NewReader(context.Background(), MaxFrame+10, 2*MaxFrame)
	got, err := io.ReadAll(r)
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, raw[MaxFrame+10:3*MaxFrame+10])
	if src.reads != 1 || src.bytes != 3*(MaxFrame+lz4Overhead) {
		t.Errorf("%d reads of %d bytes", src.reads, src.bytes)
	}
	if said := obj.StoredRange(MaxFrame+10, 2*MaxFrame); said != src.bytes {
		t.Errorf("StoredRange says %d, and %d were read", said, src.bytes)
	}
	for _, c := range []struct{ off, n, frames int64 }{{0, 1, 1}, {0, 6 * MaxFrame, 6}, {MaxFrame, MaxFrame, 1}, {0, 0, 0}, {-1, 5, 0}, {6 * MaxFrame, 1, 0}, {6*MaxFrame - 1, 1 << 30, 1}} {
		if got := obj.StoredRange(c.off, c.n); got != c.frames*(MaxFrame+lz4Overhead) {
			t.Errorf("StoredRange(%d, %d) is %d", c.off, c.n, got)
		}
	}
	small := &countingSource{RangeReader: unsized{BytesRange(mustEncode(t, raw[:10_000], testOptions(CodecNone)))}}
	if _, err := readEverything(small, testReadOptions()); err != nil || small.reads != 1 {
		t.Errorf("a small object took %d reads: %v", small.reads, err)
	}
}

type countingSource struct {
	RangeReader
	reads int
	bytes int64
}

func (c *countingSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	c.reads++
	c.bytes += n
	return c.RangeReader.ReadRange(ctx, off, n)
}

// TestAwkwardSource reads from sources that deliver byte by byte, data together
// with the end, or more than was asked for.
func TestAwkwardSource(t *testing.T) {
	noLeaks(t)
	raw := sample(2*MaxFrame+4321, 29)
	for _, codec := range codecs {
		stored := BytesRange(mustEncode(t, raw, testOptions(codec), Section{0x10, sample(100_000, 3)}))
		for name, deliver := range map[string]func(io.Reader) io.Reader{
			"byte by byte":      iotest.OneByteReader,
			"with the end":      iotest.DataErrReader,
			"more than was due": func(r io.Reader) io.Reader { return io.MultiReader(r, bytes.NewReader(sample(5000, 1))) },
		} {
			obj := mustOpen(t, awkwardSource{unsized{stored}, deliver}, testReadOptions())
			got, err := obj.ReadAll(context.Background())
			if err != nil {
				t.Fatalf("%v, %s: %v", codec, name, err)
			}
			equal(t, got, raw)
			r := obj.NewReader(context.Background(), MaxFrame+5, 1000)
			if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, raw[MaxFrame+5:][:1000]) {
				t.Errorf("%v, %s: one frame: %v", codec, name, err)
			}
			r.Close()
			if err := obj.Verify(context.Background()); (err == nil) == (name == "more than was due") {
				t.Errorf("%v, %s: Verify says %v", codec, name, err)
			}
		}
	}
}

type awkwardSource struct {
	RangeReader
	deliver func(io.Reader) io.Reader
}

func (s awkwardSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := s.RangeReader.ReadRange(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(s.deliver(r)), nil
}

// TestLargeIndex opens an object whose index is longer than the first read.
func TestLargeIndex(t *testing.T) {
	facts := sample(3<<20, 2)
	stored := mustEncode(t, []byte("raw"), testOptions(CodecLZ4), Section{0x10, facts})
	obj := mustOpen(t, unsized{BytesRange(stored)}, testReadOptions())
	if s, _ := obj.Section(0x10); !bytes.Equal(s, facts) {
		t.Error("the section differs")
	}
	if err := obj.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestXXH32(t *testing.T) {
	// The algorithm's published test vectors for inputs below 16 bytes.
	for in, want := range map[string]uint32{
		"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff, "message digest": 0x7c948494,
	} {
		if got := xxh32Short([]byte(in)); got != want {
			t.Errorf("xxh32(%q) = %08x, want %08x", in, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range codecs {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Errorf("ParseCodec(%v) = %v, %v", c, got, err)
		}
	}
	if _, err := ParseCodec("LZ4"); err == nil {
		t.Error("LZ4 was accepted")
	}
	for k, want := range map[Kind]string{0: "kind 0", KindSegment: "segment", KindRecord: "record", 14: "kind 14"} {
		if k.String() != want {
			t.Errorf("%q, want %q", k, want)
		}
	}
}
