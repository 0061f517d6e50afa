package plan_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// pieces are fragments of random sizes that cover the first n bytes of a segment,
// some of them twice.
func (c *cluster) pieces(seg wal.Segment, n int64) archive.LiveSegment {
	l := archive.LiveSegment{Segment: seg}
	for from := int64(0); from < n; {
		to := min(n, from+1+c.r.Int64N(n))
		l.Fragments = append(l.Fragments, piece(seg, from, to))
		if c.r.IntN(4) == 0 {
			l.Fragments = append(l.Fragments, piece(seg, 0, to)) // a cumulative one
		}
		from = to - c.r.Int64N(min(to-from, 100)) // they overlap
		if to == n {
			break
		}
	}
	inOrder(&l)
	return l
}

func piece(seg wal.Segment, from, to int64) archive.StoredFragment {
	return archive.StoredFragment{Fragment: archive.Fragment{Segment: seg, From: from, To: to}, Size: to - from + 300}
}

func inOrder(l *archive.LiveSegment) {
	slices.SortFunc(l.Fragments, func(x, y archive.StoredFragment) int {
		return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(y.To, x.To))
	})
}

// randomTail covers a random part of an unfinished segment; seldom with a hole in it.
func (c *cluster) randomTail(b *branch, seg wal.Segment) archive.LiveSegment {
	content, written := b.Bytes(seg), int64(b.Position()-seg.Start())
	n := written
	switch c.r.IntN(6) {
	case 0:
		return archive.LiveSegment{Segment: seg}
	case 1, 2, 3:
		n = 1 + c.r.Int64N(written)
	case 4:
		n = max(n/wal.PageSize*wal.PageSize, 1)
	}
	// Where zeros come next, a record that is cut off in them is whole to PostgreSQL.
	for n < written && content[n] == 0 {
		n++
	}
	l := c.pieces(seg, n)
	if c.r.IntN(12) == 0 {
		l.Fragments = append(l.Fragments, piece(seg, min(n+1, seg.Size.Bytes()-1), seg.Size.Bytes()))
	}
	return l
}

// toTheEnd covers all that is written.
func (c *cluster) toTheEnd(b *branch, seg wal.Segment) archive.LiveSegment {
	return c.pieces(seg, int64(b.Position()-seg.Start()))
}

// open archives what the test wants of a branch's unfinished segment. Recovery is given it
// unless bytes are missing of which later ones are there.
func (c *cluster) open(t *testing.T, b *branch) []archive.LiveSegment {
	t.Helper()
	seg := wal.SegmentAt(b.Timeline(), b.Position(), segment)
	if c.tail == nil || b.Position() == seg.Start() {
		return nil
	}
	l := c.tail(b, seg)
	if len(l.Fragments) == 0 {
		return nil
	}
	if n := l.Covered(); !l.HasHole() {
		c.part(t, b, seg, n)
	}
	return []archive.LiveSegment{l}
}

// part makes recovery given the first n bytes of a segment.
func (c *cluster) part(t *testing.T, b *branch, seg wal.Segment, n int64) {
	t.Helper()
	c.ends[seg] = seg.Start() + wal.LSN(n)
	if n >= archive.MinCovered {
		content := b.Bytes(seg)
		clear(content[n:])
		c.index(t, seg, content, index.Options{SystemID: systemID, Known: n})
	}
}
