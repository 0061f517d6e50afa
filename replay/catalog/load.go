package catalog

import (
	"context"
	"errors"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Reader takes Snapshots of one incarnation and fills in their details.
// It is safe for concurrent use; a Snapshot is not.
type Reader struct {
	repo     *repository.Repository
	archive  *archive.Archive
	parallel int
}

// NewReader returns a Reader that makes at most parallel requests at a time
// (0: 32).
func NewReader(repo *repository.Repository, a *archive.Archive, parallel int) *Reader {
	if parallel <= 0 {
		parallel = 32
	}
	return &Reader{repo: repo, archive: a, parallel: parallel}
}

// Load takes the overview, without reading a segment. What is damaged or missing
// is told in Snapshot.Problems; an error means that the store could not be asked.
func (r *Reader) Load(ctx context.Context) (*Snapshot, error) {
	return nil, errors.New("catalog: in the making")
}

// Fill gets what a plan needs. Segments that are damaged are marked so in the
// Snapshot's Details; an error means that the store could not be asked.
func (r *Reader) Fill(ctx context.Context, s *Snapshot, n Needs) error {
	return errors.New("catalog: in the making")
}

// Satisfy calls need and fills in what it lacks until it lacks nothing. An error
// of need is returned as it is.
func (r *Reader) Satisfy(ctx context.Context, s *Snapshot, need func() (Needs, error)) error {
	for {
		n, err := need()
		if err != nil || n.Empty() {
			return err
		}
		if err := r.Fill(ctx, s, n); err != nil {
			return err
		}
	}
}
