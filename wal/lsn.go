package wal

import (
	"errors"
	"fmt"
	"strings"
)

// PageSize is XLOG_BLCKSZ, the size of a WAL page. PostgreSQL can be built
// with others; nobody ships such a build, and a segment whose long page header
// says otherwise is refused when it is read.
const PageSize = 8192

// recordAlignment is MAXALIGN: records start at multiples of it.
const recordAlignment = 8

// LSN is a log sequence number: a byte position in the WAL of a cluster,
// counted over all segments. 0 is "none" (InvalidXLogRecPtr in access/xlogdefs.h).
type LSN uint64

// ParseLSN reads the text form of an LSN: two hexadecimal numbers of one to
// eight digits, in upper or lower case, with a slash between them. Both the
// form of PostgreSQL up to 18 (0/3000028) and that of 19 (0/03000028) are read.
func ParseLSN(s string) (LSN, error) {
	high, low, found := strings.Cut(s, "/")
	if !found {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers such as 16/B374D848", s)
	}
	h, okHigh := parseHex32(high)
	l, okLow := parseHex32(low)
	if !okHigh || !okLow {
		return 0, fmt.Errorf("parse LSN %q: want one to eight hexadecimal digits on both sides of the slash", s)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// String writes the LSN as PostgreSQL up to 18 prints it: %X/%X.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// MarshalText is the text form of String.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is ParseLSN.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}

// Page is the start of the WAL page that holds the byte at l.
func (l LSN) Page() LSN { return l &^ (PageSize - 1) }

// PageOffset is the offset of l in its page, 0 to PageSize-1.
func (l LSN) PageOffset() int { return int(l & (PageSize - 1)) }

// Align rounds l up to where a record may start (MAXALIGN, 8 bytes).
func (l LSN) Align() LSN { return (l + recordAlignment - 1) &^ (recordAlignment - 1) }

// Aligned reports whether a record could start at l.
func (l LSN) Aligned() bool { return l%recordAlignment == 0 }

var errHexDigit = errors.New("not a hexadecimal digit")

// parseHex32 reads one to eight hexadecimal digits of either case.
func parseHex32(s string) (uint32, bool) {
	if len(s) == 0 || len(s) > 8 {
		return 0, false
	}
	var v uint32
	for i := range len(s) {
		d, err := hexDigit(s[i])
		if err != nil {
			return 0, false
		}
		v = v<<4 | d
	}
	return v, true
}

// parseUpperHex32 reads exactly eight digits, upper-case only, as file names have them.
func parseUpperHex32(s string) (uint32, bool) {
	if len(s) != 8 || strings.ContainsAny(s, "abcdef") {
		return 0, false
	}
	return parseHex32(s)
}

func hexDigit(c byte) (uint32, error) {
	switch {
	case c >= '0' && c <= '9':
		return uint32(c - '0'), nil
	case c >= 'A' && c <= 'F':
		return uint32(c-'A') + 10, nil
	case c >= 'a' && c <= 'f':
		return uint32(c-'a') + 10, nil
	}
	return 0, errHexDigit
}
