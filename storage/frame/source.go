package frame

import (
	"bytes"
	"context"
	"io"

	"github.com/walden-pg/walden/storage"
)

// RangeReader reads ranges of one stored object.
type RangeReader interface {
	// Size returns the object's size in bytes, if it is known without asking.
	Size() (int64, bool)
	// ReadRange reads n bytes from offset off, or to the end if n < 0. If
	// off < 0 it reads the last -off bytes, all of them if the object is
	// shorter, and n is ignored. It honours ctx, as does the reader.
	ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// StoreRange reads the object key of s.
func StoreRange(s storage.Store, key string) RangeReader { return storeRange{s, key} }

type storeRange struct {
	store storage.Store
	key   string
}

func (r storeRange) Size() (int64, bool) { return 0, false }

func (r storeRange) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return r.store.Open(ctx, r.key, off, n)
}

func (r storeRange) stat(ctx context.Context) (int64, error) {
	info, err := r.store.Stat(ctx, r.key)
	return info.Size, err
}

// BytesRange reads an object that lies in memory.
func BytesRange(b []byte) RangeReader { return bytesRange(b) }

type bytesRange []byte

func (b bytesRange) Size() (int64, bool) { return int64(len(b)), true }

func (b bytesRange) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	start, length, err := storage.Range(int64(len(b)), off, n)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b[start : start+length])), nil
}
