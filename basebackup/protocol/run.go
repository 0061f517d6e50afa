package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal"
)

// Run implements basebackup.Source. When ctx is done it ends the backup on the
// server and returns ctx.Err(), wrapped.
func (s *Server) Run(ctx context.Context, o basebackup.SourceOptions, sink basebackup.Sink) error {
	var warnings notices
	conn, err := s.connect(ctx, server.Replication, warnings.add)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	id, err := identify(ctx, conn)
	if err != nil {
		return err
	}
	if id.ServerVersion < minVersion {
		return fmt.Errorf("the server has version %d.%d: PostgreSQL 14 is the oldest supported", id.ServerVersion/10000, id.ServerVersion%10000)
	}
	sql, err := command(id.ServerVersion, o)
	if err != nil {
		return err
	}
	r := &run{conn: conn, version: id.ServerVersion, sink: sink}
	// One watcher for the whole run is cheaper than one for every message:
	// messages are received without a context, and a read that is under way is
	// ended by its deadline.
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().SetDeadline(time.Unix(1, 0)) })
	err = r.do(sql, id, &warnings)
	stop()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		abandon(conn)
		return fmt.Errorf("base backup: %w", ctx.Err())
	}
	return fmt.Errorf("base backup: %w", r.explain(err, &warnings))
}

// abandon asks the server to end what it is doing, so that it does not go on
// with a checkpoint or a copy that nobody waits for.
func abandon(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.CancelRequest(ctx)
}

// run is one BASE_BACKUP command.
type run struct {
	conn     *pgconn.PgConn
	version  int
	sink     basebackup.Sink
	received int64 // bytes of archives so far
	lost     error // the error of the connection, once there is one
}

func (r *run) do(sql string, id basebackup.Identity, warnings *notices) error {
	r.conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := r.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("send BASE_BACKUP: %w", err)
	}
	start, spaces, err := r.begin(id)
	if err != nil {
		return err
	}
	if err := r.sink.Begin(start); err != nil {
		return err
	}
	if r.version < version15 {
		err = r.separateCopies(spaces)
	} else {
		err = r.singleCopy(spaces)
	}
	if err != nil {
		return err
	}
	end, err := r.end()
	if err != nil {
		return err
	}
	end.Warnings = warnings.all()
	return r.sink.End(end)
}

// begin reads the two result sets that come before the archives. spaces has
// the main data directory (OID 0) in its place.
func (r *run) begin(id basebackup.Identity) (start basebackup.StartInfo, spaces []basebackup.Tablespace, err error) {
	start = basebackup.StartInfo{SystemID: id.SystemID, ServerVersion: id.ServerVersion}
	if start.StartLSN, start.Timeline, err = r.position(); err != nil {
		return start, nil, fmt.Errorf("start position: %w", err)
	}
	rows, err := r.rows()
	if err != nil {
		return start, nil, fmt.Errorf("tablespaces: %w", err)
	}
	for _, row := range rows {
		space, err := parseTablespace(row)
		if err != nil {
			return start, nil, err
		}
		start.Estimate += space.Size
		spaces = append(spaces, space)
		if space.OID != 0 {
			start.Tablespaces = append(start.Tablespaces, space)
		}
	}
	if len(spaces) == 0 || spaces[len(spaces)-1].OID != 0 || len(start.Tablespaces) != len(spaces)-1 {
		return start, nil, errors.New("the server did not announce the data directory as the last archive")
	}
	return start, spaces, nil
}

func parseTablespace(row []*string) (basebackup.Tablespace, error) {
	var t basebackup.Tablespace
	if len(row) != 3 {
		return t, fmt.Errorf("the server described a tablespace in %d columns", len(row))
	}
	if row[2] != nil {
		kib, err := strconv.ParseInt(*row[2], 10, 64)
		if err != nil || kib < 0 || kib > 1<<50 {
			return t, fmt.Errorf("size of a tablespace: %q", *row[2])
		}
		t.Size = kib << 10
	}
	if row[0] == nil {
		return t, nil
	}
	oid, err := strconv.ParseUint(*row[0], 10, 32)
	if err != nil || oid == 0 || row[1] == nil {
		return t, fmt.Errorf("the server sent an illegal tablespace oid %q", *row[0])
	}
	t.OID, t.Location = uint32(oid), *row[1]
	t.InPlace = inPlace(t.Location)
	return t, nil
}

// inPlace: a tablespace without a link is named by its path within the data
// directory (allow_in_place_tablespaces).
func inPlace(location string) bool {
	absolute := strings.HasPrefix(location, "/") || strings.HasPrefix(location, `\`) ||
		len(location) > 1 && location[1] == ':'
	return !absolute
}

// end reads the result set after the archives, to the very end of the
// command: damage found by the server is reported only there.
func (r *run) end() (basebackup.EndInfo, error) {
	var end basebackup.EndInfo
	var err error
	if end.StopLSN, end.Timeline, err = r.position(); err != nil {
		return end, err
	}
	for {
		msg, err := r.receive()
		if err != nil {
			return end, err
		}
		if _, ok := msg.(*pgproto3.ReadyForQuery); ok {
			return end, nil
		}
	}
}

// position reads a result set of one row {recptr, tli}.
func (r *run) position() (wal.LSN, wal.TimelineID, error) {
	rows, err := r.rows()
	if err != nil {
		return 0, 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 || rows[0][0] == nil || rows[0][1] == nil {
		return 0, 0, errors.New("the server did not send one row with position and timeline")
	}
	lsn, err := wal.ParseLSN(*rows[0][0])
	if err != nil {
		return 0, 0, err
	}
	tli, err := parseTimeline(*rows[0][1])
	return lsn, tli, err
}

// maxRows bounds a result set: there is a row for each tablespace.
const maxRows = 1 << 20

// rows reads one result set. A NULL is a nil pointer.
func (r *run) rows() (rows [][]*string, err error) {
	for {
		msg, err := r.receive()
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			if len(rows) == maxRows {
				return nil, errors.New("too many rows")
			}
			rows = append(rows, copyRow(m.Values))
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, fmt.Errorf("unexpected message %T in a result set", msg)
		}
	}
}

// copyRow copies the values: they are valid only until the next receive.
func copyRow(values [][]byte) []*string {
	row := make([]*string, len(values))
	for i, v := range values {
		if v != nil {
			s := string(v)
			row[i] = &s
		}
	}
	return row
}

// receive returns the next message that matters here. It is valid until the
// next call. The server's errors are returned as *pgconn.PgError.
func (r *run) receive() (pgproto3.BackendMessage, error) {
	for {
		msg, err := r.conn.ReceiveMessage(context.Background())
		if err != nil {
			r.lost = err
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		case *pgproto3.ErrorResponse:
			r.lost = pgconn.ErrorResponseToPgError(m)
			return nil, r.lost
		default:
			return msg, nil
		}
	}
}

// explain finds the words for an error that ended the command.
func (r *run) explain(err error, warnings *notices) error {
	var pg *pgconn.PgError
	switch {
	// ERRCODE_DATA_CORRUPTED (backup/basebackup.c, perform_base_backup).
	case errors.As(err, &pg) && pg.Code == "XX001":
		return &basebackup.ChecksumError{Warnings: warnings.all(), Err: pg}
	case errors.As(err, &pg):
		return err
	case r.lost != nil:
		return fmt.Errorf("the connection to the server broke after %d bytes: %w", r.received, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the server's archive is cut short: %w", err)
	}
	return err
}
