package plan

import (
	"fmt"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// candidate is a backup, and the path it would be recovered along.
type candidate struct {
	backup catalog.Backup
	path   catalog.Path
}

// verdict says what came of trying a candidate.
type verdict int

const (
	found    verdict = iota + 1
	early            // the target lies before the backup's end
	absent           // the WAL ends, and the target was not met
	broken           // a hole comes before the target
	unusable         // the backup cannot be restored at all
)

// outcome is a verdict with its circumstances.
type outcome struct {
	candidate
	verdict verdict
	reason  string       // unusable, early
	hole    *catalog.Gap // broken
	minimal bool         // broken, by wal_level=minimal
	hit     hit          // found
	// lastNumber is the last segment that was walked over soundly: where the
	// archive ends (absent) or breaks (broken).
	lastNumber uint64
	// minimums are the greatest settings seen on the way to the hit.
	minimums index.Settings
	nextXID  uint64 // Plan.NextXID
}

// hit is where recovery stops.
type hit struct {
	// lsn is where the record starts, end the position after it. For Latest both
	// are where the WAL ends. lsn is 0 where a standby's backup becomes consistent in
	// the midst of a record that began before its redo point.
	lsn, end wal.LSN
	// before: recovery stops before it replays the record.
	before   bool
	tx       *index.Transaction
	landmark *index.Landmark
	// evidence is why a time that no commit is later than has passed all the same.
	evidence *Evidence
}

// evaluation tries one candidate: it replays the indexes from the backup's redo
// point on as PostgreSQL would replay the records.
type evaluation struct {
	candidate
	d    *decision
	walk *walk
	// fixed is the hit, if it is known where to look (transaction ids and names).
	fixed *hit

	checkpoint *index.Landmark // the checkpoint record that backup_label names
	backupEnd  *index.Landmark // the record that ends the backup
	minimal    *index.Landmark // the first record that sets wal_level=minimal
	minimums   index.Settings
	// dated: that the backup does not hold what a time target excludes is settled.
	dated bool
}

// evaluate tries a candidate. The error is errNeeds.
func (d *decision) evaluate(c candidate, fixed *hit) (outcome, error) {
	size := d.s.SegmentSize
	e := &evaluation{candidate: c, d: d, fixed: fixed}
	if at, ok := e.surelyEarly(); ok {
		o := outcome{candidate: c, verdict: early}
		o.reason = e.tooEarly(at)
		return o, nil
	}
	e.walk = d.newWalk(c.path, size.Number(c.backup.StartLSN), e.goal())
	for {
		ok, hole, err := e.walk.step()
		if err != nil {
			return outcome{}, err
		}
		if !ok {
			return e.ended(hole)
		}
		e.learn()
		if out, err := e.tooOld(); err != nil || out != nil {
			return deref(out), err
		}
		h, err := e.look()
		if err != nil {
			return outcome{}, err
		}
		if h != nil {
			return e.judge(*h)
		}
	}
}

func deref(o *outcome) outcome {
	if o == nil {
		return outcome{}
	}
	return *o
}

// surelyEarly finds without a look at the WAL that the target, at position at,
// lies before the backup.
func (e *evaluation) surelyEarly() (at wal.LSN, ok bool) {
	switch {
	case e.fixed != nil:
		return e.fixed.lsn, e.fixed.lsn < e.backup.StartLSN
	case e.d.t.Kind == LSN:
		return e.d.t.LSN, e.d.t.LSN < e.backup.StartLSN
	}
	return 0, false
}

func (e *evaluation) tooEarly(at wal.LSN) string {
	return fmt.Sprintf("it is consistent from %s on, after the target at %s", e.backup.StopLSN, at)
}

// goal is the segment that the walk must reach in any case.
func (e *evaluation) goal() uint64 {
	size := e.d.s.SegmentSize
	stop := size.PrevNumber(e.backup.StopLSN)
	switch {
	case e.fixed != nil:
		return max(stop, size.PrevNumber(e.fixed.end))
	case e.d.t.Kind == Latest:
		last, _ := e.d.s.LastOn(e.path)
		return max(stop, last)
	case e.d.t.Kind == LSN && e.d.t.LSN >= e.backup.StopLSN:
		return size.Number(e.d.t.LSN)
	case e.d.t.Kind == Time:
		return max(stop, size.Number(e.nextBackup()))
	}
	return stop
}

// nextBackup is where the first backup on the path begins that was begun after the
// time that is the target: it will not lie far behind. 0: there is none.
func (e *evaluation) nextBackup() wal.LSN {
	var next wal.LSN
	for _, b := range e.d.s.Backups {
		if b.StartTime.After(e.d.t.Time) && b.StartLSN > e.backup.StopLSN && e.path.Belongs(b) == "" && (next == 0 || b.StartLSN < next) {
			next = b.StartLSN
		}
	}
	return next
}

// learn takes from the current segment what decides whether the backup is sound.
func (e *evaluation) learn() {
	b := e.backup
	for _, l := range e.walk.landmarks() {
		if l.LSN < b.StartLSN {
			continue
		}
		switch l.Kind {
		case index.CheckpointOnline, index.CheckpointShutdown:
			if l.LSN == b.CheckpointLSN && l.Redo == b.StartLSN {
				e.checkpoint = &l
			}
		case index.BackupEnd:
			// XLogRecovery's rule: the record that names the redo point of this backup.
			if l.Redo == b.StartLSN && e.backupEnd == nil {
				e.backupEnd = &l
			}
		case index.ParameterChange:
			e.raise(l)
			if l.WALLevel == index.LevelMinimal && e.minimal == nil {
				e.minimal = &l
			}
		}
	}
}

// raise notes the settings that a hot standby must match. Those after the
// stop would not count; a segment more is harmless.
func (e *evaluation) raise(l index.Landmark) {
	if l.Settings == nil {
		return
	}
	m, x := &e.minimums, l.Settings
	m.MaxConnections = max(m.MaxConnections, x.MaxConnections)
	m.MaxWorkerProcesses = max(m.MaxWorkerProcesses, x.MaxWorkerProcesses)
	m.MaxWALSenders = max(m.MaxWALSenders, x.MaxWALSenders)
	m.MaxPreparedTransactions = max(m.MaxPreparedTransactions, x.MaxPreparedTransactions)
	m.MaxLocksPerTransaction = max(m.MaxLocksPerTransaction, x.MaxLocksPerTransaction)
}

// redoDelay bounds how long after the second that a checkpoint record tells its
// redo point can have been set. Within it, the transactions before the redo point
// are looked at themselves.
const redoDelay = 5 * time.Minute

// tooOld finds that a time target lies before the backup's beginning: it holds
// transactions that the target excludes. PostgreSQL does not notice: it stops at
// the first later record it replays, however much later than the target. nil: it does not.
func (e *evaluation) tooOld() (*outcome, error) {
	if e.d.t.Kind != Time || e.dated {
		return nil, nil
	}
	began := e.backup.StartTime
	switch {
	case e.checkpoint != nil:
		began = e.checkpoint.Time
	case e.walk.number() < e.d.s.SegmentSize.PrevNumber(e.backup.StopLSN):
		return nil, nil // the checkpoint is yet to come
	}
	t := e.d.t.Time
	if t.Before(began) {
		o := e.outcome(early)
		o.reason = fmt.Sprintf("it began at %s, after that time", FormatTime(began))
		return &o, nil
	}
	if t.Before(began.Add(redoDelay)) {
		held, err := e.holdsLater()
		if err != nil {
			return nil, err
		}
		if held {
			o := e.outcome(early)
			o.reason = "it holds a transaction that ended after that time"
			return &o, nil
		}
	}
	e.dated = true
	return nil, nil
}

// holdsLater reports whether a transaction of before the redo point, in its
// segment or in the one before, ended too late for a time target.
func (e *evaluation) holdsLater() (bool, error) {
	first := e.walk.first
	if before := e.path.Segment(first - 1); first > 0 && e.d.s.Has(before) && e.d.s.Details.Unreadable[before] == "" {
		first--
	}
	// What was walked over so far is sound: a walk that begins earlier can only
	// stop before the backup's first segment, and then there is nothing to see.
	w := e.d.newWalk(e.path, first, e.walk.first)
	for w.next <= e.walk.first {
		ok, _, err := w.step()
		if !ok {
			return false, err
		}
		tx, err := w.firstTransaction(
			func(ix *index.Index) bool { return e.d.t.beyond(ix.MaxTime) },
			func(x index.Transaction) bool {
				return x.LSN < e.backup.StartLSN && x.Kind.Ends() && e.d.t.beyond(x.Time)
			})
		if tx != nil || err != nil {
			return tx != nil, err
		}
	}
	return false, nil
}

// consistentAfter reports whether the cluster is consistent once the record
// that ends at end has been replayed (CheckRecoveryConsistency).
func (e *evaluation) consistentAfter(end wal.LSN) bool { return end >= e.backup.StopLSN }

// judge decides about a candidate whose WAL leads to the record that stops recovery.
func (e *evaluation) judge(h hit) (outcome, error) {
	if e.isEarly(h) {
		o := e.outcome(early)
		o.reason = e.tooEarly(h.lsn)
		return o, nil
	}
	if why := e.unsound(); why != "" {
		o := e.outcome(unusable)
		o.reason = why
		return o, nil
	}
	if m := e.minimal; m != nil && (m.LSN < h.lsn || (m.LSN == h.lsn && !h.before)) {
		return e.minimalHole(m), nil
	}
	wrong, err := e.d.base(e.backup.ID)
	if err == nil && wrong == "" {
		wrong, err = e.histories()
	}
	if err != nil {
		return outcome{}, err
	}
	if wrong != "" {
		o := e.outcome(unusable)
		o.reason = wrong
		return o, nil
	}
	o := e.outcome(found)
	o.hit, o.minimums, o.nextXID = h, e.minimums, e.checkpoint.NextXID
	return o, nil
}

// judgeOr is judge for a hit, unless there is an error.
func (e *evaluation) judgeOr(h *hit, err error) (outcome, error) {
	if err != nil {
		return outcome{}, err
	}
	return e.judge(*h)
}

// isEarly reports whether recovery would stop before it is consistent, which
// PostgreSQL refuses ("requested recovery stop point is before consistent recovery point").
func (e *evaluation) isEarly(h hit) bool {
	switch {
	case e.d.t.Kind == Latest || e.d.t.Kind == Immediate:
		return false
	case h.before:
		return h.lsn < e.backup.StopLSN
	}
	return !e.consistentAfter(h.end)
}

// unsound says why recovery would not get going from the backup, or never
// become consistent; "": it does.
func (e *evaluation) unsound() string {
	b := e.backup
	if e.checkpoint == nil {
		return fmt.Sprintf("the checkpoint record it begins with is not in the archived WAL at %s", b.CheckpointLSN)
	}
	if !b.FromStandby && (e.backupEnd == nil || e.backupEnd.End > b.StopLSN) {
		return fmt.Sprintf("the record that ends it is not in the archived WAL before %s", b.StopLSN)
	}
	return ""
}

// minimalHole: recovery refuses to go on at a record that sets wal_level=minimal,
// since what follows is not all in the WAL.
func (e *evaluation) minimalHole(m *index.Landmark) outcome {
	seg := e.path.Segment(e.d.s.SegmentSize.Number(m.LSN))
	gap := catalog.NewGap(seg, seg.Number,
		fmt.Sprintf("from %s on the server ran with wal_level=minimal, and such WAL cannot be replayed", m.LSN))
	gap.Start = m.LSN
	o := e.outcome(broken)
	o.hole, o.minimal = &gap, true
	return o
}

// ended decides about a candidate whose WAL ended before the target was met.
func (e *evaluation) ended(hole *catalog.Gap) (outcome, error) {
	size := e.d.s.SegmentSize
	if need := size.PrevNumber(e.backup.StopLSN); e.walk.next <= need || e.endOfWAL() < e.backup.StopLSN {
		o := e.outcome(unusable)
		switch holes := e.d.s.Missing(e.path, e.backup.StartLSN, e.backup.StopLSN); {
		case hole != nil && hole.Damaged != "":
			o.reason = "it needs WAL that cannot be used: " + hole.String()
		case len(holes) > 0:
			o.reason = "it needs WAL that is missing: " + catalog.DescribeGaps(holes)
		default:
			o.reason = fmt.Sprintf("the archived WAL ends before %s, where it is consistent", e.backup.StopLSN)
		}
		return o, nil
	}
	if why := e.unsound(); why != "" {
		o := e.outcome(unusable)
		o.reason = why
		return o, nil
	}
	if e.d.t.Kind == Time {
		if h, err := e.passed(); err != nil || h != nil {
			return e.judgeOr(h, err)
		}
	}
	if hole == nil && e.d.t.Kind == Latest {
		hole = e.stray()
	}
	if hole != nil {
		o := e.outcome(broken)
		o.hole = hole
		return o, nil
	}
	if e.d.t.Kind == Latest {
		return e.judge(hit{end: e.endOfWAL(), lsn: e.endOfWAL()})
	}
	return e.outcome(absent), nil
}

// stray is a hole that PostgreSQL would not notice: the younger timeline's copy
// of the segment it forked in is not archived, but an older timeline's is.
// Recovery takes that one instead (XLogFileReadAnyTLI), and follows WAL of after the fork
// that does not belong to the target's timeline. nil: there is none.
func (e *evaluation) stray() *catalog.Gap {
	seg, last := e.path.Segment(e.walk.next), e.path.Segment(e.walk.number())
	if e.d.s.IsOpen(last) {
		return nil // recovery ends inside it and asks for no more
	}
	if _, ok := e.d.s.LiveSegment(seg); ok {
		return nil // it is given the few bytes that are there, and ends
	}
	for _, sp := range e.path.Spans {
		older := wal.Segment{Timeline: sp.Timeline, Number: seg.Number, Size: seg.Size}
		// A partial one it is only given at the end of its own timeline.
		if l, ok := e.d.s.LiveSegment(older); ok && l.Partial {
			continue
		}
		if sp.Timeline >= last.Timeline && sp.Timeline < seg.Timeline && e.d.s.Has(older) {
			gap := catalog.NewGap(seg, seg.Number, "")
			return &gap
		}
	}
	return nil
}

// endOfWAL is how far the WAL walked over can be replayed.
func (e *evaluation) endOfWAL() wal.LSN {
	if e.walk.ix == nil {
		return 0
	}
	return e.d.s.EndOfWAL(e.path, e.walk.first, e.walk.number())
}

func (e *evaluation) outcome(v verdict) outcome {
	return outcome{candidate: e.candidate, verdict: v, lastNumber: e.walk.number()}
}
