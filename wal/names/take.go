package names

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// reach is how much older a snapshot may be whose chunks are referred to: so what
// must be kept with a snapshot, and what is lost with one, is a day's.
const reach = 24 * time.Hour

// Taker takes snapshots of the names of one server. It remembers the last one, so that
// a look that finds nothing new costs the repository one listing. It is used by one
// goroutine.
type Taker struct {
	repo *repository.Repository
	inc  archive.Incarnation

	ids  []ID // ascending
	last *opened
}

// Result says what Take did.
type Result struct {
	// ID is the snapshot that is in force now, and Written whether it was stored just
	// now: else nothing had changed since it was.
	ID      ID
	Written bool
	// Stored is the size of the new object in bytes, and Chunks how many chunks of the
	// catalogues were transferred for it.
	Stored int64
	Chunks int
	// Databases counts those that were read, Unread tells why others were not.
	// (Those that allow no connections, such as template0, are neither.)
	Databases int
	Unread    []*UnreadError
}

// IdentityError says that the server runs another cluster.
type IdentityError struct {
	Have, Want uint64 // system identifiers
}

// Error names both.
func (e *IdentityError) Error() string {
	return fmt.Sprintf("names are not read: the server has system identifier %d, not %d", e.Have, e.Want)
}

// Hint says what to do.
func (e *IdentityError) Hint() string {
	return "does `connection` lead to the right server? if the cluster was made anew or upgraded, run: walden init"
}

// NewTaker returns a Taker for an incarnation. It reads nothing.
func NewTaker(repo *repository.Repository, inc archive.Incarnation) *Taker {
	return &Taker{repo: repo, inc: inc}
}

// Take looks at the catalogues of a running server and stores a snapshot, unless
// nothing has changed since the last one on this timeline. A database that
// cannot be read is noted in the snapshot and in the result, and is no error.
//
// The object is whole or absent, whatever happens. Memory is bounded by the number of
// chunks (24 bytes each) and by the rows of one.
func (t *Taker) Take(ctx context.Context, src Source) (Result, error) {
	l, err := src.look(ctx)
	if err != nil {
		return Result{}, err
	}
	if l.systemID != t.inc.SystemID {
		return Result{}, &IdentityError{Have: l.systemID, Want: t.inc.SystemID}
	}
	return t.keep(ctx, src, l)
}

// keep stores what was seen, unless it is stored already.
func (t *Taker) keep(ctx context.Context, src Source, l *look) (Result, error) {
	if err := t.findLast(ctx, l.ID); err != nil {
		return Result{}, err
	}
	if t.last != nil && l.unchanged(t.last.snapshot) {
		return l.result(Result{ID: t.last.snapshot.ID}), nil
	}
	s := &storing{taker: t, src: src, look: l, refs: map[content]chunkRef{}}
	if t.last != nil {
		s.reuse(t.last.snapshot)
	}
	result, err := s.store(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("store names: %w", err)
	}
	return l.result(result), nil
}

func (l *look) result(r Result) Result {
	for _, d := range l.databases {
		if d.State == Read {
			r.Databases++
		}
	}
	r.Unread = l.unread
	return r
}

// findLast finds the snapshot to compare with: the last before now.
func (t *Taker) findLast(ctx context.Context, now ID) error {
	after := ""
	if len(t.ids) > 0 {
		after = t.ids[len(t.ids)-1].String()
	}
	more, err := listIDs(ctx, t.repo, t.inc, after)
	if err != nil {
		return err
	}
	t.ids = append(t.ids, more...)
	var best *ID
	for i, id := range t.ids {
		// By its position, not by its time: clocks differ.
		if id.Timeline <= now.Timeline && id.LSN <= now.LSN && (best == nil ||
			id.Timeline > best.Timeline || id.Timeline == best.Timeline && id.LSN >= best.LSN) {
			best = &t.ids[i]
		}
	}
	if best == nil {
		t.last = nil
		return nil
	}
	if t.last != nil && t.last.snapshot.ID == *best {
		return nil
	}
	t.last, _, err = openSnapshot(ctx, t.repo, t.inc, *best)
	var damage *frame.Error
	var format *FormatError
	if errors.As(err, &damage) || errors.As(err, &format) || errors.Is(err, storage.ErrNotExist) {
		t.last = nil // everything is stored again
		return nil
	}
	return err
}

// unchanged reports whether a snapshot says what was seen.
func (l *look) unchanged(s *Snapshot) bool {
	if s.Timeline != l.Timeline || !slices.Equal(s.Tablespaces, l.tablespaces) || len(s.Databases) != len(l.databases) {
		return false
	}
	for i, old := range s.Databases {
		now := l.databases[i]
		if old.OID != now.OID || old.Name != now.Name || old.Tablespace != now.Tablespace || old.State != now.State {
			return false
		}
		if now.State == Read && !slices.EqualFunc(old.chunks, l.prints[i], func(n int, c content) bool { return s.chunks[n].content == c }) {
			return false
		}
	}
	return true
}

// storing is one run of Take that stores a snapshot.
type storing struct {
	taker *Taker
	src   Source
	look  *look
	// refs are the chunks that need not be stored again.
	refs   map[content]chunkRef
	last   *Snapshot
	object *repository.ObjectWriter
	// buffer holds what goes into the object next: so a transaction on the server does
	// not wait for the store, unless a database has more than this at once.
	buffer []byte
	chunks int
}

const bufferSize = 4 << 20 // about 100,000 relations

// reuse makes the chunks of the last snapshot known, as far as they are not too old.
func (s *storing) reuse(last *Snapshot) {
	s.last = last
	for _, ref := range last.chunks {
		if s.look.Time.Sub(ref.holder.Time) < reach {
			s.refs[ref.content] = ref
		}
	}
}

func (s *storing) store(ctx context.Context) (r Result, err error) {
	key := s.look.ID.Key(s.taker.inc)
	s.object, err = s.taker.repo.Create(ctx, key, repository.ObjectOptions{Kind: frame.KindNames, Workers: 1})
	if err != nil {
		return r, err
	}
	defer s.object.Abort()
	for i := range s.look.databases {
		if err := s.database(ctx, i); err != nil {
			return r, err
		}
	}
	if err := s.flush(); err != nil {
		return r, err
	}
	end, err := s.src.position(ctx, s.look.host)
	if err != nil {
		return r, err
	}
	if end.systemID != s.look.systemID || end.Timeline != s.look.Timeline || end.LSN < s.look.LSN {
		return r, errors.New("the server was promoted, or replaced, meanwhile")
	}
	snapshot := s.snapshot()
	snapshot.Until = end.LSN
	directory := snapshot.encode()
	// What is not read back here would not be read by anybody.
	if _, err := decodeSnapshot(directory, s.object.Offset()); err != nil {
		return r, fmt.Errorf("its directory: %w", err)
	}
	s.object.AddSection(frame.Section{Type: SectionDirectory, Data: directory})
	footer, err := s.object.Commit()
	if err != nil {
		return r, err
	}
	return Result{ID: snapshot.ID, Written: true, Stored: footer.StoredSize(), Chunks: s.chunks}, nil
}

// database stores the chunks of a database that are not stored yet.
func (s *storing) database(ctx context.Context, i int) error {
	prints := s.look.prints[i]
	known := func(c content) bool { _, ok := s.refs[c]; return ok }
	if !slices.ContainsFunc(prints, func(c content) bool { return !known(c) }) {
		return nil
	}
	err := s.src.inDatabase(ctx, s.look.host, s.look.databases[i].Name, func(ctx context.Context, conn *pgconn.PgConn) error {
		// Again, in the transaction that reads the rows.
		prints, err := fingerprints(ctx, conn)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(prints), known)
		s.look.prints[i] = prints
		return s.transfer(ctx, conn, missing)
	})
	var broken *objectError
	switch {
	case err == nil:
		return s.flush()
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &broken):
		return broken.error
	}
	s.look.failed(i, err)
	return nil
}

// objectError is an error of the object that is written, not of the server.
type objectError struct{ error }

// transfer reads the rows of chunks and stores them, one chunk at a time.
func (s *storing) transfer(ctx context.Context, conn *pgconn.PgConn, missing []content) error {
	if len(missing) == 0 {
		return nil
	}
	numbers := make([]uint32, len(missing))
	for i, c := range missing {
		numbers[i] = c.number
	}
	const int8Array = 1016 // pg_type.oid of bigint[]
	result := conn.ExecParams(ctx, chunksQuery, [][]byte{array(numbers)}, []uint32{int8Array}, nil, nil)
	defer func() { _, _ = result.Close() }() // after its end, or after another error
	current := &chunk{number: missing[0].number}
	for result.NextRow() {
		row := result.Values()
		if len(row) < 2 {
			return errForm
		}
		oid, err := parseOID(string(row[1]))
		if err != nil {
			return err
		}
		if number := oid >> chunkShift; number != current.number {
			if missing, err = s.add(current, missing); err != nil {
				return err
			}
			current = &chunk{number: number}
		}
		if err := current.parseRow(row); err != nil {
			return err
		}
	}
	if _, err := result.Close(); err != nil {
		return err
	}
	rest, err := s.add(current, missing)
	if err == nil && len(rest) > 0 {
		err = errForm
	}
	return err
}

// add stores a chunk, which must be the next of those that are missing.
func (s *storing) add(c *chunk, missing []content) ([]content, error) {
	if len(missing) == 0 || missing[0].number != c.number {
		return nil, errForm
	}
	b, err := c.encode()
	if err != nil {
		return nil, err
	}
	// What is not read back here would not be read by anybody.
	if _, err := decodeChunk(b, c.number); err != nil {
		return nil, err
	}
	ref := chunkRef{content: missing[0], holder: s.look.ID, offset: s.object.Offset() + int64(len(s.buffer)), length: int64(len(b))}
	s.buffer = append(s.buffer, b...)
	if len(s.buffer) >= bufferSize {
		if err := s.flush(); err != nil {
			return nil, &objectError{err}
		}
	}
	s.refs[ref.content] = ref
	s.chunks++
	return missing[1:], nil
}

// flush writes the buffer into the object.
func (s *storing) flush() error {
	_, err := s.object.Write(s.buffer)
	s.buffer = s.buffer[:0]
	return err
}

// snapshot puts together what was seen and stored.
func (s *storing) snapshot() *Snapshot {
	out := &Snapshot{ID: s.look.ID, ServerVersion: s.look.version, Tablespaces: s.look.tablespaces, Databases: s.look.databases}
	lists := make([][]content, len(out.Databases))
	for i, d := range out.Databases {
		lists[i] = s.look.prints[i]
		if d.State == Unread && s.last != nil {
			lists[i] = s.before(d.OID)
		}
		for _, c := range lists[i] {
			out.chunks = append(out.chunks, s.refs[c])
		}
	}
	// What was transferred of a database that then failed belongs to nobody else.
	for _, ref := range s.refs {
		if ref.holder == out.ID {
			out.chunks = append(out.chunks, ref)
		}
	}
	slices.SortFunc(out.chunks, func(a, b chunkRef) int { return a.content.compare(b.content) })
	out.chunks = slices.Compact(out.chunks)
	for i, list := range lists {
		for _, c := range list {
			n, _ := slices.BinarySearchFunc(out.chunks, c, func(r chunkRef, c content) int { return r.content.compare(c) })
			out.Databases[i].chunks = append(out.Databases[i].chunks, n)
		}
	}
	return out
}

// before lists the chunks that the last snapshot has of a database, as far as they
// can still be referred to.
func (s *storing) before(oid uint32) []content {
	d, ok := s.last.Database(oid)
	if !ok {
		return nil
	}
	var list []content
	for _, n := range d.chunks {
		if c := s.last.chunks[n].content; s.refs[c].length > 0 {
			list = append(list, c)
		}
	}
	return list
}
