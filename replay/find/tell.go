package find

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// landmarkEvent is the kind of event a landmark is, and its text; "": it is none.
func landmarkEvent(l index.Landmark) (Kind, string) {
	began := l.PrevTimeline != 0 && l.Timeline != l.PrevTimeline
	switch l.Kind {
	case index.RestorePoint:
		return RestorePoint, fmt.Sprintf("restore point %q", l.Name)
	case index.BackupEnd:
		return Backup, "a base backup ended that began at " + l.Redo.String()
	case index.ParameterChange:
		return Settings, settingsText(l)
	case index.EndOfRecovery, index.CheckpointShutdown:
		if began {
			return Promotion, fmt.Sprintf("timeline %s began, after timeline %s", l.Timeline, l.PrevTimeline)
		}
	}
	switch l.Kind {
	case index.CheckpointShutdown:
		return Checkpoint, "the server was shut down (checkpoint)"
	case index.CheckpointOnline:
		return Checkpoint, "checkpoint, redo point " + l.Redo.String()
	}
	return "", ""
}

func settingsText(l index.Landmark) string {
	s := l.Settings
	if s == nil {
		return "settings changed"
	}
	return fmt.Sprintf("settings changed: wal_level = %s, max_connections = %d, max_worker_processes = %d, max_wal_senders = %d, max_prepared_transactions = %d, max_locks_per_transaction = %d",
		l.WALLevel, s.MaxConnections, s.MaxWorkerProcesses, s.MaxWALSenders, s.MaxPreparedTransactions, s.MaxLocksPerTransaction)
}

// tell emits an event that took effect where its record starts.
func (s *scan) tell(e Event) error { return s.tellFrom(e, e.LSN) }

// tellFrom emits an event that first took effect at before, if it is asked for.
func (s *scan) tellFrom(e Event, before wal.LSN) error {
	if e.LSN < s.begin || s.end != 0 && e.LSN >= s.end || !s.inTime(e) {
		return nil
	}
	if !s.filter(&e) {
		return nil
	}
	file := s.history.Timeline
	e.Timeline, _, _ = s.history.TimelineAt(e.LSN)
	locked := e.Before.Locked
	e.Before, e.After = target(before, true, file), target(e.LSN, false, file)
	if locked {
		e.Before.Locked = true
		e.Before.Flags += " --action promote"
	}
	e.Restorable = s.restorable(file, before)
	if e.Actions == nil {
		e.Actions = []Action{}
	}
	return s.emit(e)
}

// inTime reports whether the event lies in the time asked for. Of one without a
// time that of the last record before it counts that had one.
func (s *scan) inTime(e Event) bool {
	at := s.last
	if e.Time != nil {
		at = *e.Time
	}
	return (s.o.From.IsZero() || !at.Before(s.o.From)) && (s.o.To.IsZero() || !at.After(s.o.To))
}

// filter keeps of a transaction's actions those that were asked for, and reports
// whether the event was.
func (s *scan) filter(e *Event) bool {
	if e.DatabaseOID != 0 {
		e.Database = s.names.database(e.DatabaseOID, e.LSN)
	}
	isTransaction := e.Kind == Commit || e.Kind == Abort || e.Kind == Prepared
	if !isTransaction && len(e.Actions) == 0 {
		return true
	}
	if s.o.Database != "" && !s.ofDatabase(e) {
		return false
	}
	if !s.o.Table.Empty() {
		e.Actions = slices.DeleteFunc(e.Actions, func(a Action) bool { return !s.asked(a) })
		if len(e.Actions) == 0 {
			return false
		}
	}
	if len(e.Actions) > 0 {
		e.Kind = e.Actions[0].Kind
		return true
	}
	return s.wanted[e.Kind]
}

// asked reports whether an action was done to the table asked for, or may have been.
func (s *scan) asked(a Action) bool {
	return a.unnamed || a.Relation != nil && s.o.Table.fits(a.Relation)
}

// ofDatabase reports whether a transaction did something in the database asked for,
// or to it.
func (s *scan) ofDatabase(e *Event) bool {
	want := s.o.Database
	if e.Database == want || e.DatabaseOID != 0 && strconv.FormatUint(uint64(e.DatabaseOID), 10) == want {
		return true
	}
	return slices.ContainsFunc(e.Actions, func(a Action) bool {
		if a.Relation != nil {
			return a.Relation.Database == want || strconv.FormatUint(uint64(a.Relation.DatabaseOID), 10) == want
		}
		return a.Database != "" && a.Database == want || a.DatabaseOID != 0 && strconv.FormatUint(uint64(a.DatabaseOID), 10) == want
	})
}

func sortedXIDs[V any](m map[uint32]V) []uint32 { return slices.SortedFunc(maps.Keys(m), cmp.Compare) }
