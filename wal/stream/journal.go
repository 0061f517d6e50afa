package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/walden-pg/walden/wal"
)

// journal is the WAL that was received and is not done with: segments that
// are open, being uploaded, or not sealed. One goroutine appends; uploads read
// and report what has become durable.
//
// Its size is bounded: where the limit is reached append waits, so that the
// server is not read from, and its slot keeps the WAL.
type journal struct {
	size  wal.SegmentSize
	limit int64 // of bytes in files
	// newFile makes the file of a segment.
	newFile func(wal.Segment) (*segmentFile, error)
	// describe tells a segment that is begun what the archive has of it.
	describe func(*openSegment)

	mu       sync.Mutex
	segments []*openSegment // in the order in which they were received
	buffered int64          // bytes in their files
	// tip is where the WAL of the newest segment goes on; base is up to where
	// everything before the first of segments is durable. On timeline.
	timeline wal.TimelineID
	tip      wal.LSN
	base     wal.LSN
	// ended says that receiving will not go on at tip.
	ended bool
	// urgent is a position that the server waits for: what is before it is
	// shipped at once.
	urgent wal.LSN
	// changed is closed and replaced at every change.
	changed chan struct{}
}

func newJournal(size wal.SegmentSize, limit int64, newFile func(wal.Segment) (*segmentFile, error)) *journal {
	// Two segments must always fit: one to be sealed, one to be received.
	return &journal{size: size, limit: max(limit, 2*size.Bytes()), newFile: newFile, changed: make(chan struct{})}
}

// signal wakes all who wait for a change. The lock is held.
func (j *journal) signal() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// await returns a channel that is closed at the next change.
func (j *journal) await() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// begin makes the journal go on at a position, on a timeline. A segment that was not
// complete is left: its bytes stay, and no more come. start is a
// segment's start, or the tip. archived says that the repository holds what is
// before it.
func (j *journal) begin(tli wal.TimelineID, start wal.LSN, archived bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.signal()
	j.ended = false
	if j.timeline == tli && j.tip == start {
		return
	}
	if s := j.last(); s != nil && !s.complete() {
		s.left = true
	}
	j.timeline, j.tip, j.base = tli, start, 0
	if len(j.segments) == 0 && archived {
		j.base = start
	}
}

// position is where the journal goes on; 0: nothing was ever received.
func (j *journal) position() (wal.TimelineID, wal.LSN) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.timeline, j.tip
}

func (j *journal) last() *openSegment {
	if len(j.segments) == 0 {
		return nil
	}
	return j.segments[len(j.segments)-1]
}

// append takes a run of WAL, which may cross a segment's end. It waits while
// the journal is full.
func (j *journal) append(ctx context.Context, start wal.LSN, b []byte) error {
	for len(b) > 0 {
		s, err := j.room(ctx, start)
		if err != nil {
			return err
		}
		n := min(int64(len(b)), int64(s.seg.End()-start))
		offset := int64(start - s.seg.Start())
		if _, err := s.file.WriteAt(b[:n], offset); err != nil {
			return &LocalError{Segment: s.seg, Err: err}
		}
		j.arrived(s, n)
		start += wal.LSN(n)
		b = b[n:]
	}
	return nil
}

// room is the segment that takes the byte at start, once there is room for it.
func (j *journal) room(ctx context.Context, start wal.LSN) (*openSegment, error) {
	for {
		j.mu.Lock()
		if start != j.tip {
			defer j.mu.Unlock()
			return nil, fmt.Errorf("the server sent WAL at %s where %s was due", start, j.tip)
		}
		if j.buffered < j.limit {
			defer j.mu.Unlock()
			return j.segmentAt(start)
		}
		changed := j.changed
		j.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// segmentAt is the segment that the byte at start, which is the tip, belongs
// to: the last one, or a new one. The lock is held.
func (j *journal) segmentAt(start wal.LSN) (*openSegment, error) {
	seg := wal.SegmentAt(j.timeline, start, j.size)
	if s := j.last(); s != nil && s.seg == seg && !s.left {
		return s, nil
	}
	if start != seg.Start() {
		return nil, fmt.Errorf("the WAL of segment %s begins at %s", seg.Name(), start)
	}
	s, err := j.open(seg)
	if err != nil {
		return nil, err
	}
	j.signal()
	return s, nil
}

// open adds a segment. The lock is held.
func (j *journal) open(seg wal.Segment) (*openSegment, error) {
	file, err := j.newFile(seg)
	if err != nil {
		return nil, &LocalError{Segment: seg, Err: err}
	}
	s := &openSegment{seg: seg, file: file}
	if j.describe != nil {
		j.describe(s)
	}
	j.segments = append(j.segments, s)
	return s, nil
}

// arrived notes that n more bytes of s are there.
func (j *journal) arrived(s *openSegment, n int64) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.have == s.scheduled {
		s.since = now
	}
	if s.have == s.durable {
		s.arrived = now
	}
	s.have += n
	j.buffered += n
	j.tip = s.end()
	j.signal()
}

// received, durable and synced are positions on the current timeline: how far
// everything is here, in the repository, and in the spool. 0: nothing yet.
func (j *journal) positions() (received, durable, synced wal.LSN) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tip, j.reach(func(s *openSegment) int64 { return s.durable }), j.reach(func(s *openSegment) int64 { return max(s.durable, s.synced) })
}

// durable is up to where everything is in the repository, and of which timeline.
func (j *journal) durable() (wal.TimelineID, wal.LSN) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.timeline, j.reach(func(s *openSegment) int64 { return s.durable })
}

// reach is up to where everything is safe by a measure. What was received of
// an earlier timeline must be safe before anything of the current one counts.
// The lock is held.
func (j *journal) reach(measure func(*openSegment) int64) wal.LSN {
	at := j.base
	for _, s := range j.segments {
		n := measure(s)
		if s.sealed {
			n = s.have
		}
		if s.seg.Timeline != j.timeline {
			if n < s.have {
				return 0
			}
			at = 0
			continue
		}
		if n > 0 {
			at = s.seg.Start() + wal.LSN(n)
		}
		if n < s.seg.Size.Bytes() && !(s.left && n >= s.have) {
			break
		}
	}
	return at
}

// need makes everything that is here urgent: the server waits for it.
func (j *journal) need() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.urgent < j.tip {
		j.urgent = j.tip
		j.signal()
	}
}

// update changes a segment under the lock and lets go of what is done.
func (j *journal) update(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
	j.signal()
}

// popDone takes the segments off the front that nothing remains to be done
// for, and returns their files. The lock is held.
func (j *journal) popDone() []*segmentFile {
	var files []*segmentFile
	popped := false
	for _, s := range j.segments {
		if s.done() && s.file != nil && (s.complete() || s.left) {
			files = append(files, s.file)
			s.file = nil
			j.buffered -= s.have
		}
	}
	for len(j.segments) > 0 {
		s := j.segments[0]
		if s.file != nil || !s.done() {
			break
		}
		j.segments = j.segments[1:]
		popped = true
		if s.seg.Timeline == j.timeline {
			j.base = s.end()
		}
	}
	if popped || len(files) > 0 {
		j.signal() // there is room
	}
	return files
}

// goesOn reports whether receiving can go on at a place behind what is here:
// whether that joins what is archived, whose ends list gives, and has no hole.
func (j *journal) goesOn(at start, list []start) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := j.tip
	for i, s := range j.segments {
		if i > 0 && s.seg.Start() > j.segments[i-1].end() {
			return false
		}
		first = min(first, s.seg.Start())
	}
	n := len(list)
	return n == 0 || first <= list[0].missing && list[n-1].missing <= at.at
}

// resumable is where the journal ends, if receiving can go on there.
func (j *journal) resumable() (wal.TimelineID, wal.LSN, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.timeline, j.tip, j.tip != 0 && !j.ended
}

// leave ends what is here, if there is anything: it will not go on.
func (j *journal) leave() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.segments) == 0 {
		return false
	}
	if s := j.last(); !s.complete() {
		s.left = true
	}
	j.ended = true
	j.signal()
	return true
}

// clear waits until nothing is left to be done with what is here.
func (j *journal) clear(ctx context.Context) error {
	for {
		j.mu.Lock()
		n, changed := len(j.segments), j.changed
		j.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// close closes all files, once nobody uses them any more. What lies in a spool stays there.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	for _, s := range j.segments {
		if s.file != nil {
			err = errors.Join(err, s.file.release())
		}
	}
	return err
}

// pending reports how many bytes are here that are not durable, and when the
// oldest of them arrived.
func (j *journal) pending() (bytes int64, oldest time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.sealed || s.durable >= s.have {
			continue
		}
		bytes += s.have - s.durable
		if oldest.IsZero() {
			oldest = s.arrived
		}
	}
	return bytes, oldest
}

// LocalError says that this machine's disk failed: WAL cannot be held here.
type LocalError struct {
	Segment wal.Segment
	Err     error
}

// Error names the segment and the cause.
func (e *LocalError) Error() string {
	return fmt.Sprintf("hold WAL segment %s on this machine: %v", e.Segment.Name(), e.Err)
}

// Unwrap returns the cause.
func (e *LocalError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *LocalError) Hint() string {
	return "see that the spool's directory (without one: the directory for temporary files, $TMPDIR) can be written and has room; what was not acknowledged stays on the server"
}
