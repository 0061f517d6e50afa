//go:build unix

package recovery

import (
	"testing"
	"time"
)

// TestLastTransactionOfAStoppedServer holds that what the server said while it
// replayed is not told as the end, and that the end is where PostgreSQL says it
// has stopped.
func TestLastTransactionOfAStoppedServer(t *testing.T) {
	early := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	stopped := early.Add(time.Minute)
	for _, c := range []struct {
		stop Stop
		want time.Time
	}{
		{Stop{Kind: StopTransaction, Time: stopped}, stopped},
		{Stop{Kind: StopTransaction, Time: stopped, Before: true}, time.Time{}},
		{Stop{Kind: StopLSN}, time.Time{}},
	} {
		w := &watch{setup: &setup{directory: t.TempDir()}, answer: position{lastTime: early}}
		o := &Outcome{Stop: c.stop}
		w.locateStopped(o)
		if !o.LastTransaction.Equal(c.want) {
			t.Errorf("%+v: last transaction %s, want %s", c.stop, o.LastTransaction, c.want)
		}
	}
}
