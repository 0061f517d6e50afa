package restore

import (
	"context"
	"fmt"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Amount is what a restore of some databases reads and writes.
type Amount struct {
	// Files and Bytes are written, from about Download bytes of packs: of each the
	// share that its frames in question are of its raw bytes.
	Files    int64 `json:"files"`
	Bytes    int64 `json:"bytes"`
	Download int64 `json:"download_bytes"`
}

// Estimate tells what a restore of the chosen databases would read, by the same
// runs that Run reads. It reads the tables of the backup's files and no pack. choice
// may be nil: everything. Errors are those of basebackup.ReadShard.
func Estimate(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest, choice *databases.Choice) (Amount, error) {
	refs := map[packID]basebackup.PackRef{}
	for _, ref := range m.Packs {
		refs[packID{ref.Backup, ref.Number}] = ref
	}
	var a Amount
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
		for _, r := range planRuns(files) {
			ref := refs[r.pack]
			if ref.Raw <= 0 {
				continue
			}
			begin := r.begin / frame.MaxFrame * frame.MaxFrame
			end := min((r.end+frame.MaxFrame-1)/frame.MaxFrame*frame.MaxFrame, ref.Raw)
			a.Download += int64(float64(end-begin) / float64(ref.Raw) * float64(ref.Size))
		}
	}
	return a, nil
}
