package archive_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// putFragments stores the pieces between the given offsets of a segment.
func putFragments(t testing.TB, a *archive.Archive, seg wal.Segment, content []byte, offsets ...int64) {
	t.Helper()
	for i := 1; i < len(offsets); i++ {
		putFragment(t, a, seg, content, offsets[i-1], offsets[i])
	}
}

func putFragment(t testing.TB, a *archive.Archive, seg wal.Segment, content []byte, from, to int64) {
	t.Helper()
	f := archive.Fragment{Segment: seg, From: from, To: to}
	if res, err := a.PutFragment(t.Context(), f, bytes.NewReader(content)); err != nil || res != archive.Stored {
		t.Fatalf("put %s: %v, %v", f, res, err)
	}
}

// openSegment is a builder with n complete segments and a piece of the next.
func openSegment(n int) (b *waltest.Builder, open wal.Segment, content []byte) {
	b = newWAL(n)
	b.Message(100_000)
	b.Commit(9000, noon)
	last := b.Complete()[n-1].Next()
	return b, last, b.Bytes(last)
}

func TestFragmentsAreServed(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		b, open, content := openSegment(2)
		pushAll(t, a, b)
		end := int64(b.Position() - open.Start())
		putFragments(t, a, open, content, 0, 24, 8192, 8193, 70_000)
		putFragment(t, a, open, content, 0, 70_000) // a cumulative one
		putFragment(t, a, open, content, 60_000, end)
		live, err := a.LiveSegment(t.Context(), open)
		if err != nil || live.Covered() != end || live.HasHole() || live.Complete() || live.End() != b.Position() {
			t.Fatalf("%+v, %v", live, err)
		}
		got, err := fetch(t, a, open.Name())
		if err != nil || int64(len(got)) != size.Bytes() {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		want := append(bytes.Clone(content[:end]), make([]byte, size.Bytes()-end)...)
		if !bytes.Equal(got, want) {
			t.Error("other bytes than were stored")
		}
		x, err := a.LiveIndex(t.Context(), live)
		if err != nil || x.EndOfRecords != b.Position() || x.Commits == 0 {
			t.Errorf("index %+v, %v", x, err)
		}
		var absent *archive.AbsentError
		if _, err := fetch(t, a, open.Next().Name()); !errors.As(err, &absent) {
			t.Errorf("the segment after the open one: %v", err)
		}
		tlis, err := a.Timelines(t.Context())
		if err != nil || len(tlis) != 1 {
			t.Errorf("timelines %v, %v", tlis, err)
		}
		extents, err := a.Extents(t.Context(), 1)
		if err != nil || len(extents) != 1 || extents[0].End != b.Position() || extents[0].Begin != b.Complete()[0].Start() {
			t.Errorf("extents %v, %v", extents, err)
		}
	})
}

func TestHolesAmongFragments(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	b, open, content := openSegment(2)
	segs := pushAll(t, a, b)
	hole := func(name string, want ...string) {
		t.Helper()
		_, err := fetch(t, a, name)
		var e *archive.HoleError
		if !errors.As(err, &e) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q lacks %q", err, w)
			}
		}
	}
	// Behind the first bytes, and behind a hole.
	putFragment(t, a, open, content, 8192, 9000)
	hole(open.Name(), "bytes 0 to", "8192 to 9000")
	putFragment(t, a, open, content, 0, 8000)
	hole(open.Name(), "bytes 8000 to")
	putFragment(t, a, open, content, 8000, 8192)
	if _, err := fetch(t, a, open.Name()); err != nil {
		t.Fatal(err)
	}
	// A later segment has been begun, in fragments or whole.
	next := open.Next()
	f := archive.Fragment{Segment: next, From: 100, To: 200}
	if _, err := a.PutFragment(t.Context(), f, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	hole(open.Name(), "bytes 9000 to", next.Name())
	// The segment before has gone, and what follows is there only in fragments.
	last := segs[len(segs)-1]
	if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), last)); err != nil {
		t.Fatal(err)
	}
	hole(last.Name(), open.Name())
}

func TestFragmentConflicts(t *testing.T) {
	a := newArchive(t, mem.New())
	_, open, content := openSegment(1)
	other := bytes.Clone(content)
	other[5000] ^= 1
	putFragment(t, a, open, content, 0, 8192)
	f := archive.Fragment{Segment: open, From: 0, To: 8192}
	if res, err := a.PutFragment(t.Context(), f, bytes.NewReader(content)); err != nil || res != archive.Identical {
		t.Errorf("again: %v, %v", res, err)
	}
	var conflict *archive.ConflictError
	if _, err := a.PutFragment(t.Context(), f, bytes.NewReader(other)); !errors.As(err, &conflict) || conflict.Hint() == "" {
		t.Errorf("other bytes: %v", err)
	}
	if err := a.CompareFragment(t.Context(), f, bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	if err := a.CompareFragment(t.Context(), f, bytes.NewReader(other)); !errors.As(err, &conflict) {
		t.Errorf("compare with other bytes: %v", err)
	}
	if err := a.CompareFragment(t.Context(), f, bytes.NewReader(content[:100])); err == nil || errors.As(err, &conflict) {
		t.Errorf("compare with too few bytes: %v", err)
	}
	// Two streams that cut differently and disagree.
	putFragment(t, a, open, other, 4096, 9000)
	_, err := fetch(t, a, open.Name())
	var differ *archive.DisagreementError
	if !errors.As(err, &differ) || differ.From > 5000 || differ.To <= 5000 {
		t.Errorf("fragments that disagree: %v", err)
	}
	// Not of this cluster, not of this place.
	var refused *archive.RefusedError
	foreign := waltest.NewBuilder(major, systemID+1, 1, size)
	fill(foreign, 1)
	seg := foreign.Complete()[0]
	if _, err := a.PutFragment(t.Context(), archive.Fragment{Segment: seg, To: 100}, bytes.NewReader(foreign.Bytes(seg))); err == nil {
		t.Error("a fragment of another cluster was stored")
	}
	if _, err := a.PutFragment(t.Context(), archive.Fragment{Segment: open.Next(), To: 100}, bytes.NewReader(content)); !errors.As(err, &refused) {
		t.Errorf("a fragment of another place: %v", err)
	}
	for _, bad := range []archive.Fragment{{Segment: open}, {Segment: open, From: 5, To: 5}, {Segment: open, From: -1, To: 5}, {Segment: open, To: size.Bytes() + 1}} {
		if _, err := a.PutFragment(t.Context(), bad, bytes.NewReader(content)); err == nil {
			t.Errorf("%+v was stored", bad)
		}
	}
}

// WAL that is not valid among the bytes that fragments cover is damage, although
// the fragments are what was stored: it is not the end of the WAL.
func TestLiveIndex(t *testing.T) {
	a := newArchive(t, mem.New())
	b, open, content := openSegment(1)
	end := int64(b.Position() - open.Start())
	putFragments(t, a, open, content, 0, 50_000, end-20)
	live := func() archive.LiveSegment {
		l, err := a.LiveSegment(t.Context(), open)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	x, err := a.LiveIndex(t.Context(), live())
	if err != nil || x.MaxXID == 9000 || x.EndOfRecords >= b.Position() {
		t.Errorf("the last record is cut off: %v", err)
	}
	putFragment(t, a, open, content, end-20, end)
	if x, err = a.LiveIndex(t.Context(), live()); err != nil || x.MaxXID != 9000 || x.EndOfRecords != b.Position() {
		t.Errorf("to the last byte: %v", err)
	}
	putFragment(t, a, open, content, end, end+8192) // zeros: no server ever sends them
	var damage *record.Error
	if _, err = a.LiveIndex(t.Context(), live()); !errors.As(err, &damage) || damage.LSN != b.Position() {
		t.Errorf("zeros where a record should be: %v", err)
	}
	if _, err = a.LiveIndex(t.Context(), archive.LiveSegment{Segment: open.Next()}); err == nil {
		t.Error("an index of no fragments")
	}
}

// A fragment that is damaged or has gone is named, and nothing is delivered.
func TestDamagedFragments(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	_, open, content := openSegment(1)
	putFragments(t, a, open, content, 0, 10_000, 20_000, 30_000)
	for _, f := range []archive.Fragment{{Segment: open, To: 10_000}, {Segment: open, From: 10_000, To: 20_000}, {Segment: open, From: 20_000, To: 30_000}} {
		key := archive.FragmentKey(a.Incarnation(), f)
		whole := stored(t, s, key)
		for at := 0; at < len(whole); at += 1 + len(whole)/200 {
			bad := bytes.Clone(whole)
			bad[at] ^= 0x40
			replace(t, s, key, bad)
			if _, err := fetch(t, a, open.Name()); err == nil || !strings.Contains(err.Error(), key) {
				t.Fatalf("%s, bit of byte %d flipped: %v", f, at, err)
			}
		}
		replace(t, s, key, whole[:len(whole)/2])
		if _, err := fetch(t, a, open.Name()); err == nil || !strings.Contains(err.Error(), key) {
			t.Fatalf("%s, cut off: %v", f, err)
		}
		replace(t, s, key, whole)
	}
	if _, err := fetch(t, a, open.Name()); err != nil {
		t.Fatal(err)
	}
}

// What a damaged fragment held can be read where others hold it too, whatever is damaged.
func TestDamagedFragmentThatIsCovered(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	_, open, content := openSegment(1)
	bad := archive.Fragment{Segment: open, From: 10_000, To: 30_000}
	putFragments(t, a, open, content, 0, 10_000, 30_000)
	key := archive.FragmentKey(a.Incarnation(), bad)
	whole := stored(t, s, key)
	damage := func(at int) {
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		replace(t, s, key, b)
	}
	putFragment(t, a, open, content, 10_000, 29_999)
	for _, at := range []int{len(whole) / 3, len(whole) - 20} {
		damage(at)
		if _, err := fetch(t, a, open.Name()); err == nil || !strings.Contains(err.Error(), key) {
			t.Fatalf("byte %d is damaged, and one byte is nowhere else: %v", at, err)
		}
	}
	putFragment(t, a, open, content, 29_000, 30_000)
	for _, at := range []int{len(whole) / 3, len(whole) - 20} {
		damage(at)
		got, err := fetch(t, a, open.Name())
		if err != nil || !bytes.Equal(got[:30_000], content[:30_000]) || len(bytes.Trim(got[30_000:], "\x00")) != 0 {
			t.Fatalf("byte %d is damaged, others hold it: %v", at, err)
		}
	}
}
