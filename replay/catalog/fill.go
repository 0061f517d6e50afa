package catalog

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/inorder"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/index"
)

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

// Fill gets what a plan needs. Segments that are damaged are marked so in the
// Snapshot's Details; an error means that the store could not be asked. Memory
// is bounded by the number of segments, not by what is in them: only a few
// whole indexes are held at a time.
func (r *Reader) Fill(ctx context.Context, s *Snapshot, n Needs) error {
	if err := r.listAll(ctx, s, n.Lists); err != nil {
		return err
	}
	for _, chain := range n.Chains {
		if err := r.fillChain(ctx, s, chain); err != nil {
			return fmt.Errorf("read the indexes of WAL segments: %w", err)
		}
	}
	if err := r.fillScans(ctx, s, n.Scans); err != nil {
		return fmt.Errorf("look through the indexes of WAL segments: %w", err)
	}
	for _, list := range []struct {
		segments     []wal.Segment
		transactions bool
	}{{n.Segments, false}, {n.Transactions, true}} {
		err := r.each(ctx, s, list.segments, func(seg wal.Segment, ix *index.Index, err error) error {
			if err != nil {
				s.Details.AddUnreadable(seg, err.Error())
				return nil
			}
			s.Details.Add(ix, list.transactions)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the indexes of WAL segments: %w", err)
		}
	}
	for _, id := range n.Bases {
		wrong, err := r.checkBase(ctx, id)
		if err != nil {
			return fmt.Errorf("look for the objects of backup %s: %w", id, err)
		}
		s.Details.AddBase(id, wrong)
	}
	if err := r.fillRecords(ctx, s, n.Records); err != nil {
		return err
	}
	return r.fillPrepared(ctx, s, n.Prepared)
}

// each reads the indexes of segments in parallel and hands them to use, in
// order. An error that use is given is about the object; faults of the store
// end the walk.
func (r *Reader) each(ctx context.Context, s *Snapshot, segs []wal.Segment, use func(wal.Segment, *index.Index, error) error) error {
	listed := make([]archive.LiveSegment, len(segs)) // before goroutines run: use may change the snapshot
	for i, seg := range segs {
		l, _ := s.LiveSegment(seg)
		listed[i] = l.listed
	}
	return inorder.Do(ctx, len(segs), r.parallel, func(ctx context.Context, i int) (piece, error) {
		ix, err := r.index(ctx, segs[i], listed[i])
		if err != nil && archive.IsStoreFault(err) {
			return piece{}, err
		}
		return piece{ix: ix, err: err}, nil
	}, func(i int, p piece) error { return use(segs[i], p.ix, p.err) })
}

// index reads the index of a segment: of a sealed one from its object, of another
// from its fragments as they were listed. They may have been replaced since, by
// the segment or by other fragments.
func (r *Reader) index(ctx context.Context, seg wal.Segment, listed archive.LiveSegment) (ix *index.Index, err error) {
	if len(listed.Fragments) == 0 {
		ix, err := r.archive.Index(ctx, seg)
		if listed.Segment == seg && errors.Is(err, storage.ErrNotExist) {
			return r.archive.PartialIndex(ctx, seg)
		}
		return ix, err
	}
	for range attempts {
		if ix, err = r.liveIndex(ctx, listed); !errors.Is(err, storage.ErrNotExist) {
			return ix, err
		}
		if ix, err = r.archive.Index(ctx, seg); !errors.Is(err, storage.ErrNotExist) {
			return ix, err
		}
		if listed, err = r.archive.LiveSegment(ctx, seg); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("fragments of segment %s that were listed have gone: %w", seg.Name(), storage.ErrNotExist)
}

// liveIndex derives the index of a segment from fragments; none are storage.ErrNotExist.
func (r *Reader) liveIndex(ctx context.Context, l archive.LiveSegment) (*index.Index, error) {
	if len(l.Fragments) == 0 {
		return nil, storage.ErrNotExist
	}
	select {
	case r.assembling <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.assembling }()
	return r.archive.LiveIndex(ctx, l)
}

// checkBase looks for the packs and tables that a backup's manifest names, and
// says what is wrong with them; "": nothing. It lists them and reads none.
func (r *Reader) checkBase(ctx context.Context, id string) (wrong string, err error) {
	m, err := basebackup.Load(ctx, r.repo, r.inc, id)
	var missing *basebackup.NotFoundError
	switch {
	case errors.As(err, &missing):
		return "its manifest has gone", nil
	case err != nil && archive.IsStoreFault(err):
		return "", err
	case err != nil:
		return err.Error(), nil
	}
	want := map[string]int64{}
	for _, p := range m.Packs {
		want[basebackup.PackKey(r.inc, p.Backup, p.Number)] = p.Size
	}
	for _, sh := range m.Shards {
		want[basebackup.ShardKey(r.inc, sh.Backup, sh.Number)] = sh.Size
	}
	have, err := r.sizes(ctx, want)
	if err != nil {
		return "", err
	}
	return compareObjects(want, have), nil
}

// sizes lists the directories of the wanted objects.
func (r *Reader) sizes(ctx context.Context, want map[string]int64) (map[string]int64, error) {
	dirs := map[string]bool{}
	for key := range want {
		dirs[path.Dir(key)+"/"] = true
	}
	have := make(map[string]int64, len(want))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.parallel)
	for dir := range dirs {
		g.Go(func() error {
			for info, err := range r.repo.Store().List(ctx, dir, "") {
				if err != nil {
					return err
				}
				mu.Lock()
				have[info.Key] = info.Size
				mu.Unlock()
			}
			return nil
		})
	}
	return have, g.Wait()
}

// compareObjects says which objects are missing or of another size.
func compareObjects(want, have map[string]int64) string {
	var bad []string
	for key, size := range want {
		got, ok := have[key]
		switch {
		case !ok:
			bad = append(bad, fmt.Sprintf("object %s is missing", key))
		case got != size:
			bad = append(bad, fmt.Sprintf("object %s has %d bytes instead of %d", key, got, size))
		}
	}
	slices.Sort(bad)
	switch len(bad) {
	case 0:
		return ""
	case 1:
		return bad[0]
	}
	return fmt.Sprintf("%s, and %d more of its objects are missing or damaged", bad[0], len(bad)-1)
}
