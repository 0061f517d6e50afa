package rollup

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

// Log names 4 GiB of one timeline's WAL: the middle part of segment names.
type Log struct {
	Timeline wal.TimelineID
	Number   uint32
}

// LogOf is the log that a segment lies in.
func LogOf(seg wal.Segment) Log { return Log{Timeline: seg.Timeline, Number: seg.Log()} }

// First is the number of the log's first segment, in segments of the size.
func (l Log) First(size wal.SegmentSize) uint64 { return uint64(l.Number) * size.SegmentsPerLog() }

// Last is the number of its last segment.
func (l Log) Last(size wal.SegmentSize) uint64 { return l.First(size) + size.SegmentsPerLog() - 1 }

// String is the log as it is written in keys: timeline/log.
func (l Log) String() string { return fmt.Sprintf("%s/%08X", l.Timeline.Hex(), l.Number) }

// Fingerprint identifies the stored object of a segment by what a listing tells: its
// size and its version, or the time it was stored where the store has no versions. Of an
// object that was deleted and stored anew it is another one.
func Fingerprint(e archive.Entry) uint64 {
	b := binary.LittleEndian.AppendUint64(nil, uint64(e.Size))
	if e.Version != "" {
		b = append(append(b, 'v'), e.Version...)
	} else {
		b = append(b, 't')
		b = binary.LittleEndian.AppendUint64(b, uint64(e.ModTime.UnixNano()))
	}
	sum := blake3.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}

// Rollup is what is known of a log's segments. It is not changed once it is made,
// and safe for concurrent use.
type Rollup struct {
	Log      Log
	Size     wal.SegmentSize // of the segments
	SystemID uint64          // of the cluster
	entries  []Entry         // by number
}

// Entry is what a Rollup holds of one segment.
type Entry struct {
	// Segment it is of.
	Segment wal.Segment
	// Fingerprint of the object that was read.
	Fingerprint uint64
	compact     []byte // index.EncodeCompact; empty: the object was Damaged
	step        []byte // index.EncodeStep of the step from the segment before; empty: not kept
	edges       []byte // index.EncodeEdges; empty: not kept
}

// Entries are all there are, by number.
func (r *Rollup) Entries() []Entry { return r.entries }

// Damaged reports whether the segment's index could not be read when the Rollup was
// made. Nothing else is known of it then.
func (e Entry) Damaged() bool { return len(e.compact) == 0 }

// Lookup finds the entry of the segment with a number, if it is of the object
// with the fingerprint. It may be Damaged.
func (r *Rollup) Lookup(number, fingerprint uint64) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(r.entries, number, func(e Entry, n uint64) int {
		switch {
		case e.Segment.Number < n:
			return -1
		case e.Segment.Number > n:
			return 1
		}
		return 0
	})
	if !ok || r.entries[i].Fingerprint != fingerprint {
		return Entry{}, false
	}
	return r.entries[i], true
}

// Index is the segment's index without transactions. It can be joined, like the
// whole, if HasEdges.
func (e Entry) Index() (*index.Index, error) {
	ix, err := index.DecodeCompact(e.compact)
	if err != nil {
		return nil, err
	}
	if ix.Segment != e.Segment {
		return nil, fmt.Errorf("the entry of segment %s describes segment %s", e.Segment.Name(), ix.Segment.Name())
	}
	if !e.HasEdges() {
		return ix, nil
	}
	return ix.WithEdges(e.edges)
}

// HasEdges reports whether the bytes of the head and the tail are kept.
func (e Entry) HasEdges() bool { return len(e.edges) > 0 }

// Step is the proof that the segment continues the one before it, which is in
// the same Rollup; ok is false if it is not kept: then the two have to be joined.
func (e Entry) Step() (j *index.Joined, ok bool, err error) {
	if len(e.step) == 0 {
		return nil, false, nil
	}
	j, err = index.DecodeStep(e.step, e.Segment)
	return j, err == nil, err
}

// Misfit is a segment that does not continue the one before it.
type Misfit struct {
	Segment wal.Segment
	Err     error
}

// Misfits joins all neighbours whose fit is not written down.
func (r *Rollup) Misfits() ([]Misfit, error) {
	var list []Misfit
	var since []*index.Index // from the last segment on in which a record is complete
	for i, e := range r.entries {
		if e.Damaged() {
			since = nil
			continue
		}
		ix, err := e.Index()
		if err != nil {
			return nil, err
		}
		if i > 0 && r.entries[i-1].Segment.Number+1 != e.Segment.Number {
			since = nil
		}
		if len(e.step) == 0 && len(since) > 0 {
			if err := join(append(since, ix)); err != nil {
				list = append(list, Misfit{e.Segment, err})
				since = nil
			}
		}
		if ix.LastComplete != 0 {
			since = nil
		}
		since = append(since, ix)
	}
	return list, nil
}

// join joins consecutive segments.
func join(list []*index.Index) error {
	var j index.Joiner
	for _, ix := range list {
		if _, err := j.Add(ix); err != nil {
			return err
		}
	}
	return nil
}
