package find

import (
	"slices"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// scan goes over the WAL of one timeline, segment by segment, and emits events.
type scan struct {
	o      Options
	wanted map[Kind]bool
	emit   func(Event) error
	// restorable tells whether there is what it takes to restore to a position on the
	// way to a timeline.
	restorable func(wal.TimelineID, wal.LSN) bool

	history wal.History // of the timeline whose files are read
	// begin is the first position whose events are told, end the first that is not; 0: none.
	begin, end wal.LSN
	names      *resolver
	classifier classifier

	pending *pending
	last    time.Time // of the last record that had one
	kept    wal.LSN   // of the last commit or prepare, of any transaction
	ix      *index.Index
}

func newScan(o Options, history wal.History, names Names, emit func(Event) error, restorable func(wal.TimelineID, wal.LSN) bool) *scan {
	s := &scan{
		o: o, wanted: o.wanted(), emit: emit, restorable: restorable,
		history: history, names: &resolver{names: names}, pending: newPending(),
	}
	s.classifier = classifier{names: s.names, wanted: s.wanted, rows: o.Rows()}
	return s
}

// segment takes the next segment; joined is the step to it from the one before, nil
// where that one is not known.
func (s *scan) segment(ix *index.Index, joined *index.Joined) error {
	s.ix = ix
	s.classifier.major, _ = record.Major(ix.Magic)
	s.names.forget()
	if s.names.renames.since == 0 {
		s.names.renames.since = ix.Segment.Start()
	}
	n := ix.Segment.Number
	var crossing moments
	if joined != nil && !joined.Overwritten {
		s.pending.effects(joined.Effects, n)
		s.pending.locks(joined.Locks, n)
		if joined.Transaction != nil {
			crossing.transactions = append(crossing.transactions, *joined.Transaction)
		}
		if joined.Landmark != nil {
			crossing.landmarks = append(crossing.landmarks, *joined.Landmark)
		}
	}
	s.pending.effects(ix.Effects, n)
	s.pending.locks(ix.Locks, n)
	if err := crossing.each(s.transaction, s.landmark); err != nil {
		return err
	}
	inside := moments{landmarks: ix.Landmarks}
	for t := range ix.DetailedTransactions() {
		if err := inside.before(t.LSN, s.landmark); err != nil {
			return err
		}
		if err := s.transaction(t); err != nil {
			return err
		}
	}
	return inside.each(s.transaction, s.landmark)
}

// moments are what a segment lists, to be told in order.
type moments struct {
	transactions []index.Transaction
	landmarks    []index.Landmark
}

// before tells the landmarks that lie before a position.
func (m *moments) before(at wal.LSN, landmark func(index.Landmark) error) error {
	for len(m.landmarks) > 0 && m.landmarks[0].LSN < at {
		if err := landmark(m.landmarks[0]); err != nil {
			return err
		}
		m.landmarks = m.landmarks[1:]
	}
	return nil
}

func (m *moments) each(transaction func(index.Transaction) error, landmark func(index.Landmark) error) error {
	for _, t := range m.transactions {
		if err := transaction(t); err != nil {
			return err
		}
	}
	for _, l := range m.landmarks {
		if err := landmark(l); err != nil {
			return err
		}
	}
	return nil
}

// gap takes note that WAL is missing before the next segment: what was open may have
// ended there.
func (s *scan) gap() {
	forgotten := s.pending.forgotten
	s.pending = newPending()
	s.pending.forgotten = forgotten
	s.names.renames.since = 0
}

// transaction takes note of a transaction's record.
func (s *scan) transaction(t index.Transaction) error {
	s.last = t.Time
	var subxacts []uint32
	if t.Detail != nil {
		subxacts = t.Detail.Subxacts
	}
	if t.Kind == index.Prepare {
		s.pending.prepared[t.XID] = t
		s.kept = t.LSN
		return nil
	}
	if t.Kind == index.CommitPrepared || t.Kind == index.AbortPrepared {
		if p, ok := s.pending.prepared[t.XID]; ok && t.GID == "" {
			t.GID = p.GID
		}
		delete(s.pending.prepared, t.XID)
	}
	if t.XID == 0 {
		s.pending.anonymous = true
	}
	w := s.pending.take(t.XID, subxacts)
	committed := t.Kind == index.Commit || t.Kind == index.CommitPrepared
	if committed {
		// Whatever is asked for, what others committed is not to be given up.
		defer func() { s.kept = t.LSN }()
		s.names.renames.commit(t, w, s.ix.Omitted.Effects == 0)
	}
	if s.o.XID != 0 && !t.Is(s.o.XID) {
		if committed && t.Detail != nil && len(t.Detail.Files) > 0 {
			s.classifier.classify(t.LSN, w, t.Detail) // whose the new files are
		}
		return nil
	}
	if committed {
		return s.commit(t, w)
	}
	if !s.wanted[Abort] {
		return nil
	}
	return s.tell(s.event(t, Abort, "rolled back"))
}

// event is that of a transaction's record, without actions.
func (s *scan) event(t index.Transaction, k Kind, text string) Event {
	at := t.Time
	e := Event{
		Kind: k, LSN: t.LSN, End: t.End, Time: &at, XID: t.XID, GID: t.GID, DatabaseOID: t.Database, Text: text,
	}
	if t.Detail != nil {
		e.Subtransactions = len(t.Detail.Subxacts)
	}
	return e
}

func (s *scan) commit(t index.Transaction, w *work) error {
	if !s.interesting(t, w) {
		return nil
	}
	e := s.event(t, Commit, "committed")
	e.Actions = s.classifier.classify(t.LSN, w, t.Detail)
	if e.DatabaseOID == 0 {
		e.DatabaseOID = w.database()
	}
	changes := slices.ContainsFunc(e.Actions, func(a Action) bool { return a.Rows > 0 })
	e.Incomplete = w.partial || changes && (s.pending.early(t.XID) || t.Detail != nil && t.Detail.Truncated)
	before := t.LSN
	for _, l := range w.storage {
		before = min(before, s.firstEffect(l))
	}
	switch {
	case w.lock != 0 && w.lock > s.kept && !s.pending.early(t.XID) && !w.partial:
		// Nobody committed since it took its locks: without them no less is there.
		before = min(before, w.lock)
	case w.lock != 0 && w.lock < before, (w.lock == 0 || w.partial) && slices.ContainsFunc(e.Actions, Action.locks):
		e.Before.Locked = true
	}
	return s.tellFrom(e, before)
}

// locks reports whether what was done takes an AccessExclusiveLock.
func (a Action) locks() bool {
	return (a.Relation != nil || a.unnamed) && (a.Kind == Drop || a.Kind == Truncate || a.Kind == Rewrite)
}

// firstEffect is where what a landmark is part of first took effect.
func (s *scan) firstEffect(l index.Landmark) wal.LSN {
	at := l.LSN
	if l.Kind == index.HeapTruncate {
		return s.ix.Segment.End() // with the commit
	}
	if l.Kind == index.DatabaseDrop {
		if invalid, ok := s.pending.invalid[l.Database]; ok {
			at = min(at, invalid)
		}
	}
	return at
}

// database is the one whose relations were changed; 0: none, or shared ones alone.
func (w *work) database() uint32 {
	for rel := range w.effects {
		if rel.Database != 0 {
			return rel.Database
		}
	}
	return 0
}

// interesting is a quick look at whether a commit can be told of.
func (s *scan) interesting(t index.Transaction, w *work) bool {
	if s.o.XID != 0 || w.partial || s.wanted[Commit] && s.o.Table.Empty() || len(w.storage) > 0 {
		return true
	}
	if d := t.Detail; d != nil && (d.Truncated || len(d.Files)+len(d.Relations) > 0) {
		return true
	}
	for _, e := range w.effects {
		if max(e.Inserted, e.Updated, e.Deleted) >= s.classifier.rows || e.Created && s.wanted[Create] {
			return true
		}
	}
	return false
}

// landmark takes note of a landmark.
func (s *scan) landmark(l index.Landmark) error {
	if !l.Time.IsZero() {
		s.last = l.Time
	}
	switch l.Kind {
	case index.DatabaseCreate, index.DatabaseDrop, index.DatabaseInvalid, index.TablespaceDrop, index.HeapTruncate:
		s.pending.storage(l, s.ix.Segment.Number)
		return nil
	case index.CheckpointOnline, index.CheckpointShutdown:
		if s.pending.horizon == 0 {
			s.pending.horizon = uint32(l.NextXID)
		}
	}
	if l.Kind == index.CheckpointShutdown || l.Kind == index.EndOfRecovery {
		for _, w := range s.pending.restarted(s.ix.Segment.Number) {
			if err := s.unfinished(w); err != nil {
				return err
			}
		}
	}
	k, text := landmarkEvent(l)
	if k == "" || !s.wanted[k] || s.o.XID != 0 || !s.o.Table.Empty() || s.o.Database != "" {
		return nil
	}
	e := Event{Kind: k, LSN: l.LSN, End: l.End, Name: l.Name, Text: text}
	if !l.Time.IsZero() {
		at := l.Time
		e.Time = &at
	}
	return s.tell(e)
}

// unfinished tells of what was done by a transaction that has no end, where that
// cannot be undone: a database whose files are gone.
func (s *scan) unfinished(w *work) error {
	for _, l := range w.storage {
		if l.Kind != index.DatabaseDrop || !s.wanted[DropDatabase] || s.o.XID != 0 && s.o.XID != l.XID {
			continue
		}
		text := "dropped database " + s.names.databaseText(l.Database, l.LSN) + "; the archived WAL does not have the end of the transaction"
		e := Event{
			Kind: DropDatabase, LSN: l.LSN, End: l.End, XID: l.XID, Text: text,
			Actions: []Action{{Kind: DropDatabase, Text: text, Uncertain: true}},
		}
		if err := s.tellFrom(e, s.firstEffect(l)); err != nil {
			return err
		}
	}
	return nil
}

// finish tells, at the end of the WAL of the timeline, of what has no end in it.
func (s *scan) finish() error {
	if s.ix == nil {
		return nil
	}
	for _, xid := range sortedXIDs(s.pending.work) {
		if err := s.unfinished(s.pending.work[xid]); err != nil {
			return err
		}
	}
	if !s.wanted[Prepared] || !s.o.Table.Empty() {
		return nil
	}
	for _, xid := range sortedXIDs(s.pending.prepared) {
		t := s.pending.prepared[xid]
		if s.o.XID != 0 && s.o.XID != xid {
			continue
		}
		text := "prepared, and neither committed nor rolled back in the archived WAL"
		if s.pending.anonymous {
			text = "prepared; whether it was committed or rolled back is not known: of the end of a transaction the WAL's index does not know which it was"
		}
		if err := s.tell(s.event(t, Prepared, text)); err != nil {
			return err
		}
	}
	return nil
}
