package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrNotExist is wrapped by the error of an operation on an absent object.
// errors.Is(err, fs.ErrNotExist) holds too.
var ErrNotExist = fmt.Errorf("object does not exist: %w", fs.ErrNotExist)

// ErrExist is wrapped by the error of creating an object that exists already.
// errors.Is(err, fs.ErrExist) holds too.
var ErrExist = fmt.Errorf("object exists already: %w", fs.ErrExist)

// Error is what every Store method returns.
type Error struct {
	// Op is the operation: "put", "create", "commit", "open", "read", "stat", "list", "delete".
	Op string
	// Key is the object's key, or the prefix of a listing.
	Key string
	// Err is the cause.
	Err error
	// Temporary says that the same call may succeed later: a lost connection,
	// a throttled request, a server error.
	Temporary bool
	// Hint says what a person can do about it; may be empty.
	Hint string
}

// Error names the operation, the key and the cause.
func (e *Error) Error() string { return e.Op + " " + e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether err may go away when the operation is tried again.
// Absence, existence, cancellation and refused permission never do.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, ErrNotExist) || errors.Is(err, ErrExist) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var e *Error
	return errors.As(err, &e) && e.Temporary
}

// Hint returns the advice that the innermost *Error of err carries, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// MaxKeyLength is the length of the longest key, in bytes.
const MaxKeyLength = 512

// CheckKey returns an error if key is not a legal key (see Store).
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKeyLength {
		return fmt.Errorf("illegal key %.64q: it must have 1 to %d bytes", key, MaxKeyLength)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' {
			return fmt.Errorf("illegal key %q: empty or dotted segment", key)
		}
		for i := range len(part) {
			c := part[i]
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
				continue
			}
			return fmt.Errorf("illegal key %q: character %q", key, c)
		}
	}
	return nil
}
