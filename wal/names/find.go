package names

import (
	"cmp"
	"slices"
)

// memory is about how many bytes a chunk takes.
func (c *chunk) memory() int64 {
	n := int64(64+40*len(c.schemas)) + 64*int64(len(c.relations))
	for _, r := range c.relations {
		n += int64(len(r.Name))
	}
	return n
}

func (c *chunk) relation(oid uint32) (*Relation, bool) {
	i, ok := slices.BinarySearchFunc(c.relations, oid, func(r Relation, oid uint32) int { return cmp.Compare(r.OID, oid) })
	if !ok {
		return nil, false
	}
	return &c.relations[i], true
}

func (c *chunk) schema(oid uint32) (string, bool) {
	i, ok := slices.BinarySearchFunc(c.schemas, oid, func(s Schema, oid uint32) int { return cmp.Compare(s.OID, oid) })
	if !ok {
		return "", false
	}
	return c.schemas[i].Name, true
}

// catalogue is what a snapshot has of one database.
type catalogue struct {
	snapshot *Snapshot
	db       *Database
	chunks   []*chunk
}

func (c *catalogue) chunk(oid uint32) (*chunk, bool) {
	i, ok := slices.BinarySearchFunc(c.chunks, oid>>chunkShift, func(k *chunk, number uint32) int { return cmp.Compare(k.number, number) })
	if !ok {
		return nil, false
	}
	return c.chunks[i], true
}

// byOID finds a relation by its pg_class.oid.
func (c *catalogue) byOID(oid uint32) (*Relation, bool) {
	k, ok := c.chunk(oid)
	if !ok {
		return nil, false
	}
	return k.relation(oid)
}

// byFile finds the relation whose file has this number in this tablespace.
func (c *catalogue) byFile(tablespace, filenode uint32) (*Relation, bool) {
	if filenode == 0 {
		return nil, false
	}
	is := func(r *Relation) bool { return r.Filenode == filenode && c.db.resolve(*r).Tablespace == tablespace }
	// Most relations have the file that they were created with.
	if r, ok := c.byOID(filenode); ok && is(r) {
		return r, true
	}
	for _, k := range c.chunks {
		i, _ := slices.BinarySearchFunc(k.moved, filenode, func(i int32, filenode uint32) int { return cmp.Compare(k.relations[i].Filenode, filenode) })
		for ; i < len(k.moved) && k.relations[k.moved[i]].Filenode == filenode; i++ {
			// Another tablespace may have a file of the same number.
			if r := &k.relations[k.moved[i]]; is(r) {
				return r, true
			}
		}
	}
	return nil, false
}

// name says what a relation was called.
func (c *catalogue) name(r *Relation) Name {
	n := Name{Schema: c.schema(r.Schema), Name: r.Name, Kind: r.Kind, OID: r.OID, Snapshot: c.snapshot.ID}
	if r.Tablespace != globalTablespace {
		n.Database = c.db.Name
	}
	// From an index of a TOAST table to the TOAST table to the table.
	of := r
	for range 2 {
		parent, ok := c.byOID(of.Of)
		if of.Of == 0 || !ok {
			break
		}
		of = parent
	}
	if of != r {
		n.TableOID, n.TableSchema, n.TableName = of.OID, c.schema(of.Schema), of.Name
	}
	return n
}

// schema is a schema's name; where it is missing, which no catalogue has, its OID
// would be no name, so it is empty.
func (c *catalogue) schema(oid uint32) string {
	if k, ok := c.chunk(oid); ok {
		name, _ := k.schema(oid)
		return name
	}
	return ""
}
