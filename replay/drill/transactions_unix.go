//go:build unix

package drill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/scratch"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/index"
)

// checkTransactions asks the server for the last commit before the stop, which must be
// there, and the first after it, which must not. It comes before anything that would make the
// server give out transaction ids.
func (d *drill) checkTransactions(ctx context.Context, conn *pgconn.PgConn) {
	began := time.Now()
	state, text, err := d.compareTransactions(ctx, conn)
	seconds := time.Since(began).Seconds()
	if err != nil {
		d.fail(ctx, CheckTransactions, "the server cannot be asked for transactions: "+err.Error(), nil, seconds)
		return
	}
	if state == Failed {
		d.fail(ctx, CheckTransactions, text, nil, seconds)
		return
	}
	d.record.add(Check{Name: CheckTransactions, State: state, Text: text, Seconds: seconds})
}

func (d *drill) compareTransactions(ctx context.Context, conn *pgconn.PgConn) (State, string, error) {
	stop := d.outcome.LSN // the end of the WAL may have moved since the plan
	kept, lost, err := d.commitsAround(ctx, stop)
	if err != nil {
		return "", "", err
	}
	// The plan also knows commits whose records cross segments, but of aborts nothing can be told.
	if p := d.plan.Stop; stop == p.End {
		if p.LastKept != nil && !p.LastKept.Aborted {
			kept = p.LastKept
		}
		if p.FirstLost != nil && !p.FirstLost.Aborted {
			lost = p.FirstLost
		}
	}
	d.record.Stop.Kept, d.record.Stop.Lost = kept, lost
	if kept == nil && lost == nil {
		return Skipped, "no commit is near the stop", nil
	}
	text := "no commit comes before the stop in the WAL nearby"
	if kept != nil {
		status, err := status(ctx, conn, kept.XID)
		if err != nil {
			return "", "", err
		}
		at := fmt.Sprintf("transaction %d, which committed at %s (%s), the last before the stop,", kept.XID, kept.LSN, plan.FormatTime(kept.Time))
		switch status {
		case "committed":
			text = at + " is there"
		case "":
			text = at + " is too old for the server to tell"
		default:
			return Failed, at + " is not there: the server says " + status, nil
		}
	}
	if lost == nil {
		return Passed, text + "; none comes after it", nil
	}
	status, err := status(ctx, conn, lost.XID)
	if err != nil {
		return "", "", err
	}
	at := fmt.Sprintf("transaction %d, which committed at %s (%s), the first after it,", lost.XID, lost.LSN, plan.FormatTime(lost.Time))
	if status == "committed" {
		return Failed, at + " is there and should not be", nil
	}
	return Passed, text + "; " + at + " is not", nil
}

// status is what the server says of a transaction: committed, aborted, in progress, future;
// "" if it is too old.
func status(ctx context.Context, conn *pgconn.PgConn, xid uint32) (string, error) {
	rows, err := scratch.Query(ctx, conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
	if err != nil {
		return "", err
	}
	next, err := strconv.ParseUint(rows[0][0], 10, 64)
	if err != nil {
		return "", err
	}
	full := fullXID(next, xid)
	rows, err = scratch.Query(ctx, conn, fmt.Sprintf("SELECT pg_xact_status('%d'::xid8)", full))
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "22023" { // invalid_parameter_value: it is in the future
		return "future", nil
	}
	if err != nil {
		return "", err
	}
	return rows[0][0], nil
}

// fullXID gives a transaction id the epoch with which it is nearest to another one.
func fullXID(near uint64, xid uint32) uint64 {
	full := near&^0xFFFFFFFF | uint64(xid)
	switch half := uint64(1) << 31; {
	case full > near && full-near > half && full >= 1<<32:
		full -= 1 << 32
	case near > full && near-full > half:
		full += 1 << 32
	}
	return full
}

// nearby is how many segments before and after the stop are looked at for commits.
const nearby = 16

// commitsAround finds the last commit that ends at the position or before it, and the first after
// that, along the plan's way.
func (d *drill) commitsAround(ctx context.Context, stop wal.LSN) (kept, lost *plan.Transaction, err error) {
	snap := d.archived.snapshot
	path, err := snap.Path(d.plan.Timeline)
	if err != nil {
		return nil, nil, err
	}
	at := d.Incarnation.SegmentSize.PrevNumber(stop)
	// Behind a hole the next commit would not be the first. Those from before the backup are in it.
	first, last := at, at
	for first > 0 && at-first < nearby && snap.Has(path.Segment(first-1)) {
		first--
	}
	for last-at < nearby && snap.Has(path.Segment(last+1)) {
		last++
	}
	var segs []wal.Segment
	for n := first; n <= last; n++ {
		segs = append(segs, path.Segment(n))
	}
	hole := false
	err = d.archived.reader.Read(ctx, snap, segs, func(seg wal.Segment, ix *index.Index, unreadable error) error {
		if unreadable != nil {
			if hole = seg.Number > at; !hole {
				kept = nil
			}
			return nil //nolint:nilerr // recovery has come to the stop: what lies beside the way need not be there
		}
		for tx := range ix.Transactions() {
			if tx.Kind != index.Commit && tx.Kind != index.CommitPrepared || tx.XID == 0 {
				continue
			}
			t := &plan.Transaction{XID: tx.XID, LSN: tx.LSN, End: tx.End, Time: tx.Time, Prepared: tx.Kind == index.CommitPrepared}
			if tx.End <= stop {
				kept = t
			} else if lost == nil && !hole {
				lost = t
			}
		}
		return nil
	})
	return kept, lost, err
}
