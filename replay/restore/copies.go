package restore

import (
	"context"
	"path"

	"github.com/walden-pg/walden/wal/archive"
)

// copySegments puts the segments into pg_wal that recovery needs there: see
// plan.Copy. They count as archived: the server must not push under a name that is
// another's what is only a copy up to the switch.
func (r *restorer) copySegments(ctx context.Context) error {
	a := archive.New(r.repo, r.inc)
	mode := 0o600 | r.tree.topMode&0o040
	for _, c := range r.plan.Copies {
		at := r.data(path.Join("pg_wal", c.As))
		if err := a.Fetch(ctx, c.Segment, at); err != nil {
			return err
		}
		if err := r.disk.Chmod(at, mode); err != nil {
			return err
		}
		if r.own != nil {
			if err := r.disk.Chown(at, r.own.uid, r.own.gid); err != nil {
				return err
			}
		}
		if err := r.write(r.data(path.Join("pg_wal/archive_status", c.As+".done")), ""); err != nil {
			return err
		}
		r.log.Info("WAL segment copied", "segment", c.Segment, "as", c.As)
	}
	return nil
}
