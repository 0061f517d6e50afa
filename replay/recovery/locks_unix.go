//go:build unix

package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// locksQuery counts what is locked so that not even a SELECT gets at it. In recovery that
// is the work of the startup process alone, for transactions whose end it has not
// replayed.
const locksQuery = `select count(distinct (database, relation)) from pg_locks ` +
	`where locktype = 'relation' and mode = 'AccessExclusiveLock' and granted`

// warnOfLocks tells of relations that nobody can read while recovery is paused: just before
// the commit of a DROP TABLE its table is one.
func (w *watch) warnOfLocks(o *Outcome) {
	n, err := w.session.locks()
	switch {
	case err != nil:
		o.Warnings = append(o.Warnings, fmt.Sprintf("the server could not be asked for locks: %v", err))
	case n > 0:
		o.Warnings = append(o.Warnings, fmt.Sprintf("relations are locked (%d) by transactions that have not ended where recovery is paused, and whoever reads them waits: "+
			"promote the server (SELECT pg_promote()), which ends those transactions, or restore with --action promote", n))
	}
}

// locks is the number of relations that are locked exclusively.
func (s *session) locks() (int, error) {
	if s.conn == nil {
		return 0, errors.New("there is no connection")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	results, err := s.conn.Exec(ctx, locksQuery).ReadAll()
	if err != nil {
		s.close()
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return 0, errors.New("unexpected answer about locks")
	}
	return strconv.Atoi(string(results[0].Rows[0][0]))
}
