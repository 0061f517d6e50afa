package verify

import (
	"context"
	"fmt"
	"io"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/storage/frame"
)

// heldPacks bounds the packs whose indexes are held at a time: each takes about 130 KiB.
const heldPacks = 64

// tables checks a backup's tables of files: each file's checksum against those of the pages
// in the packs that its extents name. No byte of a pack is read but where files share pages.
type tables struct {
	c        *checker
	manifest *basebackup.Manifest
	refs     map[basebackup.Extent]basebackup.PackRef // by backup and number alone
	packs    map[string]*frame.Object
	order    []string
}

// pageShift combines checksums where the second run is a page.
var pageShift = crc32c.NewShift(frame.PageSize)

// readTables reads a backup's tables whole.
func (c *checker) readTables(ctx context.Context, id string) error {
	m, err := basebackup.Load(ctx, c.repo, c.inc, id)
	if err != nil {
		return err
	}
	t := &tables{c: c, manifest: m, refs: map[basebackup.Extent]basebackup.PackRef{}, packs: map[string]*frame.Object{}}
	for _, ref := range m.Packs {
		t.refs[basebackup.Extent{Backup: ref.Backup, Pack: ref.Number}] = ref
	}
	return basebackup.Recheck(ctx, c.repo, c.inc, m, func(e basebackup.FileEntry) error { return t.file(ctx, e) })
}

func (t *tables) wrong(e basebackup.FileEntry, format string, args ...any) error {
	return &basebackup.FormatError{
		Object: basebackup.ManifestKey(t.c.inc, t.manifest.ID),
		Reason: fmt.Sprintf("file %q of its tables: ", e.Path) + fmt.Sprintf(format, args...),
	}
}

// file checks one file.
func (t *tables) file(ctx context.Context, e basebackup.FileEntry) error {
	if e.Kind != basebackup.KindFile && e.Kind != basebackup.KindConfig {
		return nil
	}
	crc, padding, known, err := t.checksum(ctx, e)
	if err != nil {
		return err
	}
	want := e.CRC
	if padding > 0 {
		want = crc32c.Combine(want, crc32c.Checksum(make([]byte, padding)), padding)
	}
	if known && crc == want {
		return nil
	}
	if known {
		return t.wrong(e, "the pages that its extents name do not have its checksum %08x", e.CRC)
	}
	// Pieces that end inside pages: read them.
	r := basebackup.OpenFile(ctx, t.c.repo, t.c.inc, t.manifest, e)
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// checksum is the CRC-32C of the pages that a file's extents name, and how many zeros of the last
// page are not the file's. known is false where pages do not tell: an extent that is not the last
// ends inside one.
func (t *tables) checksum(ctx context.Context, e basebackup.FileEntry) (crc uint32, padding int64, known bool, err error) {
	for i, x := range e.Extents {
		pack, err := t.pack(ctx, e, x)
		if err != nil {
			return 0, 0, false, err
		}
		if x.Length > pack.Size() || x.Offset > pack.Size()-x.Length {
			return 0, 0, false, t.wrong(e, "extent %+v lies beyond the end of its pack", x)
		}
		for at := int64(0); at < x.Length; at += frame.PageSize {
			page := (x.Offset + at) / frame.PageSize
			sum, _ := pack.PageCRC(page) // inside the pack
			stored := min(frame.PageSize, pack.Size()-page*frame.PageSize)
			if x.Length-at < stored {
				if padding = stored - (x.Length - at); i < len(e.Extents)-1 {
					return 0, 0, false, nil
				}
			}
			if stored == frame.PageSize {
				crc = pageShift.Combine(crc, sum)
			} else {
				crc = crc32c.Combine(crc, sum, stored)
			}
		}
	}
	return crc, padding, true, nil
}

// pack opens a pack, or returns one that is open.
func (t *tables) pack(ctx context.Context, e basebackup.FileEntry, x basebackup.Extent) (*frame.Object, error) {
	ref, ok := t.refs[basebackup.Extent{Backup: x.Backup, Pack: x.Pack}]
	if !ok {
		return nil, t.wrong(e, "the manifest does not name pack %d of backup %s", x.Pack, x.Backup)
	}
	key := basebackup.PackKey(t.c.inc, ref.Backup, ref.Number)
	if pack := t.packs[key]; pack != nil {
		return pack, nil
	}
	pack, err := basebackup.OpenPack(ctx, t.c.repo, t.c.inc, ref)
	if err != nil {
		return nil, err
	}
	if len(t.order) == heldPacks {
		delete(t.packs, t.order[0])
		t.order = t.order[1:]
	}
	t.packs[key], t.order = pack, append(t.order, key)
	return pack, nil
}
