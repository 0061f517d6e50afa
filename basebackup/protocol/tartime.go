package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Places in a tar header (port/tar.c, tarCreateHeader).
const (
	tarSize, tarSizeLen   = 124, 12
	tarTime, tarTimeLen   = 136, 12
	tarCheck, tarCheckLen = 148, 8
)

// timeFilter passes an archive on as it is, but for the headers of files that
// were changed before 1970. The server writes such a time as a number of 64 bits
// without a sign (print_tar_number), which is more than any tar reader takes:
// in its place goes 0, which stands for an unknown time.
type timeFilter struct {
	r     io.Reader
	body  int64  // bytes left until the next header
	block []byte // of a header that is being passed on
	buf   [tarBlock]byte
}

// Read implements io.Reader.
func (f *timeFilter) Read(p []byte) (int, error) {
	if len(f.block) == 0 && f.body == 0 {
		n, err := io.ReadFull(f.r, f.buf[:])
		if n == 0 {
			return 0, err
		}
		// A part of a header is passed on; the end shows at the next read.
		if f.block = f.buf[:n]; err == nil {
			f.header()
		}
	}
	if len(f.block) > 0 {
		n := copy(p, f.block)
		f.block = f.block[n:]
		return n, nil
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.body)])
	f.body -= int64(n)
	return n, err
}

// header looks at the header in f.block. What it does not understand is for the
// reader of the archive to refuse.
func (f *timeFilter) header() {
	if size, ok := tarNumber(f.block[tarSize:][:tarSizeLen]); ok {
		f.body = size + -size&(tarBlock-1)
	}
	field := f.block[tarTime:][:tarTimeLen]
	if _, ok := tarNumber(field); ok || field[0] != 0x80 {
		return
	}
	if written, ok := tarNumber(f.block[tarCheck:][:tarCheckLen]); !ok || written != f.sum() {
		return // the header is damaged
	}
	copy(field, "00000000000\x00")
	copy(f.block[tarCheck:], fmt.Sprintf("%06o\x00 ", f.sum()))
}

// sum is the checksum of the header, its own field taken for blanks.
func (f *timeFilter) sum() int64 {
	sum := tarCheckLen * int64(' ')
	for i, b := range f.block {
		if i < tarCheck || i >= tarCheck+tarCheckLen {
			sum += int64(b)
		}
	}
	return sum
}

// tarNumber reads a number: octal digits, or if the first byte is 0x80 binary
// ones. It is false for what does not fit.
func tarNumber(field []byte) (n int64, ok bool) {
	if field[0] == 0x80 {
		u := binary.BigEndian.Uint64(field[len(field)-8:])
		return int64(u), u < 1<<62
	}
	for _, b := range field {
		switch {
		case b >= '0' && b <= '7':
			n = n<<3 | int64(b-'0')
		case b == 0 || b == ' ':
		default:
			return 0, false
		}
	}
	return n, true
}
