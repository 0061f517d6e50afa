package names

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// DefaultMemory is how many bytes of decoded snapshots a Reader keeps, about.
const DefaultMemory = 64 << 20

const (
	// readers bounds the requests that are under way at once.
	readers = 8
	// readTogether is the distance of two chunks in an object, in raw bytes, up
	// to which they are read at once.
	readTogether = 256 << 10
	maxTogether  = 8 << 20
)

// FormatError says that an object is whole and not what it should be.
type FormatError struct {
	// Object is its key.
	Object string
	Err    error
}

// Error names the object.
func (e *FormatError) Error() string {
	return fmt.Sprintf("object %s is not a snapshot of names: %v", e.Object, e.Err)
}

// Unwrap returns what is wrong.
func (e *FormatError) Unwrap() error { return e.Err }

// Hint says what it means.
func (e *FormatError) Hint() string {
	return "the names of what was dropped around that time may not be known; nothing else depends on it"
}

// Reader reads the snapshots of an incarnation. It keeps what it has read as far
// as its memory reaches, and is safe for concurrent use.
type Reader struct {
	repo *repository.Repository
	inc  archive.Incarnation
	ids  []ID // ascending

	mu    sync.Mutex
	cache *cache
}

// Open lists the snapshots of an incarnation: one listing. memory bounds the bytes
// that are kept of what is read later, about; 0: DefaultMemory. (A single database's
// directory or chunks may exceed it for a moment.)
func Open(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, memory int64) (*Reader, error) {
	ids, err := listIDs(ctx, repo, inc, "")
	if err != nil {
		return nil, err
	}
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Reader{repo: repo, inc: inc, ids: ids, cache: newCache(memory)}, nil
}

// listIDs lists the snapshots whose names follow after.
func listIDs(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, after string) ([]ID, error) {
	prefix := Prefix(inc)
	if after != "" {
		after = prefix + after
	}
	var ids []ID
	for info, err := range repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list snapshots of names: %w", err)
		}
		if id, err := ParseID(strings.TrimPrefix(info.Key, prefix)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// List returns the snapshots that there were when the Reader was opened, oldest first.
func (r *Reader) List() []ID { return slices.Clone(r.ids) }

// opened is a snapshot and its object.
type opened struct {
	snapshot *Snapshot
	object   *frame.Object
}

// Snapshot reads a snapshot: what the shared catalogues said. One request, or two
// where there are thousands of chunks.
func (r *Reader) Snapshot(ctx context.Context, id ID) (*Snapshot, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o, err := r.open(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.snapshot, nil
}

// Relations reads the schemas and relations that a snapshot has of a database, in
// ascending order of OIDs, with their tablespaces resolved. Of a database that was
// not read it is what was known before.
func (r *Reader) Relations(ctx context.Context, s *Snapshot, database uint32) ([]Schema, []Relation, error) {
	db, ok := s.Database(database)
	if !ok {
		return nil, nil, fmt.Errorf("snapshot %s has no database %d", s.ID, database)
	}
	chunks, err := r.chunksOf(ctx, s, db)
	if err != nil {
		return nil, nil, err
	}
	var schemas []Schema
	var relations []Relation
	for _, c := range chunks {
		schemas = append(schemas, c.schemas...)
		for _, rel := range c.relations {
			relations = append(relations, db.resolve(rel))
		}
	}
	return schemas, relations, nil
}

func (r *Reader) chunksOf(ctx context.Context, s *Snapshot, db *Database) ([]*chunk, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chunks(ctx, s, db)
}

// resolve puts the database's tablespace in the place of 0, for what has a file.
func (d *Database) resolve(rel Relation) Relation {
	if rel.Tablespace == 0 && rel.Filenode != 0 {
		rel.Tablespace = d.Tablespace
	}
	return rel
}

// open returns a snapshot, read if it must be.
func (r *Reader) open(ctx context.Context, id ID) (*opened, error) {
	if v, ok := r.cache.get(id); ok {
		return v.(*opened), nil
	}
	o, size, err := openSnapshot(ctx, r.repo, r.inc, id)
	if err != nil {
		return nil, err
	}
	r.cache.put(id, o, size)
	return o, nil
}

// openSnapshot reads the directory of a snapshot. size is about what it takes in memory.
func openSnapshot(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, id ID) (o *opened, size int64, err error) {
	key := id.Key(inc)
	object, err := repo.Open(ctx, key, frame.KindNames)
	if err != nil {
		return nil, 0, fmt.Errorf("read a snapshot of names: %w", err)
	}
	b, ok := object.Section(SectionDirectory)
	if !ok {
		return nil, 0, &FormatError{Object: key, Err: fmt.Errorf("it has no section %#x", SectionDirectory)}
	}
	s, err := decodeSnapshot(b, object.Size())
	if err == nil && s.ID != id {
		err = fmt.Errorf("it is snapshot %s", s.ID)
	}
	if err != nil {
		return nil, 0, &FormatError{Object: key, Err: err}
	}
	return &opened{s, object}, int64(5*len(b)) + 64<<10, nil
}

// chunks returns the chunks of a database, read as far as they must be: those that
// lie near each other together, those of different objects at the same time.
func (r *Reader) chunks(ctx context.Context, s *Snapshot, db *Database) ([]*chunk, error) {
	out := make([]*chunk, len(db.chunks))
	missing := map[ID][]chunkRef{}
	for i, n := range db.chunks {
		ref := s.chunks[n]
		if v, ok := r.cache.get(ref.content); ok {
			out[i] = v.(*chunk)
			continue
		}
		missing[ref.holder] = append(missing[ref.holder], ref)
	}
	if len(missing) == 0 {
		return out, nil
	}
	var mu sync.Mutex
	read := map[content]*chunk{}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for id, refs := range missing {
		var o *opened
		if v, ok := r.cache.get(id); ok {
			o = v.(*opened)
		}
		g.Go(func() error {
			return r.readChunks(running, id, o, refs, func(c content, decoded *chunk) {
				mu.Lock()
				defer mu.Unlock()
				read[c] = decoded
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, n := range db.chunks {
		if c := s.chunks[n].content; out[i] == nil {
			out[i] = read[c]
			r.cache.put(c, out[i], out[i].memory())
		}
	}
	return out, nil
}

// readChunks reads chunks that lie in one object. o is that object, nil if it is
// not open.
func (r *Reader) readChunks(ctx context.Context, id ID, o *opened, refs []chunkRef, found func(content, *chunk)) error {
	if o == nil {
		var err error
		if o, _, err = openSnapshot(ctx, r.repo, r.inc, id); err != nil {
			return err
		}
	}
	key := id.Key(r.inc)
	for _, ref := range refs {
		if !slices.Contains(o.snapshot.chunks, ref) {
			return &FormatError{Object: key, Err: fmt.Errorf("a later snapshot says that it has a chunk %d at %d, and it has not", ref.number, ref.offset)}
		}
	}
	slices.SortFunc(refs, func(a, b chunkRef) int { return int(a.offset - b.offset) })
	for len(refs) > 0 {
		n, end := 1, refs[0].offset+refs[0].length
		for n < len(refs) && refs[n].offset-end <= readTogether && refs[n].offset+refs[n].length-refs[0].offset <= maxTogether {
			end = refs[n].offset + refs[n].length
			n++
		}
		if err := readRun(ctx, o.object, refs[:n], end, found); err != nil {
			return fmt.Errorf("read names from object %s: %w", key, err)
		}
		refs = refs[n:]
	}
	return nil
}

// readRun reads chunks up to end by one request.
func readRun(ctx context.Context, object *frame.Object, refs []chunkRef, end int64, found func(content, *chunk)) error {
	start := refs[0].offset
	b, err := readRange(ctx, object, start, end-start)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		c, err := decodeChunk(b[ref.offset-start:][:ref.length], ref.number)
		if err != nil {
			return &FormatError{Object: object.Name(), Err: fmt.Errorf("chunk %d at %d: %w", ref.number, ref.offset, err)}
		}
		found(ref.content, c)
	}
	return nil
}

func readRange(ctx context.Context, object *frame.Object, off, n int64) ([]byte, error) {
	r := object.NewReader(ctx, off, n)
	defer r.Close()
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
