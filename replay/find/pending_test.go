package find

import (
	"testing"

	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

func effect(xid, number uint32) index.Effect {
	return index.Effect{XID: xid, Relation: record.Relation{Tablespace: 1663, Database: 5, Number: number}, Deleted: 1}
}

// TestPendingBounded: transactions that never end do not pile up; the oldest are given up.
func TestPendingBounded(t *testing.T) {
	p := newPending()
	xid := uint32(700)
	for segment := uint64(1); p.forgotten == 0; segment++ {
		var list []index.Effect
		for range index.MaxEffects / 4 {
			xid++
			for number := range uint32(4) {
				list = append(list, effect(xid, 16384+number))
			}
		}
		p.effects(list, segment)
		if p.size > maxPending {
			t.Fatalf("%d after segment %d", p.size, segment)
		}
	}
	size := 0
	for _, w := range p.work {
		size += w.size()
	}
	if len(p.lost) != p.forgotten || !p.take(701, nil).partial || p.take(701, nil).partial || !p.take(9, []uint32{702}).partial {
		t.Errorf("%d of %d are known to have been given up", len(p.lost), p.forgotten)
	}
	if size != p.size || p.work[701] != nil || p.work[xid] == nil {
		t.Errorf("the sizes add up to %d, not %d", size, p.size)
	}
	if w := p.take(xid, []uint32{xid - 1}); w.effects[effect(0, 16384).Relation].Deleted != 2 {
		t.Errorf("%+v", w)
	}
	if c := p.clone(); c.forgotten != 0 || len(c.lost) != len(p.lost) {
		t.Errorf("a timeline that branches off has given up %d, %d not ended", c.forgotten, len(c.lost))
	}
	if p.size != size-10 {
		t.Errorf("%d of %d are left", p.size, size)
	}
}

// TestRestarted: a restart ends all transactions but prepared ones, and those that came after it.
func TestRestarted(t *testing.T) {
	p := newPending()
	p.effects([]index.Effect{effect(700, 1), effect(701, 1), effect(702, 1), effect(703, 1)}, 5)
	p.prepared[701] = index.Transaction{XID: 701, Detail: &index.Detail{Subxacts: []uint32{702}}}
	p.effects([]index.Effect{effect(710, 1)}, 6)
	p.lost = map[uint32]struct{}{690: {}, 702: {}, 710: {}}
	if ended := p.restarted(6); len(ended) != 2 || p.work[700] != nil || p.work[703] != nil {
		t.Errorf("%d have ended", len(ended))
	}
	if p.work[701] == nil || p.work[702] == nil || p.work[710] == nil {
		t.Error("one that lives on was ended")
	}
	if _, ok := p.lost[690]; ok || len(p.lost) != 2 {
		t.Errorf("given up, and not ended: %v", p.lost)
	}
}

// TestEarly compares ids as PostgreSQL does, over their end too.
func TestEarly(t *testing.T) {
	p := newPending()
	if !p.early(5) {
		t.Error("nothing is known before the first checkpoint")
	}
	p.horizon = 100
	for xid, want := range map[uint32]bool{99: true, 100: false, 101: false, 4294967295: true, 2147483600: false} {
		if p.early(xid) != want {
			t.Errorf("%d: %t", xid, !want)
		}
	}
	if p.known = true; p.early(5) {
		t.Error("everything is known")
	}
}
