package find

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// classifier turns what the WAL says of one commit into actions.
//
// The WAL has no commands. It has the files that went, the relations that went (by
// OID, since 15), the files that were made, and rows. A relation whose OID went was
// dropped. One whose file went alone has got another: by TRUNCATE, or because it was
// written anew. Writing anew goes through a transient relation that is made, swapped and
// dropped again: its OID went, and the file of that number, which was made in
// the same transaction, stays. TRUNCATE makes a file and nothing else.
type classifier struct {
	names  *resolver
	wanted map[Kind]bool
	rows   uint64
	major  int

	at      wal.LSN
	work    *work
	detail  *index.Detail
	actions []Action

	created   map[record.Relation]bool   // files made that stay
	dropped   map[index.RelationID]*drop // relations that went
	transient map[index.RelationID]bool
	replaced  []*Relation                         // whose file went, and they did not
	nameless  []record.Relation                   // files that went, of relations in no snapshot
	old       []record.Relation                   // the files of both, in the order of the record
	pairs     map[record.Relation]record.Relation // which file took the place of which
	unnamed   int                                 // relations that went, of which neither name nor file is known
	gone      map[uint32]struct{}                 // tables that were dropped, by OID
}

// drop is a relation that went, and its files.
type drop struct {
	relation *Relation
	files    int
	guessed  bool // its file went, and whether it did is not known
}

// classify tells what a transaction did that committed with the record at at.
func (c *classifier) classify(at wal.LSN, w *work, d *index.Detail) []Action {
	if d == nil {
		d = &index.Detail{}
	}
	c.at, c.work, c.detail, c.actions = at, w, d, nil
	c.storage()
	if len(d.Files)+len(d.Relations) > 0 {
		c.sortFiles()
		c.drops()
		c.replacements()
	} else {
		c.created, c.transient, c.replaced, c.nameless, c.pairs = c.made(nil), nil, nil, nil, nil
	}
	c.leftOut()
	if w.partial {
		c.more("may have dropped, replaced or changed more: what it did at first was given up to bound memory",
			Drop, Truncate, Rewrite, Delete, Update, Insert)
	}
	c.creations()
	c.changes()
	slices.SortStableFunc(c.actions, func(a, b Action) int { return cmp.Compare(a.Kind.weight(), b.Kind.weight()) })
	return c.actions
}

func (c *classifier) add(a Action) { c.actions = append(c.actions, a) }

// about adds an action on a relation, unless it is one of the system's.
func (c *classifier) about(k Kind, r *Relation, verb string, a Action) {
	if r.inner || !c.wanted[k] {
		return
	}
	if doubt, renamed := c.names.renames.doubt(r, c.at); doubt && (renamed || k != Create) {
		doubtful := *r
		doubtful.NameDoubt, a.Uncertain = true, a.Uncertain || renamed
		r = &doubtful
	}
	a.Kind, a.Relation = k, r
	if a.Text = verb + " " + describe(r); a.Rows > 0 {
		a.Text = verb + " " + r.Text
	}
	c.add(a)
}

// describe is a relation as the object of a sentence.
func describe(r *Relation) string {
	if r.Type == "" || r.folds && r.Type != "index" {
		return r.Text
	}
	return r.Type + " " + r.Text
}

// storage tells of databases and tablespaces.
func (c *classifier) storage() {
	for _, l := range c.work.storage {
		switch {
		case l.Kind == index.DatabaseDrop:
			c.database(DropDatabase, l, "dropped database %s")
		case l.Kind == index.DatabaseCreate && l.Template == l.Database:
			to := c.names.tablespaceText(first(l.OIDs), l.LSN)
			c.database(MoveDatabase, l, "moved database %s to tablespace "+strings.ReplaceAll(to, "%", "%%"))
		case l.Kind == index.DatabaseCreate:
			c.database(CreateDatabase, l, "created database %s")
		case l.Kind == index.TablespaceDrop && c.wanted[DropTablespace]:
			c.add(Action{Kind: DropTablespace, Text: "dropped tablespace " + c.names.tablespaceText(first(l.OIDs), l.LSN)})
		}
	}
}

func (c *classifier) database(k Kind, l index.Landmark, format string) {
	if c.wanted[k] {
		c.add(Action{
			Kind: k, DatabaseOID: l.Database, Database: c.names.database(l.Database, l.LSN),
			Text: fmt.Sprintf(format, c.names.databaseText(l.Database, l.LSN)),
		})
	}
}

func first(list []uint32) uint32 {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

// made are the files that were made and stay, without those of a database that was
// made as a whole.
func (c *classifier) made(went []record.Relation) map[record.Relation]bool {
	var databases []uint32
	for _, l := range c.work.storage {
		if l.Kind == index.DatabaseCreate {
			databases = append(databases, l.Database)
		}
	}
	set := map[record.Relation]bool{}
	for rel, e := range c.work.effects {
		if e.Created && !slices.Contains(databases, rel.Database) {
			set[rel] = true
		}
	}
	for _, f := range went {
		delete(set, f)
	}
	return set
}

// sortFiles finds out of each file that went whether its relation went with it.
func (c *classifier) sortFiles() {
	d := c.detail
	c.created = c.made(d.Files)
	c.dropped, c.transient = map[index.RelationID]*drop{}, map[index.RelationID]bool{}
	c.replaced, c.nameless, c.old, c.unnamed = nil, nil, nil, 0
	numbers := map[index.RelationID]bool{}
	for rel := range c.created {
		numbers[index.RelationID{Database: rel.Database, OID: rel.Number}] = true
	}
	for _, id := range d.Relations {
		if numbers[id] {
			c.transient[id] = true
			continue
		}
		c.dropped[id] = &drop{}
	}
	for _, f := range d.Files {
		c.sortFile(f)
	}
	c.nameDropped()
	c.pair()
}

func (c *classifier) sortFile(f record.Relation) {
	id := index.RelationID{Database: f.Database, OID: f.Number}
	if e := c.work.effects[f]; e != nil && e.Created {
		delete(c.dropped, id) // made and dropped by the same transaction
		return
	}
	r := c.names.file(f, c.at)
	if r.Known {
		id.OID = r.OID
	}
	d := c.dropped[id]
	switch {
	case d != nil:
		d.files++
		d.relation = r
	case r.Known && (c.tellsDrops() || c.remade(r)):
		c.replaced, c.old = append(c.replaced, r), append(c.old, f)
	case r.Known:
		c.dropped[id] = &drop{relation: r, files: 1, guessed: c.major >= 15 || c.work.partial}
	default:
		c.nameless, c.old = append(c.nameless, f), append(c.old, f)
	}
}

// tellsDrops reports whether the record names all relations that went.
func (c *classifier) tellsDrops() bool { return c.major >= 15 && !c.cut() }

// cut reports whether the lists of the record lack their end.
func (c *classifier) cut() bool {
	return c.detail.Truncated || c.detail.FilesLeftOut+c.detail.RelationsLeftOut > 0
}

// remade reports, for 14, whether a file was made that took the place of a
// relation's: by a later snapshot, or because what was made can be nothing else.
func (c *classifier) remade(r *Relation) bool {
	for rel := range c.created {
		if n := c.names.file(rel, c.at); rel.Database == r.DatabaseOID && (!n.Known || n.OID == r.OID) {
			return true
		}
	}
	return false
}

// nameDropped finds the names of relations that went of which no file's number was
// known: views and partitioned tables have none, and a file can be younger than the last
// snapshot.
func (c *classifier) nameDropped() {
	for id, d := range c.dropped {
		if d.relation != nil && d.relation.Known {
			continue
		}
		r := c.names.oid(id.Database, id.OID, c.at)
		switch {
		case r.Known:
			if d.relation != nil {
				r.Tablespace, r.File = d.relation.Tablespace, d.relation.File
			}
			d.relation = r
		case d.relation == nil:
			// Without a name and a file: what a session's temporary tables leave, a
			// view that was short-lived.
			c.unnamed++
			delete(c.dropped, id)
		default:
			d.relation.OID = id.OID
		}
	}
}

// drops tells of relations that went, indexes and TOAST tables with their tables.
func (c *classifier) drops() {
	c.gone = map[uint32]struct{}{}
	for id, d := range c.dropped {
		if !d.relation.folds {
			c.gone[id.OID] = struct{}{}
		}
	}
	owned := map[uint32]int{}
	for _, id := range sortedIDs(c.dropped) {
		if d := c.dropped[id]; c.foldsInto(d.relation) {
			owned[d.relation.owner] += d.files
			delete(c.dropped, id)
		}
	}
	for _, id := range sortedIDs(c.dropped) {
		d := c.dropped[id]
		if d.relation.toast {
			continue // its table was written anew, and has got another
		}
		verb := "dropped"
		if d.guessed {
			verb = "dropped, truncated or wrote anew,"
		}
		c.about(Drop, d.relation, verb, Action{Files: d.files + owned[id.OID], Uncertain: d.guessed})
	}
	for _, f := range c.nameless {
		if len(c.created) > 0 && c.unnamed == 0 && c.tellsDrops() {
			c.about(Truncate, c.names.file(f, c.at), "truncated, or wrote anew,", Action{Uncertain: true})
			continue
		}
		c.about(Drop, c.names.file(f, c.at), "dropped", Action{Files: 1, Uncertain: true})
	}
}

// sortedIDs are in order of OIDs, but what has no rows of its own comes last.
func sortedIDs(set map[index.RelationID]*drop) []index.RelationID {
	last := func(id index.RelationID) int {
		if t := set[id].relation.Type; t == "sequence" || t == "index" || t == "view" {
			return 1
		}
		return 0
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b index.RelationID) int {
		return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.Database, b.Database), cmp.Compare(a.OID, b.OID))
	})
}

// foldsInto reports whether a relation's table went with it.
func (c *classifier) foldsInto(r *Relation) bool {
	_, gone := c.gone[r.owner]
	return r.folds && r.owner != 0 && gone
}

// truncateRecord reports whether the heap's own record says that the relation was
// truncated, which it does where wal_level is logical.
func (c *classifier) truncateRecord(r *Relation) bool {
	return slices.ContainsFunc(c.work.storage, func(l index.Landmark) bool {
		return l.Kind == index.HeapTruncate && l.Database == r.DatabaseOID && slices.Contains(l.OIDs, r.OID)
	})
}

// swapped reports, for 14, whether pg_class got and lost a row, as for a
// transient relation; TRUNCATE only updates it.
func (c *classifier) swapped() bool {
	for rel, e := range c.work.effects {
		if rel.Number == pgClass && e.Inserted > 0 && e.Deleted > 0 {
			return true
		}
	}
	return false
}

// leftOut tells that lists were too long for the index.
func (c *classifier) leftOut() {
	n := max(c.detail.RelationsLeftOut, c.detail.FilesLeftOut)
	if n > 0 {
		c.more(fmt.Sprintf("dropped or replaced %d more relations, which the index leaves out", n), Drop, Truncate, Rewrite)
	}
	if c.detail.Truncated {
		c.more("may have dropped, replaced or changed more: of its record, which is very long, only the beginning is known",
			Drop, Truncate, Rewrite, Delete, Update, Insert)
	}
}

// more adds an action of which it is not known what it was done to, of the first of the
// kinds that is wanted.
func (c *classifier) more(text string, of ...Kind) {
	if i := slices.IndexFunc(of, func(k Kind) bool { return c.wanted[k] }); i >= 0 {
		c.add(Action{Kind: of[i], Uncertain: true, Text: text, unnamed: true})
	}
}

// creations tells of relations that are new. A new one's file has the number of its
// OID; a file that took another's place has not.
func (c *classifier) creations() {
	if !c.wanted[Create] {
		return
	}
	list := slices.SortedFunc(maps.Keys(c.created), func(a, b record.Relation) int {
		return index.Effect{Relation: a}.Compare(index.Effect{Relation: b})
	})
	for _, rel := range list {
		r := c.names.file(rel, c.at)
		id := index.RelationID{Database: rel.Database, OID: rel.Number}
		switch {
		case c.transient[id], r.folds, r.Known && r.OID != rel.Number: // or in the place of another
		case !r.Known && len(c.replaced)+len(c.nameless) > 0:
		case !r.Known && c.cut(): // it may have taken the place of one that the record does not tell
			c.about(Create, r, "created, or wrote anew,", Action{Uncertain: true})
		default:
			c.about(Create, r, "created", Action{})
		}
	}
}

// changes tells of rows. TOAST tables and catalogues are the server's matter.
func (c *classifier) changes() {
	for _, rel := range slices.SortedFunc(maps.Keys(c.work.effects), func(a, b record.Relation) int {
		return index.Effect{Relation: a}.Compare(index.Effect{Relation: b})
	}) {
		e := c.work.effects[rel]
		for _, x := range []struct {
			kind Kind
			rows uint64
			verb string
		}{{Delete, e.Deleted, "deleted %s from"}, {Update, e.Updated, "updated %s of"}, {Insert, e.Inserted, "inserted %s into"}} {
			if x.rows < c.rows || x.rows == 0 || !c.wanted[x.kind] {
				continue
			}
			if r := c.target(rel); r != nil {
				c.about(x.kind, r, fmt.Sprintf(x.verb, rowsText(x.rows)), Action{Rows: x.rows})
			}
		}
	}
}

func rowsText(n uint64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// target is the table that rows of a file are of; nil: a TOAST table's.
func (c *classifier) target(rel record.Relation) *Relation {
	if id := (index.RelationID{Database: rel.Database, OID: rel.Number}); c.transient[id] {
		return nil // the content of a table that is written anew
	}
	r := c.names.file(rel, c.at)
	if r.folds {
		return nil
	}
	return r
}
