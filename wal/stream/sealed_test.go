//go:build unix

package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// damageSegment cuts the object of a segment off, or changes a byte of its body.
func (g *rig) damageSegment(seg wal.Segment, body bool) (key string) {
	g.t.Helper()
	key = archive.SegmentKey(g.archive.Incarnation(), seg)
	whole, err := storage.ReadAll(g.t.Context(), g.store, key, 16<<20)
	if err != nil {
		g.t.Fatal(err)
	}
	if body {
		whole = bytes.Clone(whole)
		whole[200] ^= 1
	} else {
		whole = whole[:len(whole)-10]
	}
	g.store.Replace(key, whole)
	return key
}

// servesWithout removes the object of a segment, and holds what its fragments give
// against the primary's.
func (g *rig) servesWithout(key string, p *primary, number uint64) {
	g.t.Helper()
	if err := g.store.Delete(g.t.Context(), key); err != nil {
		g.t.Fatal(err)
	}
	g.serves(p, number)
}

// TestDamagedSegment: a segment that is archived and damaged is reported, by the name of
// its object, and what was received is stored and acknowledged in fragments.
func TestDamagedSegment(t *testing.T) {
	for _, body := range []bool{false, true} {
		for _, whole := range []bool{false, true} {
			if body && whole {
				continue // see TestDamagedBody
			}
			t.Run(fmt.Sprintf("body %v, whole %v", body, whole), func(t *testing.T) {
				p := newPrimary(t, 4)
				g := p.rig(nil)
				var log bytes.Buffer
				g.o.Logger = logTo(&log)
				g.seal(p, 1, 2)
				key := g.damageSegment(p.segment(2), body)
				if !whole {
					p.end = p.segment(2).Start() + 300_000 // a standby that is behind
				}
				r := g.start()
				if !whole {
					r.until("all to be received", func(s stream.Status) bool { return s.Received == p.end })
					p.asks <- struct{}{}
				}
				r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end && s.Findings == 1 })
				r.found(1)
				if s := r.Status(); s.Retries != 0 {
					t.Errorf("it was tried %d times", s.Retries)
				}
				if !strings.Contains(log.String(), "object="+key) {
					t.Errorf("the object is not named: %s", log.String())
				}
				g.servesWithout(key, p, 2)
			})
		}
	}
}

// TestRolledBackServer: a server that was rolled back, and is behind what is archived of
// the segment, writes other WAL: that is a conflict as soon as it can be seen.
func TestRolledBackServer(t *testing.T) {
	for _, what := range []string{"fragments", "a segment"} {
		t.Run(what, func(t *testing.T) {
			p := newPrimary(t, 1)
			g := p.rig(nil)
			if what == "fragments" {
				g.put(p.segment(1), p.bytes(1), 0, 900_000)
			} else {
				g.seal(p, 1)
			}
			other := newPrimary(t, 0)
			p.change(func() { p.builder, p.end = other.builder, other.end })
			var conflict *stream.OtherContentError
			begin := time.Now()
			if err := g.start().wait(); !errors.As(err, &conflict) || conflict.Segment != p.segment(1) {
				t.Errorf("Run returned %v", err)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestServerBehindFragments: a server that is behind what is archived, and agrees with it,
// gets its WAL acknowledged without asking for it.
func TestServerBehindFragments(t *testing.T) {
	p := newPrimary(t, 1)
	g := p.rig(nil)
	g.put(p.segment(1), p.bytes(1), 0, 900_000)
	p.change(func() { p.end = p.segment(1).Start() + 300_000 })
	r := g.start()
	r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end && s.Pending == 0 })
	p.change(func() { p.end = p.builder.Position() })
	r.until("the rest to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.builder.Position() })
	g.serves(p, 1)
	r.found(0)
}

// TestDamagedBody: an object whose end says that it holds what was received, and which does
// not, is reported, and the fragments stay that do.
func TestDamagedBody(t *testing.T) {
	for _, fragments := range []bool{false, true} {
		t.Run(fmt.Sprintf("fragments %v", fragments), func(t *testing.T) {
			p := newPrimary(t, 0)
			g := p.rig(nil)
			var r *running
			if fragments {
				r = g.start()
				r.until("fragments", func(s stream.Status) bool { return s.Durable == p.end })
			}
			// Another writer seals the segment before it is received whole.
			p.change(func() {
				p.builder.FillSegment()
				p.builder.Commit(9001, time.Now())
			})
			g.seal(p, 1)
			key := g.damageSegment(p.segment(1), true)
			p.change(func() { p.end = p.builder.Position() })
			if !fragments {
				r = g.start()
			}
			r.until("the damage to be found", func(s stream.Status) bool { return s.Acknowledged == p.end && s.Findings == 1 })
			r.found(1)
			g.servesWithout(key, p, 1)
		})
	}
}
