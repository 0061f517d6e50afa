// Package crc32c computes CRC-32C (Castagnoli), the checksum of PostgreSQL's
// WAL and manifests, and combines checksums of neighbouring runs of bytes.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of b.
func Checksum(b []byte) uint32 { return crc32.Update(0, table, b) }

// Update returns the CRC-32C of the bytes that crc stands for, followed by b.
// The CRC of nothing is 0.
func Update(crc uint32, b []byte) uint32 { return crc32.Update(crc, table, b) }

// poly is the Castagnoli polynomial, bits reversed: bit 31 stands for x^0.
const poly = 0x82f63b78

// one is the polynomial 1 in that notation.
const one = uint32(1) << 31

// Combine returns the CRC-32C of two runs of bytes A and B, one after the
// other, from the CRC of each and the length of B in bytes. It takes time
// proportional to the logarithm of lenB. A negative lenB counts as 0.
func Combine(crcA, crcB uint32, lenB int64) uint32 {
	if lenB <= 0 {
		return crcA ^ crcB
	}
	return NewShift(lenB).Combine(crcA, crcB)
}

// A Shift combines checksums where the second run has a length that is known
// beforehand; it is faster than Combine when used often.
type Shift struct{ factor uint32 }

// NewShift returns the Shift for a second run of n bytes, n ≥ 0.
func NewShift(n int64) Shift {
	// Appending n bytes multiplies the CRC of what was there by x^(8n) modulo
	// the polynomial: square and multiply, from x^8.
	factor, power := one, one>>8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			factor = multiply(factor, power)
		}
		power = multiply(power, power)
	}
	return Shift{factor}
}

// Combine returns the CRC-32C of runs A and B, one after the other.
func (s Shift) Combine(crcA, crcB uint32) uint32 { return multiply(s.factor, crcA) ^ crcB }

// multiply returns a·b modulo the polynomial.
func multiply(a, b uint32) uint32 {
	var product uint32
	for a != 0 {
		if a&one != 0 {
			product ^= b
		}
		a <<= 1
		b = b>>1 ^ poly&-(b&1)
	}
	return product
}
