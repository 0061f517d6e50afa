package protocol

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/stream"
)

// Reserve implements basebackup.Server: it creates a temporary physical slot,
// which ends with its connection, whatever becomes of this process.
//
// A slot that reserves WAL keeps everything from the redo position of the last
// checkpoint (on a standby: restartpoint) on, which is at or before the one
// that a base backup begun afterwards starts with. max_slot_wal_keep_size
// bounds it, where set.
func (s *Server) Reserve(ctx context.Context) (basebackup.Reservation, error) {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails
	slot := "walden_backup_" + hex.EncodeToString(random)
	conn, err := s.connect(ctx, true, nil)
	if err != nil {
		return nil, err
	}
	id, err := identify(ctx, conn)
	if err == nil {
		// The old syntax is understood by all versions.
		_, err = conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+slot+" TEMPORARY PHYSICAL RESERVE_WAL").ReadAll()
	}
	if err != nil {
		closeConn(conn)
		return nil, &SlotError{Err: err}
	}
	return &reservation{conn: conn, slot: slot, size: id.SegmentSize}, nil
}

// SlotError says that a replication slot cannot be created.
type SlotError struct{ Err error }

// Error gives the server's reason.
func (e *SlotError) Error() string { return "create a temporary replication slot: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SlotError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *SlotError) Hint() string {
	var pg *pgconn.PgError
	if errors.As(e.Err, &pg) && pg.Code == "53400" { // configuration_limit_exceeded
		return "all replication slots are taken: drop one that is not used (pg_replication_slots), or raise max_replication_slots"
	}
	return ""
}

// reservation is a connection that owns a slot.
type reservation struct {
	mu   sync.Mutex
	conn *pgconn.PgConn
	slot string
	size wal.SegmentSize
}

// Fetch implements basebackup.Reservation.
func (r *reservation) Fetch(ctx context.Context, tli wal.TimelineID, from, to wal.LSN, put basebackup.PutSegment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return stream.FetchSegments(ctx, stream.FetchOptions{
		Conn: r.conn, Slot: r.slot, Timeline: tli, From: from, To: to, SegmentSize: r.size, Put: put,
	})
}

// History implements basebackup.Reservation.
func (r *reservation) History(ctx context.Context, tli wal.TimelineID) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, err := queryRow(ctx, r.conn, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	if err != nil {
		return nil, err
	}
	if want := tli.Hex() + ".history"; row[0] != want {
		return nil, fmt.Errorf("the server sent %q instead of %s", row[0], want)
	}
	return []byte(row[1]), nil
}

// Close implements basebackup.Reservation.
func (r *reservation) Close(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn.IsClosed() {
		return nil
	}
	return r.conn.Close(ctx)
}
