package archive

import (
	"context"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

const (
	// stretchKeys is about how many keys one listing is meant to find: what a
	// store gives in one or two answers.
	stretchKeys = 1024
	// fewStretches is the number of stretches up to which a range is
	// listed without asking first where its segments begin and end.
	fewStretches = 16
	// manyLogs is the number of logs up to which they are taken for present, each;
	// of more it is asked which of them there are.
	manyLogs = 1 << 16
)

// Files lists the segments and the partial segments of a timeline whose numbers
// lie between from and to, inclusive (LastSegment: no upper bound), in order.
//
// What lies outside the range is not walked. Inside, stretches of about a thousand
// keys are listed in parallel; a range of more than a few logs costs first what
// Bounds does.
func (a *Archive) Files(ctx context.Context, tli wal.TimelineID, from, to uint64) (segments, partials []Entry, err error) {
	if from > to {
		return nil, nil, nil
	}
	stretches, err := a.stretches(ctx, tli, from, to)
	if err != nil {
		return nil, nil, err
	}
	parts := make([][]Entry, len(stretches))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listers)
	for i, s := range stretches {
		g.Go(func() error {
			var err error
			parts[i], err = a.listStretch(gctx, tli, s)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for _, e := range slices.Concat(parts...) {
		if e.Partial {
			partials = append(partials, e)
		} else {
			segments = append(segments, e)
		}
	}
	return segments, partials, nil
}

// stretch is a run of segment numbers, both inclusive.
type stretch struct{ first, last uint64 }

// stretches cuts a range into what one listing is to find each.
func (a *Archive) stretches(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]stretch, error) {
	per := a.inc.SegmentSize.SegmentsPerLog()
	to = min(to, per*(math.MaxUint32+1)-1)
	if from > to {
		return nil, nil
	}
	step := max(per, stretchKeys/per*per)
	if to/step-from/step >= fewStretches {
		first, last, ok, err := a.Bounds(ctx, tli, uint32(from/per))
		if err != nil || !ok {
			return nil, err
		}
		from, to = max(from, uint64(first)*per), min(to, uint64(last)*per+per-1)
		if from > to {
			return nil, nil
		}
	}
	if to/per-from/per >= manyLogs {
		return a.presentLogs(ctx, tli, from, to)
	}
	var list []stretch
	for n := from; n <= to; {
		last := min(to, n/step*step+step-1)
		list = append(list, stretch{n, last})
		n = last + 1
	}
	return list, nil
}

// presentLogs are the logs in a range that have objects: one listing for each.
func (a *Archive) presentLogs(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]stretch, error) {
	per := a.inc.SegmentSize.SegmentsPerLog()
	var list []stretch
	for e, err := range storage.Directories(ctx, a.repo.Store(), timelinePrefix(a.inc, tli)) {
		if err != nil {
			return nil, fmt.Errorf("list segments of timeline %s: %w", tli, err)
		}
		n, ok := parseHex8(e.Name)
		if first := uint64(n) * per; ok && e.IsDir && first+per > from && first <= to {
			list = append(list, stretch{max(first, from), min(first+per-1, to)})
		}
	}
	return list, nil
}

// listStretch lists the files of a stretch.
func (a *Archive) listStretch(ctx context.Context, tli wal.TimelineID, s stretch) ([]Entry, error) {
	prefix, after := timelinePrefix(a.inc, tli), ""
	size := a.inc.SegmentSize
	first, last := wal.Segment{Timeline: tli, Number: s.first, Size: size}, wal.Segment{Timeline: tli, Number: s.last, Size: size}
	if first.Log() == last.Log() {
		prefix = logPrefix(a.inc, tli, first.Log())
	}
	if s.first > 0 {
		// Just before the first key of the range: names of one length sort by number.
		after = SegmentKey(a.inc, wal.Segment{Timeline: tli, Number: s.first - 1, Size: size}) + "~"
	}
	end := SegmentKey(a.inc, last) + "~"
	var entries []Entry
	for info, err := range a.repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list segments of timeline %s: %w", tli, err)
		}
		if info.Key > end {
			break
		}
		f, ok := a.FileOf(info.Key)
		if ok && (f.Kind == wal.FileSegment || f.Kind == wal.FilePartial) {
			entries = append(entries, Entry{
				Segment: f.Segment, Partial: f.Kind == wal.FilePartial,
				Size: info.Size, ModTime: info.ModTime, Version: info.Version,
			})
		}
	}
	return entries, nil
}

// Bounds finds the first and the last log of a timeline that has objects; ok is
// false if there is none. near is where the last is thought to be: a log that is there
// and close to it saves a round or two. Whatever lies between, it costs a few dozen requests of one key
// each, in two to five rounds.
func (a *Archive) Bounds(ctx context.Context, tli wal.TimelineID, near uint32) (first, last uint32, ok bool, err error) {
	// There is an object in the log lo or behind it, and none in hi or behind.
	lo, hi := uint64(0), uint64(math.MaxUint32)+1
	probes := gallop(uint64(near), hi)
	if near > 0 {
		probes = append([]uint64{0}, probes...)
	}
	for round := 0; len(probes) > 0; round++ {
		found, err := a.nextLogs(ctx, tli, probes)
		if err != nil {
			return 0, 0, false, err
		}
		if round == 0 {
			if found[0] == 0 {
				return 0, 0, false, nil
			}
			first = uint32(found[0] - 1)
		}
		for i, n := range found {
			if n > 0 {
				lo = max(lo, n-1)
			} else {
				hi = min(hi, probes[i])
			}
		}
		probes = divide(lo, hi)
	}
	return first, uint32(lo), true, nil
}

// nextLogs is nextLog at several places at once: the numbers of the logs plus one;
// 0: there is none.
func (a *Archive) nextLogs(ctx context.Context, tli wal.TimelineID, at []uint64) ([]uint64, error) {
	found := make([]uint64, len(at))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range at {
		g.Go(func() error {
			log, ok, err := a.nextLog(ctx, tli, n)
			if ok {
				found[i] = uint64(log) + 1
			}
			return err
		})
	}
	return found, g.Wait()
}

// Each round of Bounds asks at this many places.
const probesPerRound = 15

// gallop are places from lo on at growing distances, below hi.
func gallop(lo, hi uint64) []uint64 {
	list := []uint64{lo}
	for d := uint64(1); lo+d < hi; d *= probesPerRound + 1 {
		list = append(list, lo+d)
	}
	return list
}

// divide are places that cut what lies between lo and hi into equal parts.
func divide(lo, hi uint64) []uint64 {
	var list []uint64
	for i := uint64(1); i <= probesPerRound; i++ {
		at := lo + max(i, (hi-lo)*i/(probesPerRound+1))
		if at < hi && (len(list) == 0 || list[len(list)-1] < at) {
			list = append(list, at)
		}
	}
	return list
}

// nextLog is the first log, from the log at on, that has an object.
func (a *Archive) nextLog(ctx context.Context, tli wal.TimelineID, at uint64) (log uint32, ok bool, err error) {
	prefix, after := timelinePrefix(a.inc, tli), ""
	if at > 0 {
		after = fmt.Sprintf("%s%08X/~", prefix, at-1)
	}
	for info, err := range a.repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return 0, false, fmt.Errorf("list segments of timeline %s: %w", tli, err)
		}
		if f, ok := a.FileOf(info.Key); ok && f.Kind != wal.FileHistory {
			return f.Segment.Log(), true, nil
		}
	}
	return 0, false, nil
}
