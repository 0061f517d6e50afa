package rollup

import (
	"fmt"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// Builder makes a Rollup of a log's indexes, which it is given in order. What it
// holds of them are the compact forms, and the edges of a few.
type Builder struct {
	r        Rollup
	joiner   *index.Joiner
	previous uint64
	// since are the edges of the segments from the last one on in which a record is
	// complete: with them, what comes next can be joined. known: there is such a one.
	since []kept
	known bool
}

// kept are the edges of an entry.
type kept struct {
	entry int
	edges []byte
}

// NewBuilder begins a Rollup of a cluster's log.
func NewBuilder(log Log, size wal.SegmentSize, systemID uint64) *Builder {
	return &Builder{r: Rollup{Log: log, Size: size, SystemID: systemID}}
}

// Add takes the next segment of the log. Where it does not continue the one before
// it, misfit says why; it is taken all the same. err: it cannot be taken.
func (b *Builder) Add(ix *index.Index, fingerprint uint64) (misfit, err error) {
	seg := ix.Segment
	n := len(b.r.entries)
	switch {
	case LogOf(seg) != b.r.Log || seg.Size != b.r.Size || ix.SystemID != b.r.SystemID:
		return nil, fmt.Errorf("segment %s of system identifier %d is not of log %s", seg.Name(), ix.SystemID, b.r.Log)
	case n > 0 && seg.Number <= b.r.entries[n-1].Segment.Number:
		return nil, fmt.Errorf("segment %s is not in order", seg.Name())
	}
	entry := Entry{Segment: seg, Fingerprint: fingerprint, compact: ix.EncodeCompact()}
	step, misfit := b.step(ix)
	if step != nil && step.Plain() && b.known {
		entry.step = step.EncodeStep(seg)
	}
	b.r.entries = append(b.r.entries, entry)
	b.previous = seg.Number
	edges := ix.EncodeEdges()
	if len(entry.step) == 0 {
		b.keep()
	}
	if ix.LastComplete != 0 {
		b.since, b.known = nil, true
	}
	b.since = append(b.since, kept{n, edges})
	if len(entry.step) == 0 {
		b.r.entries[n].edges = edges
	}
	return misfit, nil
}

// Skip notes that the next segment's index cannot be read.
func (b *Builder) Skip(seg wal.Segment, fingerprint uint64) {
	b.r.entries = append(b.r.entries, Entry{Segment: seg, Fingerprint: fingerprint})
	b.keep()
	b.since, b.known = nil, false
}

// step joins the segment to the one before. nil: it begins a run.
func (b *Builder) step(ix *index.Index) (step *index.Joined, misfit error) {
	if len(b.since) > 0 && b.previous+1 == ix.Segment.Number {
		if step, misfit = b.joiner.Add(ix); misfit == nil {
			return step, nil
		}
	}
	b.keep() // the end of the run before
	b.joiner, b.since, b.known = &index.Joiner{}, nil, false
	if _, err := b.joiner.Add(ix); err != nil && misfit == nil {
		misfit = err
	}
	return nil, misfit
}

// keep keeps the edges with which what comes next can be joined.
func (b *Builder) keep() {
	for _, k := range b.since {
		b.r.entries[k.entry].edges = k.edges
	}
}

// Finish returns the Rollup. The Builder must not be used again.
func (b *Builder) Finish() *Rollup {
	b.keep()
	return &b.r
}
