package names

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/walden-pg/walden/wal"
)

// globalTablespace is pg_global (src/include/catalog/pg_tablespace.dat): what lies
// there is shared by all databases, and the WAL says database 0.
const globalTablespace = 1664

// Bounds of how many snapshots are looked at for one number.
const (
	// before: what a snapshot lacks one before it may have, if what the number stood
	// for was dropped just before the position.
	before = 4
	// after: what a long transaction creates shows only in snapshots after its end.
	after = 16
	// maxSteps counts those too in which the database could not be read.
	maxSteps = 64
)

// maxErrors bounds how many snapshots' errors Err joins.
const maxErrors = 8

// Resolver says what numbers in the WAL of one timeline, and of its ancestors up to
// where it left them, were called. It is safe for concurrent use.
//
// A number is looked for in the latest snapshot taken at or before the position, then in
// a few before it, for what was dropped just then, then in some after it, for what was
// created since: oldest first, so that a name is the first it had. What was created and
// dropped between two snapshots is in none, and has no name.
//
// A name is the one at the time of the snapshot it was found in (Name.Snapshot): of a
// relation that is renamed between a snapshot and the position, the old one.
type Resolver struct {
	ctx    context.Context
	reader *Reader
	ids    []ID // on the way to the timeline, in ascending order of LSNs

	mu     sync.Mutex
	last   *catalogue // that was looked at: the next number is mostly near
	failed map[ID]bool
	errs   []error
}

// Resolver returns a Resolver for the WAL on the way to the timeline of h; a timeline
// without ancestors is wal.History{Timeline: 1}. Snapshots of other branches are not
// looked at: there the same number may be something else. ctx is that of all reading.
func (r *Reader) Resolver(ctx context.Context, h wal.History) *Resolver {
	v := &Resolver{ctx: ctx, reader: r, failed: map[ID]bool{}}
	for _, id := range r.ids {
		// Everything before its LSN has happened.
		if h.Contains(id.Timeline, max(id.LSN, 1)-1) {
			v.ids = append(v.ids, id)
		}
	}
	slices.SortFunc(v.ids, func(a, b ID) int { return cmp.Or(cmp.Compare(a.LSN, b.LSN), a.compare(b)) })
	return v
}

// Err says which snapshots could not be read, so that names may be missing; nil:
// none. Such snapshots are passed over.
func (v *Resolver) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(v.errs...)
}

// Relation returns what the file filenode of a database in a tablespace (the three
// numbers of a RelFileLocator) belonged to. Database 0 is for the shared catalogues.
func (v *Resolver) Relation(database, tablespace, filenode uint32, at wal.LSN) (Name, bool) {
	return v.relation(database, at, func(c *catalogue) (*Relation, bool) { return c.byFile(tablespace, filenode) })
}

// RelationByOID returns what the relation with this pg_class.oid was called.
func (v *Resolver) RelationByOID(database, oid uint32, at wal.LSN) (Name, bool) {
	return v.relation(database, at, func(c *catalogue) (*Relation, bool) {
		r, ok := c.byOID(oid)
		return r, ok && (database != 0 || r.Tablespace == globalTablespace)
	})
}

func (v *Resolver) relation(database uint32, at wal.LSN, find func(*catalogue) (*Relation, bool)) (n Name, ok bool) {
	v.search(at, func(s *Snapshot, later bool) (found, readable bool) {
		c, readable := v.catalogue(s, database, later)
		if c == nil {
			return false, readable
		}
		r, found := find(c)
		if found {
			n, ok = c.name(r), true
		}
		return found, readable
	})
	return n, ok
}

// Database returns a database's name.
func (v *Resolver) Database(oid uint32, at wal.LSN) (name string, ok bool) {
	v.search(at, func(s *Snapshot, _ bool) (found, readable bool) {
		d, found := s.Database(oid)
		if found {
			name, ok = d.Name, true
		}
		return found, true
	})
	return name, ok
}

// Tablespace returns a tablespace's name.
func (v *Resolver) Tablespace(oid uint32, at wal.LSN) (name string, ok bool) {
	v.search(at, func(s *Snapshot, _ bool) (found, readable bool) {
		i := slices.IndexFunc(s.Tablespaces, func(t Tablespace) bool { return t.OID == oid })
		if i >= 0 {
			name, ok = s.Tablespaces[i].Name, true
		}
		return i >= 0, true
	})
	return name, ok
}

// search looks into the snapshots before a position, backwards, and then into those
// after it, until look has found what it looks for. Only snapshots that are readable
// count as ones that do not have it.
func (v *Resolver) search(at wal.LSN, look func(s *Snapshot, later bool) (found, readable bool)) {
	next, _ := slices.BinarySearchFunc(v.ids, at, func(id ID, at wal.LSN) int {
		if id.LSN <= at {
			return -1
		}
		return 1
	})
	without := 0
	for i := next - 1; i >= max(0, next-maxSteps) && without < before; i-- {
		if s := v.snapshot(v.ids[i]); s != nil {
			found, readable := look(s, false)
			if found {
				return
			}
			if readable {
				without++
			}
		}
	}
	without = 0
	for i := next; i < min(len(v.ids), next+maxSteps) && without < after; i++ {
		if s := v.snapshot(v.ids[i]); s != nil {
			found, readable := look(s, true)
			if found {
				return
			}
			if readable {
				without++
			}
		}
	}
}

// catalogue reads what a snapshot has of a database; nil: nothing that helps. readable
// is false where the snapshot cannot say what the database had.
func (v *Resolver) catalogue(s *Snapshot, database uint32, later bool) (c *catalogue, readable bool) {
	db, ok := s.Database(database)
	if database == 0 {
		// Every database has the shared catalogues in its pg_class.
		i := slices.IndexFunc(s.Databases, func(d Database) bool { return d.State == Read })
		if ok = i >= 0; !ok {
			return nil, false
		}
		db = &s.Databases[i]
	}
	switch {
	case !ok:
		return nil, true
	case db.State == Unread && later:
		// What it refers to is from an earlier snapshot.
		return nil, false
	}
	v.mu.Lock()
	last := v.last
	v.mu.Unlock()
	if last != nil && last.snapshot == s && last.db == db {
		return last, db.State == Read
	}
	chunks, err := v.reader.chunksOf(v.ctx, s, db)
	if err != nil {
		v.fail(s.ID, err)
		return nil, false
	}
	c = &catalogue{snapshot: s, db: db, chunks: chunks}
	v.mu.Lock()
	v.last = c
	v.mu.Unlock()
	return c, db.State == Read
}

// snapshot reads a snapshot; nil: it cannot be read, which Err tells.
func (v *Resolver) snapshot(id ID) *Snapshot {
	v.mu.Lock()
	bad := v.failed[id]
	v.mu.Unlock()
	if bad {
		return nil
	}
	s, err := v.reader.Snapshot(v.ctx, id)
	if err != nil {
		v.fail(id, err)
		return nil
	}
	return s
}

func (v *Resolver) fail(id ID, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.failed[id] && len(v.errs) < maxErrors {
		v.errs = append(v.errs, err)
	}
	v.failed[id] = true
}
