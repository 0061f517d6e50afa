package archive

import (
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
)

const (
	// listers bounds the requests that are under way at once.
	listers = 8
	// fewLogs is the number of logs (4 GiB of WAL each) up to which a range is
	// listed without asking first which of them there are.
	fewLogs = 16
)

// LastSegment is the upper bound of a range of segments that has none.
const LastSegment = math.MaxUint64

// Entry is a segment that is archived.
type Entry struct {
	Segment wal.Segment
	// Partial says that it is a .partial file.
	Partial bool
	// Size is that of the stored object in bytes, ModTime when it was stored.
	Size    int64
	ModTime time.Time
}

// Range is an unbroken run of complete segments of one timeline.
type Range struct {
	Timeline wal.TimelineID
	// First and Last are numbers of segments, inclusive.
	First, Last uint64
	// Bytes is the size of the stored objects.
	Bytes int64
}

// fileOf takes apart the key of a file in the archive; ok is false for a key
// under which none is ever stored.
func (a *Archive) fileOf(key string) (wal.File, bool) {
	f, err := wal.ParseFile(path.Base(key), a.inc.SegmentSize)
	return f, err == nil && FileKey(a.inc, f) == key
}

// Timelines returns the timelines that the archive holds anything of,
// ascending: segments, fragments or a history file.
func (a *Archive) Timelines(ctx context.Context) ([]wal.TimelineID, error) {
	live, err := a.liveTimelines(ctx)
	if err != nil {
		return nil, err
	}
	dirs, histories, err := a.timelines(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(live, dirs, histories)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// timelines lists the timelines that have segments, and those that have a
// history file. It costs one listing for each, whatever they hold.
func (a *Archive) timelines(ctx context.Context) (dirs, histories []wal.TimelineID, err error) {
	for e, err := range storage.Directories(ctx, a.repo.Store(), walPrefix(a.inc)) {
		if err != nil {
			return nil, nil, fmt.Errorf("list timelines: %w", err)
		}
		if e.IsDir {
			if n, ok := parseHex8(e.Name); ok && n != 0 {
				dirs = append(dirs, wal.TimelineID(n))
			}
			continue
		}
		if f, ok := a.fileOf(walPrefix(a.inc) + e.Name); ok {
			histories = append(histories, f.Timeline)
		}
	}
	return dirs, histories, nil
}

// Histories reads all timeline history files. Timeline 1 has none.
func (a *Archive) Histories(ctx context.Context) (map[wal.TimelineID]wal.History, error) {
	_, tlis, err := a.timelines(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	all := make(map[wal.TimelineID]wal.History, len(tlis))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listers)
	for _, tli := range tlis {
		g.Go(func() error {
			h, err := a.History(ctx, tli)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all[tli] = h
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

// Segments lists the complete segments of a timeline whose numbers lie between
// from and to, inclusive (LastSegment: no upper bound), in order. Logs of
// 4 GiB are listed in parallel; what lies outside the range is not walked.
func (a *Archive) Segments(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]Entry, error) {
	return a.list(ctx, tli, from, to, wal.FileSegment)
}

// Partials lists the partial segments in a range, as Segments does.
func (a *Archive) Partials(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]Entry, error) {
	return a.list(ctx, tli, from, to, wal.FilePartial)
}

func (a *Archive) list(ctx context.Context, tli wal.TimelineID, from, to uint64, kind wal.FileKind) ([]Entry, error) {
	if from > to {
		return nil, nil
	}
	logs, err := a.logs(ctx, tli, from, to)
	if err != nil {
		return nil, err
	}
	parts := make([][]Entry, len(logs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listers)
	for i, log := range logs {
		g.Go(func() error {
			var err error
			parts[i], err = a.listLog(ctx, tli, log, from, to, kind)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(parts...), nil
}

// logs returns the logs that can hold segments of the range.
func (a *Archive) logs(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]uint32, error) {
	per := a.inc.SegmentSize.SegmentsPerLog()
	first, last := from/per, min(to/per, math.MaxUint32)
	var logs []uint32
	if first <= last && last-first < fewLogs {
		for n := first; n <= last; n++ {
			logs = append(logs, uint32(n))
		}
		return logs, nil
	}
	for e, err := range storage.Directories(ctx, a.repo.Store(), timelinePrefix(a.inc, tli)) {
		if err != nil {
			return nil, fmt.Errorf("list segments of timeline %s: %w", tli, err)
		}
		n, ok := parseHex8(e.Name)
		if ok && e.IsDir && uint64(n) >= first && uint64(n) <= last {
			logs = append(logs, n)
		}
	}
	return logs, nil
}

// listLog lists one log.
func (a *Archive) listLog(ctx context.Context, tli wal.TimelineID, log uint32, from, to uint64, kind wal.FileKind) ([]Entry, error) {
	prefix := logPrefix(a.inc, tli, log)
	after := ""
	if size := a.inc.SegmentSize; from > uint64(log)*size.SegmentsPerLog() {
		// Just before the first key of the range: names of one length sort by number.
		after = SegmentKey(a.inc, wal.Segment{Timeline: tli, Number: from - 1, Size: size}) + "~"
	}
	var entries []Entry
	for info, err := range a.repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list segments of timeline %s: %w", tli, err)
		}
		f, ok := a.fileOf(info.Key)
		if !ok {
			continue
		}
		if f.Segment.Number > to {
			break
		}
		if f.Kind == kind && f.Segment.Number >= from {
			entries = append(entries, Entry{Segment: f.Segment, Partial: kind == wal.FilePartial, Size: info.Size, ModTime: info.ModTime})
		}
	}
	return entries, nil
}

// Ranges returns the unbroken runs of complete segments of a timeline, in order.
func (a *Archive) Ranges(ctx context.Context, tli wal.TimelineID) ([]Range, error) {
	entries, err := a.Segments(ctx, tli, 0, LastSegment)
	if err != nil {
		return nil, err
	}
	return Runs(entries), nil
}

// Runs joins entries of complete segments of one timeline, in order, into
// unbroken runs.
func Runs(entries []Entry) []Range {
	var runs []Range
	for _, e := range entries {
		if n := len(runs); n > 0 && runs[n-1].Timeline == e.Segment.Timeline && runs[n-1].Last+1 == e.Segment.Number {
			runs[n-1].Last++
			runs[n-1].Bytes += e.Size
			continue
		}
		runs = append(runs, Range{Timeline: e.Segment.Timeline, First: e.Segment.Number, Last: e.Segment.Number, Bytes: e.Size})
	}
	return runs
}

// parseHex8 reads eight upper-case hexadecimal digits.
func parseHex8(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err == nil && len(s) == 8 && strings.ToUpper(s) == s
}
