package restore

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Amount is what a restore of some databases reads and writes.
type Amount struct {
	// Files and Bytes are written; for them Download bytes are read from Packs packs.
	Files    int64 `json:"files"`
	Bytes    int64 `json:"bytes"`
	Packs    int64 `json:"packs"`
	Download int64 `json:"download_bytes"`
}

// packsAtOnce is how many packs' indexes are read at the same time.
const packsAtOnce = 16

// Estimate tells what a restore of the chosen databases would read, by the same
// runs that Run reads. It reads the tables of the backup's files, and the index of each
// pack that has some of it. choice may be nil: everything. Errors are those of basebackup.ReadShard and
// basebackup.OpenPack, and *FileError.
func Estimate(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest, choice *databases.Choice) (Amount, error) {
	refs := map[packID]basebackup.PackRef{}
	for _, ref := range m.Packs {
		refs[packID{ref.Backup, ref.Number}] = ref
	}
	var a Amount
	var mu sync.Mutex // of a.Download
	read := map[packID]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(packsAtOnce)
	for _, shard := range m.Shards {
		var files []*file
		for e, err := range basebackup.ReadShard(ctx, repo, inc, shard) {
			if err != nil {
				return Amount{}, fmt.Errorf("restore: %w", err)
			}
			if e.Kind != basebackup.KindFile && e.Kind != basebackup.KindConfig || choice.IsHollow(e.Path) {
				continue
			}
			a.Files++
			a.Bytes += e.Size
			files = append(files, &file{entry: e})
		}
		for _, runs := range byPack(planRuns(files)) {
			first := &runs[0]
			ref, ok := refs[first.pack]
			if !ok {
				return Amount{}, unnamedPack(first)
			}
			read[first.pack] = true
			g.Go(func() error {
				object, err := basebackup.OpenPack(gctx, repo, inc, ref)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				for _, r := range runs {
					a.Download += object.StoredRange(r.begin, r.end-r.begin)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return Amount{}, fmt.Errorf("restore: %w", err)
	}
	a.Packs = int64(len(read))
	return a, nil
}

// byPack cuts runs, which are in the order of their packs, where another pack begins.
func byPack(runs []readRun) [][]readRun {
	var list [][]readRun
	for begin := 0; begin < len(runs); {
		end := begin
		for end < len(runs) && runs[end].pack == runs[begin].pack {
			end++
		}
		list = append(list, runs[begin:end])
		begin = end
	}
	return list
}
