package restore

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
)

// futureSince is the first major with the fault that dropFuture is for.
const futureSince = 17

// dropFuture removes the files of transactions that were prepared after the
// checkpoint that recovery begins at: where another checkpoint was taken while the
// backup ran, it has them, and so has the WAL. A server that begins recovery removes
// them itself, but since 17 it computes a wrong name for them (restoreTwoPhaseData and
// AdjustToFullTransactionId in access/transam/twophase.c): the file stays, replay finds it
// and takes its transaction for restored, and the transaction is lost.
func (r *restorer) dropFuture() error {
	if r.manifest.Major < futureSince || r.plan.NextXID == 0 {
		return nil
	}
	const dir = "pg_twophase"
	entries, err := os.ReadDir(r.data(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		// Since 17 the name is the id with its epoch, in 16 digits.
		xid, err := strconv.ParseUint(e.Name(), 16, 64)
		if err != nil || len(e.Name()) != 16 || xid < r.plan.NextXID {
			continue
		}
		name := path.Join(dir, e.Name())
		if err := r.disk.Remove(r.data(name)); err != nil {
			return err
		}
		r.dropped = append(r.dropped, name)
	}
	return nil
}
