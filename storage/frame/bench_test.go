package frame

import (
	"context"
	"fmt"
	"io"
	"testing"
)

// benchRaw looks like table pages: rows of a few columns, partly repeated.
func benchRaw() []byte {
	raw := make([]byte, 0, 16<<20)
	for i := uint64(0); len(raw) < 16<<20-200; i++ {
		raw = fmt.Appendf(raw, "\x00\x01%08x|%d|account-%06d|%016x", i, i%97, i%1000, i*0x9e3779b97f4a7c15)
		raw = append(raw, make([]byte, 40)...)
	}
	return append(raw, make([]byte, 16<<20-len(raw))...)
}

func BenchmarkEncode(b *testing.B) {
	raw := benchRaw()
	for _, c := range codecs {
		for _, workers := range []int{1, 2} {
			for _, digests := range []bool{false, true} {
				b.Run(fmt.Sprintf("%v/workers=%d/digests=%v", c, workers, digests), func(b *testing.B) {
					o := testOptions(c)
					o.Workers, o.RawDigest, o.PageHash = workers, digests, digests
					b.SetBytes(int64(len(raw)))
					b.ReportAllocs()
					var stored int64
					for b.Loop() {
						w, err := NewWriter(io.Discard, o)
						if err != nil {
							b.Fatal(err)
						}
						if _, err := w.Write(raw); err != nil {
							b.Fatal(err)
						}
						f, err := w.Close()
						if err != nil {
							b.Fatal(err)
						}
						stored = f.StoredSize()
					}
					b.ReportMetric(float64(len(raw))/float64(stored), "ratio")
				})
			}
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	raw := benchRaw()
	for _, c := range codecs {
		stored := mustEncode(b, raw, testOptions(c))
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%v/workers=%d", c, workers), func(b *testing.B) {
				o := testReadOptions()
				o.Workers = workers
				obj := mustOpen(b, BytesRange(stored), o)
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				for b.Loop() {
					r := obj.NewReader(context.Background(), 0, -1)
					if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(raw)) {
						b.Fatal(n, err)
					}
					r.Close()
				}
			})
		}
	}
}

func BenchmarkSmall(b *testing.B) {
	raw := benchRaw()[:8192]
	for b.Loop() {
		stored, _, err := Encode(raw, testOptions(CodecLZ4))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readEverything(BytesRange(stored), testReadOptions()); err != nil {
			b.Fatal(err)
		}
	}
}
