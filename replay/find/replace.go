package find

import (
	"cmp"
	"maps"
	"slices"

	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// pair finds out which of the files that were made took the place of which that went,
// and remembers whose they are: of what happens to a table between a TRUNCATE and the
// next snapshot of names, nothing else tells the name.
//
// A relation gets another file in one step, which notes that the old one is to go and takes
// the next number for the new one; the list of files in the commit record has what was noted
// last at its beginning (RelationSetNewRelfilenumber in utils/cache/relcache.c,
// smgrGetPendingDeletes in catalog/storage.c). So the two lists pair, from their ends. A
// rewrite notes its table at the end, when the transient one is dropped, and its
// indexes before that: there only the order of tables is that of transient ones.
func (c *classifier) pair() {
	c.pairs = map[record.Relation]record.Relation{}
	if c.cut() {
		return // the ends that would pair are not there
	}
	made := slices.SortedFunc(maps.Keys(c.created), func(a, b record.Relation) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Tablespace, b.Tablespace))
	})
	made = slices.DeleteFunc(made, c.isNew)
	if len(c.transient) > 0 {
		c.pairRewrites(made)
		return
	}
	if len(made) != len(c.old) {
		return
	}
	for i, f := range made {
		old := c.old[len(c.old)-1-i]
		a, b := c.names.file(old, c.at), c.names.file(f, c.at)
		if old.Database != f.Database || a.Known && b.Known && a.OID != b.OID {
			clear(c.pairs)
			return
		}
		c.pairs[old] = f
	}
	for old, f := range c.pairs {
		if r := c.names.file(old, c.at); r.Known {
			c.names.alias(f, *r)
		}
	}
}

// isNew reports whether a file is that of a relation that is new: by a later snapshot.
func (c *classifier) isNew(f record.Relation) bool {
	r := c.names.file(f, c.at)
	return r.Known && r.OID == f.Number && !c.transient[index.RelationID{Database: f.Database, OID: f.Number}]
}

// pairRewrites gives each table that was written anew its file, and what was made after
// that and before the next one's to it as well.
func (c *classifier) pairRewrites(made []record.Relation) {
	tables, parts := c.rewritten()
	var table *Relation
	skip := 0 // transient ones to come that are TOAST of the table
	for _, f := range made {
		transient := c.transient[index.RelationID{Database: f.Database, OID: f.Number}]
		switch {
		case transient && skip > 0:
			skip--
		case transient && len(tables) == 0:
			return
		case transient:
			table = c.names.file(tables[0], c.at)
			c.pairs[tables[0]] = f
			c.names.alias(f, *table)
			skip, tables = parts[table.OID], tables[1:]
			continue
		}
		if table != nil {
			c.names.alias(f, Relation{
				Known: true, Type: "index or TOAST table", Text: "an index or TOAST table of " + table.Text,
				Schema: table.Schema, owner: table.OID, folds: true, inner: table.inner,
			})
		}
	}
}

// rewritten are the old files of the tables that were written anew, in order; none if it is
// not clear which they are. parts is how many transient TOAST relations each had: CLUSTER and
// VACUUM FULL give a TOAST table another file, ALTER TABLE makes another TOAST table.
func (c *classifier) rewritten() (tables []record.Relation, parts map[uint32]int) {
	parts = map[uint32]int{}
	toasts := 0
	for _, old := range slices.Backward(c.old) {
		switch r := c.names.file(old, c.at); {
		case r.Known && !r.folds:
			tables = append(tables, old)
		case r.Known && r.toast:
			parts[r.owner]++
			toasts++
		}
	}
	switch len(c.transient) {
	case len(tables):
		return tables, nil
	case len(tables) + toasts:
		return tables, parts
	}
	return nil, nil
}

// maxAliases bounds how many files are remembered that took another's place.
const maxAliases = 1 << 16

// alias remembers that a file is that of a relation, where no snapshot says whose it is.
func (v *resolver) alias(f record.Relation, r Relation) {
	if have := v.files[f]; have != nil && have.Known || len(v.aliases) >= maxAliases {
		return
	}
	r.Tablespace, r.DatabaseOID, r.File = f.Tablespace, f.Database, f.Number
	if v.aliases == nil {
		v.aliases = map[record.Relation]*Relation{}
	}
	v.aliases[f] = &r
	if v.files != nil {
		v.files[f] = &r
	}
}

// replacements tells TRUNCATE from rewrites.
func (c *classifier) replacements() {
	tables := map[uint32]bool{}
	for _, r := range c.replaced {
		if !r.folds {
			tables[r.OID] = true
		}
	}
	for _, r := range c.replaced {
		if r.folds && (tables[r.owner] || len(c.created) == 0) {
			continue // with its table; or not replaced at all
		}
		k, certain := c.replacement(r, len(tables))
		// What would tell may have been given up.
		certain = certain && (!c.work.partial || c.truncateRecord(r))
		verb := "truncated"
		switch {
		case !certain && c.cut():
			verb = "truncated, wrote anew or dropped,"
		case k == Rewrite:
			verb = "wrote anew"
		case !certain:
			verb = "truncated, or wrote anew,"
		}
		c.about(k, r, verb, Action{Uncertain: !certain})
	}
}

// replacement tells how a relation got another file; tables is how many did.
func (c *classifier) replacement(r *Relation, tables int) (k Kind, certain bool) {
	old := record.Relation{Tablespace: r.Tablespace, Database: r.DatabaseOID, Number: r.File}
	f, paired := c.pairs[old]
	switch {
	case c.truncateRecord(r):
		return Truncate, true
	case r.folds || r.Type == "sequence":
		return Rewrite, !c.cut() // REINDEX, ALTER SEQUENCE
	case paired && c.transient[index.RelationID{Database: f.Database, OID: f.Number}]:
		return Rewrite, true
	case paired && f.Tablespace != old.Tablespace:
		return Rewrite, true // ALTER TABLE SET TABLESPACE
	case paired || !c.tellsDrops():
		return Truncate, c.tellsDrops() || c.major < 15 && !c.cut() && !c.swapped()
	}
	for f := range c.created { // by a later snapshot
		if n := c.names.file(f, c.at); f.Database == r.DatabaseOID && n.Known && n.OID == r.OID {
			if c.transient[index.RelationID{Database: f.Database, OID: f.Number}] {
				return Rewrite, true
			}
			return Truncate, true
		}
	}
	switch {
	case len(c.transient) == 0:
		return Truncate, true
	case len(c.transient) >= tables:
		return Rewrite, true
	}
	return Truncate, false
}
