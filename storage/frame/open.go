package frame

import (
	"context"
	"io"
)

// ReadOptions say what object is expected.
type ReadOptions struct {
	// Name is the object's key, for messages, and checked against the footer;
	// empty: not checked.
	Name string
	// RepositoryID is checked against the footer; zero: not checked.
	RepositoryID [16]byte
	// WantKind is checked against the footer; 0: any kind.
	WantKind Kind
	// Workers is the number of parallel decompressors of a reader; 0: GOMAXPROCS.
	Workers int
}

// Object is an open object, ready for random access.
type Object struct{}

// Open reads and checks the footer and the index of an object.
func Open(ctx context.Context, src RangeReader, o ReadOptions) (*Object, error) {
	return nil, errNotReady
}

// ReadFooter reads and checks the footer alone: FooterSize bytes.
func ReadFooter(ctx context.Context, src RangeReader, o ReadOptions) (Footer, error) {
	return Footer{}, errNotReady
}

// Footer returns the object's footer.
func (o *Object) Footer() Footer { return Footer{} }

// Size returns the number of raw bytes.
func (o *Object) Size() int64 { return 0 }

// Section returns the data of the section of type t, if the object has one.
func (o *Object) Section(t uint16) ([]byte, bool) { return nil, false }

// PageCRC returns the CRC-32C of a page of raw bytes; false: no such page.
func (o *Object) PageCRC(page int64) (uint32, bool) { return 0, false }

// PageHash returns the first 16 bytes of the BLAKE3 of a page of raw bytes.
func (o *Object) PageHash(page int64) ([16]byte, bool) { return [16]byte{}, false }

// NewReader reads n raw bytes from raw offset off.
func (o *Object) NewReader(ctx context.Context, off, n int64) io.ReadCloser { return nil }

// ReadAll returns all raw bytes.
func (o *Object) ReadAll(ctx context.Context) ([]byte, error) { return nil, errNotReady }

// Verify reads and checks every byte.
func (o *Object) Verify(ctx context.Context) error { return errNotReady }
