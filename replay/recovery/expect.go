package recovery

import (
	"fmt"
	"time"

	"github.com/walden-pg/walden/wal"
)

// Expectation is where a plan has proved that recovery stops.
type Expectation struct {
	// Record is where the record starts that stops recovery, and Before says that it
	// is not replayed any more. 0: none does, recovery goes on to the end of the
	// WAL, or until the cluster is consistent.
	Record wal.LSN
	Before bool
	// End is the position up to which WAL is replayed, on Timeline. Where no record
	// stops recovery more WAL may have been archived since, so that it gets further.
	End      wal.LSN
	Timeline wal.TimelineID
	// LastTransaction is the time of the last commit or abort that is replayed before
	// Record; zero: none is. Ended is that of the transaction which Record ends; zero:
	// it ends none. A server that stops after a record at a position does not count it
	// (recoveryStopsAfter in access/transam/xlogrecovery.c).
	LastTransaction, Ended time.Time
}

// Differs says in what an outcome is not what was expected, by a single record or
// more; "": it is the very place. What the outcome does not tell is not compared:
// the position of a server that shut itself down is known from the record it named.
func (x Expectation) Differs(o *Outcome) string {
	switch {
	case o.State == StandingBy || o.State == Failed:
		return ""
	case x.Record == 0:
		return x.endDiffers(o)
	case o.Stop.Kind == StopLSN && (o.Stop.LSN != x.Record || o.Stop.Before != x.Before):
		return fmt.Sprintf("recovery stopped %s the record at %s, and the plan proved that it stops %s the one at %s",
			side(o.Stop.Before), o.Stop.LSN, side(x.Before), x.Record)
	case o.Stop.Kind == StopEndOfWAL:
		return fmt.Sprintf("recovery went on to the end of the WAL at %s, and the plan proved that it stops %s the record at %s", o.LSN, side(x.Before), x.Record)
	case o.LSNExact && o.LSN != x.End, o.LSN > x.End:
		return fmt.Sprintf("recovery replayed the WAL up to %s, and the plan proved that it stops at %s", o.LSN, x.End)
	case o.LSNExact && o.Timeline != x.Timeline:
		return fmt.Sprintf("recovery stopped on timeline %s, and the plan proved that it stops on timeline %s", o.Timeline, x.Timeline)
	}
	return x.transactionDiffers(o)
}

// endDiffers is Differs where no record stops recovery.
func (x Expectation) endDiffers(o *Outcome) string {
	switch {
	case o.LSNExact && o.LSN < x.End:
		return fmt.Sprintf("recovery ended at %s, and the plan proved that the WAL goes on to %s", o.LSN, x.End)
	case o.LSNExact && o.LSN == x.End:
		return x.transactionDiffers(o)
	}
	return ""
}

// last is the time of the last transaction that was replayed, where the outcome is as
// expected.
func (x Expectation) last(o *Outcome) time.Time {
	if o.Stop.Kind == StopLSN && !x.Before && !x.Ended.IsZero() {
		return x.Ended
	}
	return o.LastTransaction
}

// transactionDiffers compares the last transaction that was replayed. A server that
// took recovery up again knows none of those before.
func (x Expectation) transactionDiffers(o *Outcome) string {
	got := o.LastTransaction
	switch {
	case got.IsZero() || got.Equal(x.LastTransaction):
		return ""
	case x.LastTransaction.IsZero():
		return fmt.Sprintf("recovery replayed a transaction of %s, and the plan proved that none comes before the stop", timeText(got))
	}
	return fmt.Sprintf("the last transaction that was replayed is of %s, and the plan proved that it is of %s", timeText(got), timeText(x.LastTransaction))
}

func side(before bool) string {
	if before {
		return "before"
	}
	return "after"
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999-07") }
