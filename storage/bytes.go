package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrOffset is wrapped by the error of opening an object at an offset that
// lies beyond its end.
var ErrOffset = errors.New("offset lies beyond the end of the object")

// ErrTooLarge is wrapped by the error of ReadAll on an object that is larger
// than the limit.
var ErrTooLarge = errors.New("object is larger than expected")

// ReadAll returns the whole content of the object key. An object of more than
// limit bytes is an error (ErrTooLarge): nobody's memory is filled by a foreign or damaged
// object. limit is in bytes and at least 0.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, limit+1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, &Error{Op: "read", Key: key, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	return b, nil
}

// PutBytes stores b as the object key; see Store.Put.
func PutBytes(ctx context.Context, s Store, key string, b []byte, o PutOptions) error {
	return s.Put(ctx, key, bytes.NewReader(b), int64(len(b)), o)
}

// Range resolves the arguments of Store.Open against an object of size bytes:
// it returns the first byte and the number of bytes to read. An offset beyond
// the end is ErrOffset.
func Range(size, off, n int64) (start, length int64, err error) {
	switch {
	case off < 0:
		start = max(0, size+off)
		return start, size - start, nil
	case off > size:
		return 0, 0, fmt.Errorf("%w: offset %d, size %d", ErrOffset, off, size)
	case n < 0 || n > size-off:
		return off, size - off, nil
	default:
		return off, n, nil
	}
}
