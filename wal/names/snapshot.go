package names

import (
	"bytes"
	"slices"

	"github.com/walden-pg/walden/wal"
)

// chunkShift is the number of low bits of an OID that do not matter for what
// chunk its row is in: a chunk has the rows of 4,096 OIDs.
const chunkShift = 12

// State says whether a database was read.
type State byte

// The states.
const (
	// Read: its schemas and relations are those of this snapshot.
	Read State = 0
	// Closed: it does not allow connections (template0).
	Closed State = 1
	// Unread: it could not be read this time; Reason says why. What an earlier
	// snapshot has of it is referred to.
	Unread State = 2
)

// Snapshot is what the shared catalogues said, and where the rest lies.
type Snapshot struct {
	ID
	// Until is where the server's WAL ended once everything was read: what was
	// created or dropped between LSN and Until may be in the snapshot or not.
	Until wal.LSN
	// ServerVersion is server_version_num.
	ServerVersion int
	// Tablespaces and Databases are in ascending order of their OIDs.
	Tablespaces []Tablespace
	Databases   []Database

	// chunks are all that the databases refer to, in ascending order.
	chunks []chunkRef
}

// Tablespace is a row of pg_tablespace.
type Tablespace struct {
	OID  uint32
	Name string
}

// Database is a row of pg_database.
type Database struct {
	OID  uint32
	Name string
	// Tablespace is its default tablespace.
	Tablespace uint32
	State      State
	// Reason says why it was not read; empty unless State is Unread.
	Reason string

	chunks []int // indexes of Snapshot.chunks, ascending
}

// Schema is a row of pg_namespace.
type Schema struct {
	OID  uint32
	Name string
}

// Relation is a row of pg_class, without temporary relations.
type Relation struct {
	OID  uint32
	Kind Kind
	// Schema is the OID of its schema.
	Schema uint32
	// Filenode is the number of its file (pg_relation_filenode); 0: it has none.
	Filenode uint32
	// Tablespace is where its file is. In a stored chunk 0 stands for the database's
	// default tablespace; what Relations gives has it resolved.
	Tablespace uint32
	// Of is the OID of the table of an index or a TOAST table; else 0.
	Of   uint32
	Name string
}

// fingerprint is a hash, made by the server, of everything that is stored of the
// rows of a chunk.
type fingerprint [16]byte

// content identifies what a chunk holds: in all databases of a cluster the same
// rows have the same fingerprint.
type content struct {
	number uint32 // OID >> chunkShift of all its rows
	print  fingerprint
}

func (c content) compare(other content) int {
	if c.number != other.number {
		return int(c.number) - int(other.number)
	}
	return bytes.Compare(c.print[:], other.print[:])
}

// chunkRef is a chunk and where it lies: length raw bytes from offset in the
// object of the snapshot holder.
type chunkRef struct {
	content
	holder         ID
	offset, length int64
}

// chunk is the decoded content of a chunk: rows in ascending order of OIDs.
type chunk struct {
	number    uint32
	schemas   []Schema
	relations []Relation
	// moved are the indexes of the relations whose file has another number than
	// their OID, in ascending order of those numbers.
	moved []int32
}

// Database returns the database with this OID.
func (s *Snapshot) Database(oid uint32) (*Database, bool) {
	i, ok := slices.BinarySearchFunc(s.Databases, oid, func(d Database, oid uint32) int { return int(int64(d.OID) - int64(oid)) })
	if !ok {
		return nil, false
	}
	return &s.Databases[i], true
}

// own lists the chunks that lie in the snapshot's own object, by their offsets.
func (s *Snapshot) own() []chunkRef {
	var own []chunkRef
	for _, c := range s.chunks {
		if c.holder == s.ID {
			own = append(own, c)
		}
	}
	slices.SortFunc(own, func(a, b chunkRef) int { return int(a.offset - b.offset) })
	return own
}

// Holders lists the other snapshots in whose objects chunks of this one lie, oldest
// first: while this one is kept, they are needed.
func (s *Snapshot) Holders() []ID {
	var list []ID
	for _, c := range s.chunks {
		if c.holder != s.ID {
			list = append(list, c.holder)
		}
	}
	slices.SortFunc(list, ID.compare)
	return slices.Compact(list)
}
