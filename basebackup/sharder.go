package basebackup

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Limits of a shard: whichever is reached first.
const (
	maxShardEntries = 65536
	maxShardRaw     = 32 << 20
)

// sharder writes entries into shards, one JSON document a line.
// It is used by one goroutine.
type sharder struct {
	ctx   context.Context
	repo  *repository.Repository
	inc   archive.Incarnation
	id    string
	limit int // entries a shard

	open    *repository.ObjectWriter
	entries int // in the open shard
	refs    []ShardRef
	keys    []string // of everything that may have been written
}

// add writes one entry.
func (s *sharder) add(e FileEntry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	// The reader knows whose shard it is.
	e.Extents = slices.Clone(e.Extents)
	for i := range e.Extents {
		if e.Extents[i].Backup == s.id {
			e.Extents[i].Backup = ""
		}
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if s.open != nil && (s.entries >= s.limit || s.open.Offset()+int64(len(line)) > maxShardRaw) {
		if err := s.close(); err != nil {
			return err
		}
	}
	if s.open == nil {
		key := ShardKey(s.inc, s.id, len(s.refs))
		s.keys = append(s.keys, key)
		if s.open, err = s.repo.Create(s.ctx, key, repository.ObjectOptions{Kind: frame.KindExtents}); err != nil {
			return err
		}
	}
	s.entries++
	_, err = s.open.Write(append(line, '\n'))
	return err
}

// close finishes the open shard.
func (s *sharder) close() error {
	if s.open == nil {
		return nil
	}
	n := len(s.refs)
	footer, err := s.open.Commit()
	if err != nil {
		return err
	}
	s.refs = append(s.refs, ShardRef{
		Backup: s.id, Number: n, Entries: s.entries,
		Digest: hex.EncodeToString(footer.StoredDigest[:]), Size: footer.StoredSize(),
	})
	s.open, s.entries = nil, 0
	return nil
}

// abort discards what is open. After close it is a no-op.
func (s *sharder) abort() {
	if s.open != nil {
		s.open.Abort()
		s.open = nil
	}
}
