package record

import (
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// firstImage is the page of the record's only block reference, put together
// from its image (RestoreBlockImage in access/transam/xlogreader.c); nil if there
// is none, or it was not kept whole, or cannot be decompressed.
func (r *Record) firstImage(d *Decoded) []byte {
	if len(d.Blocks) != 1 || !d.Blocks[0].HasImage || r.Truncated {
		return nil
	}
	blk := d.Blocks[0]
	data := r.Bytes()
	end := len(data) - int(d.MainLength) - int(blk.DataLength)
	image := data[end-int(blk.ImageLength) : end]
	size := heapBlockSize - int(blk.HoleLength)
	switch blk.Compression {
	case PGLZ:
		image = unpackPGLZ(image, size)
	case LZ4:
		image = unpackLZ4(image, size)
	case Zstd:
		image = unpackZstd(image, size)
	}
	if len(image) != size {
		return nil
	}
	hole := int(blk.HoleOffset)
	if hole > size {
		return nil
	}
	page := make([]byte, heapBlockSize)
	copy(page, image[:hole])
	copy(page[hole+int(blk.HoleLength):], image[hole:])
	return page
}

func unpackLZ4(b []byte, size int) []byte {
	out := make([]byte, size)
	n, err := lz4.UncompressBlock(b, out)
	if err != nil {
		return nil
	}
	return out[:n]
}

func unpackZstd(b []byte, size int) []byte {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*heapBlockSize))
	if err != nil {
		return nil
	}
	defer d.Close()
	out, err := d.DecodeAll(b, make([]byte, 0, size))
	if err != nil {
		return nil
	}
	return out
}

// unpackPGLZ is pglz_decompress (common/pg_lzcompress.c): a control byte tells of
// each of the eight items that follow, lowest bit first, whether it is a byte as
// it is (0) or a copy of what came before: 4 bits of length less 3 with 12 bits of
// distance, and if the length is 18 a byte to add to it. nil: the bytes are not
// such, or not of that size.
func unpackPGLZ(b []byte, size int) []byte {
	const longest = 18
	out := make([]byte, 0, size)
	for len(b) > 0 && len(out) < size {
		control := b[0]
		b = b[1:]
		for bit := 0; bit < 8 && len(b) > 0 && len(out) < size; bit, control = bit+1, control>>1 {
			if control&1 == 0 {
				out, b = append(out, b[0]), b[1:]
				continue
			}
			if len(b) < 2 {
				return nil
			}
			length, distance := int(b[0]&0x0F)+3, int(b[0]&0xF0)<<4|int(b[1])
			b = b[2:]
			if length == longest {
				if len(b) == 0 {
					return nil
				}
				length, b = length+int(b[0]), b[1:]
			}
			if distance == 0 || distance > len(out) {
				return nil
			}
			for n := min(length, size-len(out)); n > 0; n-- {
				out = append(out, out[len(out)-distance])
			}
		}
	}
	if len(b) > 0 || len(out) != size {
		return nil
	}
	return out
}
