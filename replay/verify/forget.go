package verify

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Forget takes objects out of what verifications remember, so that they are not missed: for
// who is about to delete them on purpose, before he does. goes is asked with whole keys. Where
// nothing is remembered, or nothing of it goes, nothing is written.
func Forget(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, goes func(key string) bool) error {
	r, err := newestRecord(ctx, repo, inc)
	if err != nil || r == nil {
		return err
	}
	forgotten := func(rest string) bool { return goes(inc.Prefix() + rest) }
	left, changed := newInventory(), false
	for rest, read := range r.inventory.all() {
		if forgotten(rest) {
			changed = true
			continue
		}
		left.add(rest, read)
	}
	before := len(r.Gone) + len(r.Suspects)
	r.Gone = slices.DeleteFunc(r.Gone, func(g goneObject) bool { return forgotten(g.Object) })
	r.Suspects = slices.DeleteFunc(r.Suspects, forgotten)
	if !changed && before == len(r.Gone)+len(r.Suspects) {
		return nil
	}
	r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { return strings.HasPrefix(f.Object, inc.Prefix()) && goes(f.Object) })
	r.Backups = slices.DeleteFunc(r.Backups, func(b recordedBackup) bool { return forgotten("backups/" + b.ID + "/manifest") })
	r.Updated, r.inventory = time.Now().UTC(), left
	return r.publish(ctx, repo, inc)
}
