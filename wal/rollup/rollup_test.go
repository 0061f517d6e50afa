package rollup_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/rollup"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	systemID = 7345678901234567890
	size     = wal.SegmentSize(1 << 20)
	perLog   = 4096
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// randomWAL writes WAL of about so many segments in which all kinds of records cross.
func randomWAL(seed uint64, from uint64, segments int) *waltest.Builder {
	r := rand.New(rand.NewPCG(seed, 1))
	b := waltest.NewBuilder(17, systemID, 1, size)
	b.Seek(from, wal.LSN(from*uint64(size))-64)
	xid, clock := uint32(700), noon
	for b.Position() < wal.LSN((from+uint64(segments))*uint64(size)) {
		clock = clock.Add(time.Second)
		xid++
		seg := wal.SegmentAt(1, b.Position(), size)
		if room := int(seg.End()-b.Position()) * 8168 / 8192; room > 400 && r.IntN(3) > 0 {
			b.Message(room - 150 - r.IntN(120))
		}
		switch r.IntN(9) {
		case 0, 1, 2:
			b.Commit(xid, clock)
		case 3:
			b.RestorePoint("point", clock)
		case 4:
			b.Switch()
		case 5:
			b.Message(r.IntN(3 << 20))
		case 6:
			b.OnlineCheckpoint(b.Position(), clock)
		default:
			b.Message(r.IntN(20000))
		}
	}
	b.Switch()
	return b
}

func indexes(t testing.TB, b *waltest.Builder) []*index.Index {
	t.Helper()
	var list []*index.Index
	for _, seg := range b.Complete() {
		ix, err := index.Build(bytes.NewReader(b.Bytes(seg)), seg, index.Options{SystemID: systemID, Complete: true})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, ix)
	}
	return list
}

// build makes the roll-up of all that lies in the first one's log.
func build(t testing.TB, list []*index.Index) *rollup.Rollup {
	t.Helper()
	b := rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID)
	for _, ix := range list {
		if rollup.LogOf(ix.Segment) != rollup.LogOf(list[0].Segment) {
			break
		}
		if misfit, err := b.Add(ix, ix.Segment.Number+5); misfit != nil || err != nil {
			t.Fatal(misfit, err)
		}
	}
	return b.Finish()
}

func decode(t testing.TB, b []byte) *rollup.Rollup {
	t.Helper()
	r, err := rollup.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := r.Encode(); !bytes.Equal(again, b) {
		t.Fatalf("encoded again it is\n%x, not\n%x", again, b)
	}
	return r
}

// TestSaysWhatSegmentsSay holds a roll-up against the indexes it was made from: what
// it says of each, and what joining says of every step.
func TestSaysWhatSegmentsSay(t *testing.T) {
	steps, kept := 0, 0
	for seed := range uint64(12) {
		list := indexes(t, randomWAL(seed, 4+seed, 25))
		r := decode(t, build(t, list).Encode())
		if misfits, err := r.Misfits(); err != nil || len(misfits) > 0 {
			t.Fatalf("seed %d: misfits %v, error %v", seed, misfits, err)
		}
		var real index.Joiner
		var since []*index.Index
		for i, e := range r.Entries() {
			want := list[i]
			got, err := e.Index()
			if err != nil {
				t.Fatal(err)
			}
			joined, err := real.Add(want)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Compact(), want.Compact()) {
				t.Errorf("seed %d, %s: the entry says\n%+v, the segment\n%+v", seed, e.Segment, got.Compact(), want.Compact())
			}
			step, ok, err := e.Step()
			switch {
			case err != nil:
				t.Fatal(err)
			case ok:
				steps++
			case i > 0:
				kept++
				step = join(t, append(since, got))
			}
			if i > 0 && !reflect.DeepEqual(step, joined) {
				t.Errorf("seed %d, %s: the step is %+v, want %+v", seed, e.Segment, step, joined)
			}
			if got.LastComplete != 0 {
				since = nil
			}
			since = append(since, got)
		}
	}
	if steps == 0 || kept == 0 {
		t.Errorf("%d steps were written down, %d joined: the test tests nothing", steps, kept)
	}
}

func join(t *testing.T, list []*index.Index) (last *index.Joined) {
	t.Helper()
	var j index.Joiner
	for _, ix := range list {
		if !ix.Joinable() {
			t.Fatalf("the edges of %s were not kept", ix.Segment)
		}
		var err error
		if last, err = j.Add(ix); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// TestEndsOfLogsCanBeJoined: from the end of one roll-up to the beginning of the next.
func TestEndsOfLogsCanBeJoined(t *testing.T) {
	for seed := range uint64(8) {
		list := indexes(t, randomWAL(seed, perLog-9, 18))
		before := build(t, list)
		n := len(before.Entries())
		after := build(t, list[n:])
		var real index.Joiner
		var want *index.Joined
		var edge []*index.Index
		for i, ix := range list[:n+1] {
			var err error
			if want, err = real.Add(ix); err != nil {
				t.Fatal(err)
			}
			if i == n {
				break
			}
			got, err := before.Entries()[i].Index()
			if err != nil {
				t.Fatal(err)
			}
			if got.LastComplete != 0 {
				edge = nil
			}
			edge = append(edge, got)
		}
		first, err := after.Entries()[0].Index()
		if err != nil {
			t.Fatal(err)
		}
		if got := join(t, append(edge, first)); !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: joined to %+v, want %+v", seed, got, want)
		}
	}
}

func TestLookup(t *testing.T) {
	list := indexes(t, randomWAL(1, 10, 12))
	r := build(t, append(list[:4:4], list[6:]...))
	for i, ix := range list {
		n := ix.Segment.Number
		e, ok := r.Lookup(n, n+5)
		if want := i < 4 || i >= 6; ok != want || ok && e.Segment != ix.Segment {
			t.Errorf("%s: %v, %v", ix.Segment, e.Segment, ok)
		}
		if _, ok := r.Lookup(n, n+6); ok {
			t.Errorf("%s: found with the fingerprint of another object", ix.Segment)
		}
	}
	// After the hole nothing is taken for a continuation.
	if e, _ := r.Lookup(list[6].Segment.Number, list[6].Segment.Number+5); e.Segment.Number != 0 {
		if _, ok, _ := e.Step(); ok || !e.HasEdges() {
			t.Error("the segment after a hole continues something, or has no edges")
		}
	}
}

// What does not fit is told, and never written down as a step.
func TestMisfits(t *testing.T) {
	list := indexes(t, randomWAL(2, 10, 12))
	other := indexes(t, randomWAL(3, 10, 12))
	b := rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID)
	for i := range 10 {
		ix := list[i]
		if i >= 5 {
			ix = other[i]
		}
		misfit, err := b.Add(ix, 1)
		if err != nil || (misfit != nil) != (i == 5) {
			t.Fatalf("%s: misfit %v, error %v", ix.Segment, misfit, err)
		}
	}
	r := decode(t, b.Finish().Encode())
	misfits, err := r.Misfits()
	if err != nil || len(misfits) != 1 || misfits[0].Segment != other[5].Segment || misfits[0].Err == nil {
		t.Errorf("misfits %v, error %v", misfits, err)
	}
}

func TestDamagedSegments(t *testing.T) {
	list := indexes(t, randomWAL(4, 10, 8))
	b := rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID)
	for i, ix := range list[:6] {
		if i == 3 {
			b.Skip(ix.Segment, 9)
			continue
		}
		if misfit, err := b.Add(ix, 9); misfit != nil || err != nil {
			t.Fatal(misfit, err)
		}
	}
	r := decode(t, b.Finish().Encode())
	if e, ok := r.Lookup(list[3].Segment.Number, 9); !ok || !e.Damaged() {
		t.Errorf("damage is not remembered: %+v", e)
	}
	if _, ok, _ := r.Entries()[4].Step(); ok || !r.Entries()[2].HasEdges() || !r.Entries()[4].HasEdges() {
		t.Error("neighbours of a damaged segment")
	}
	if misfits, err := r.Misfits(); err != nil || len(misfits) > 0 {
		t.Errorf("misfits %v, error %v", misfits, err)
	}
}

func TestBuilderRefuses(t *testing.T) {
	list := indexes(t, randomWAL(5, perLog-3, 8))
	b := rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID)
	if _, err := b.Add(list[7], 1); err == nil {
		t.Error("a segment of another log was taken")
	}
	if _, err := b.Add(list[1], 1); err != nil {
		t.Error(err)
	}
	for _, ix := range list[:2] {
		if _, err := b.Add(ix, 1); err == nil {
			t.Errorf("%s was taken after %s", ix.Segment, list[1].Segment)
		}
	}
	b = rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID+1)
	if _, err := b.Add(list[0], 1); err == nil {
		t.Error("a segment of another cluster was taken")
	}
}

var update = flag.Bool("update", false, "write the golden file")

// small is a roll-up whose bytes are kept in the golden file.
func small(t testing.TB) *rollup.Rollup {
	b := waltest.NewBuilder(17, systemID, 2, size)
	b.Seek(0x1005, 0x1004fff10)
	b.Commit(730, noon)
	b.FillSegment()
	b.Commit(731, noon.Add(time.Minute))
	b.Message(1 << 20)
	b.RestorePoint("before the upgrade", noon.Add(2*time.Minute))
	b.FillTo(wal.LSN(0x1008)*wal.LSN(size) - 24)
	b.Commit(732, noon.Add(3*time.Minute))
	b.FillSegment()
	list := indexes(t, b)
	builder := rollup.NewBuilder(rollup.LogOf(list[0].Segment), size, systemID)
	for i, ix := range list {
		if misfit, err := builder.Add(ix, 0x1122334455667700+uint64(i)); misfit != nil || err != nil {
			t.Fatal(misfit, err)
		}
	}
	builder.Skip(wal.Segment{Timeline: 2, Number: 0x1010, Size: size}, 0x99)
	return builder.Finish()
}

func TestGolden(t *testing.T) {
	path := filepath.Join("testdata", "golden.txt")
	got := hex.EncodeToString(small(t).Encode()) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the format has changed: got\n%s, want\n%s", got, want)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	if r := decode(t, raw); r.Log.String() != "00000002/00000001" || len(r.Entries()) != 5 {
		t.Errorf("log %s, %d entries", r.Log, len(r.Entries()))
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := small(t).Encode()
	for i := range good {
		if _, err := rollup.Decode(good[:i]); err == nil {
			t.Errorf("cut off after %d bytes: accepted", i)
		}
	}
	for _, bad := range [][]byte{append(bytes.Clone(good), 0), append([]byte{1, 1, 0}, good[3:]...)} {
		if _, err := rollup.Decode(bad); err == nil || errors.Is(err, rollup.ErrVersion) {
			t.Errorf("%x: %v", bad[:8], err)
		}
	}
	for _, other := range [][]byte{append([]byte{2}, good[1:]...), append([]byte{1, 0}, good[2:]...)} {
		if _, err := rollup.Decode(other); !errors.Is(err, rollup.ErrVersion) {
			t.Errorf("%x: %v", other[:8], err)
		}
	}
}

// FuzzDecode: what is accepted is encoded to the same bytes, and can be used.
func FuzzDecode(f *testing.F) {
	f.Add(small(f).Encode())
	b := rollup.NewBuilder(rollup.Log{Timeline: 1}, size, systemID)
	b.Skip(wal.Segment{Timeline: 1, Number: 7, Size: size}, 1)
	f.Add(b.Finish().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := rollup.Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Fatalf("%x is encoded again to %x", b, r.Encode())
		}
		for _, e := range r.Entries() {
			if e.Damaged() {
				continue
			}
			if _, err := e.Index(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := e.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Misfits(); err != nil {
			t.Fatal(err)
		}
	})
}
