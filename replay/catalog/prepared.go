package catalog

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
	"github.com/walden-pg/walden/wal/record"
)

// PreparedQuery asks which transactions are prepared (PREPARE TRANSACTION), and
// neither committed nor rolled back, once a backup has been recovered along the way to a
// timeline, up to the record at Before, which is not replayed.
type PreparedQuery struct {
	Backup   string
	Timeline wal.TimelineID
	Before   wal.LSN
}

// PreparedTransaction is one that waits for its COMMIT PREPARED or ROLLBACK PREPARED.
type PreparedTransaction struct {
	XID uint32 `json:"xid"`
	// GID is the name it was prepared under, Database the OID of its database.
	GID      string    `json:"gid"`
	Database uint32    `json:"database"`
	Time     time.Time `json:"prepared"`
}

// PreparedState is the answer to a PreparedQuery: the transactions by the time
// they were prepared at. Unknown says why some may be missing; "": none is.
type PreparedState struct {
	Open    []PreparedTransaction
	Unknown string
}

// AddPrepared records the answer to a query.
func (d *Details) AddPrepared(q PreparedQuery, s PreparedState) {
	if d.Prepared == nil {
		d.Prepared = map[PreparedQuery]PreparedState{}
	}
	d.Prepared[q] = s
}

// fillPrepared answers queries. The segments must have been walked over: their
// summaries tell in which there is something to read.
func (r *Reader) fillPrepared(ctx context.Context, s *Snapshot, queries []PreparedQuery) error {
	for _, q := range queries {
		b, ok := s.Backup(q.Backup)
		if !ok {
			return fmt.Errorf("there is no backup %s", q.Backup)
		}
		p, err := s.Path(q.Timeline)
		if err != nil {
			return err
		}
		f := preparedFold{open: map[uint32]PreparedTransaction{}, from: b.StartLSN, before: q.Before}
		if b.MaxPrepared != 0 {
			if err := r.preparedBefore(ctx, b, &f); err != nil {
				return fmt.Errorf("read which transactions were prepared when backup %s began: %w", b.ID, err)
			}
		}
		if err := r.foldPrepared(ctx, s, p, &f); err != nil {
			return fmt.Errorf("read the indexes of WAL segments: %w", err)
		}
		s.Details.AddPrepared(q, f.state())
	}
	return nil
}

// foldPrepared goes over the WAL between two positions of a path. Of the indexes
// only a few are held at a time.
func (r *Reader) foldPrepared(ctx context.Context, s *Snapshot, p Path, f *preparedFold) error {
	first, last := s.SegmentSize.Number(f.from), s.SegmentSize.PrevNumber(f.before)
	var segs []wal.Segment
	for n := first; n <= last; n++ {
		if ix := s.Details.Indexes[p.Segment(n)]; ix != nil && ix.Prepared > 0 {
			segs = append(segs, p.Segment(n))
		}
	}
	next := first + 1
	crossings := func(upTo uint64) {
		for ; next <= upTo; next++ {
			link := s.Details.Links[Link{From: p.Segment(next - 1), To: p.Segment(next)}]
			if j := link.Joined; j != nil && j.Transaction != nil {
				f.take(*j.Transaction)
			}
		}
	}
	err := r.each(ctx, s, segs, func(seg wal.Segment, ix *index.Index, err error) error {
		crossings(seg.Number)
		if err != nil {
			f.unknown = fmt.Sprintf("segment %s cannot be read: %v", seg.Name(), err)
			return nil
		}
		for t := range ix.Transactions() {
			f.take(t)
		}
		return nil
	})
	crossings(last)
	return err
}

// preparedFold follows prepared transactions through the WAL.
type preparedFold struct {
	open         map[uint32]PreparedTransaction
	from, before wal.LSN
	unknown      string
}

// take notes a transaction's record, if it is replayed.
func (f *preparedFold) take(t index.Transaction) {
	if t.LSN < f.from || t.LSN >= f.before {
		return
	}
	switch t.Kind {
	case index.Prepare:
		f.open[t.XID] = PreparedTransaction{XID: t.XID, GID: t.GID, Database: t.Database, Time: t.Time}
	case index.CommitPrepared, index.AbortPrepared:
		delete(f.open, t.XID)
	}
}

func (f *preparedFold) state() PreparedState {
	s := PreparedState{Unknown: f.unknown}
	for _, t := range f.open {
		s.Open = append(s.Open, t)
	}
	slices.SortFunc(s.Open, func(a, b PreparedTransaction) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.XID, b.XID))
	})
	return s
}

// twoPhaseDirectory holds a file for each transaction that was prepared before the
// last checkpoint (access/transam/twophase.c).
const twoPhaseDirectory = "pg_twophase/"

// maxTwoPhase bounds what is read of such a file: the name is in its beginning.
const maxTwoPhase = 4096

// preparedBefore reads from a backup which transactions were prepared before its
// redo point. What is wrong with an object is noted, an error is one of the store.
func (r *Reader) preparedBefore(ctx context.Context, b Backup, f *preparedFold) error {
	m, err := basebackup.Load(ctx, r.repo, r.inc, b.ID)
	if err == nil {
		for e, problem := range basebackup.ReadFiles(ctx, r.repo, r.inc, m) {
			if problem == nil && strings.HasPrefix(e.Path, twoPhaseDirectory) && e.Kind == basebackup.KindFile {
				problem = r.readTwoPhase(ctx, m, e, f)
			}
			if problem != nil {
				err = problem
				break
			}
		}
	}
	if err != nil && archive.IsStoreFault(err) {
		return err
	}
	if err != nil {
		f.unknown = fmt.Sprintf("what was prepared before backup %s began cannot be read: %v", b.ID, err)
	}
	return nil
}

// readTwoPhase reads a file of pg_twophase: it begins as the PREPARE record did.
func (r *Reader) readTwoPhase(ctx context.Context, m *basebackup.Manifest, e basebackup.FileEntry, f *preparedFold) error {
	src := basebackup.OpenFile(ctx, r.repo, r.inc, m, e)
	defer src.Close()
	content, err := io.ReadAll(io.LimitReader(src, maxTwoPhase))
	if err != nil {
		return fmt.Errorf("file %s: %w", e.Path, err)
	}
	t, err := record.DecodePrepare(&record.Record{Major: m.Major, Truncated: true}, content)
	if err != nil {
		return fmt.Errorf("file %s: %w", e.Path, err)
	}
	f.open[t.XID] = PreparedTransaction{XID: t.XID, GID: t.GID, Database: t.Database, Time: t.Time}
	return nil
}

// maxPrepared is what a server's max_prepared_transactions was when the backup was
// taken; -1: not known.
func maxPrepared(m *basebackup.Manifest) int {
	var n int
	if _, err := fmt.Sscan(m.Settings["max_prepared_transactions"], &n); err != nil {
		return -1
	}
	return n
}
