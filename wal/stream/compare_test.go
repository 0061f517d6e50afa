package stream

import (
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// TestFreeNames: what is stored beside damaged fragments gets a name that is
// free, begins no later than what is durable, and leaves nothing out for good.
func TestFreeNames(t *testing.T) {
	seg := wal.Segment{Timeline: 1, Number: 1, Size: testSize}
	piece := func(from, to int64) archive.Fragment {
		return archive.Fragment{Segment: seg, From: from, To: to}
	}
	s := &openSegment{seg: seg, damaged: []archive.Fragment{piece(0, 100), piece(0, 99), piece(50, 51), piece(49, 51), piece(0, 1)}}
	for _, c := range []struct {
		durable int64
		f, want archive.Fragment
	}{
		{0, piece(0, 200), piece(0, 200)},
		{0, piece(0, 100), piece(0, 98)},
		{50, piece(50, 51), piece(48, 51)},
		{98, piece(0, 100), piece(0, 99)}, // taken too: there is none
		{98, piece(98, 100), piece(98, 100)},
		{0, piece(0, 1), piece(0, 1)}, // there is none
	} {
		if s.durable = c.durable; s.free(c.f) != c.want {
			t.Errorf("%s became %s, want %s", c.f, s.free(c.f), c.want)
		}
	}
	s.durable = 0
	if s.have = 1; !s.nameless() {
		t.Error("a byte that has no name is uploaded")
	}
	if s.have = 2; s.nameless() {
		t.Error("two bytes are not uploaded")
	}
	s.have, s.durable = 51, 50
	if s.nameless() {
		t.Error("a byte that can be stored with others is not uploaded")
	}
}

// TestOccupied: bytes whose name was taken are scheduled again, while other uploads
// of the segment go on.
func TestOccupied(t *testing.T) {
	w := newWorld(t, 1)
	w.write(1000)
	w.j.need()
	w.begin(policy{})
	w.write(500)
	w.j.need()
	w.begin(policy{})
	if len(w.running) != 2 {
		t.Fatalf("%d jobs", len(w.running))
	}
	s := w.running[0].segment
	w.j.update(func() { s.occupied(w.running[0].fragment.Fragment) })
	w.running = w.running[1:]
	w.begin(policy{})
	if len(w.running) != 2 || w.running[1].fragment.From != 0 || w.running[1].fragment.To != 1500 {
		t.Fatalf("%+v", w.running)
	}
	for len(w.running) > 0 {
		w.end()
	}
	if _, durable, _ := w.j.positions(); durable != wal.LSN(testSize)+1500 {
		t.Errorf("durable up to %s", durable)
	}
	_ = s.file.discard()
}
