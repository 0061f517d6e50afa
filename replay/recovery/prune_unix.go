//go:build unix

package recovery

import (
	"os"
	"path/filepath"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/control"
)

// keptSegments is how many segments behind the position stay in pg_wal.
const keptSegments = 2

// pruneWAL removes replayed segments from pg_wal where the server does not do it
// itself: while a reference to an invalid page is unresolved it makes no
// restartpoints (RecoveryRestartPoint in xlog.c), and would keep all WAL that it
// fetches. Should recovery begin again, restore_command delivers them again. Where
// transactions may be prepared nothing is removed: at its end recovery reads those that no
// restartpoint has written out from pg_wal (XlogReadTwoPhaseData in twophase.c).
func (w *watch) pruneWAL() {
	if w.options.Whole == nil || len(w.seen.invalid) == 0 || w.seen.redoDone || w.seen.stop.Kind != "" || time.Since(w.lastPrune) < time.Second {
		return
	}
	w.lastPrune = time.Now()
	if c, err := control.ReadDirectory(w.directory); err != nil || c.Settings.MaxPreparedXacts != 0 {
		return
	}
	dir := filepath.Join(w.directory, "pg_wal")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // it only costs room
	}
	now := w.control.SegmentSize.Number(w.seen.position)
	for _, e := range entries {
		seg, err := wal.ParseSegment(e.Name(), w.control.SegmentSize)
		if err == nil && e.Type().IsRegular() && seg.Number+keptSegments < now {
			_ = os.Remove(filepath.Join(dir, e.Name())) // as above
		}
	}
}
