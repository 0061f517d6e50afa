package frame

import (
	"fmt"
	"strings"
)

// ErrorKind says what is wrong with an object.
type ErrorKind int

const (
	// Corrupt bytes do not match their checksum, or contradict one another.
	Corrupt ErrorKind = iota + 1
	// Truncated objects lack a part, usually their end.
	Truncated
	// Version marks objects written in a format this version does not know.
	Version
	// WrongObject is a whole object that is not the one asked for: of another
	// kind, another repository, or stored under another key.
	WrongObject
	// Encrypted objects need a key that this version cannot use.
	Encrypted
	// Foreign bytes were not written by Walden.
	Foreign
)

// String returns the kind in words.
func (k ErrorKind) String() string {
	switch k {
	case Corrupt:
		return "corrupt"
	case Truncated:
		return "truncated"
	case Version:
		return "unknown format"
	case WrongObject:
		return "not the object asked for"
	case Encrypted:
		return "encrypted"
	case Foreign:
		return "not a Walden object"
	}
	return fmt.Sprintf("error kind %d", int(k))
}

// Error says what is wrong with a stored object, and where. Errors of the
// store itself (an absent object, a lost connection) are not Errors: they are
// passed on as they are, wrapped.
type Error struct {
	// Object is the object's key.
	Object string
	// Offset is where in the stored object the damage was found, in bytes from
	// its beginning: the start of the frame, of the index or of the footer.
	// It is -1 where it is not known.
	Offset int64
	// Kind sorts errors.
	Kind ErrorKind
	// Reason says what was found.
	Reason string
	// Err is the cause, where there is one.
	Err error
}

// Error names the object, the offset and the reason.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("object ")
	if e.Object == "" {
		b.WriteString("(unnamed)")
	} else {
		b.WriteString(e.Object)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, ", offset %d", e.Offset)
	}
	fmt.Fprintf(&b, ": %s: %s", e.Kind, e.Reason)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
