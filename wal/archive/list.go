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

// listers bounds the requests that are under way at once.
const listers = 32

// LastSegment is the upper bound of a range of segments that has none.
const LastSegment = math.MaxUint64

// Entry is a segment that is archived.
type Entry struct {
	Segment wal.Segment
	// Partial says that it is a .partial file.
	Partial bool
	// Size is that of the stored object in bytes, ModTime when it was stored,
	// Version what the store calls it (storage.Info).
	Size    int64
	ModTime time.Time
	Version string
}

// Range is an unbroken run of complete segments of one timeline.
type Range struct {
	Timeline wal.TimelineID
	// First and Last are numbers of segments, inclusive.
	First, Last uint64
	// Bytes is the size of the stored objects.
	Bytes int64
}

// FileOf takes apart the key of a file in the archive; ok is false for a key
// under which none is ever stored.
func (a *Archive) FileOf(key string) (wal.File, bool) {
	rest, ok := strings.CutPrefix(key, a.walPrefix)
	if !ok {
		return wal.File{}, false
	}
	name := path.Base(rest)
	f, err := wal.ParseFile(name, a.inc.SegmentSize)
	switch {
	case err != nil:
		return wal.File{}, false
	case f.Kind == wal.FileHistory:
		return f, rest == name
	}
	// A listing can be of a million keys: they are not put together again to be compared.
	tli, log := name[:8], name[8:16]
	ok = len(rest) == len(name)+18 && rest[:8] == tli && rest[8] == '/' && rest[9:17] == log && rest[17] == '/'
	return f, ok
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
		if f, ok := a.FileOf(walPrefix(a.inc) + e.Name); ok {
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
// from and to, inclusive (LastSegment: no upper bound), in order. See Files.
func (a *Archive) Segments(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]Entry, error) {
	segments, _, err := a.Files(ctx, tli, from, to)
	return segments, err
}

// Partials lists the partial segments in a range, as Segments does.
func (a *Archive) Partials(ctx context.Context, tli wal.TimelineID, from, to uint64) ([]Entry, error) {
	_, partials, err := a.Files(ctx, tli, from, to)
	return partials, err
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
