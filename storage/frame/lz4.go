package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/pierrec/lz4/v4"
)

// An LZ4 frame as Walden writes it: a header of lz4HeaderSize bytes, one block
// preceded by its length, and an end mark. The frame is written here, around
// the library's block compressor, because the library's streaming writer
// reaches a quarter of the block compressor's speed.
//
//	0  u32  magic
//	4  u8   flags: version 01, independent blocks, content size; no checksums
//	5  u8   block maximum size: 6, 1 MiB
//	6  u64  content size
//	14 u8   header checksum: second byte of the xxHash-32 of bytes 4 to 13
//	15 u32  block length; the top bit says that the block is stored as it is
//	19      block
//	+4 u32  end mark, 0
const (
	lz4Magic      = 0x184D2204
	lz4Flags      = 0b01_1_0_1_0_0_0
	lz4Descriptor = 6 << 4
	lz4HeaderSize = 15
	lz4BlockStart = lz4HeaderSize + 4
	lz4Overhead   = lz4BlockStart + 4
	lz4Stored     = 1 << 31
)

// appendLZ4Header appends the frame header for n raw bytes.
func appendLZ4Header(b []byte, n int) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, lz4Magic)
	b = append(b, lz4Flags, lz4Descriptor)
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	return append(b, byte(xxh32Short(b[start+4:])>>8))
}

// appendLZ4Stored appends a whole frame whose block is not compressed.
func appendLZ4Stored(b, raw []byte) []byte {
	b = appendLZ4Header(b, len(raw))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw))|lz4Stored)
	b = append(b, raw...)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// appendLZ4 appends a whole frame whose block is compressed by compress, or
// stored where that does not make it smaller.
func appendLZ4(b, raw []byte, compress func(src, dst []byte) (int, error)) []byte {
	start := len(b)
	b = appendLZ4Header(b, len(raw))
	room := b[len(b)+4 : cap(b)]
	if len(room) >= len(raw) {
		room = room[:len(raw)-1] // what does not become smaller is stored
	}
	// An error means that the result does not fit, like 0.
	n, err := compress(raw, room)
	if err != nil || n <= 0 {
		return appendLZ4Stored(b[:start], raw)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = b[:len(b)+n]
	return binary.LittleEndian.AppendUint32(b, 0)
}

// decodeLZ4 decodes one whole frame into dst, which has the expected length.
// It takes frames of the layout above only, and of codec none only those with
// a stored block.
func decodeLZ4(dst, stored []byte, codec Codec) error {
	if len(stored) < lz4Overhead {
		return errors.New("an LZ4 frame is shorter than its header")
	}
	if header := appendLZ4Header(make([]byte, 0, lz4HeaderSize), len(dst)); string(header) != string(stored[:lz4HeaderSize]) {
		return errors.New("an LZ4 frame's header is not as expected")
	}
	size := binary.LittleEndian.Uint32(stored[lz4HeaderSize:])
	isStored := size&lz4Stored != 0
	if int64(size&^lz4Stored) != int64(len(stored)-lz4Overhead) {
		return errors.New("an LZ4 block's length does not match its frame's")
	}
	block, end := stored[lz4BlockStart:len(stored)-4], stored[len(stored)-4:]
	switch {
	case binary.LittleEndian.Uint32(end) != 0:
		return errors.New("an LZ4 frame lacks its end mark")
	case isStored && len(block) != len(dst):
		return fmt.Errorf("a stored LZ4 block has %d bytes instead of %d", len(block), len(dst))
	case isStored:
		copy(dst, block)
		return nil
	case codec == CodecNone:
		return errors.New("a compressed block in an object that is not compressed")
	}
	n, err := lz4.UncompressBlock(block, dst)
	if err != nil {
		return fmt.Errorf("LZ4 block: %w", err)
	}
	if n != len(dst) {
		return fmt.Errorf("an LZ4 block has %d raw bytes instead of %d", n, len(dst))
	}
	return nil
}

// xxh32Short is xxHash-32 with seed 0, for inputs shorter than 16 bytes.
func xxh32Short(b []byte) uint32 {
	const (
		prime1 = 2654435761
		prime2 = 2246822519
		prime3 = 3266489917
		prime4 = 668265263
		prime5 = 374761393
	)
	h := prime5 + uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		h += binary.LittleEndian.Uint32(b) * prime3
		h = bits.RotateLeft32(h, 17) * prime4
	}
	for _, c := range b {
		h += uint32(c) * prime5
		h = bits.RotateLeft32(h, 11) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
