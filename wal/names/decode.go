package names

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/walden-pg/walden/wal"
)

var (
	errUnused = errors.New("it has something that no database refers to")
	errTwice  = errors.New("a database refers to two chunks of the same OIDs")
	errTiles  = errors.New("its chunks do not fill its object")
)

// decodeSnapshot reads a directory. size is how many raw bytes its object has.
func decodeSnapshot(b []byte, size int64) (*Snapshot, error) {
	if len(b) > maxDirectory {
		return nil, fmt.Errorf("it has more than %d bytes", maxDirectory)
	}
	d := decoder{b: b}
	d.version()
	s := &Snapshot{ID: d.id()}
	s.Until = s.LSN + wal.LSN(d.max(^uint64(0)-uint64(s.LSN)))
	s.ServerVersion = int(d.max(1<<31 - 1))
	holders := d.holders(s.ID)
	s.chunks = d.chunkRefs(s.ID, holders)
	s.Tablespaces = make([]Tablespace, d.count(2))
	for i := range s.Tablespaces {
		last := s.Tablespaces[max(i-1, 0)].OID
		s.Tablespaces[i] = Tablespace{OID: uint32(d.next(uint64(last), 1<<32-1, i == 0)), Name: d.text()}
	}
	s.Databases = make([]Database, d.count(5))
	for i := range s.Databases {
		last := s.Databases[max(i-1, 0)].OID
		oid := uint32(d.next(uint64(last), 1<<32-1, i == 0))
		s.Databases[i] = d.database(oid, s.chunks)
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return s, s.check(holders, size)
}

// check holds the parts of a directory against each other and its object.
func (s *Snapshot) check(holders []ID, size int64) error {
	// Its own chunks may be of a database that then could not be read to its end.
	used := make([]bool, len(s.chunks))
	for i, c := range s.chunks {
		used[i] = c.holder == s.ID
	}
	for _, d := range s.Databases {
		for _, c := range d.chunks {
			used[c] = true
		}
	}
	if slices.Contains(used, false) || !slices.Equal(holders, s.Holders()) {
		return errUnused
	}
	var end int64
	for _, c := range s.own() {
		if c.offset != end {
			return errTiles
		}
		end += c.length
	}
	if end != size {
		return errTiles
	}
	return nil
}

func (d *decoder) holders(own ID) []ID {
	list := make([]ID, d.count(3))
	for i := range list {
		list[i] = d.id()
		if d.err == nil && (i > 0 && list[i-1].compare(list[i]) >= 0 || list[i] == own) {
			d.fail(errOrder)
		}
	}
	return list
}

func (d *decoder) chunkRefs(own ID, holders []ID) []chunkRef {
	list := make([]chunkRef, d.count(20))
	for i := range list {
		var last content
		if i > 0 {
			last = list[i-1].content
		}
		c := &list[i]
		c.number = uint32(d.next(uint64(last.number), 1<<(32-chunkShift)-1, true))
		copy(c.print[:], d.bytes(uint64(len(c.print))))
		c.holder = own
		if h := d.max(uint64(len(holders))); h > 0 {
			c.holder = holders[h-1]
		}
		c.offset, c.length = int64(d.max(1<<62)), int64(d.max(maxChunk))
		if d.err == nil && c.length == 0 {
			d.fail(errRange)
		}
		if d.err == nil && i > 0 && last.compare(c.content) >= 0 {
			d.fail(errOrder)
		}
	}
	return list
}

func (d *decoder) database(oid uint32, chunks []chunkRef) Database {
	db := Database{OID: oid, Name: d.text(), Tablespace: d.oid(), State: State(d.byte())}
	if db.State > Unread {
		d.fail(errRange)
	}
	if db.State == Unread {
		db.Reason = d.text()
	}
	db.chunks = make([]int, d.count(1))
	if len(db.chunks) > len(chunks) {
		d.fail(errRange)
	}
	for i := range db.chunks {
		if d.err != nil {
			break
		}
		last := db.chunks[max(i-1, 0)]
		db.chunks[i] = int(d.next(uint64(last), uint64(len(chunks)-1), i == 0))
		if d.err == nil && i > 0 && chunks[last].number == chunks[db.chunks[i]].number {
			d.fail(errTwice)
		}
	}
	return db
}

// decodeChunk reads a chunk, which must be the one of this number.
func decodeChunk(b []byte, number uint32) (*chunk, error) {
	d := decoder{b: b}
	d.version()
	c := &chunk{number: d.oid()}
	if d.err == nil && c.number != number {
		return nil, fmt.Errorf("it is chunk %d, not %d", c.number, number)
	}
	least := uint64(number) << chunkShift
	most := least + maxRows - 1
	c.schemas = make([]Schema, d.rows(2))
	last := least
	for i := range c.schemas {
		last = d.next(last, most, i == 0)
		c.schemas[i] = Schema{OID: uint32(last), Name: d.text()}
		if d.err != nil {
			return nil, d.err
		}
	}
	c.relations = make([]Relation, d.rows(7))
	last = least
	for i := range c.relations {
		last = d.next(last, most, i == 0)
		c.relations[i] = d.relation(uint32(last))
		if d.err != nil {
			return nil, d.err
		}
		if r := &c.relations[i]; r.Filenode != 0 && r.Filenode != r.OID {
			c.moved = append(c.moved, int32(i))
		}
	}
	slices.SortFunc(c.moved, func(a, b int32) int {
		return cmp.Compare(c.relations[a].Filenode, c.relations[b].Filenode)
	})
	return c, d.end()
}

// rows is count for the rows of a chunk.
func (d *decoder) rows(size int) int {
	n := d.count(size)
	if n > maxRows {
		d.fail(errRange)
		return 0
	}
	return n
}

func (d *decoder) relation(oid uint32) Relation {
	r := Relation{OID: oid, Kind: Kind(d.byte()), Schema: d.oid()}
	if _, ok := kindWords[r.Kind]; d.err == nil && !ok {
		d.fail(fmt.Errorf("there is no kind of relation %q", byte(r.Kind)))
	}
	if u := d.max(1 << 34); u > 0 {
		u--
		node := int64(oid) + (int64(u>>1) ^ -int64(u&1))
		if node < 1 || node > 1<<32-1 {
			d.fail(errRange)
		}
		r.Filenode = uint32(node)
	}
	r.Tablespace, r.Of, r.Name = d.oid(), d.oid(), d.text()
	return r
}
