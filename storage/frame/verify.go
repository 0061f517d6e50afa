package frame

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"

	"github.com/zeebo/blake3"
)

// Verify reads the stored object from its first byte to its last and checks
// everything that can be checked: every frame, every page's checksum and hash,
// the raw digest, the digest of the stored bytes, that the index and the
// footer are still those that Open saw, and that nothing follows. Errors are
// those of NewReader.
func (o *Object) Verify(ctx context.Context) error { return o.VerifyTo(ctx, io.Discard) }

// VerifyTo is Verify, and writes the raw bytes to w meanwhile, in order. Each
// frame's bytes were checked before they are written; the whole is proved only when
// VerifyTo returns nil. An error of w ends it and is returned as it is.
func (o *Object) VerifyTo(ctx context.Context, w io.Writer) error {
	r := &reader{object: o, parent: ctx, end: len(o.index.frames), left: o.Size(), whole: &wholeCheck{digest: blake3.New()}}
	defer r.Close()
	check := rawCheck{object: o, to: w}
	if o.footer.HasRawDigest {
		check.digest = NewRawHasher(o.footer.RepositoryID)
	}
	if _, err := r.WriteTo(&check); err != nil {
		return err
	}
	return check.finish()
}

// wholeCheck checks the stored bytes of an object.
type wholeCheck struct{ digest *blake3.Hasher }

func (c *wholeCheck) add(stored []byte) { c.digest.Write(stored) }

// rest reads what follows the frames.
func (c *wholeCheck) rest(o *Object, body io.Reader) error {
	f := o.footer
	n, err := io.CopyN(c.digest, body, f.IndexLength)
	if errors.Is(err, io.EOF) {
		return o.errorAt(f.IndexOffset, Truncated, "the index has %d bytes instead of %d", n, f.IndexLength)
	}
	if err != nil {
		return o.sourceError(f.IndexOffset, err)
	}
	var sum [32]byte
	c.digest.Sum(sum[:0])
	if sum != f.StoredDigest {
		return o.errorAt(0, Corrupt, "the stored bytes do not match the digest in the footer")
	}
	var end [FooterSize + 1]byte
	m, err := readFull(body, end[:])
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return o.sourceError(f.BodyLength, err)
	case m > FooterSize:
		return o.errorAt(f.StoredSize(), Corrupt, "bytes follow the footer")
	case !bytes.Equal(end[:m], o.tail[:]):
		return o.errorAt(f.BodyLength, Corrupt, "the footer is not the one that was read before")
	}
	return nil
}

// rawCheck is given all raw bytes of an object.
type rawCheck struct {
	object *Object
	to     io.Writer
	digest hash.Hash // nil without raw digest
	page   int64
}

func (c *rawCheck) Write(p []byte) (int, error) {
	if c.digest != nil {
		c.digest.Write(p)
	}
	if !c.object.index.hasPageHashes {
		return c.to.Write(p)
	}
	// The reader writes whole frames, which are whole pages but for the last.
	for rest := p; len(rest) > 0; c.page++ {
		part := rest[:min(PageSize, len(rest))]
		rest = rest[len(part):]
		if sum := blake3.Sum256(part); !bytes.Equal(sum[:pageHashSize], c.object.index.pageHash(c.page)) {
			info := c.object.index.frames[c.page/(MaxFrame/PageSize)]
			return 0, c.object.errorAt(info.offset, Corrupt, "page %d does not match its hash", c.page)
		}
	}
	return c.to.Write(p)
}

func (c *rawCheck) finish() error {
	if c.digest == nil {
		return nil
	}
	if !bytes.Equal(c.digest.Sum(nil), c.object.footer.RawDigest[:]) {
		return c.object.errorAt(c.object.footer.BodyLength, Corrupt, "the raw bytes do not match the raw digest in the footer")
	}
	return nil
}
