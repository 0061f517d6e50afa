package find

import (
	"cmp"
	"maps"
	"slices"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// work is what a transaction, or a subtransaction, has done so far.
type work struct {
	effects map[record.Relation]*index.Effect
	// storage are DatabaseCreate, DatabaseDrop, TablespaceDrop and HeapTruncate.
	storage []index.Landmark
	lock    wal.LSN // where it first took an AccessExclusiveLock; 0: it took none
	touched uint64  // number of the last segment with something of it
	partial bool    // some of it was given up for maxPending
}

func (w *work) add(o *work) {
	for rel, e := range o.effects {
		w.effect(*e, rel)
	}
	w.storage = append(w.storage, o.storage...)
	w.locked(o.lock)
	w.partial = w.partial || o.partial
}

func (w *work) locked(at wal.LSN) {
	if at != 0 && (w.lock == 0 || at < w.lock) {
		w.lock = at
	}
}

func (w *work) effect(e index.Effect, rel record.Relation) {
	if w.effects == nil {
		w.effects = map[record.Relation]*index.Effect{}
	}
	have := w.effects[rel]
	if have == nil {
		w.effects[rel] = &e
		return
	}
	have.Inserted += e.Inserted
	have.Updated += e.Updated
	have.Deleted += e.Deleted
	have.Images += e.Images
	have.Created = have.Created || e.Created
	if e.Truncated {
		have.Truncated, have.Blocks = true, e.Blocks
	}
}

func (w *work) size() int { return 1 + len(w.effects) + len(w.storage) }

func (w *work) clone() *work {
	c := *w
	c.effects = make(map[record.Relation]*index.Effect, len(w.effects))
	for rel, e := range w.effects {
		copied := *e
		c.effects[rel] = &copied
	}
	c.storage = slices.Clone(w.storage)
	return &c
}

// maxPending bounds how much is remembered of transactions that have not ended: a
// crash leaves some that never do.
const maxPending = 1 << 19

// pending is what is known at a place in the WAL of transactions that have not ended.
type pending struct {
	work map[uint32]*work
	size int
	// invalid is where DROP DATABASE first shut a database off, since it was made.
	invalid map[uint32]wal.LSN
	// prepared are the transactions that are prepared.
	prepared map[uint32]index.Transaction
	// known: the WAL has been followed from where all open transactions began. Else
	// those with ids below horizon may have begun earlier; horizon 0: any may.
	known   bool
	horizon uint32
	// anonymous: a prepared transaction ended of which the index does not know which, for
	// the number of its subtransactions and relations.
	anonymous bool
	// limit is maxPending.
	limit int
	// forgotten counts those given up for limit. lost are those of them that have not ended yet, as
	// many as limit; lostMore: there are others.
	forgotten int
	lost      map[uint32]struct{}
	lostMore  bool
}

func newPending() *pending {
	return &pending{limit: maxPending, lost: map[uint32]struct{}{}, work: map[uint32]*work{}, invalid: map[uint32]wal.LSN{}, prepared: map[uint32]index.Transaction{}}
}

// clone is for a timeline that branches off.
func (p *pending) clone() *pending {
	c := *p
	c.work = make(map[uint32]*work, len(p.work))
	for xid, w := range p.work {
		c.work[xid] = w.clone()
	}
	c.invalid, c.prepared, c.lost = maps.Clone(p.invalid), maps.Clone(p.prepared), maps.Clone(p.lost)
	c.forgotten = 0 // they are counted where it branched off
	return &c
}

func (p *pending) of(xid uint32, segment uint64) *work {
	w := p.work[xid]
	if w == nil {
		w = &work{}
		p.work[xid] = w
		p.size++
	}
	w.touched = segment
	return w
}

// effects takes in what a segment, or a record that crosses into it, says.
func (p *pending) effects(list []index.Effect, segment uint64) {
	for _, e := range list {
		w := p.of(e.XID, segment)
		before := len(w.effects)
		w.effect(e, e.Relation)
		p.size += len(w.effects) - before
	}
	if p.size > p.limit {
		p.shrink()
	}
}

// locks takes in where transactions took locks.
func (p *pending) locks(list []index.Lock, segment uint64) {
	for _, l := range list {
		p.of(l.XID, segment).locked(l.LSN)
	}
}

// storage takes in a landmark of a transaction.
func (p *pending) storage(l index.Landmark, segment uint64) {
	switch l.Kind {
	case index.DatabaseInvalid:
		if _, ok := p.invalid[l.Database]; !ok {
			p.invalid[l.Database] = l.LSN
		}
		return
	case index.DatabaseCreate:
		if l.Template != l.Database {
			delete(p.invalid, l.Database)
		}
	}
	if l.XID != 0 {
		w := p.of(l.XID, segment)
		w.storage = append(w.storage, l)
		p.size++
	}
}

// take removes what a transaction and its subtransactions did.
func (p *pending) take(xid uint32, subxacts []uint32) *work {
	sum := &work{}
	one := func(xid uint32) {
		if w := p.work[xid]; w != nil {
			sum.add(w)
			p.size -= w.size()
			delete(p.work, xid)
		}
		if _, lost := p.lost[xid]; lost {
			sum.partial = true
			delete(p.lost, xid)
		}
	}
	one(xid)
	for _, sub := range subxacts {
		one(sub)
	}
	sum.partial = sum.partial || p.lostMore
	return sum
}

// restarted forgets the transactions that a restart of the server has ended: all
// but the prepared ones and those that have done something in the current segment.
func (p *pending) restarted(segment uint64) (ended []*work) {
	kept := map[uint32]bool{}
	for xid, t := range p.prepared {
		kept[xid] = true
		if t.Detail != nil {
			for _, sub := range t.Detail.Subxacts {
				kept[sub] = true
			}
		}
	}
	for _, xid := range slices.Sorted(maps.Keys(p.work)) {
		if w := p.work[xid]; !kept[xid] && w.touched < segment {
			ended = append(ended, w)
			p.size -= w.size()
			delete(p.work, xid)
		}
	}
	maps.DeleteFunc(p.lost, func(xid uint32, _ struct{}) bool { return !kept[xid] && p.work[xid] == nil })
	return ended
}

// shrink forgets the transactions that have done nothing for the longest time.
func (p *pending) shrink() {
	list := slices.SortedFunc(maps.Keys(p.work), func(a, b uint32) int {
		return cmp.Or(cmp.Compare(p.work[a].touched, p.work[b].touched), cmp.Compare(a, b))
	})
	for _, xid := range list {
		if p.size <= p.limit/2 {
			return
		}
		if len(p.lost) < p.limit {
			p.lost[xid] = struct{}{}
		} else {
			p.lostMore = true
		}
		p.size -= p.work[xid].size()
		delete(p.work, xid)
		p.forgotten++
	}
}

// early reports whether a transaction may have begun before what was read.
func (p *pending) early(xid uint32) bool {
	// Ids are compared as TransactionIdPrecedes does.
	return !p.known && (p.horizon == 0 || int32(xid-p.horizon) < 0)
}
