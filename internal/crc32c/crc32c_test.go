package crc32c

import (
	"math/rand/v2"
	"testing"
)

func TestKnownVector(t *testing.T) {
	// RFC 3720, B.4, and the check value of the CRC catalogue.
	if got := Checksum([]byte("123456789")); got != 0xe3069283 {
		t.Errorf("Checksum = %08x", got)
	}
	if got := Checksum(make([]byte, 32)); got != 0x8a9136aa {
		t.Errorf("32 zeros = %08x", got)
	}
	if got := Update(Checksum([]byte("1234")), []byte("56789")); got != 0xe3069283 {
		t.Errorf("Update = %08x", got)
	}
}

func TestCombine(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	for _, a := range []int{0, 1, 7, 8192, 100_000} {
		for _, b := range []int{0, 1, 2, 3, 8191, 8192, 8193, 65536, 200_000} {
			want := Checksum(data[:a+b])
			crcA, crcB := Checksum(data[:a]), Checksum(data[a:a+b])
			if got := Combine(crcA, crcB, int64(b)); got != want {
				t.Errorf("Combine(%d, %d) = %08x, want %08x", a, b, got, want)
			}
			if got := NewShift(int64(b)).Combine(crcA, crcB); got != want {
				t.Errorf("Shift(%d, %d) = %08x, want %08x", a, b, got, want)
			}
		}
	}
}

// TestCombineLong checks lengths that no test would want to hash, by the law
// that combining is associative.
func TestCombineLong(t *testing.T) {
	a, b, c := uint32(0x12345678), uint32(0x9abcdef0), uint32(0x0badcafe)
	const lenB, lenC = 5<<40 + 3, 7<<33 + 1
	left := Combine(Combine(a, b, lenB), c, lenC)
	right := Combine(a, Combine(b, c, lenC), lenB+lenC)
	if left != right {
		t.Errorf("%08x != %08x", left, right)
	}
	if got := Combine(a, b, lenB); got == a^b {
		t.Error("the length has no effect")
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Checksum(data)
	}
}

func BenchmarkCombine(b *testing.B) {
	for b.Loop() {
		Combine(1, 2, 8192)
	}
}
