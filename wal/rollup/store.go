package rollup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// maxSize bounds the raw bytes of a roll-up that is read: 4096 segments of 1 MiB,
// the edges of each kept, cannot be held to less. Ordinary ones have some ten kilobytes.
const maxSize = 256 << 20

// Ref is a roll-up that is stored.
type Ref struct {
	Log
	Generation uint32
	// Older are further generations that are there.
	Older []uint32
}

// Store keeps the roll-ups of one incarnation of a cluster. It is safe for
// concurrent use.
type Store struct {
	repo *repository.Repository
	inc  archive.Incarnation
}

// NewStore returns the roll-ups of an incarnation. It reads nothing.
func NewStore(repo *repository.Repository, inc archive.Incarnation) *Store {
	return &Store{repo: repo, inc: inc}
}

func (s *Store) prefix() string { return s.inc.Prefix() + "index/" }

// Key is the key of a generation of a log's roll-up.
func (s *Store) Key(l Log, generation uint32) string {
	return fmt.Sprintf("%s%s/%08X", s.prefix(), l, generation)
}

// List finds the roll-ups of a timeline's logs from first to last, inclusive, in
// order. About a thousand of them cost a request.
func (s *Store) List(ctx context.Context, tli wal.TimelineID, first, last uint32) ([]Ref, error) {
	prefix := s.prefix() + tli.Hex() + "/"
	after := ""
	if first > 0 {
		after = fmt.Sprintf("%s%08X/~", prefix, first-1)
	}
	var list []Ref
	for info, err := range s.repo.Store().List(ctx, prefix, after) {
		if err != nil {
			return nil, fmt.Errorf("list roll-ups: %w", err)
		}
		l, generation, ok := s.Parse(info.Key)
		if !ok {
			continue
		}
		if l.Number > last {
			break
		}
		if n := len(list); n > 0 && list[n-1].Log == l {
			list[n-1].Older = append(list[n-1].Older, list[n-1].Generation)
			list[n-1].Generation = generation
			continue
		}
		list = append(list, Ref{Log: l, Generation: generation})
	}
	return list, nil
}

// Parse takes a key apart; ok is false for one that Key would not make.
func (s *Store) Parse(key string) (l Log, generation uint32, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, s.prefix()), "/")
	if len(parts) != 3 {
		return l, 0, false
	}
	var n [3]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 16, 32); err != nil {
			return l, 0, false
		}
	}
	l, generation = Log{Timeline: wal.TimelineID(n[0]), Number: uint32(n[1])}, uint32(n[2])
	return l, generation, l.Timeline != 0 && s.Key(l, generation) == key
}

// Load reads a roll-up. The error is a *frame.Error or a *DamagedError where it is
// damaged, storage.ErrNotExist where it has gone, else one of the store.
func (s *Store) Load(ctx context.Context, ref Ref) (*Rollup, error) {
	key := s.Key(ref.Log, ref.Generation)
	b, err := s.repo.Read(ctx, key, frame.KindRollup, maxSize)
	if err != nil {
		return nil, fmt.Errorf("read roll-up of log %s: %w", ref.Log, err)
	}
	r, err := Decode(b)
	if err == nil && (r.Log != ref.Log || r.Size != s.inc.SegmentSize || r.SystemID != s.inc.SystemID) {
		err = fmt.Errorf("it is of log %s of system identifier %d, with segments of %s", r.Log, r.SystemID, r.Size)
	}
	if err != nil {
		return nil, &DamagedError{Object: key, Err: err}
	}
	return r, nil
}

// DamagedError says that an object is not the roll-up it should be.
type DamagedError struct {
	Object string
	Err    error
}

// Error names the object.
func (e *DamagedError) Error() string { return fmt.Sprintf("object %s: %v", e.Object, e.Err) }

// Hint says how it is put in order.
func (e *DamagedError) Hint() string { return "`walden index` makes it again from the segments" }

// Unwrap returns what is wrong.
func (e *DamagedError) Unwrap() error { return e.Err }

// IsDamage tells what is wrong with a roll-up from what is wrong with the store.
func IsDamage(err error) bool {
	var content *DamagedError
	var container *frame.Error
	return errors.As(err, &content) || errors.As(err, &container) || errors.Is(err, storage.ErrTooLarge)
}

// Put stores a roll-up as a generation. It is durable when Put returns nil. If that
// generation exists the error is storage.ErrExist, whatever it holds.
func (s *Store) Put(ctx context.Context, r *Rollup, generation uint32) (stored int64, err error) {
	f, err := s.repo.Put(ctx, s.Key(r.Log, generation), r.Encode(), repository.ObjectOptions{Kind: frame.KindRollup})
	if err != nil {
		return 0, fmt.Errorf("store roll-up of log %s: %w", r.Log, err)
	}
	return f.StoredSize(), nil
}

// Delete removes a generation.
func (s *Store) Delete(ctx context.Context, l Log, generation uint32) error {
	if err := s.repo.Store().Delete(ctx, s.Key(l, generation)); err != nil {
		return fmt.Errorf("delete generation %d of the roll-up of log %s: %w", generation, l, err)
	}
	return nil
}

// Timelines are those of which there are roll-ups.
func (s *Store) Timelines(ctx context.Context) ([]wal.TimelineID, error) {
	var list []wal.TimelineID
	for e, err := range storage.Directories(ctx, s.repo.Store(), s.prefix()) {
		if err != nil {
			return nil, fmt.Errorf("list roll-ups: %w", err)
		}
		n, err := strconv.ParseUint(e.Name, 16, 32)
		if tli := wal.TimelineID(n); err == nil && n != 0 && tli.Hex() == e.Name {
			list = append(list, tli)
		}
	}
	return list, nil
}
