package plan_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/waltest"
)

// What is prepared before the stop, and not ended there, waits for somebody. Records
// of prepared transactions lie in both segments, and one crosses from one to the other.
func TestLeftPrepared(t *testing.T) {
	w := emptyWorld(t)
	b := waltest.NewBuilder(17, systemID, 1, segment)
	b.Prepare(29, 5, "before the backup", at(-1))
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	_, w.stop = b.BackupEnd(redo)
	w.start[30], _ = b.Prepare(30, 5, "first", at(1))
	w.start[31], _ = b.Prepare(31, 5, "second", at(2))
	w.commit(b, 32, at(3))
	b.FillTo(segmentEnd(b) - 24)
	w.start[30], _ = b.CommitWith(30, at(4), waltest.Transaction{Prepared: 30})
	b.Prepare(33, 6, "third", at(5))
	w.commit(b, 34, at(6))
	w.start[31], _ = b.AbortWith(31, at(7), waltest.Transaction{Prepared: 31})
	b.Switch()
	w.store(b)
	w.backup(redo, checkpoint)
	for name, c := range map[string]struct {
		target plan.Target
		want   []string
	}{
		"immediate":            {plan.Target{Kind: plan.Immediate}, nil},
		"both":                 {plan.Target{Kind: plan.XID, XID: 32}, []string{"30 first", "31 second"}},
		"before the first":     {plan.Target{Kind: plan.LSN, LSN: w.stop, Exclusive: true}, nil},
		"before it ends":       {plan.Target{Kind: plan.XID, XID: 30, Exclusive: true}, []string{"30 first", "31 second"}},
		"when it has ended":    {plan.Target{Kind: plan.XID, XID: 30}, []string{"31 second"}},
		"later":                {plan.Target{Kind: plan.XID, XID: 34}, []string{"31 second", "33 third"}},
		"rolled back":          {plan.Target{Kind: plan.XID, XID: 31}, []string{"33 third"}},
		"the end":              {plan.Target{Kind: plan.Latest}, []string{"33 third"}},
		"a time between":       {plan.Target{Kind: plan.Time, Time: at(3)}, []string{"30 first", "31 second"}},
		"a time behind it all": {plan.Target{Kind: plan.Time, Time: at(7), Exclusive: true}, []string{"31 second", "33 third"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.plan(c.target)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range p.Prepared {
				got = append(got, fmt.Sprintf("%d %s", x.XID, x.GID))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("left prepared: %q, want %q", got, c.want)
			}
			if len(p.Warnings) > 0 {
				t.Errorf("warnings %q", p.Warnings)
			}
		})
	}
}

// A subtransaction ends with the transaction that it is part of; one that was rolled
// back alone ends there.
func TestSubtransactions(t *testing.T) {
	w := emptyWorld(t)
	b := waltest.NewBuilder(17, systemID, 1, segment)
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	_, w.stop = b.BackupEnd(redo)
	w.start[43], _ = b.Abort(43, at(1)) // ROLLBACK TO SAVEPOINT
	w.start[40], _ = b.CommitWith(40, at(2), waltest.Transaction{Subxacts: []uint32{41, 42}})
	w.commit(b, 50, at(3))
	b.FillTo(segmentEnd(b) - 24)
	w.start[60], _ = b.CommitWith(60, at(4), waltest.Transaction{Prepared: 60, Subxacts: []uint32{61, 62}})
	b.Switch()
	w.store(b)
	w.backup(redo, checkpoint)
	for xid, want := range map[uint32]struct{ top, sub uint32 }{
		40: {40, 0}, 41: {40, 41}, 42: {40, 42}, 43: {43, 0}, 60: {60, 0}, 61: {60, 61}, 62: {60, 62},
	} {
		p, err := w.plan(plan.Target{Kind: plan.XID, XID: xid})
		if err != nil {
			t.Errorf("transaction %d: %v", xid, err)
			continue
		}
		if s := p.Stop; s.XID != want.top || s.Subtransaction != want.sub || s.LSN != w.start[want.top] || s.Before {
			t.Errorf("transaction %d: stops %+v, want %+v at %s", xid, s, want, w.start[want.top])
		}
	}
}

// segmentEnd is the end of the segment that is being written.
func segmentEnd(b *waltest.Builder) wal.LSN {
	return wal.SegmentAt(b.Timeline(), b.Position(), segment).End()
}

// Where a transaction is prepared in the segment that a timeline was left in, recovery
// beyond it needs that segment by two names.
func TestCopies(t *testing.T) {
	for name, prepared := range map[string]bool{"prepared": true, "nothing prepared": false} {
		t.Run(name, func(t *testing.T) {
			w := emptyWorld(t)
			b := waltest.NewBuilder(17, systemID, 1, segment)
			redo, _ := b.CheckpointRedo()
			checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
			_, w.stop = b.BackupEnd(redo)
			b.Switch()
			if prepared {
				b.Prepare(30, 5, "waits", at(1))
			}
			w.commit(b, 31, at(2))
			w.fork = b.Position()
			child := b.Fork(2, "before transaction 32")
			w.commit(b, 32, at(3))
			b.Switch()
			w.store(b)
			w.backup(redo, checkpoint)
			child.EndOfRecovery(1, at(4))
			w.commit(child, 40, at(5))
			child.Switch()
			w.store(child)
			_, err := w.arch.PutHistory(t.Context(), 2, []byte("1\t"+w.fork.String()+"\tbefore transaction 32\n"))
			w.ok(err)
			seg := wal.SegmentAt(1, w.fork, segment)
			want := []plan.Copy{{Segment: "00000002" + seg.Name()[8:], As: seg.Name()}}
			for _, c := range []struct {
				target plan.Target
				needed bool
			}{
				{plan.Target{Kind: plan.XID, XID: 40}, prepared}, {plan.Target{Kind: plan.Latest}, prepared},
				{plan.Target{Kind: plan.Immediate}, false}, {plan.Target{Kind: plan.XID, XID: 32, Timeline: "1"}, false},
			} {
				p, err := w.plan(c.target)
				if err != nil {
					t.Errorf("%s: %v", c.target, err)
					continue
				}
				if c.needed && !slices.Equal(p.Copies, want) || !c.needed && len(p.Copies) > 0 {
					t.Errorf("%s: copies %v, needed %v: %v", c.target, p.Copies, c.needed, want)
				}
			}
		})
	}
}
