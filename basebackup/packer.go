package basebackup

import (
	"context"
	"encoding/hex"
	"hash/crc32"
	"io"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// maxPackRaw is how many raw bytes a pack takes. What compression cannot
// shrink grows a little (frame headers, and an index of 20 bytes a page), and a
// stored pack must not exceed 256 MiB.
const maxPackRaw = 255 << 20

// copyBuffer is how much of a file is in hand at once.
const copyBuffer = 256 << 10

// packer writes files into packs, one after the other. While a full pack is
// being finished the next one is already filled: at most two are open.
// It is used by one goroutine.
type packer struct {
	ctx    context.Context
	repo   *repository.Repository
	inc    archive.Incarnation
	id     string
	limit  int64 // raw bytes a pack, a multiple of frame.PageSize
	buf    []byte
	onDone func(n int) // told of bytes taken

	open    *repository.ObjectWriter // nil: the next file begins a pack
	live    int64                    // bytes of extents in the open pack
	number  int                      // of the open or the next pack
	pending chan packed              // the pack being finished; nil: none
	refs    []PackRef
	keys    []string // of everything that may have been written
}

// packed is a finished pack, or why it is not.
type packed struct {
	ref PackRef
	err error
}

func newPacker(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id string, limit int64) *packer {
	return &packer{ctx: ctx, repo: repo, inc: inc, id: id, limit: limit, buf: make([]byte, copyBuffer), onDone: func(int) {}}
}

// unknownSize stands for the size of a file that ends where its reader does.
const unknownSize = -1

// add stores size bytes of r, or all of it if size is unknownSize, and fills
// in what became of them.
func (p *packer) add(e *FileEntry, r io.Reader) error {
	if e.Size == 0 {
		return nil
	}
	for taken := int64(0); e.Size != taken; {
		room, err := p.room()
		if err != nil {
			return err
		}
		if e.Size != unknownSize {
			room = min(room, e.Size-taken)
		}
		x := Extent{Backup: p.id, Pack: p.number, Offset: p.open.Offset()}
		if x.Length, err = p.copy(r, room, &e.CRC); err != nil {
			return err
		}
		if x.Length > 0 {
			e.Extents = append(e.Extents, x)
		}
		p.live += x.Length
		taken += x.Length
		if x.Length < room {
			if e.Size != unknownSize {
				return io.ErrUnexpectedEOF
			}
			e.Size = taken
		}
	}
	return nil
}

// room makes sure that a pack is open, at the beginning of a page, and tells
// how much it still takes.
func (p *packer) room() (int64, error) {
	if p.open != nil {
		if err := p.open.Align(); err != nil {
			return 0, err
		}
		if room := p.limit - p.open.Offset(); room > 0 {
			return room, nil
		}
		if err := p.finish(); err != nil {
			return 0, err
		}
	}
	key := PackKey(p.inc, p.id, p.number)
	p.keys = append(p.keys, key)
	w, err := p.repo.Create(p.ctx, key, repository.ObjectOptions{Kind: frame.KindPack, PageHash: true})
	if err != nil {
		return 0, err
	}
	p.open, p.live = w, 0
	return p.limit, nil
}

// copy moves n bytes from r to the open pack, or fewer if r ends before.
func (p *packer) copy(r io.Reader, n int64, crc *uint32) (copied int64, err error) {
	for copied < n {
		got, err := io.ReadFull(r, p.buf[:min(n-copied, int64(len(p.buf)))])
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !ended {
			return copied, err
		}
		*crc = crc32.Update(*crc, castagnoli, p.buf[:got])
		if _, err := p.open.Write(p.buf[:got]); err != nil {
			return copied, err
		}
		copied += int64(got)
		p.onDone(got)
		if ended {
			break
		}
	}
	return copied, nil
}

// finish commits the open pack in the background, once the one before is done.
func (p *packer) finish() error {
	if err := p.wait(); err != nil {
		return err
	}
	w, ref := p.open, PackRef{Backup: p.id, Number: p.number, Raw: p.open.Offset(), Live: p.live}
	done := make(chan packed, 1)
	p.open, p.pending = nil, done
	p.number++
	go func() {
		footer, err := w.Commit()
		ref.Digest, ref.Size = hex.EncodeToString(footer.StoredDigest[:]), footer.StoredSize()
		done <- packed{ref: ref, err: err}
	}()
	return nil
}

// wait waits for the pack that is being finished.
func (p *packer) wait() error {
	if p.pending == nil {
		return nil
	}
	done := <-p.pending
	p.pending = nil
	if done.err != nil {
		return done.err
	}
	p.refs = append(p.refs, done.ref)
	return nil
}

// close finishes all packs.
func (p *packer) close() error {
	if p.open != nil {
		if err := p.finish(); err != nil {
			return err
		}
	}
	return p.wait()
}

// abort discards what is open. After close it is a no-op.
func (p *packer) abort() {
	_ = p.wait()
	if p.open != nil {
		p.open.Abort()
		p.open = nil
	}
}
