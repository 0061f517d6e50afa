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
	imageApply15   = 0x02
	imagePacked14  = 0x02
	imagePacked15  = 0x04 | 0x08 | 0x10
	relationLength = 12
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
	Fork     uint8 // 0 main, 1 free space map, 2 visibility map, 3 init
	Relation Relation
	Number   uint32
	WillInit bool // redo initialises the page from scratch
	HasImage bool
	// ImageApplied: the image replaces the page in redo; else it is there only
	// for wal_consistency_checking.
	ImageApplied bool
	ImageLength  uint16 // as stored, possibly compressed
	DataLength   uint16
	Data         []byte // nil if there is none, or it lies beyond what was kept
}

// Decoded is the content of a record, taken apart. Its slices refer to the
// record's Data and are valid as long.
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
	*d = Decoded{Blocks: d.Blocks[:0]}
	p := parser{data: r.Data, left: int64(r.TotalLength) - HeaderSize, major: r.Major}
	for p.left > p.announced {
		last, err := p.fragment(d)
		if err != nil {
			return fmt.Errorf("decode record at %s: %w", r.LSN, err)
		}
		if last {
			break // the main data's header always is the last
		}
	}
	if p.left != p.announced {
		return fmt.Errorf("decode record at %s: %w", r.LSN, errShort)
	}
	p.slice(d)
	return nil
}

// parser goes over the fragment headers of a record.
type parser struct {
	data      []byte // from the next header on, as far as kept
	left      int64  // bytes of the record from there on
	announced int64  // bytes of data the headers so far have announced
	major     int
	relation  Relation
	related   bool // relation is set
}

// take returns the next n bytes of headers.
func (p *parser) take(n int) ([]byte, error) {
	if p.left-int64(n) < p.announced || n > len(p.data) {
		return nil, errShort
	}
	b := p.data[:n]
	p.data = p.data[n:]
	p.left -= int64(n)
	return b, nil
}

func (p *parser) fragment(d *Decoded) (last bool, err error) {
	id, err := p.take(1)
	if err != nil {
		return false, err
	}
	switch {
	case id[0] <= maxBlockID:
		return false, p.block(d, id[0])
	case id[0] == idDataShort:
		return true, p.main(d, 1)
	case id[0] == idDataLong:
		return true, p.main(d, 4)
	case id[0] == idOrigin:
		b, err := p.take(2)
		if err == nil {
			d.Origin = le.Uint16(b)
		}
		return false, err
	case id[0] == idTopLevelXID:
		b, err := p.take(4)
		if err == nil {
			d.TopLevelXID = le.Uint32(b)
		}
		return false, err
	}
	return false, fmt.Errorf("a fragment has the unknown id %d", id[0])
}

func (p *parser) main(d *Decoded, size int) error {
	b, err := p.take(size)
	if err != nil {
		return err
	}
	d.MainLength = uint32(b[0])
	if size == 4 {
		d.MainLength = le.Uint32(b)
	}
	p.announced += int64(d.MainLength)
	return nil
}

func (p *parser) block(d *Decoded, id uint8) error {
	if n := len(d.Blocks); n > 0 && d.Blocks[n-1].ID >= id {
		return fmt.Errorf("block reference %d follows %d", id, d.Blocks[n-1].ID)
	}
	b, err := p.take(3)
	if err != nil {
		return err
	}
	flags, length := b[0], le.Uint16(b[1:])
	if (flags&blockHasData != 0) != (length > 0) {
		return fmt.Errorf("block reference %d has %d bytes of data, which its flags deny", id, length)
	}
	blk := Block{ID: id, Fork: flags & forkMask, WillInit: flags&blockWillInit != 0, HasImage: flags&blockHasImage != 0}
	if blk.HasImage {
		if err := p.image(&blk); err != nil {
			return err
		}
	}
	if flags&blockSameRel == 0 {
		b, err := p.take(relationLength)
		if err != nil {
			return err
		}
		p.relation = Relation{le.Uint32(b[0:]), le.Uint32(b[4:]), le.Uint32(b[8:])}
		p.related = true
	}
	if !p.related {
		return fmt.Errorf("block reference %d refers to the relation of one before, and there is none", id)
	}
	if b, err = p.take(4); err != nil {
		return err
	}
	blk.Relation, blk.Number = p.relation, le.Uint32(b)
	blk.DataLength = length
	p.announced += int64(length) + int64(blk.ImageLength)
	d.Blocks = append(d.Blocks, blk)
	return nil
}

// image reads the header of a full-page image and holds it to the rules of
// DecodeXLogRecord. The flag bits were renumbered in 15.
func (p *parser) image(blk *Block) error {
	b, err := p.take(5)
	if err != nil {
		return err
	}
	length, holeOffset, info := le.Uint16(b[0:]), le.Uint16(b[2:]), b[4]
	packed, apply := info&imagePacked15 != 0, info&imageApply15 != 0
	if p.major < 15 {
		packed, apply = info&imagePacked14 != 0, info&imageApply14 != 0
	}
	hole := info&imageHasHole != 0
	holeLength := heapBlockSize - int(length)
	switch {
	case packed && hole:
		if b, err = p.take(2); err != nil {
			return err
		}
		holeLength = int(le.Uint16(b))
	case packed:
		holeLength = 0
	}
	bad := hole && (holeOffset == 0 || holeLength <= 0 || length == heapBlockSize) ||
		!hole && (holeOffset != 0 || holeLength != 0) ||
		packed && length == heapBlockSize
	if bad {
		return fmt.Errorf("block reference %d has an impossible image: flags %02X, %d bytes, hole of %d at %d",
			blk.ID, info, length, holeLength, holeOffset)
	}
	blk.ImageLength, blk.ImageApplied = length, apply
	return nil
}

// slice locates the announced data behind the headers.
func (p *parser) slice(d *Decoded) {
	cut := func(n int) []byte {
		part := p.data[:min(n, len(p.data))]
		p.data = p.data[len(part):]
		return part
	}
	for i := range d.Blocks {
		blk := &d.Blocks[i]
		cut(int(blk.ImageLength))
		if data := cut(int(blk.DataLength)); len(data) == int(blk.DataLength) && len(data) > 0 {
			blk.Data = data
		}
	}
	d.Main = cut(int(min(int64(d.MainLength), int64(len(p.data)))))
}
