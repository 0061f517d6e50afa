package catalog

import (
	"slices"
	"time"

	"github.com/walden-pg/walden/wal"
)

// Snapshot is what a repository held of one incarnation of a cluster at the
// time it was taken. It is plain data and is encoded as the JSON of `list`.
type Snapshot struct {
	Cluster     string          `json:"cluster"`
	Incarnation int             `json:"incarnation"`
	SystemID    uint64          `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"wal_segment_size"`
	// Major is the major version of PostgreSQL the incarnation was created
	// for; 0: not known.
	Major int `json:"major"`
	// Taken is when the listing began, in UTC.
	Taken time.Time `json:"taken"`

	// Backups are the complete ones, by id and so by time, oldest first.
	Backups []Backup `json:"backups"`
	// Incomplete are backups that were begun and have no manifest: running, or
	// cut off.
	Incomplete []Incomplete `json:"incomplete"`
	// Timelines are all of which a segment, a part of one, a history file
	// or a backup is there, in ascending order.
	Timelines []Timeline `json:"timelines"`
	// Problems are objects that should be there and are not, or that cannot be
	// read. A plan does not rely on anything listed here.
	Problems []Problem `json:"problems"`

	// Details is what has been learned beyond the overview; see Needs.
	Details Details `json:"-"`

	asked   []Stretch // see Unlisted
	rollups rollups
}

// Backup is one complete backup, as its manifest tells.
type Backup struct {
	ID     string `json:"id"`
	Parent string `json:"parent,omitempty"`
	Label  string `json:"label"`
	// Timeline is where replay begins, at StartLSN (the redo point);
	// CheckpointLSN is the checkpoint record that backup_label names.
	Timeline      wal.TimelineID `json:"timeline"`
	StartLSN      wal.LSN        `json:"start_lsn"`
	CheckpointLSN wal.LSN        `json:"checkpoint_lsn"`
	// StopLSN on StopTimeline is where the restored cluster is consistent: the
	// earliest position it can be recovered to.
	StopLSN      wal.LSN        `json:"stop_lsn"`
	StopTimeline wal.TimelineID `json:"stop_timeline"`
	// StartTime and StopTime are by the clock of the machine that took it.
	StartTime     time.Time `json:"start_time"`
	StopTime      time.Time `json:"stop_time"`
	FromStandby   bool      `json:"from_standby"`
	ServerVersion int       `json:"server_version"`
	Files         int64     `json:"files"`
	Bytes         int64     `json:"bytes"`
	StoredBytes   int64     `json:"stored_bytes"`
	Warnings      []string  `json:"warnings,omitempty"`
	// MaxPrepared is the server's max_prepared_transactions, without which no
	// transaction can have been prepared; -1: not known.
	MaxPrepared int `json:"-"`
	// Objects is the number of objects it is read from: packs, tables, the manifest.
	Objects int `json:"-"`
}

// Incomplete is a backup that was begun and has no manifest.
type Incomplete struct {
	ID     string    `json:"id"`
	Parent string    `json:"parent,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Start  time.Time `json:"start"`
}

// HistoryState says what is known of a timeline's ancestry.
type HistoryState string

// The states of a timeline's history.
const (
	// HistoryNone: timeline 1, which never has a history file.
	HistoryNone HistoryState = "none"
	// HistoryPresent: the history file is archived and was read.
	HistoryPresent HistoryState = "present"
	// HistoryMissing: the timeline should have a history file, and none is archived.
	HistoryMissing HistoryState = "missing"
	// HistoryDamaged: one is archived and cannot be read.
	HistoryDamaged HistoryState = "damaged"
)

// Timeline is what is archived of one timeline.
type Timeline struct {
	ID           wal.TimelineID `json:"timeline"`
	HistoryState HistoryState   `json:"history"`
	// History is empty unless HistoryState is HistoryPresent.
	History wal.History `json:"-"`
	// Parent and Switch are the timeline this one was split from and the first
	// position that is its own; 0: no parent is known.
	Parent wal.TimelineID `json:"parent,omitempty"`
	Switch wal.LSN        `json:"switch_lsn,omitempty"`
	Reason string         `json:"reason,omitempty"`
	// Ranges are the unbroken runs of WAL that recovery is given, in sealed segments or
	// in fragments, ascending; between any two of them something is missing. In a snapshot
	// that was Sketched, what is not listed yet is among them, in ranges of its own.
	Ranges []Range `json:"ranges"`
	// Live are the segments that are not sealed and have fragments, ascending.
	Live []Live `json:"live,omitempty"`
	// Partials are the names of partial segments. Recovery never asks for them; the
	// last can stand for the segment it is a part of (Live.Partial).
	Partials []string `json:"partials,omitempty"`

	listing *listing // nil: all is listed
}

// Range is an unbroken run of WAL of one timeline. All its segments are complete
// but the last, which can be one in fragments whose end is not there yet.
type Range struct {
	Timeline wal.TimelineID `json:"timeline"`
	// First and Last are segment numbers, inclusive.
	First uint64 `json:"-"`
	Last  uint64 `json:"-"`
	// FirstName and LastName are the segments' file names.
	FirstName string `json:"first"`
	LastName  string `json:"last"`
	// Start is the position of the first byte, End that after the last. It lies
	// inside the last segment where that is not complete.
	Start wal.LSN `json:"start_lsn"`
	End   wal.LSN `json:"end_lsn"`
	// Segments is how many they are, StoredBytes what they and fragments occupy.
	Segments    uint64 `json:"segments"`
	StoredBytes int64  `json:"stored_bytes"`

	assumed bool // not listed yet
}

// NewRange is the run of the complete segments numbered first to last.
func NewRange(tli wal.TimelineID, first, last uint64, size wal.SegmentSize, stored int64) Range {
	a := wal.Segment{Timeline: tli, Number: first, Size: size}
	b := wal.Segment{Timeline: tli, Number: last, Size: size}
	return Range{
		Timeline: tli, First: first, Last: last, FirstName: a.Name(), LastName: b.Name(),
		Start: a.Start(), End: b.End(), Segments: last - first + 1, StoredBytes: stored,
	}
}

// Problem is something that should be in order and is not.
type Problem struct {
	// Object is the key of the object, or the name of the WAL file, at fault.
	Object string `json:"object"`
	// Problem says what is wrong with it, in a sentence's part without a full stop.
	Problem string `json:"problem"`
}

// Backup finds a complete backup by its id.
func (s *Snapshot) Backup(id string) (Backup, bool) {
	for _, b := range s.Backups {
		if b.ID == id {
			return b, true
		}
	}
	return Backup{}, false
}

// Timeline finds a timeline by its number.
func (s *Snapshot) Timeline(tli wal.TimelineID) (Timeline, bool) {
	i, ok := s.timelineIndex(tli)
	if !ok {
		return Timeline{}, false
	}
	return s.Timelines[i], true
}

func (s *Snapshot) timelineIndex(tli wal.TimelineID) (i int, ok bool) {
	return slices.BinarySearchFunc(s.Timelines, tli, func(t Timeline, id wal.TimelineID) int {
		return compare(t.ID, id)
	})
}

// Segment is the segment of a timeline with a number, in the cluster's size.
func (s *Snapshot) Segment(tli wal.TimelineID, number uint64) wal.Segment {
	return wal.Segment{Timeline: tli, Number: number, Size: s.SegmentSize}
}

// Has reports whether recovery is given the segment: it is archived, or fragments
// of its beginning are and nothing that comes later (see IsOpen).
func (s *Snapshot) Has(seg wal.Segment) bool {
	s.ask(seg.Timeline, seg.Number, seg.Number)
	_, ok := s.rangeOf(seg)
	return ok
}

// rangeOf is the unbroken run that the segment lies in.
func (s *Snapshot) rangeOf(seg wal.Segment) (Range, bool) {
	t, ok := s.Timeline(seg.Timeline)
	if !ok {
		return Range{}, false
	}
	i, ok := slices.BinarySearchFunc(t.Ranges, seg.Number, func(r Range, n uint64) int {
		switch {
		case r.Last < n:
			return -1
		case r.First > n:
			return 1
		}
		return 0
	})
	if !ok {
		return Range{}, false
	}
	return t.Ranges[i], true
}

func compare[T interface{ ~uint32 | ~uint64 }](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
