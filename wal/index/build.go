package index

import (
	"errors"
	"fmt"
	"io"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Options for Build.
type Options struct {
	SystemID uint64 // the cluster the segment must be of; 0: any
	// Complete: the segment must be sound to its last byte, or to an
	// XLOG_SWITCH followed by nothing but zeros. Otherwise (a .partial file) the
	// index ends where valid WAL ends; only a segment whose first page is not
	// valid, or that is of another cluster or timeline, is refused.
	Complete bool
	// Known is how many bytes are known to be the segment's, from its start on,
	// where its end is not there yet; 0: all. r gives zeros for the others. The index ends with
	// the last record that is known whole. Everything before is held to be
	// finished, as with Complete: what is not valid there is refused.
	Known int64
}

// Build reads the segment from r in one pass and derives its index. r holds
// the segment from offset 0 on and nothing else. Memory is bounded; what grows
// with the content is about 10 bytes per transaction, and the landmarks.
//
// The error is a *record.Error where the content is at fault; it names the
// position and the reason. Errors of r are returned as they are, wrapped.
func Build(r io.ReaderAt, seg wal.Segment, o Options) (*Index, error) {
	if err := checkSegment(seg); err != nil {
		return nil, fmt.Errorf("build index: %w", err)
	}
	if err := checkEnd(r, seg); err != nil {
		return nil, err
	}
	walk := record.NewReader(io.NewSectionReader(r, 0, seg.Size.Bytes()), record.Options{
		Start: seg.Start(), SegmentSize: seg.Size, Timeline: seg.Timeline,
		SystemID: o.SystemID, Length: seg.Size.Bytes(), Known: o.known(seg),
	})
	b := builder{ix: &Index{Segment: seg}}
	for walk.Next() {
		if err := b.add(walk.Record()); err != nil {
			return nil, err
		}
	}
	err := walk.Err()
	if err != nil && !o.allows(err, walk) {
		return nil, fmt.Errorf("build index: %w", err)
	}
	b.finish(walk, err == nil)
	return b.ix, nil
}

// checkSegment refuses segments that cannot exist.
func checkSegment(seg wal.Segment) error {
	if err := seg.Size.Valid(); err != nil {
		return err
	}
	if seg.Timeline == 0 {
		return errors.New("there is no timeline 0")
	}
	if seg.Number >= 1<<32*seg.Size.SegmentsPerLog()-1 {
		return fmt.Errorf("there is no segment %d", seg.Number)
	}
	return nil
}

// checkEnd refuses input that goes on behind the segment's end.
func checkEnd(r io.ReaderAt, seg wal.Segment) error {
	var one [1]byte
	n, err := r.ReadAt(one[:], seg.Size.Bytes())
	if n > 0 {
		return fmt.Errorf("build index: %w", &record.Error{
			Segment: seg, LSN: seg.End(), Kind: record.Oversized,
			Reason: fmt.Sprintf("there are more than the %d bytes of a segment", seg.Size.Bytes()),
		})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("build index: read after the end of %s: %w", seg.Name(), err)
	}
	return nil
}

// known is the position up to which the segment's bytes are known; 0: all are.
func (o Options) known(seg wal.Segment) wal.LSN {
	if o.Known == 0 {
		return 0
	}
	return seg.Start() + wal.LSN(o.Known)
}

// allows tells whether an error is the end of a segment that was not finished, or
// of which not all is there.
func (o Options) allows(err error, walk *record.Reader) bool {
	var fault *record.Error
	first, _ := walk.PageTimelines()
	switch {
	case !errors.As(err, &fault) || first == 0:
		return false
	case o.Known != 0:
		return fault.Kind == record.Unknown
	}
	return !o.Complete && fault.Kind.EndOfWAL()
}

// builder gathers an index record by record.
type builder struct {
	ix      *Index
	sum     endings
	decoded record.Decoded
	xact    record.Transaction
	effects effects
	locks   locks
	// files and relations are how many of each the details list so far.
	files, relations int
}

func (b *builder) add(rec *record.Record) error {
	ix := b.ix
	b.count(rec.LSN, rec.Prev)
	ix.LastComplete = rec.LSN
	if rec.IsSwitch() {
		ix.Switch = rec.LSN
	}
	var t Transaction
	var l Landmark
	found, err := b.interpret(rec, &t, &l)
	if err != nil {
		return fmt.Errorf("build index: %w", &record.Error{Segment: ix.Segment, LSN: rec.LSN, Kind: record.Corrupt, Reason: err.Error()})
	}
	switch found {
	case aTransaction:
		return ix.addTransaction(t, &b.sum)
	case aLandmark:
		ix.Landmarks = append(ix.Landmarks, l)
	}
	return nil
}

// count takes note of a record that starts in the segment.
func (b *builder) count(start, prev wal.LSN) {
	ix := b.ix
	if ix.Records == 0 {
		ix.FirstRecord, ix.FirstPrev = start, prev
	}
	ix.Records++
	ix.LastRecord = start
}

// finish takes over what is known at the end of the walk.
func (b *builder) finish(walk *record.Reader, complete bool) {
	ix := b.ix
	ix.Magic, ix.SystemID = walk.Magic(), walk.SystemID()
	ix.PageTimelineFirst, ix.PageTimelineLast = walk.PageTimelines()
	ix.setEndings(b.sum)
	ix.Effects, ix.Omitted = b.effects.result()
	ix.Locks, ix.Omitted.Locks = b.locks.result(), b.locks.omitted
	ix.Head, ix.Tail = walk.Head(), walk.Tail()
	ix.EndOfRecords = walk.End()
	if complete {
		ix.EndOfRecords = ix.Segment.End()
	}
	if start := walk.HeadSwitch(); start != 0 {
		ix.Switch = start
	}
	if ix.Tail.LSN != 0 {
		h, _ := ix.Tail.Header() // zero if it is cut
		b.count(ix.Tail.LSN, h.Prev)
	}
}

// landmarkKind is the kind of landmark a record of RMXLOG is; 0: none.
func landmarkKind(h record.Header) LandmarkKind {
	switch h.Op() {
	case record.XLOGRestorePoint:
		return RestorePoint
	case record.XLOGCheckpointShutdown:
		return CheckpointShutdown
	case record.XLOGCheckpointOnline:
		return CheckpointOnline
	case record.XLOGEndOfRecovery:
		return EndOfRecovery
	case record.XLOGBackupEnd:
		return BackupEnd
	case record.XLOGSwitch:
		return Switch
	case record.XLOGParameterChange:
		return ParameterChange
	case record.XLOGOverwriteContrecord:
		return OverwriteContrecord
	case record.XLOGCheckpointRedo:
		return CheckpointRedo
	}
	return 0
}

func (b *builder) landmark(rec *record.Record, l *Landmark) error {
	l.LSN, l.End, l.Kind = rec.LSN, rec.End, landmarkKind(rec.Header)
	if err := rec.Decode(&b.decoded); err != nil {
		return err
	}
	main := b.decoded.Main
	switch l.Kind {
	case RestorePoint:
		p, err := record.DecodeRestorePoint(main)
		l.Time, l.Name = p.Time, p.Name
		return err
	case CheckpointShutdown, CheckpointOnline:
		c, err := record.DecodeCheckpoint(rec.Major, main)
		l.Time, l.Redo, l.NextXID = c.Time, c.Redo, c.NextXID
		l.Timeline, l.PrevTimeline, l.WALLevel = c.Timeline, c.PrevTimeline, level(c.WALLevel)
		return err
	case EndOfRecovery:
		e, err := record.DecodeEndOfRecovery(rec.Major, main)
		l.Time, l.Timeline, l.PrevTimeline, l.WALLevel = e.Time, e.Timeline, e.PrevTimeline, level(e.WALLevel)
		return err
	case BackupEnd:
		redo, err := record.DecodeBackupEnd(main)
		l.Redo = redo
		return err
	case ParameterChange:
		p, err := record.DecodeParameterChange(main)
		l.WALLevel = level(p.WALLevel)
		l.Settings = &Settings{
			MaxConnections: p.MaxConnections, MaxWorkerProcesses: p.MaxWorkerProcesses,
			MaxWALSenders: p.MaxWALSenders, MaxPreparedTransactions: p.MaxPreparedTransactions,
			MaxLocksPerTransaction: p.MaxLocksPerTransaction,
			WALLogHints:            p.WALLogHints, TrackCommitTimestamp: p.TrackCommitTimestamp,
		}
		return err
	case OverwriteContrecord:
		o, err := record.DecodeOverwriteContrecord(main)
		l.Time, l.Redo = o.Time, o.LSN
		return err
	case CheckpointRedo:
		v, err := record.DecodeCheckpointRedo(main)
		l.WALLevel = level(v)
		return err
	}
	return nil
}

// level turns PostgreSQL's number into a WALLevel.
func level(v int32) WALLevel {
	if v < 0 || v > 2 {
		return LevelUnknown
	}
	return LevelMinimal + WALLevel(v)
}
