package stream

import (
	"context"
	"time"
)

// What was received is overdue when it has waited for the repository for longer
// than lateDelays times MaxDelay, and than lateAfter.
const (
	lateDelays = 10
	lateAfter  = time.Minute
)

// watchDelay warns, once each time, of what was received and is overdue: an upload can
// hang without an error, and nothing else tells of it. Failures are told where they happen.
func (s *shipper) watchDelay(ctx context.Context) error {
	ticker := time.NewTicker(max(s.state.late/10, time.Millisecond))
	defer ticker.Stop()
	told := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		st := s.state.snapshot(s.journal)
		switch {
		case !st.Overdue && told:
			told = false
			s.o.Logger.Info("what was overdue is in the repository")
		case st.Overdue && !told && s.state.lastFailure() == nil:
			told = true
			s.o.Logger.Warn("what was received does not get into the repository, though nothing failed: an upload hangs, or is too slow",
				"for", st.Delay.Round(time.Millisecond), "bytes", st.Pending)
		}
	}
}
