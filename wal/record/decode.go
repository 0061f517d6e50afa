package record

import (
	"errors"
	"fmt"
)

// Ids of the fragments of a record that are not block references
// (access/xlogrecord.h).
const (
	maxBlockID     = 32
	idTopLevelXID  = 252
	idOrigin       = 253
	idDataLong     = 254
	idDataShort    = 255
	heapBlockSize  = 8192
	forkMask       = 0x0F
	blockHasImage  = 0x10
	blockHasData   = 0x20
	blockWillInit  = 0x40
	blockSameRel   = 0x80
	imageHasHole   = 0x01
	imageApply14   = 0x04
	imagePGLZ14    = 0x02
	imageApply15   = 0x02
	imagePGLZ15    = 0x04
	imageLZ415     = 0x08
	imageZstd15    = 0x10
	relationLength = 12
)

// Compression is how a full-page image is compressed (wal_compression).
type Compression uint8

// The methods there are. 14 has PGLZ alone.
const (
	Uncompressed Compression = iota
	PGLZ
	LZ4  // a block without a frame
	Zstd // a frame
)

// String is the method's name as in wal_compression.
func (c Compression) String() string {
	switch c {
	case Uncompressed:
		return "off"
	case PGLZ:
		return "pglz"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// The forks of a relation (common/relpath.h).
const (
	ForkMain uint8 = iota
	ForkFSM        // the free space map
	ForkVM         // the visibility map
	ForkInit       // what an unlogged relation is reset to
)

// Relation names the files of a relation: tablespace, database and file
// number, as in pg_class.relfilenode.
type Relation struct {
	Tablespace, Database, Number uint32
}

// String is the form of PostgreSQL's messages: tablespace/database/number.
func (r Relation) String() string {
	return fmt.Sprintf("%d/%d/%d", r.Tablespace, r.Database, r.Number)
}

// Block is a reference of a record to a page of a relation.
type Block struct {
	ID       uint8
	Fork     uint8 // ForkMain, ForkFSM, ForkVM or ForkInit
	Relation Relation
	Number   uint32
	WillInit bool // redo initialises the page from scratch
	HasImage bool
	// ImageApplied: the image replaces the page in redo; else it is there only
	// for wal_consistency_checking.
	ImageApplied bool
	ImageLength  uint16 // as stored, possibly compressed
	// HoleOffset and HoleLength are the part of the page that was left out of
	// the image, because it is all zeros; length 0: none was.
	HoleOffset, HoleLength uint16
	Compression            Compression
	DataLength             uint16
	Data                   []byte // nil if there is none, or it lies beyond what was kept
}

// Decoded is the content of a record, taken apart. Its slices are valid as long
// as the record.
type Decoded struct {
	Blocks      []Block
	Origin      uint16 // replication origin; 0: none
	TopLevelXID uint32 // of the subtransaction's parent, where wal_level is logical; 0: not said
	Main        []byte // the main data, as far as it was kept
	MainLength  uint32 // its whole length
}

var errShort = errors.New("the record's data is shorter than its headers say")

// Decode takes the record apart as DecodeXLogRecord does. Images are checked
// to be within bounds and skipped. d is reused.
func (r *Record) Decode(d *Decoded) error {
	p := parser{data: r.Data, total: int64(r.TotalLength) - HeaderSize, major: r.Major}
	if r.pages != nil {
		// Nearly always the first page has all headers. Then what was put on
		// later ones stays there.
		p.data = r.pages.list[0]
		if p.headers(d) == nil {
			r.pages.locate(d, p.off)
			return nil
		}
		p.data, p.off, p.announced = r.Bytes(), 0, 0
	}
	if err := p.headers(d); err != nil {
		return fmt.Errorf("decode record at %s: %w", r.LSN, err)
	}
	d.locate(p.data, p.off)
	return nil
}

// locate finds the announced data, which begins at the offset at.
func (d *Decoded) locate(data []byte, at int) {
	for i := range d.Blocks {
		blk := &d.Blocks[i]
		at += int(blk.ImageLength)
		if n := int(blk.DataLength); n > 0 {
			if at+n <= len(data) {
				blk.Data = data[at : at+n]
			}
			at += n
		}
	}
	if d.MainLength > 0 && at < len(data) {
		d.Main = data[at:int(min(int64(at)+int64(d.MainLength), int64(len(data))))]
	}
}

// parser goes over the fragment headers of a record.
type parser struct {
	data      []byte // what follows the record's header, from its start on, as far as kept
	off       int    // of the next fragment header
	total     int64  // bytes that follow the record's header
	announced int64  // bytes of data the fragment headers so far have announced
	major     int
}

// headers reads the fragment headers into d, and leaves off at the data they
// announce. Headers and data together must be as long as the record; since both only
// grow, that is judged at the end.
func (p *parser) headers(d *Decoded) error {
	d.Blocks, d.Origin, d.TopLevelXID, d.Main, d.MainLength = d.Blocks[:0], 0, 0, nil, 0
	for int64(p.off)+p.announced < p.total {
		if p.off >= len(p.data) {
			return errShort
		}
		id := p.data[p.off]
		if id > maxBlockID {
			last, err := p.other(d, id)
			if err != nil {
				return err
			}
			if last {
				break // the main data's header always is the last
			}
		} else if err := p.block(d, id); err != nil {
			return err
		}
	}
	if int64(p.off)+p.announced != p.total {
		return errShort
	}
	return nil
}

// other reads a fragment header that is not a block reference.
func (p *parser) other(d *Decoded, id uint8) (last bool, err error) {
	b := p.data[p.off+1:]
	size := 0
	switch id {
	case idDataShort:
		size = 1
	case idOrigin:
		size = 2
	case idDataLong, idTopLevelXID:
		size = 4
	default:
		return false, fmt.Errorf("a fragment has the unknown id %d", id)
	}
	if len(b) < size {
		return false, errShort
	}
	p.off += 1 + size
	switch id {
	case idOrigin:
		d.Origin = le.Uint16(b)
		return false, nil
	case idTopLevelXID:
		d.TopLevelXID = le.Uint32(b)
		return false, nil
	case idDataShort:
		d.MainLength = uint32(b[0])
	case idDataLong:
		d.MainLength = le.Uint32(b)
	}
	p.announced += int64(d.MainLength)
	return true, nil
}

// Lengths of the parts of a block reference.
const (
	blockFixed    = 4 // id, flags, length of the data
	blockRelation = 12
	blockNumber   = 4
	imageFixed    = 5
	imageHole     = 2 // only if there is a hole and compression
)

func (p *parser) block(d *Decoded, id uint8) error {
	n := len(d.Blocks)
	if n > 0 && d.Blocks[n-1].ID >= id {
		return fmt.Errorf("block reference %d follows %d", id, d.Blocks[n-1].ID)
	}
	b := p.data[p.off:]
	if len(b) < blockFixed {
		return errShort
	}
	flags, length := b[1], le.Uint16(b[2:])
	if (flags&blockHasData != 0) != (length > 0) {
		return fmt.Errorf("block reference %d has %d bytes of data, which its flags deny", id, length)
	}
	if n < cap(d.Blocks) {
		d.Blocks = d.Blocks[:n+1]
	} else {
		d.Blocks = append(d.Blocks, Block{})
	}
	blk := &d.Blocks[n]
	*blk = Block{ID: id, Fork: flags & forkMask, WillInit: flags&blockWillInit != 0, DataLength: length}
	at := blockFixed
	if flags&blockHasImage != 0 {
		size, err := p.image(blk, b[at:])
		if err != nil {
			return err
		}
		at += size
	}
	// Field by field: a copy of what was just written in smaller pieces is slow.
	switch {
	case flags&blockSameRel == 0:
		if len(b) < at+blockRelation {
			return errShort
		}
		blk.Relation.Tablespace, blk.Relation.Database = le.Uint32(b[at:]), le.Uint32(b[at+4:])
		blk.Relation.Number = le.Uint32(b[at+8:])
		at += blockRelation
	case n == 0:
		return fmt.Errorf("block reference %d refers to the relation of one before, and there is none", id)
	default:
		blk.Relation = d.Blocks[n-1].Relation
	}
	if len(b) < at+blockNumber {
		return errShort
	}
	blk.Number = le.Uint32(b[at:])
	p.off += at + blockNumber
	p.announced += int64(length) + int64(blk.ImageLength)
	return nil
}

// image reads the header of a full-page image, which b begins with, and holds it
// to the rules of DecodeXLogRecord. It returns its size.
func (p *parser) image(blk *Block, b []byte) (size int, err error) {
	if len(b) < imageFixed {
		return 0, errShort
	}
	blk.HasImage = true
	blk.ImageLength, blk.HoleOffset = le.Uint16(b[0:]), le.Uint16(b[2:])
	info := b[4]
	blk.Compression, blk.ImageApplied = imageFlags(p.major, info)
	packed, hole := blk.Compression != Uncompressed, info&imageHasHole != 0
	holeLength := heapBlockSize - int(blk.ImageLength)
	size = imageFixed
	switch {
	case packed && hole:
		if len(b) < imageFixed+imageHole {
			return 0, errShort
		}
		holeLength = int(le.Uint16(b[imageFixed:]))
		size += imageHole
	case packed:
		holeLength = 0
	}
	full := blk.ImageLength == heapBlockSize
	bad := hole && (blk.HoleOffset == 0 || holeLength <= 0 || full) ||
		!hole && (blk.HoleOffset != 0 || holeLength != 0) ||
		packed && full
	if bad {
		return 0, fmt.Errorf("block reference %d has an impossible image: flags %02X, %d bytes, hole of %d at %d",
			blk.ID, info, blk.ImageLength, holeLength, blk.HoleOffset)
	}
	blk.HoleLength = uint16(holeLength)
	return size, nil
}

// imageFlags reads bimg_info, whose bits 15 renumbered. Where more than one
// compression is set, which PostgreSQL never does, the first counts as it does there.
func imageFlags(major int, info uint8) (c Compression, applied bool) {
	if major < 15 {
		if info&imagePGLZ14 != 0 {
			c = PGLZ
		}
		return c, info&imageApply14 != 0
	}
	switch {
	case info&imagePGLZ15 != 0:
		c = PGLZ
	case info&imageLZ415 != 0:
		c = LZ4
	case info&imageZstd15 != 0:
		c = Zstd
	}
	return c, info&imageApply15 != 0
}
