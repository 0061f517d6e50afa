package frame

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/walden-pg/walden/storage"
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
	// Workers is the number of parallel decompressors of a reader; 0:
	// GOMAXPROCS. About 2 MiB of memory are used for each, and 2 MiB besides.
	Workers int
}

// tailSize is how much of an object's end Open reads at first. It holds the
// index of an ordinary WAL segment, and small objects as a whole.
const tailSize = 64 << 10

// Object is an open object, ready for random access. It keeps the index in
// memory, and no connection. It is safe for concurrent use.
type Object struct {
	src     RangeReader
	name    string
	workers int
	footer  Footer
	index   *index
	// tail is the stored footer, which Verify compares.
	tail [FooterSize]byte
}

// Open reads and checks the footer and the index of an object: usually one
// ranged read of its last 64 KiB, a second one if the index is larger. An
// object that fits into the first read is not read again by its readers.
//
// What is wrong with the object is an *Error; errors of src are passed on
// wrapped.
func Open(ctx context.Context, src RangeReader, o ReadOptions) (*Object, error) {
	t, err := readTail(ctx, src, o, tailSize)
	if err != nil {
		return nil, err
	}
	obj := &Object{src: src, name: o.Name, workers: o.Workers, footer: t.footer, tail: [FooterSize]byte(t.footerBytes())}
	if obj.workers <= 0 {
		obj.workers = runtime.GOMAXPROCS(0)
	}
	raw, err := t.indexBytes(ctx)
	if err != nil {
		return nil, err
	}
	x, bad := parseIndex(raw, t.footer)
	if bad != nil {
		bad.Object = o.Name
		bad.Offset += t.footer.IndexOffset
		return nil, bad
	}
	obj.index = x
	if t.whole() {
		obj.src = BytesRange(bytes.Clone(t.bytes))
	}
	return obj, nil
}

// ReadFooter reads and checks the footer alone: one ranged read of FooterSize
// bytes. It proves neither that the rest of the object is there nor that it
// is undamaged. Errors are those of Open.
func ReadFooter(ctx context.Context, src RangeReader, o ReadOptions) (Footer, error) {
	t, err := readTail(ctx, src, o, FooterSize)
	if err != nil {
		return Footer{}, err
	}
	return t.footer, nil
}

// tail is the end of an object, with a footer that was checked.
type tail struct {
	src    RangeReader
	name   string
	bytes  []byte
	size   int64 // of the object; -1: not known
	footer Footer
}

func (t *tail) footerBytes() []byte { return t.bytes[len(t.bytes)-FooterSize:] }

// whole reports whether the tail is the whole object.
func (t *tail) whole() bool { return t.footer.StoredSize() == int64(len(t.bytes)) }

// readTail reads the last n bytes of an object, n ≥ FooterSize, and checks the
// footer.
func readTail(ctx context.Context, src RangeReader, o ReadOptions, n int64) (*tail, error) {
	t := &tail{src: src, name: o.Name, size: -1}
	var err error
	if t.bytes, err = readRange(ctx, src, -n, n); err != nil {
		return nil, fmt.Errorf("read the end of object %s: %w", o.Name, err)
	}
	if size, ok := src.Size(); ok {
		t.size = size
	} else if int64(len(t.bytes)) < n {
		t.size = int64(len(t.bytes)) // all there is
	}
	if len(t.bytes) < FooterSize || !isFooter(t.footerBytes()) {
		return nil, t.noFooter(ctx)
	}
	f, bad := parseFooter(t.footerBytes())
	if bad == nil {
		bad = f.checkAgainst(o, t.size)
	}
	if bad != nil {
		return nil, t.footerError(ctx, bad)
	}
	t.footer = f
	return t, nil
}

// checkAgainst refuses a footer that is not that of the object asked for.
// size is the stored object's, -1 if it is not known.
func (f Footer) checkAgainst(o ReadOptions, size int64) *Error {
	switch {
	case o.RepositoryID != [16]byte{} && f.RepositoryID != o.RepositoryID:
		return &Error{Kind: WrongObject, Reason: fmt.Sprintf(
			"it belongs to repository %x, not to %x", f.RepositoryID, o.RepositoryID)}
	case o.Name != "" && f.NameDigest != NameDigest(o.Name):
		return &Error{Kind: WrongObject, Reason: "it was stored under another key; was it copied or renamed?"}
	case o.WantKind != 0 && f.Kind != o.WantKind:
		return &Error{Kind: WrongObject, Reason: fmt.Sprintf("it is a %v, not a %v", f.Kind, o.WantKind)}
	case size >= 0 && size < f.StoredSize():
		return &Error{Kind: Truncated, Reason: fmt.Sprintf("it has %d bytes, its footer says %d", size, f.StoredSize())}
	case size > f.StoredSize():
		return &Error{Kind: Corrupt, Reason: fmt.Sprintf("it has %d bytes, its footer says %d", size, f.StoredSize())}
	}
	return nil
}

// footerError completes an error in the footer. Its offset needs the object's
// size, for which the store is asked if need be.
func (t *tail) footerError(ctx context.Context, bad *Error) error {
	bad.Object, bad.Offset = t.name, -1
	if size := t.askSize(ctx); size >= 0 {
		bad.Offset = max(0, size-FooterSize)
	}
	return bad
}

// askSize returns the object's size, -1 if it cannot be learnt.
func (t *tail) askSize(ctx context.Context) int64 {
	if t.size < 0 {
		if s, ok := t.src.(interface {
			stat(context.Context) (int64, error)
		}); ok {
			if size, err := s.stat(ctx); err == nil {
				t.size = size
			}
		}
	}
	return t.size
}

// noFooter says why an object does not end in a footer: it was cut off, or
// something was appended to it, or it never was one of ours.
func (t *tail) noFooter(ctx context.Context) error {
	bad := &Error{Kind: Foreign, Reason: "it does not end in a Walden footer"}
	word := binary.LittleEndian.AppendUint32(nil, footerMagic)
	word = binary.LittleEndian.AppendUint32(word, FooterSize-skippableTop)
	word = append(word, footerWord...)
	size := t.askSize(ctx)
	if size == 0 {
		bad.Kind, bad.Reason = Truncated, "it is empty"
	} else if at := bytes.LastIndex(t.bytes, word); at >= 0 && len(t.bytes)-at > FooterSize {
		bad.Reason = fmt.Sprintf("%d bytes follow its footer", len(t.bytes)-at-FooterSize)
	} else if at >= 0 {
		bad.Kind, bad.Reason = Truncated, fmt.Sprintf("only %d of %d bytes of its footer are there", len(t.bytes)-at, FooterSize)
	} else if start, err := readRange(ctx, t.src, 0, skippableTop+int64(len(indexWord))); err == nil && beginsLikeOurs(start) {
		bad.Kind, bad.Reason = Truncated, "its end is missing: there is no footer"
	}
	return t.footerError(ctx, bad)
}

// beginsLikeOurs reports whether b may be the beginning of an object.
func beginsLikeOurs(b []byte) bool {
	const zstdMagic = 0xFD2FB528
	if len(b) < 4 {
		return false
	}
	switch binary.LittleEndian.Uint32(b) {
	case lz4Magic, zstdMagic:
		return true
	case indexMagic:
		return len(b) < 16 || string(b[8:16]) == indexWord
	}
	return false
}

// indexBytes returns the stored index, from the tail if it holds it.
func (t *tail) indexBytes(ctx context.Context) ([]byte, error) {
	f := t.footer
	if have := int64(len(t.bytes)) - FooterSize; f.IndexLength <= have {
		// A copy, so that a small index does not keep the tail in memory.
		return bytes.Clone(t.bytes[have-f.IndexLength : have]), nil
	}
	b, err := readRange(ctx, t.src, f.IndexOffset, f.IndexLength)
	if err != nil && !errors.Is(err, storage.ErrOffset) {
		return nil, fmt.Errorf("read the index of object %s at offset %d: %w", t.name, f.IndexOffset, err)
	}
	if int64(len(b)) != f.IndexLength {
		return nil, &Error{Object: t.name, Offset: f.IndexOffset, Kind: Truncated,
			Reason: fmt.Sprintf("only %d of %d bytes of the index are there", len(b), f.IndexLength)}
	}
	return b, nil
}

// readRange reads up to limit bytes of a range. Fewer are no error here. It
// takes no more memory than twice what arrives, whatever limit says.
func readRange(ctx context.Context, src RangeReader, off, limit int64) ([]byte, error) {
	r, err := src.ReadRange(ctx, off, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	expected := min(limit, 1<<20)
	if size, ok := src.Size(); ok {
		expected = min(expected, size)
	}
	var b bytes.Buffer
	b.Grow(int(expected) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(r, limit)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Footer returns the object's footer.
func (o *Object) Footer() Footer { return o.footer }

// Name returns the key the object was opened under.
func (o *Object) Name() string { return o.name }

// Size returns the number of raw bytes.
func (o *Object) Size() int64 { return o.footer.RawLength }

// StoredRange returns how many stored bytes a reader of n raw bytes from raw offset
// off reads: those of the frames that hold them. What of the range is not inside the object counts nothing.
func (o *Object) StoredRange(off, n int64) int64 {
	end := min(off+n, o.Size())
	if off < 0 || off >= end {
		return 0
	}
	var sum int64
	for _, f := range o.index.frames[off/MaxFrame : divideUp(end, MaxFrame)] {
		sum += int64(f.storedLen)
	}
	return sum
}

// Section returns the data of the section of type t, if the object has one.
// The caller does not change it.
func (o *Object) Section(t uint16) ([]byte, bool) {
	for _, s := range o.index.sections {
		if s.Type == t {
			return s.Data, true
		}
	}
	return nil, false
}

// PageCRC returns the CRC-32C of a page of raw bytes, counted from 0; false if
// there is no such page. The last page may be shorter than PageSize.
func (o *Object) PageCRC(page int64) (uint32, bool) {
	if page < 0 || page >= o.index.pages() {
		return 0, false
	}
	return o.index.pageCRC(page), true
}

// PageHash returns the first 16 bytes of the BLAKE3 of a page of raw bytes;
// false if there is no such page or the object was written without hashes.
func (o *Object) PageHash(page int64) ([16]byte, bool) {
	if !o.index.hasPageHashes || page < 0 || page >= o.index.pages() {
		return [16]byte{}, false
	}
	return [16]byte(o.index.pageHash(page)), true
}

// errorAt returns an *Error at an offset of the stored object.
func (o *Object) errorAt(offset int64, kind ErrorKind, format string, args ...any) *Error {
	return &Error{Object: o.name, Offset: offset, Kind: kind, Reason: fmt.Sprintf(format, args...)}
}
