package protocol

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/server"
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
	conn, err := s.connect(ctx, server.Replication, nil)
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
	return &reservation{server: s, conn: conn, slot: slot, size: id.SegmentSize}, nil
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
	server *Server
	mu     sync.Mutex
	conn   *pgconn.PgConn
	slot   string // empty once its connection is lost
	size   wal.SegmentSize
}

// Fetch implements basebackup.Reservation. A connection that was cut while
// nobody used it is replaced by another: the slot is gone with it, but the WAL
// is mostly still there, and if not the server says so.
func (r *reservation) Fetch(ctx context.Context, tli wal.TimelineID, from, to wal.LSN, put basebackup.PutSegment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var refused error // what put returned
	counted := func(ctx context.Context, seg wal.Segment, content io.ReaderAt) error {
		if refused = put(ctx, seg, content); refused == nil {
			from = seg.End()
		}
		return refused
	}
	for attempt := 1; ; attempt++ {
		err := stream.FetchSegments(ctx, stream.FetchOptions{
			Conn: r.conn, Slot: r.slot, Timeline: tli, From: from, To: to, SegmentSize: r.size, Put: counted,
		})
		if err == nil || ctx.Err() != nil || refused != nil || answered(err) || attempt == maxFetches {
			return err
		}
		if r.conn, r.slot, err = r.reconnect(ctx, err); err != nil {
			return err
		}
	}
}

// answered reports whether the server itself said no. With FATAL or PANIC it
// answers nothing but ends the connection, as when an administrator or a time
// limit does (elog.c).
func answered(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.SeverityUnlocalized != "FATAL" && said.SeverityUnlocalized != "PANIC"
	}
	var end *stream.EndOfTimelineError
	return errors.As(err, &end)
}

// maxFetches bounds how often a lost connection is replaced.
const maxFetches = 3

func (r *reservation) reconnect(ctx context.Context, lost error) (*pgconn.PgConn, string, error) {
	conn, err := r.server.connect(ctx, server.Replication, nil)
	if err != nil {
		return r.conn, r.slot, errors.Join(lost, err)
	}
	closeConn(r.conn)
	return conn, "", nil
}

// History implements basebackup.Reservation. It needs no slot, and so a
// connection of its own, which cannot have been cut meanwhile.
func (r *reservation) History(ctx context.Context, tli wal.TimelineID) ([]byte, error) {
	conn, err := r.server.connect(ctx, server.Replication, nil)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	row, err := queryRow(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
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
