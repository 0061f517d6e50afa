package frame

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/internal/crc32c"
)

// seeds returns small objects and the golden ones.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	var all [][]byte
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 200_000 {
			all = append(all, b)
		}
	}
	for _, c := range codecs {
		for _, size := range []int{0, 1, 100, 9000} {
			o := testOptions(c)
			o.PageHash = size == 9000
			all = append(all, mustEncode(f, sample(size, 1), o, Section{0x10, []byte("facts")}))
		}
	}
	return all
}

// mend makes the checksums of index and footer right again, where they can be
// found, so that the fuzzer gets past them.
func mend(b []byte) []byte {
	if len(b) < FooterSize {
		return b
	}
	b = bytes.Clone(b)
	footer := b[len(b)-FooterSize:]
	le := binary.LittleEndian
	off, n := le.Uint64(footer[48:]), le.Uint64(footer[56:])
	if body := uint64(len(b) - FooterSize); off < body && n <= body-off && n >= minIndexSize {
		x := b[off : off+n]
		le.PutUint32(x[n-4:], crc32c.Checksum(x[:n-4]))
	}
	le.PutUint32(footer[footerCRC:], crc32c.Checksum(footer[:footerCRC]))
	return b
}

// FuzzOpen feeds the reader. Whatever it accepts must be consistent: what it
// reads has the length and the checksums it announced, in whatever pieces.
func FuzzOpen(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, false)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, mended bool) {
		if mended {
			b = mend(b)
		}
		obj, err := Open(context.Background(), unsized{BytesRange(b)}, ReadOptions{Name: "", Workers: 1})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		if obj.Size() > 64<<20 {
			return
		}
		all, err := obj.ReadAll(context.Background())
		verified := obj.Verify(context.Background())
		if err != nil {
			if verified == nil {
				t.Fatalf("Verify passes, ReadAll says %v", err)
			}
			return
		}
		if int64(len(all)) != obj.Size() {
			t.Fatalf("%d bytes of %d", len(all), obj.Size())
		}
		r := obj.NewReader(context.Background(), obj.Size()/2, -1)
		defer r.Close()
		if half, err := io.ReadAll(r); err != nil || !bytes.Equal(half, all[obj.Size()/2:]) {
			t.Fatalf("the second half: %v", err)
		}
	})
}

// FuzzDecodeFrame feeds the decoders, which normally see only bytes whose
// checksum matched. They must not panic, nor write beyond what is asked.
func FuzzDecodeFrame(f *testing.F) {
	for _, c := range codecs {
		for _, size := range []int{1, 100, 9000} {
			raw := sample(size, 1)
			b := mustEncode(f, raw, testOptions(c))
			obj := mustOpen(f, BytesRange(b), ReadOptions{})
			f.Add(b[:obj.index.frames[0].storedLen], uint8(c), size)
		}
	}
	f.Fuzz(func(t *testing.T, stored []byte, c uint8, n int) {
		if n < 1 || n > MaxFrame || len(stored) > maxStoredFrame {
			return
		}
		room := make([]byte, n+64)
		err := decodeFrame(Codec(c%3), room[:n], stored)
		for i, b := range room[n:] {
			if b != 0 {
				t.Fatalf("byte %d beyond the end was written", i)
			}
		}
		_ = err // any: only the checksum tells whether the bytes are right
	})
}
