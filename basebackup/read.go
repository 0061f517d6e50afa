package basebackup

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// maxLine bounds one line of a shard.
const maxLine = 64 << 20

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ReadFiles yields every entry of the backup, shard by shard. An error ends
// the sequence; the last pair carries it.
func ReadFiles(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *Manifest) iter.Seq2[FileEntry, error] {
	return func(yield func(FileEntry, error) bool) {
		for _, ref := range m.Shards {
			for e, err := range ReadShard(ctx, repo, inc, ref) {
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

// ReadShard yields the entries of one shard as they are read and verified: the
// object is the one that ref means, every frame is whole, every entry valid,
// and none is missing. An error ends the sequence; the last pair carries it.
func ReadShard(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, ref ShardRef) iter.Seq2[FileEntry, error] {
	return func(yield func(FileEntry, error) bool) {
		key := ShardKey(inc, ref.Backup, ref.Number)
		object, err := openExact(ctx, repo, key, frame.KindExtents, ref.Digest, ref.Size)
		if err != nil {
			yield(FileEntry{}, err)
			return
		}
		r := object.NewReader(ctx, 0, object.Size())
		defer r.Close()
		n := 0
		for e, err := range readEntries(r, ref.Backup) {
			if err != nil {
				yield(FileEntry{}, fmt.Errorf("shard %s, entry %d: %w", key, n+1, err))
				return
			}
			n++
			if !yield(e, nil) {
				return
			}
		}
		if n != ref.Entries {
			yield(FileEntry{}, &FormatError{Object: key, Reason: fmt.Sprintf("it has %d of %d entries", n, ref.Entries)})
		}
	}
}

// readEntries decodes lines of JSON. Extents without a backup are of backup.
func readEntries(r io.Reader, backup string) iter.Seq2[FileEntry, error] {
	return func(yield func(FileEntry, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxLine)
		for lines.Scan() {
			e, err := decodeEntry(lines.Bytes(), backup)
			if !yield(e, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(FileEntry{}, err)
		}
	}
}

func decodeEntry(line []byte, backup string) (FileEntry, error) {
	var e FileEntry
	if err := json.Unmarshal(line, &e); err != nil {
		return e, err
	}
	if len(e.Extents) == 0 {
		e.Extents = nil
	}
	for i := range e.Extents {
		if e.Extents[i].Backup == "" {
			e.Extents[i].Backup = backup
		}
	}
	return e, e.Validate()
}

// OpenPack opens the pack that ref means, and no other: digest and size must agree.
func OpenPack(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, ref PackRef) (*frame.Object, error) {
	return openExact(ctx, repo, PackKey(inc, ref.Backup, ref.Number), frame.KindPack, ref.Digest, ref.Size)
}

func openExact(ctx context.Context, repo *repository.Repository, key string, kind frame.Kind, digest string, size int64) (*frame.Object, error) {
	object, err := repo.Open(ctx, key, kind)
	if err != nil {
		return nil, err
	}
	f := object.Footer()
	if hex.EncodeToString(f.StoredDigest[:]) != digest || f.StoredSize() != size {
		return nil, &FormatError{Object: key, Reason: "it is not the object that the backup was published with"}
	}
	return object, nil
}

// OpenFile reads one file of a backup. The reader verifies every frame, and at
// the end the file's CRC: an error other than io.EOF means that no byte of it
// is to be trusted.
func OpenFile(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *Manifest, e FileEntry) io.ReadCloser {
	return &fileReader{ctx: ctx, repo: repo, inc: inc, manifest: m, entry: e, rest: e.Extents}
}

type fileReader struct {
	ctx      context.Context
	repo     *repository.Repository
	inc      archive.Incarnation
	manifest *Manifest
	entry    FileEntry
	rest     []Extent
	current  io.ReadCloser
	crc      uint32
	err      error
}

func (f *fileReader) Read(p []byte) (int, error) {
	for f.err == nil {
		if f.current == nil {
			f.err = f.next()
			continue
		}
		n, err := f.current.Read(p)
		f.crc = crc32.Update(f.crc, castagnoli, p[:n])
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is a broken read, not an end
			err = f.current.Close()
			f.current = nil
		}
		if err != nil {
			f.err = fmt.Errorf("%s: %w", f.entry.Path, err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, f.err
}

// next opens the next extent; after the last it judges the whole.
func (f *fileReader) next() error {
	if len(f.rest) == 0 {
		if f.crc != f.entry.CRC {
			return &FormatError{Object: f.entry.Path, Reason: fmt.Sprintf("its CRC-32C is %08x, not %08x", f.crc, f.entry.CRC)}
		}
		return io.EOF
	}
	x := f.rest[0]
	f.rest = f.rest[1:]
	ref, ok := f.manifest.Pack(x)
	if !ok {
		return &FormatError{Object: f.entry.Path, Reason: fmt.Sprintf("the manifest does not name pack %d of backup %s", x.Pack, x.Backup)}
	}
	pack, err := OpenPack(f.ctx, f.repo, f.inc, ref)
	if err != nil {
		return fmt.Errorf("%s: %w", f.entry.Path, err)
	}
	if x.Length > pack.Size() || x.Offset > pack.Size()-x.Length {
		return &FormatError{Object: f.entry.Path, Reason: fmt.Sprintf("extent %+v lies beyond the end of its pack", x)}
	}
	f.current = pack.NewReader(f.ctx, x.Offset, x.Length)
	return nil
}

// Close releases what is open.
func (f *fileReader) Close() error {
	if f.err == nil {
		f.err = errors.New("closed")
	}
	if f.current == nil {
		return nil
	}
	err := f.current.Close()
	f.current = nil
	return err
}
