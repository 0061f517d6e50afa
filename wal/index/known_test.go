package index_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/waltest"
)

// unfinished is a segment that begins with the end of a long record and, at one
// place, writes over one that was lost; and where its records start and end.
func unfinished(t *testing.T) (before *index.Index, seg wal.Segment, content []byte, starts, ends []wal.LSN, end wal.LSN) {
	t.Helper()
	b := waltest.NewBuilder(17, system, 1, size)
	b.FillTo(b.Position().Page() + wal.LSN(size) - 4096)
	add := func(start, end wal.LSN) { starts, ends = append(starts, start), append(ends, end) }
	add(b.Message(30_000))
	seg = wal.SegmentAt(1, b.Position(), size)
	for i := range 40 {
		add(b.Commit(700+uint32(i), noon))
		add(b.Message(i * i * 11))
	}
	b.Overwritten(20_000, 1, noon)
	starts, ends = append(starts, b.Position()), append(ends, b.Position())
	add(b.Commit(900, noon))
	all := b.Complete()
	return build(t, b, all[len(all)-1]), seg, b.Bytes(seg), starts, ends, b.Position()
}

// known is the content as a reader has it who knows only the first n bytes.
func known(content []byte, n int64) []byte {
	return append(bytes.Clone(content[:n]), make([]byte, int64(len(content))-n)...)
}

func buildKnown(seg wal.Segment, content []byte, n int64) (*index.Index, error) {
	return index.Build(bytes.NewReader(known(content, n)), seg, index.Options{SystemID: system, Known: n})
}

// A segment that is known up to any byte ends with the last record that is known
// whole, and continues the segment before it.
func TestKnownUpToAnyByte(t *testing.T) {
	before, seg, content, _, ends, end := unfinished(t)
	written := int64(end - seg.Start())
	for n := int64(40); n <= written; n++ {
		if page := n % wal.PageSize; n > 200 && n%499 != 0 && page > 30 && page < wal.PageSize-9 && n < written-200 {
			continue
		}
		if n < written && content[n] == 0 {
			continue // perhaps padding: the record before it is whole or not
		}
		ix, err := buildKnown(seg, content, n)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		want := seg.Start()
		for _, e := range ends {
			if e > seg.Start() && int64(e-seg.Start()) <= n {
				want = e
			}
		}
		if ix.EndOfRecords != want || ix.Tail.LSN != 0 {
			t.Fatalf("%d bytes: ends at %s with a tail at %s, want %s", n, ix.EndOfRecords, ix.Tail.LSN, want)
		}
		joined, err := index.Join(before, ix)
		if err != nil || joined.Continues != (want == seg.Start()) {
			t.Fatalf("%d bytes: joined %v, %v", n, joined != nil, err)
		}
	}
}

// What is damaged among the known bytes is not taken for their end.
func TestKnownAndDamaged(t *testing.T) {
	_, seg, content, starts, ends, end := unfinished(t)
	r := rand.New(rand.NewPCG(1, 2))
	written := int64(end - seg.Start())
	for i, start := range starts {
		if start < seg.Start() || start == ends[i] {
			continue
		}
		for range 2 {
			// Anywhere in the record, its padding aside; known from its end on.
			at := int64(start-seg.Start()) + r.Int64N(int64(ends[i]-start)-7)
			n := int64(ends[i]-seg.Start()) + r.Int64N(written-int64(ends[i]-seg.Start())+1)
			bad := bytes.Clone(content)
			bad[at] ^= 1 << r.IntN(8)
			_, err := buildKnown(seg, bad, n)
			var fault *record.Error
			if !errors.As(err, &fault) && !bytes.Equal(bad[at-at%wal.PageSize:][:24], content[at-at%wal.PageSize:][:24]) {
				continue // unused bits of a page's header
			}
			longer := at < int64(start-seg.Start())+4 // its length: it may reach beyond what is known
			if !errors.As(err, &fault) && !longer {
				t.Fatalf("byte %d of the record at %s flipped, %d bytes known: %v", at, start, n, err)
			}
		}
	}
	bad := bytes.Clone(content)
	clear(bad[written/2/wal.PageSize*wal.PageSize:])
	if ix, err := buildKnown(seg, bad, written); err == nil {
		t.Errorf("half of it zeros: WAL to %s", ix.EndOfRecords)
	}
}
