package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// Limits of the text files, in bytes. PostgreSQL writes a line for every
// ancestor into a history file, and a backup history file is a dozen lines
// with one label.
const (
	maxHistory       = 4 << 20
	maxBackupHistory = 64 << 10
)

// Archive is the WAL of one incarnation of a cluster. It is safe for
// concurrent use, by goroutines and by processes on several machines.
type Archive struct {
	repo *repository.Repository
	inc  Incarnation
	// walPrefix is that of all keys of the incarnation's WAL.
	walPrefix string
	// pause is the first between two looks of Fetch.
	pause time.Duration
	// partial: see AcceptPartial.
	partial bool
}

// AcceptPartial returns the same archive, whose Fetch and FindRecord read a segment
// that is neither sealed nor in fragments from its .partial file. Sealed outranks
// fragments outrank that. Only who recovers to the end of a timeline that was left may do
// so: on the way to a younger one the WAL in it goes astray behind the switch.
func (a *Archive) AcceptPartial() *Archive {
	b := *a
	b.partial = true
	return &b
}

// New returns the archive of an incarnation. It reads nothing.
func New(repo *repository.Repository, inc Incarnation) *Archive {
	return &Archive{repo: repo, inc: inc, walPrefix: walPrefix(inc), pause: firstPause}
}

// Incarnation returns whose WAL it is.
func (a *Archive) Incarnation() Incarnation { return a.inc }

// kindOf returns the kind of the object that keeps a file.
func kindOf(k wal.FileKind) frame.Kind {
	switch k {
	case wal.FileSegment:
		return frame.KindSegment
	case wal.FilePartial:
		return frame.KindPartial
	case wal.FileHistory:
		return frame.KindHistory
	case wal.FileBackup:
		return frame.KindBackupHistory
	}
	return 0
}

// Contains reports whether a complete segment is archived. It does not read it.
func (a *Archive) Contains(ctx context.Context, seg wal.Segment) (bool, error) {
	_, err := a.repo.Store().Stat(ctx, SegmentKey(a.inc, seg))
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for segment %s: %w", seg.Name(), err)
	}
	return true, nil
}

// OpenSegment opens a complete segment for reading. An absent one is
// storage.ErrNotExist.
func (a *Archive) OpenSegment(ctx context.Context, seg wal.Segment) (*frame.Object, error) {
	return a.open(ctx, segmentFile(seg))
}

// open opens the object of a file and checks that it has the length it must have.
func (a *Archive) open(ctx context.Context, f wal.File) (*frame.Object, error) {
	key := FileKey(a.inc, f)
	obj, err := a.repo.Open(ctx, key, kindOf(f.Kind))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if f.Kind == wal.FileSegment || f.Kind == wal.FilePartial {
		if obj.Size() != f.Segment.Size.Bytes() {
			return nil, fmt.Errorf("read %s: %w", f.Name(), &frame.Error{
				Object: key, Offset: -1, Kind: frame.WrongObject,
				Reason: fmt.Sprintf("it holds %d bytes, a segment has %d", obj.Size(), f.Segment.Size.Bytes()),
			})
		}
	}
	return obj, nil
}

// Index reads the index of a complete segment: the end of its object, not its
// WAL. An absent segment is storage.ErrNotExist.
func (a *Archive) Index(ctx context.Context, seg wal.Segment) (*index.Index, error) {
	return a.index(ctx, segmentFile(seg))
}

// PartialIndex reads the index of a partial segment: it describes the valid
// WAL that the segment begins with. An absent one is storage.ErrNotExist.
func (a *Archive) PartialIndex(ctx context.Context, seg wal.Segment) (*index.Index, error) {
	return a.index(ctx, wal.File{Kind: wal.FilePartial, Segment: seg, Timeline: seg.Timeline})
}

func (a *Archive) index(ctx context.Context, f wal.File) (*index.Index, error) {
	obj, err := a.open(ctx, f)
	if err != nil {
		return nil, err
	}
	x, err := index.Decode(obj.Section)
	if err != nil {
		return nil, fmt.Errorf("index of object %s: %w", FileKey(a.inc, f), err)
	}
	if x.Segment != f.Segment || x.SystemID != a.inc.SystemID {
		return nil, fmt.Errorf("index of object %s describes segment %s of system identifier %d", FileKey(a.inc, f), x.Segment.Name(), x.SystemID)
	}
	return x, nil
}

// HistoryContent returns a timeline's history file, byte for byte. An absent
// one is storage.ErrNotExist.
func (a *Archive) HistoryContent(ctx context.Context, tli wal.TimelineID) ([]byte, error) {
	b, err := a.repo.Read(ctx, HistoryKey(a.inc, tli), frame.KindHistory, maxHistory)
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %s: %w", tli, err)
	}
	return b, nil
}

// History reads a timeline's history file. An absent one is
// storage.ErrNotExist; timeline 1 has none.
func (a *Archive) History(ctx context.Context, tli wal.TimelineID) (wal.History, error) {
	b, err := a.HistoryContent(ctx, tli)
	if err != nil {
		return wal.History{}, err
	}
	h, err := wal.ParseHistory(tli, b)
	if err != nil {
		return wal.History{}, fmt.Errorf("object %s: %w", HistoryKey(a.inc, tli), err)
	}
	return h, nil
}
