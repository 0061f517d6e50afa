package index

import (
	"cmp"
	"maps"
	"slices"

	"github.com/walden-pg/walden/wal/record"
)

// Effect is what one transaction did to one relation in a segment, as far as
// the segment's complete records tell; what was undone by an abort in the
// same segment is left out.
type Effect struct {
	// XID is the transaction. If it committed in the segment, it is the top-level
	// one; else it is the one the records name, which may be a subtransaction.
	XID      uint32
	Relation record.Relation // by its files: Number is not the OID
	// Rows of a table inserted, updated and deleted.
	Inserted, Updated, Deleted uint64
	// Images counts pages written as a whole by XLOG_FPI: the building of an
	// index, or a table written anew by CLUSTER, VACUUM FULL and the like.
	Images uint64
	// Created: the file of the main fork was made in this transaction, for a new
	// relation or to replace the one it had (TRUNCATE, rewrites).
	Created bool
	// Truncated: the main fork was cut, to Blocks blocks of 8 KiB. VACUUM does that to
	// empty blocks at the end, TRUNCATE to a table of the same transaction.
	Truncated bool
	Blocks    uint32
}

// Rows is how many rows were changed.
func (e Effect) Rows() uint64 { return e.Inserted + e.Updated + e.Deleted }

// Compare orders effects by transaction, as plain numbers, and relation.
func (e Effect) Compare(o Effect) int {
	return cmp.Or(cmp.Compare(e.XID, o.XID), cmp.Compare(e.Relation.Tablespace, o.Relation.Tablespace),
		cmp.Compare(e.Relation.Database, o.Relation.Database), cmp.Compare(e.Relation.Number, o.Relation.Number))
}

// add takes in more of the same transaction and relation.
func (e *Effect) add(o Effect) {
	e.Inserted += o.Inserted
	e.Updated += o.Updated
	e.Deleted += o.Deleted
	e.Images += o.Images
	e.Created = e.Created || o.Created
	if o.Truncated {
		e.Truncated, e.Blocks = true, o.Blocks
	}
}

// MaxEffects bounds Index.Effects.
const MaxEffects = 2048

// Omitted says what Index.Effects lacks for MaxEffects.
type Omitted struct {
	Effects uint64 // how many were left out
	Rows    uint64 // the sum of their rows
	Largest uint64 // the most rows one of them has
	Locks   uint64 // how many of Index.Locks were left out
}

// weight tells which effects are kept. Files made and cut come first, then what
// was done to pg_class, which tells TRUNCATE from a rewrite.
func (e *Effect) weight() uint64 {
	w := e.Rows() + e.Images
	if e.Created || e.Truncated {
		w += 1 << 60
	}
	if e.Relation.Number == relationCatalog {
		w += 1 << 59
	}
	return w
}

// relationCatalog is the file number of pg_class in a database in which it was
// never rewritten.
const relationCatalog = 1259

// effects gathers Effects record by record. The zero value is ready.
type effects struct {
	// Transactions that have not ended: each in its slot, or if another has come
	// into that one later, in spilled. On a busy server there are many short ones,
	// of consecutive ids, and a map alone takes as long as all else.
	slots   []openEffects
	spilled map[uint32][]Effect
	done    []Effect
	least   uint64 // once done has been cut: what weighs no more is not kept
	pieces  bool   // done may have several of the same transaction and relation
	omitted Omitted
}

// openEffects are those of a transaction; most change a handful of relations.
type openEffects struct {
	xid  uint32 // 0: none
	list []Effect
	at   int // in list, the one asked for last
}

// Limits of memory: how many transactions are open, and how many effects of one.
const (
	numSlots      = 1 << 10
	maxSpilled    = 1 << 16
	maxOpenEffect = 1 << 10
)

// of is the effect of a transaction on a relation, valid until the next call.
func (g *effects) of(xid uint32, rel record.Relation) *Effect {
	if g.slots == nil {
		g.slots = make([]openEffects, numSlots)
	}
	o := &g.slots[xid%numSlots]
	if o.xid != xid {
		g.take(o, xid)
	}
	if o.at < len(o.list) && o.list[o.at].Relation == rel {
		return &o.list[o.at]
	}
	for i := range o.list {
		if o.list[i].Relation == rel {
			o.at = i
			return &o.list[i]
		}
	}
	if len(o.list) >= maxOpenEffect {
		g.pieces = true
		g.finish(o.list)
		o.list = o.list[:0]
	}
	o.at = len(o.list)
	o.list = append(o.list, Effect{XID: xid, Relation: rel})
	return &o.list[o.at]
}

// take gives the slot to another transaction.
func (g *effects) take(o *openEffects, xid uint32) {
	if len(o.list) > 0 {
		if g.spilled == nil || len(g.spilled) >= maxSpilled {
			g.giveUp()
		}
		g.spilled[o.xid] = o.list
		o.list = nil
	}
	o.xid, o.at = xid, 0
	if list, ok := g.spilled[xid]; ok {
		o.list = list
		delete(g.spilled, xid)
	}
}

// remove takes out what a transaction did, valid until the next call of of.
func (g *effects) remove(xid uint32) []Effect {
	if o := &g.slots[xid%numSlots]; o.xid == xid {
		list := o.list
		o.xid, o.at, o.list = 0, 0, o.list[:0]
		return list
	}
	list := g.spilled[xid]
	delete(g.spilled, xid)
	return list
}

// end takes note of the end of a transaction: with a commit the effects of its
// subtransactions become its own, with an abort all go.
func (g *effects) end(kind TransactionKind, xid uint32, subxacts []uint32) {
	if !kind.Ends() || g.slots == nil {
		return
	}
	commit := kind == Commit || kind == CommitPrepared
	for _, sub := range subxacts {
		list := g.remove(sub)
		if commit && len(list) > 0 {
			// The transaction may want the slot that the list is of.
			for _, e := range slices.Clone(list) {
				g.of(xid, e.Relation).add(e)
			}
		}
	}
	if list := g.remove(xid); commit {
		g.finish(list)
	}
}

// finish moves effects to the list of those that may be kept.
func (g *effects) finish(list []Effect) {
	for i := range list {
		if list[i].weight() <= g.least {
			g.omit(&list[i])
			continue
		}
		if len(g.done) >= 2*MaxEffects {
			g.cut()
		}
		g.done = append(g.done, list[i])
	}
}

func (g *effects) omit(e *Effect) {
	g.omitted.Effects++
	g.omitted.Rows += e.Rows()
	g.omitted.Largest = max(g.omitted.Largest, e.Rows())
}

// giveUp no longer waits for the end of those transactions that were spilled:
// their effects stay as the records name them.
func (g *effects) giveUp() {
	g.pieces = g.pieces || len(g.spilled) > 0
	for _, xid := range slices.Sorted(maps.Keys(g.spilled)) { // in order, so that an index depends on the segment alone
		g.finish(g.spilled[xid])
	}
	g.spilled = map[uint32][]Effect{}
}

// cut keeps the MaxEffects that weigh most, of those that weigh the same the first.
func (g *effects) cut() {
	if g.pieces {
		g.merge()
		g.pieces = false
	}
	if len(g.done) <= MaxEffects {
		return
	}
	weights := make([]uint64, len(g.done))
	for i := range g.done {
		weights[i] = g.done[i].weight()
	}
	slices.Sort(weights)
	g.least = weights[len(weights)-MaxEffects]
	more, _ := slices.BinarySearch(weights, g.least+1)
	equal := MaxEffects - (len(weights) - more) // how many of the least to keep
	kept := g.done[:0]
	for i := range g.done {
		w := g.done[i].weight()
		if w < g.least || w == g.least && equal == 0 {
			g.omit(&g.done[i])
			continue
		}
		if w == g.least {
			equal--
		}
		kept = append(kept, g.done[i])
	}
	g.done = kept
}

// merge sorts, and makes one of those of the same transaction and relation.
func (g *effects) merge() {
	slices.SortStableFunc(g.done, Effect.Compare)
	kept := g.done[:0]
	for _, e := range g.done {
		if n := len(kept); n > 0 && kept[n-1].Compare(e) == 0 {
			kept[n-1].add(e)
			continue
		}
		kept = append(kept, e)
	}
	g.done = kept
}

// result is what an Index says, at the end of the segment.
func (g *effects) result() ([]Effect, Omitted) {
	g.giveUp()
	for i := range g.slots {
		g.finish(g.slots[i].list)
	}
	g.cut()
	g.merge()
	if len(g.done) == 0 {
		return nil, g.omitted
	}
	return g.done, g.omitted
}

// Bits of an effect's flags: what follows.
const (
	efInserted = 1 << iota
	efUpdated
	efDeleted
	efImages
	efCreated
	efTruncated
	efFlags = 1<<6 - 1
)

func (e Effect) flags() (flags uint64) {
	for i, v := range [...]uint64{e.Inserted, e.Updated, e.Deleted, e.Images} {
		if v > 0 {
			flags |= 1 << i
		}
	}
	return flags | uint64(flag(e.Created, efCreated)|flag(e.Truncated, efTruncated))
}

func (ix *Index) encodeEffects() []byte {
	var e encoder
	e.byte(sectionVersion)
	e.uint(uint64(len(ix.Effects)))
	var xid uint32
	var rel record.Relation
	for _, x := range ix.Effects {
		e.uint(x.flags())
		e.uint(uint64(x.XID - xid))
		xid = x.XID
		e.relation(x.Relation, &rel)
		for _, v := range [...]uint64{x.Inserted, x.Updated, x.Deleted, x.Images} {
			if v > 0 {
				e.uint(v)
			}
		}
		if x.Truncated {
			e.uint(uint64(x.Blocks))
		}
	}
	e.uint(ix.Omitted.Effects)
	if o := ix.Omitted; o.Effects > 0 {
		e.uint(o.Rows)
		e.uint(o.Largest)
	}
	e.locks(ix)
	return e.b
}

func (ix *Index) decodeEffects(b []byte) error {
	d := decoder{b: b}
	d.version()
	var last Effect
	for n := d.max(MaxEffects); n > 0 && d.err == nil; n-- {
		x := d.effect(last)
		if x.Compare(last) <= 0 && len(ix.Effects) > 0 {
			d.fail(errRange)
		}
		if d.err == nil {
			ix.Effects = append(ix.Effects, x)
		}
		last = x
	}
	o := Omitted{Effects: d.max(1 << 40)}
	if o.Effects > 0 {
		o.Rows = d.max(1 << 48)
		o.Largest = d.max(o.Rows)
	}
	d.locks(ix)
	o.Locks = d.max(1 << 40)
	ix.Omitted = o
	return d.end()
}

func (d *decoder) effect(last Effect) Effect {
	flags := d.max(efFlags)
	e := Effect{XID: last.XID + uint32(d.max(1<<32-1-uint64(last.XID))), Relation: last.Relation}
	d.relation(&e.Relation)
	count := func(bit uint64) uint64 {
		if flags&bit == 0 {
			return 0
		}
		return d.between(1, 1<<48)
	}
	e.Inserted, e.Updated, e.Deleted, e.Images = count(efInserted), count(efUpdated), count(efDeleted), count(efImages)
	e.Created = flags&efCreated != 0
	if e.Truncated = flags&efTruncated != 0; e.Truncated {
		e.Blocks = uint32(d.max(1<<32 - 1))
	}
	return e
}
