// Package bigarchive is an archive of any number of segments that takes no room:
// what is asked for is made at that moment, as Walden would have written it (the WAL in the
// segments is zeros, and the sizes that listings show are made up). It serves tests of what very large archives cost.
//
// The cluster in it commits at a steady pace, takes a checkpoint every few segments, a
// backup every few thousand, and sets a restore point now and then. Records cross from each
// segment into the next, some of them commits.
package bigarchive

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
	"github.com/walden-pg/walden/wal/rollup"
)

// SystemID is that of the cluster.
const SystemID = 7345678901234567890

// Spec says how large an archive is.
type Spec struct {
	Segments uint64          // numbered from 1, on timeline 1
	Size     wal.SegmentSize // of each
	// BackupEvery is how many segments lie between two backups.
	BackupEvery uint64
	// Packs is how many each backup has.
	Packs int
	// Rollups is how many logs have a roll-up, from the first on.
	Rollups int
	// Missing are numbers of segments that are not there.
	Missing map[uint64]bool
}

// The life of the cluster.
const (
	// Pace is how long a segment takes: 2000 of them in a day.
	Pace = 24 * time.Hour / 2000
	// transactions in a segment, and the first transaction's id
	transactions, firstXID = 200, 1000
	checkpointEvery        = 7
	restorePointEvery      = 5000
	magic                  = 0xD116 // PostgreSQL 17
)

// Began is when the first segment was begun.
var Began = time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)

// TimeOf is when a segment was begun.
func TimeOf(number uint64) time.Time { return Began.Add(time.Duration(number-1) * Pace) }

// XIDOf is the first transaction of a segment.
func XIDOf(number uint64) uint32 { return uint32(firstXID + (number-1)*transactions) }

func (s Spec) segment(n uint64) wal.Segment { return wal.Segment{Timeline: 1, Number: n, Size: s.Size} }

// crossing is the record that goes from segment n into the next.
type crossing struct {
	bytes []byte
	have  int // of them in segment n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crossing makes the record: an ordinary one, or every 16th time a commit.
func (s Spec) crossing(n uint64) crossing {
	le := binary.LittleEndian
	c := crossing{bytes: make([]byte, record.HeaderSize, 120), have: 40}
	info, rmgr, xid := byte(0), byte(21), uint32(0) // RM_LOGICALMSG_ID: whatever it holds is sound
	if n%16 == 0 {
		at := TimeOf(n + 1)
		c.bytes = le.AppendUint64(append(c.bytes, 255, 8), uint64(wal.ToPGMicros(at)))
		c.have, rmgr, xid = 24, 1, XIDOf(n+1)-1 // RM_XACT_ID
	} else {
		c.bytes = c.bytes[:120]
		copy(c.bytes[record.HeaderSize:], []byte{255, 94})
	}
	le.PutUint32(c.bytes, uint32(len(c.bytes)))
	le.PutUint32(c.bytes[4:], xid)
	le.PutUint64(c.bytes[8:], uint64(s.lastComplete(n, c)))
	c.bytes[16], c.bytes[17] = info, rmgr
	crc := crc32.Checksum(c.bytes[record.HeaderSize:], castagnoli)
	le.PutUint32(c.bytes[20:], crc32.Update(crc, castagnoli, c.bytes[:20]))
	return c
}

func (s Spec) tailLSN(n uint64, c crossing) wal.LSN { return s.segment(n).End() - wal.LSN(c.have) }

// lastComplete is where the last record starts that ends in segment n.
func (s Spec) lastComplete(n uint64, c crossing) wal.LSN { return s.tailLSN(n, c) - 64 }

// Index is the index of segment n.
func (s Spec) Index(n uint64) *index.Index {
	seg := s.segment(n)
	tail := s.crossing(n)
	ix := &index.Index{
		Segment: seg, SystemID: SystemID, Magic: magic, EndOfRecords: seg.End(), Records: 30000,
		PageTimelineFirst: 1, PageTimelineLast: 1,
		FirstRecord: seg.Start() + 40, LastRecord: s.tailLSN(n, tail), LastComplete: s.lastComplete(n, tail),
	}
	ix.Tail = index.Tail{
		LSN: ix.LastRecord, Length: uint32(len(tail.bytes)), Have: uint32(tail.have), Bytes: tail.bytes[:tail.have],
		CRC: crc32.Checksum(tail.bytes[record.HeaderSize:tail.have], castagnoli),
	}
	if n > 1 {
		head := s.crossing(n - 1)
		rest := head.bytes[head.have:]
		ix.Head = index.Head{Length: uint32(len(rest)), Have: uint32(len(rest)), Bytes: rest, CRC: crc32.Checksum(rest, castagnoli)}
		ix.FirstRecord = (seg.Start() + 40 + wal.LSN(len(rest))).Align()
		ix.FirstPrev = s.tailLSN(n-1, head)
	}
	if err := ix.SetTransactions(s.transactions(n)); err != nil {
		panic(err) // they are made to fit
	}
	ix.Landmarks = s.landmarks(n)
	return ix
}

// transactions are spread over the segment. The last one may be the record that crosses.
func (s Spec) transactions(n uint64) []index.Transaction {
	var list []index.Transaction
	seg := s.segment(n)
	count := uint64(transactions)
	if n%16 == 0 {
		count--
	}
	for i := range count {
		at := seg.Start() + wal.LSN(s.Size)/transactions/8*8*wal.LSN(i) + 0x1000
		list = append(list, index.Transaction{
			LSN: at, End: at + 40, XID: XIDOf(n) + uint32(i), Kind: index.Commit,
			Time: TimeOf(n).Add(time.Duration(i) * Pace / transactions),
		})
	}
	return list
}

// Positions in the segments of a backup.
const (
	redoOffset, checkpointOffset, endOffset, pointOffset = 0x40800, 0x50800, 0x60800, 0x70800
)

// Backups are the numbers of the segments that backups begin in, ascending.
func (s Spec) Backups() []uint64 {
	var list []uint64
	for n := uint64(2); n+2 < s.Segments; n += s.BackupEvery {
		list = append(list, n)
	}
	return list
}

// BackupID is the id of the backup that begins in segment n.
func BackupID(n uint64) string { return TimeOf(n).Format("20060102T150405Z") + "-big0" }

// landmarks of segment n. A backup's checkpoint lies in its first segment, its end in the next.
func (s Spec) landmarks(n uint64) []index.Landmark {
	start := s.segment(n).Start()
	var list []index.Landmark
	begins := n >= 2 && (n-2)%s.BackupEvery == 0
	if begins || n%checkpointEvery == 0 {
		list = append(list, index.Landmark{
			LSN: start + checkpointOffset, End: start + checkpointOffset + 120, Kind: index.CheckpointOnline,
			Time: TimeOf(n), Timeline: 1, PrevTimeline: 1, Redo: start + redoOffset, NextXID: uint64(XIDOf(n)), WALLevel: index.LevelReplica,
		})
	}
	if n >= 3 && (n-3)%s.BackupEvery == 0 {
		list = append(list, index.Landmark{LSN: start + endOffset, End: start + endOffset + 40, Kind: index.BackupEnd, Redo: s.segment(n-1).Start() + redoOffset})
	}
	if n%restorePointEvery == 0 {
		list = append(list, index.Landmark{LSN: start + pointOffset, End: start + pointOffset + 104, Kind: index.RestorePoint, Name: PointOf(n), Time: TimeOf(n)})
	}
	return list
}

// PointOf is the name of the restore point in segment n, which is a multiple of 5000.
func PointOf(n uint64) string { return fmt.Sprintf("point %d", n) }

// rollup is the roll-up of a log.
func (s Spec) rollup(log uint32) *rollup.Rollup {
	l := rollup.Log{Timeline: 1, Number: log}
	b := rollup.NewBuilder(l, s.Size, SystemID)
	for n := max(l.First(s.Size), 1); n <= min(l.Last(s.Size), s.Segments); n++ {
		if s.Missing[n] {
			continue
		}
		misfit, err := b.Add(s.Index(n), rollup.Fingerprint(s.entry(n)))
		if misfit != nil || err != nil {
			panic(fmt.Sprint("segments that were made to fit do not: ", misfit, err))
		}
	}
	return b.Finish()
}

// entry is what a listing tells of segment n.
func (s Spec) entry(n uint64) archive.Entry {
	return archive.Entry{Segment: s.segment(n), Size: int64(4<<20 + n%1000), ModTime: TimeOf(n + 1), Version: fmt.Sprintf("%032x", n)}
}
