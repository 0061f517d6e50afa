package databases

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/walden-pg/walden/internal/crc32c"
)

// OIDs of the shared catalogues that are read, and of what is in them
// (pg_database.dat, pg_authid.dat): fixed since PostgreSQL has them.
const (
	databaseRelation = 1262
	authIDRelation   = 1260
	template1        = 1
	bootstrapUser    = 10
)

// mapMagic begins pg_filenode.map (RELMAPPER_FILEMAGIC in relmapper.c).
const mapMagic = 0x592717

// parseMap reads pg_filenode.map: which file number each mapped catalogue has.
// It is 512 bytes up to PostgreSQL 15, 524 since; the checksum follows the room
// for 62 and 64 entries.
func parseMap(b []byte) (map[uint32]uint32, error) {
	var crcAt int
	switch len(b) {
	case 512:
		crcAt = 8 + 62*8
	case 524:
		crcAt = 8 + 64*8
	default:
		return nil, fmt.Errorf("it has %d bytes, not 512 or 524", len(b))
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if magic := binary.LittleEndian.Uint32(b); magic != mapMagic || n > (crcAt-8)/8 {
		return nil, fmt.Errorf("it begins with %08x and %d entries", magic, n)
	}
	if have, want := crc32c.Checksum(b[:crcAt]), binary.LittleEndian.Uint32(b[crcAt:]); have != want {
		return nil, fmt.Errorf("its checksum is %08x, its contents have %08x", want, have)
	}
	m := make(map[uint32]uint32, n)
	for i := range n {
		m[binary.LittleEndian.Uint32(b[8+8*i:])] = binary.LittleEndian.Uint32(b[12+8*i:])
	}
	return m, nil
}

const pageSize = 8192

// row is one version of a row of pg_database or pg_authid: both begin with an
// oid and a name.
type row struct {
	oid  uint32
	name string
	// live: no transaction has changed or deleted this version, as far as the
	// row itself says.
	live bool
	rest []byte // what follows the name
}

// rows yields the versions of rows on the pages of a heap file. What is not a row is
// passed over: a page that was being written while it was copied is made whole by the
// WAL, and not known here.
func rows(file []byte) []row {
	var list []row
	for tuple := range tuples(file) {
		if r, ok := readRow(tuple); ok {
			list = append(list, r)
		}
	}
	return list
}

// tuples yields the versions of rows on the pages of a heap file, each with its header.
func tuples(file []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for ; len(file) >= pageSize; file = file[pageSize:] {
			page := file[:pageSize]
			lower, upper := binary.LittleEndian.Uint16(page[12:]), binary.LittleEndian.Uint16(page[14:])
			if upper == 0 || lower < 24 || lower > upper || upper > pageSize {
				continue
			}
			for at := 24; at+4 <= int(lower); at += 4 {
				pointer := binary.LittleEndian.Uint32(page[at:])
				offset, state, length := int(pointer&0x7fff), pointer>>15&3, int(pointer>>17)
				if state != lpNormal || length <= tupleHeader || offset+length > len(page) {
					continue
				}
				if !yield(page[offset : offset+length]) {
					return
				}
			}
		}
	}
}

// pair are the first two columns of a row, both OIDs, as pg_inherits and pg_index have
// them: what is said of, and of which table.
type pair struct{ of, table uint32 }

func readPair(tuple []byte) (pair, bool) {
	begin := int(tuple[22])
	if begin < tupleHeader || begin+8 > len(tuple) {
		return pair{}, false
	}
	return pair{binary.LittleEndian.Uint32(tuple[begin:]), binary.LittleEndian.Uint32(tuple[begin+4:])}, true
}

const (
	nameLength = 64 // NAMEDATALEN
	// lpNormal is the state of a line pointer that has a row (itemid.h).
	lpNormal = 1
	// xmaxInvalid says that nobody has deleted the row (HEAP_XMAX_INVALID in htup_details.h).
	xmaxInvalid = 0x0800
	// tupleHeader is the least that a row's header takes.
	tupleHeader = 23
)

func readRow(tuple []byte) (row, bool) {
	begin := int(tuple[22])
	if begin < tupleHeader || begin+4+nameLength > len(tuple) {
		return row{}, false
	}
	user := tuple[begin:]
	name, _, ended := bytes.Cut(user[4:4+nameLength], []byte{0})
	if !ended || len(name) == 0 {
		return row{}, false
	}
	deleted := binary.LittleEndian.Uint32(tuple[4:]) != 0 && binary.LittleEndian.Uint16(tuple[20:])&xmaxInvalid == 0
	return row{
		oid: binary.LittleEndian.Uint32(user), name: string(name), live: !deleted, rest: user[4+nameLength:],
	}, true
}

// isTemplate reads datistemplate of a row of pg_database: behind the name come
// datdba and encoding, and then, before PostgreSQL 15, datcollate and datctype as
// names, since 15 datlocprovider (pg_database.h).
func (r row) isTemplate(major int) bool {
	at := 8 + 1
	if major < 15 {
		at = 8 + 2*nameLength
	}
	return at < len(r.rest) && r.rest[at] != 0
}
