//go:build unix

package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// damage replaces a fragment by one that is cut off.
func (g *rig) damage(f archive.Fragment) {
	g.t.Helper()
	key := archive.FragmentKey(g.archive.Incarnation(), f)
	whole, err := storage.ReadAll(g.t.Context(), g.store, key, 16<<20)
	if err != nil {
		g.t.Fatal(err)
	}
	g.store.Replace(key, whole[:len(whole)-10])
}

// found ends the receiver and expects that it found so much.
func (r *running) found(n int) {
	r.g.t.Helper()
	var f *stream.FindingsError
	if err := r.ends(); n > 0 && (!errors.As(err, &f) || f.Findings != n) || n == 0 && err != nil {
		r.g.t.Errorf("Run returned %v, want %d findings", err, n)
	}
}

// TestSmallestGap: of a hole of which the server still has a part, that part is
// received, and exactly the rest is a gap.
func TestSmallestGap(t *testing.T) {
	builder := build(11)
	for _, c := range []struct {
		name    string
		sealed  []uint64
		removed uint64 // the server's first segment
		slot    uint64 // where the slot is; 0: invalidated
		gap     [2]uint64
	}{
		{"in a hole", []uint64{1, 2, 9, 10}, 6, 11, [2]uint64{3, 6}},
		{"in a hole, next to it", []uint64{1, 2, 9, 10}, 4, 11, [2]uint64{3, 4}},
		{"a whole hole", []uint64{1, 2, 9, 10}, 9, 11, [2]uint64{3, 9}},
		{"behind what is archived", []uint64{1, 2}, 7, 9, [2]uint64{3, 7}},
		{"behind what is archived, up to the end", []uint64{1, 2}, 12, 0, [2]uint64{3, 12}},
		{"invalidated slot, with WAL that is gone", []uint64{1, 2}, 5, 0, [2]uint64{3, 5}},
		{"invalidated slot, and all WAL is there", []uint64{1, 2}, 0, 0, [2]uint64{}},
		{"two holes", []uint64{1, 4, 9}, 7, 10, [2]uint64{2, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := primaryOf(t, builder)
			p.removed, p.slot, p.slotLost = c.removed, wal.LSN(c.slot*uint64(segmentSize)), c.slot == 0
			g := p.rig(nil)
			g.seal(p, c.sealed...)
			r := g.start()
			r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end })
			at := func(n uint64) wal.LSN { return p.segment(n).Start() }
			var want []stream.GapError
			if c.gap[1] > 0 {
				want = append(want, stream.GapError{Timeline: 1, From: at(c.gap[0]), To: at(c.gap[1])})
			}
			if c.name == "two holes" {
				want = append(want, stream.GapError{Timeline: 1, From: at(5), To: at(7)})
			}
			if got := r.Status().Gaps; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("gaps %v, want %v", got, want)
			}
			r.found(len(want))
			list, err := g.archive.Extents(t.Context(), 1)
			if err != nil || len(list) != len(want)+1 || list[len(list)-1].End != p.end {
				t.Fatalf("archived: %v, %v", list, err)
			}
			for i, gap := range want {
				if list[i].End != gap.From || list[i+1].Begin != gap.To {
					t.Errorf("archived: %v, the gap is %v", list, gap)
				}
			}
			if c.slot == 0 && (p.slotLost || p.slot == 0) {
				t.Error("the slot was not made anew")
			}
			if len(want) > 0 {
				g.serves(p, c.gap[1])
			}
			g.serves(p, 12)
		})
	}
}

// TestDamagedFragment: what is damaged in the repository is reported, what was
// received is stored beside it, and all of it is served and acknowledged.
func TestDamagedFragment(t *testing.T) {
	for _, name := range []string{"the only one", "the first", "the last"} {
		t.Run(name, func(t *testing.T) {
			p := newPrimary(t, 0)
			g := p.rig(nil)
			put := func(from, to int64) archive.Fragment { return g.put(p.segment(1), p.bytes(1), from, to) }
			length := int64(p.end - p.segment(1).Start())
			var bad archive.Fragment
			switch name {
			case "the only one":
				bad = put(0, length)
			case "the first":
				bad = put(0, 20_000)
				put(20_000, length)
			default:
				put(0, 20_000)
				bad = put(20_000, length)
			}
			g.damage(bad)
			r := g.start()
			r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end && s.Findings == 1 })
			g.serves(p, 1)
			r.found(1)
			if s := r.Status(); s.Retries != 0 {
				t.Errorf("it was tried %d times", s.Retries)
			}
		})
	}
}

// TestDamagedFragmentInTheWay: a damaged one that came later has the name of what is
// to be uploaded. It goes when the segment is sealed.
func TestDamagedFragmentInTheWay(t *testing.T) {
	p := newPrimary(t, 0)
	g := p.rig(nil)
	g.o.MaxDelay = time.Hour
	r := g.start()
	r.until("all to be received", func(s stream.Status) bool { return s.Received == p.end })
	bad := g.put(p.segment(1), p.bytes(1), 0, int64(p.end-p.segment(1).Start()))
	g.damage(bad)
	p.asks <- struct{}{} // what is here is shipped at once
	r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end })
	g.serves(p, 1)
	p.change(func() {
		p.builder.FillSegment()
		p.builder.Commit(9001, time.Now())
		p.end = p.builder.Position()
	})
	p.asks <- struct{}{}
	r.until("the fragments to go", func(s stream.Status) bool {
		live, err := g.archive.LiveSegment(t.Context(), p.segment(1))
		return err == nil && len(live.Fragments) == 0 && s.Segments > 0
	})
	g.serves(p, 1)
	r.found(1)
}

// TestTidyGoesOn: what cannot be sealed does not keep what comes later from it.
func TestTidyGoesOn(t *testing.T) {
	p := newPrimary(t, 4)
	g := p.rig(nil)
	size := segmentSize.Bytes()
	broken := bytes.Clone(p.bytes(1))
	clear(broken[500_000:500_100])
	g.put(p.segment(1), broken, 0, size)
	g.damage(g.put(p.segment(2), p.bytes(2), 0, size))
	g.put(p.segment(3), p.bytes(3), 0, 600_000)
	g.put(p.segment(3), p.bytes(3), 600_000, size)
	g.seal(p, 4)
	g.damage(g.put(p.segment(4), p.bytes(4), 0, 1000)) // nobody needs it
	g.put(p.segment(4), p.bytes(4), 0, 2000)
	r := g.start()
	r.until("the later ones to be tidied up", func(s stream.Status) bool {
		sealed, err := g.archive.Contains(t.Context(), p.segment(3))
		live, err2 := g.archive.Live(t.Context(), 1)
		return err == nil && err2 == nil && sealed && len(live) == 3 && s.Durable == p.end
	})
	r.found(3)
	g.serves(p, 3)
	live, err := g.archive.Live(t.Context(), 1)
	if err != nil || len(live) != 3 || live[0].Segment.Number != 1 || live[1].Segment.Number != 2 || live[2].Segment.Number != 5 {
		t.Errorf("fragments that are left: %+v, %v", live, err)
	}
}
