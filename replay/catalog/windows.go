package catalog

import (
	"slices"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// Moment is a position in the WAL and, where it is known, its time.
type Moment struct {
	LSN  wal.LSN    `json:"lsn"`
	Time *time.Time `json:"time,omitempty"`
}

// Window is an unbroken stretch of moments that can be restored on the way to
// one timeline.
type Window struct {
	// Timeline is the one to name as the target's.
	Timeline wal.TimelineID `json:"timeline"`
	// From is where the earliest of the backups is consistent; its time is by
	// the clock of the machine that took the backup.
	From Moment `json:"from"`
	// To is the end of the WAL that follows without a hole; its time is that of
	// the last commit or abort before it, or of the last checkpoint if there
	// is none nearby. A time target must be earlier than the last time in the WAL, which may
	// be later than this; --latest reaches the end.
	To Moment `json:"to"`
	// Backups can start a restore to some moment of the window, oldest first.
	Backups []string `json:"backups"`
}

// endSteps are how many segments before the end of a window are looked at for
// a commit time, in turn.
var endSteps = [...]uint64{2, 16}

// Windows are all stretches that can be restored, by timeline and position. A
// stretch that lies whole on the way to another timeline as well is listed for that
// one alone. Times of their ends are missing unless WindowNeeds has been met.
func (s *Snapshot) Windows() []Window {
	var all []Window
	for _, t := range s.Timelines {
		if p, err := s.Path(t.ID); err == nil {
			all = append(all, s.windowsOn(p)...)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(w Window) bool {
		return slices.ContainsFunc(all, func(o Window) bool { return s.covered(w, o) })
	})
}

// WindowNeeds is what Windows lacks to tell the times of all ends.
func (s *Snapshot) WindowNeeds() Needs {
	var n Needs
	seen := map[wal.Segment]bool{}
	for _, t := range s.Timelines {
		p, err := s.Path(t.ID)
		if err != nil {
			continue
		}
		for _, w := range s.windowsOn(p) {
			for _, seg := range s.endNeeds(p, s.SegmentSize.Number(w.From.LSN), s.SegmentSize.PrevNumber(w.To.LSN)) {
				if !seen[seg] {
					seen[seg] = true
					n.Segments = append(n.Segments, seg)
				}
			}
		}
	}
	return n
}

// endNeeds are the segments to be loaded next to find the time of a window's
// end; none if it is known or will not be.
func (s *Snapshot) endNeeds(p Path, first, last uint64) []wal.Segment {
	for _, step := range endSteps {
		var missing []wal.Segment
		for n := last; n >= first && n+step > last; n-- {
			seg := p.Segment(n)
			ix := s.Details.Indexes[seg]
			if ix != nil && !ix.LastTime.IsZero() {
				break
			}
			if ix == nil && s.Details.Unreadable[seg] == "" {
				missing = append(missing, seg)
			}
			if n == 0 {
				break
			}
		}
		if len(missing) > 0 || s.endTimed(p, first, last, step) {
			return missing
		}
	}
	return nil
}

// endTimed reports whether a commit time is known among the last segments.
func (s *Snapshot) endTimed(p Path, first, last, step uint64) bool {
	for n := last; n >= first && n+step > last && n > 0; n-- {
		if ix := s.Details.Indexes[p.Segment(n)]; ix != nil && !ix.LastTime.IsZero() {
			return true
		}
	}
	return false
}

// WindowsOn are the windows on the way to one timeline, whatever other timelines they
// lie on as well.
func (s *Snapshot) WindowsOn(p Path) []Window { return s.windowsOn(p) }

// windowsOn are the windows on one path, merged where backups share a run.
func (s *Snapshot) windowsOn(p Path) []Window {
	var list []Window
	for _, b := range s.Backups {
		if p.Belongs(b) != "" {
			continue
		}
		first := s.SegmentSize.Number(b.StartLSN)
		last, ok := s.RunEnd(p, first)
		last = s.soundEnd(p, first, last)
		if !ok || last < s.SegmentSize.PrevNumber(b.StopLSN) {
			continue
		}
		to := s.endOf(p, s.SegmentSize.Number(b.StopLSN), last)
		if to.LSN < b.StopLSN {
			continue
		}
		stop := b.StopTime
		list = append(list, Window{
			Timeline: p.Timeline, From: Moment{LSN: b.StopLSN, Time: &stop}, To: to, Backups: []string{b.ID},
		})
	}
	slices.SortStableFunc(list, func(a, b Window) int { return compare(a.From.LSN, b.From.LSN) })
	return merge(list)
}

// soundEnd is the last of the segments numbered first to last before one that
// is known to be unreadable, or not to continue the one before; first-1 if it
// is the first.
func (s *Snapshot) soundEnd(p Path, first, last uint64) uint64 {
	cut := func(seg wal.Segment, atLeast uint64) {
		if seg.Number >= atLeast && seg.Number <= last && p.Segment(seg.Number) == seg {
			last = seg.Number - 1
		}
	}
	for seg := range s.Details.Unreadable {
		cut(seg, first)
	}
	for link, state := range s.Details.Links {
		if state.Broken != "" && p.Segment(link.From.Number) == link.From {
			cut(link.To, first+1)
		}
	}
	return last
}

// merge joins windows that overlap; they are of one path and in order.
func merge(list []Window) []Window {
	var out []Window
	for _, w := range list {
		if n := len(out); n > 0 && w.From.LSN <= out[n-1].To.LSN {
			out[n-1].Backups = append(out[n-1].Backups, w.Backups...)
			if w.To.LSN > out[n-1].To.LSN {
				out[n-1].To = w.To
			}
			continue
		}
		out = append(out, w)
	}
	for i := range out {
		slices.Sort(out[i].Backups)
	}
	return out
}

// endOf is the end of the run whose last segment is numbered last, and the time
// of the last transaction before it, as far as the indexes tell.
func (s *Snapshot) endOf(p Path, first, last uint64) Moment {
	m := Moment{LSN: s.EndOfWAL(p, first, last)}
	var checkpoint time.Time
	for n, steps := last, uint64(0); n >= first && n > 0 && steps < endSteps[len(endSteps)-1]; n, steps = n-1, steps+1 {
		ix := s.Details.Indexes[p.Segment(n)]
		if ix == nil {
			break
		}
		if !ix.LastTime.IsZero() {
			t := ix.LastTime
			m.Time = &t
			return m
		}
		if t := lastCheckpoint(ix); checkpoint.IsZero() && !t.IsZero() {
			checkpoint = t
		}
	}
	if !checkpoint.IsZero() {
		m.Time = &checkpoint
	}
	return m
}

// EndOfWAL is how far recovery along the path gets that finds no segment after
// the one numbered last: that one's end, or where the record starts that would
// go on in the next; of one whose end is not there, where its last whole record ends. Segments
// before first are not looked at. Without an index it is where what is archived of the segment ends.
func (s *Snapshot) EndOfWAL(p Path, first, last uint64) wal.LSN {
	for n := last; ; n-- {
		ix := s.Details.Indexes[p.Segment(n)]
		switch {
		case ix == nil:
			return s.EndOf(p.Segment(last))
		case ix.Tail.LSN != 0:
			return EndBefore(ix.Tail.LSN, s.SegmentSize)
		case ix.Head.Have == ix.Head.Length && !ix.Head.Overwritten, ix.Head.Overwritten && ix.Records > 0:
			return ix.EndOfRecords
		case n <= first:
			return p.Segment(n).Start()
		}
		// All that is there of the segment is the middle of one record: see where it began.
	}
}

// Sizes of WAL page headers: a segment's first page has a long one.
const (
	shortHeader = 24
	longHeader  = 40
)

// EndBefore is where the record ended that comes before the one at start. A record
// that ends with its page ends at the next page's start, before the header.
func EndBefore(start wal.LSN, size wal.SegmentSize) wal.LSN {
	header := shortHeader
	if int64(start.Page())%size.Bytes() == 0 {
		header = longHeader
	}
	if start.PageOffset() == header {
		return start.Page()
	}
	return start
}

func lastCheckpoint(ix *index.Index) time.Time {
	var t time.Time
	for _, l := range ix.Landmarks {
		if l.Kind == index.CheckpointOnline || l.Kind == index.CheckpointShutdown {
			t = l.Time
		}
	}
	return t
}

// covered reports whether every moment of w lies on o as well, and o reaches
// further, or is of the older of two timelines.
func (s *Snapshot) covered(w, o Window) bool {
	if w.Timeline == o.Timeline {
		return false
	}
	p, err := s.Path(w.Timeline)
	if err != nil {
		return false
	}
	q, err := s.Path(o.Timeline)
	if err != nil {
		return false
	}
	fork, ok := p.Divergence(q)
	if !ok || w.To.LSN > fork || w.From.LSN < o.From.LSN || w.To.LSN > o.To.LSN {
		return false
	}
	same := w.From.LSN == o.From.LSN && w.To.LSN == o.To.LSN
	return !same || o.Timeline < w.Timeline
}
