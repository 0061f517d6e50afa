package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/wal"
)

// feed is a connection that streams WAL: one goroutine receives, any may send
// a status. It owns the network connection.
type feed struct {
	hijacked *pgconn.HijackedConn
	conn     net.Conn
	heard    atomic.Int64 // when the server was last heard, in Unix nanoseconds
	paused   atomic.Bool  // nothing is read now
	taking   atomic.Bool  // what was read last is being put into the journal

	mu  sync.Mutex // for sending
	out []byte
	// keep says that the connection is to be released, not closed.
	keep bool
}

// eventKind tells what the server sent.
type eventKind int

const (
	walEvent       eventKind = iota + 1
	keepaliveEvent           // and whether a reply is wanted
	endEvent                 // the timeline ends: finish
	shutdownEvent            // the server is shutting down and has sent everything
)

// event is one message of the stream.
type event struct {
	kind eventKind
	// start and data: walEvent. data is valid until the next receive.
	start wal.LSN
	data  []byte
	// serverEnd is how far the server's WAL reaches.
	serverEnd   wal.LSN
	replyWanted bool
}

// writeTimeout bounds the sending of a message: a server that does not read
// for so long is gone.
const writeTimeout = 30 * time.Second

// openFeed sends START_REPLICATION on an idle connection, which belongs to the
// feed from then on; slot may be empty. ended is not nil if the server says that the timeline ends
// where we wanted to begin. Then, and if the error is a *pgconn.PgError with
// which a feed is returned, the connection is idle and the feed can only be
// released.
func openFeed(ctx context.Context, pg *pgconn.PgConn, slot string, start wal.LSN, tli wal.TimelineID) (f *feed, ended *endRow, err error) {
	if err := pg.SyncConn(ctx); err != nil {
		return nil, nil, fmt.Errorf("start replication: %w", err)
	}
	hijacked, err := pg.Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("start replication: %w", err)
	}
	f = &feed{hijacked: hijacked, conn: hijacked.Conn}
	stop := context.AfterFunc(ctx, f.close)
	defer stop()
	f.touch()
	sql := fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %d", start, tli)
	if slot != "" {
		sql = fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %d", slot, start, tli)
	}
	hijacked.Frontend.SendQuery(&pgproto3.Query{String: sql})
	if err = hijacked.Frontend.Flush(); err == nil {
		ended, err = f.started()
	}
	var refused *pgconn.PgError
	if err != nil && !errors.As(err, &refused) {
		f.close()
		return nil, nil, received(ctx, err)
	}
	f.touch()
	return f, ended, err
}

// started reads the answer to START_REPLICATION. A *pgconn.PgError leaves the
// connection idle.
func (f *feed) started() (ended *endRow, err error) {
	var row endRow
	var refused error
	for {
		msg, err := f.hijacked.Frontend.Receive()
		if err != nil {
			if refused != nil {
				err = fmt.Errorf("%w (%s)", err, refused.Error())
			}
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return nil, nil
		case *pgproto3.DataRow:
			if row, err = parseEndRow(m); err != nil {
				return nil, err
			}
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			if refused != nil {
				return nil, refused
			}
			return &row, nil
		}
	}
}

func (f *feed) touch() { f.heard.Store(time.Now().UnixNano()) }

// pause says that nothing is read until the function that it returns is called.
func (f *feed) pause() (resume func()) {
	f.paused.Store(true)
	return func() {
		f.touch()
		f.paused.Store(false)
	}
}

// silence is how long nothing has been heard of the server, although it was
// listened to.
func (f *feed) silence() time.Duration {
	if f.paused.Load() {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - f.heard.Load())
}

// stuck is for how long the journal has had no room for what was read last.
func (f *feed) stuck() time.Duration {
	if !f.taking.Load() {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - f.heard.Load())
}

// receive waits for the next message.
func (f *feed) receive() (event, error) {
	for {
		msg, err := f.hijacked.Frontend.Receive()
		if err != nil {
			return event{}, err
		}
		f.touch()
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			return parseCopyData(m.Data)
		case *pgproto3.CopyDone:
			return event{kind: endEvent}, nil
		case *pgproto3.ErrorResponse:
			return event{}, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CommandComplete:
			return event{kind: shutdownEvent}, nil
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
			continue
		default:
			return event{}, fmt.Errorf("unexpected message %T in the stream", msg)
		}
	}
}

// Lengths of the messages within CopyData (protocol.sgml, "Streaming Replication Protocol").
const (
	walHeader       = 25
	keepaliveLength = 18
	statusLength    = 34
)

// parseCopyData takes apart the payload of a CopyData message.
func parseCopyData(b []byte) (event, error) {
	if len(b) == 0 {
		return event{}, errors.New("the server sent an empty message")
	}
	be := binary.BigEndian
	switch b[0] {
	case 'w':
		if len(b) < walHeader {
			return event{}, fmt.Errorf("the server sent a WAL message of %d bytes", len(b))
		}
		return event{kind: walEvent, start: wal.LSN(be.Uint64(b[1:])), serverEnd: wal.LSN(be.Uint64(b[9:])), data: b[walHeader:]}, nil
	case 'k':
		if len(b) < keepaliveLength {
			return event{}, fmt.Errorf("the server sent a keepalive of %d bytes", len(b))
		}
		return event{kind: keepaliveEvent, serverEnd: wal.LSN(be.Uint64(b[1:])), replyWanted: b[17] != 0}, nil
	}
	return event{}, fmt.Errorf("the server sent a message of unknown type %q", b[0])
}

// microsecondsTo2000 is the difference between the Unix epoch and PostgreSQL's.
const microsecondsTo2000 = 946684800 * 1e6

// sendStatus reports positions: what was received, what is durable. Applied is
// never claimed. With reply the server is asked to answer, so that we hear of it.
func (f *feed) sendStatus(written, flushed wal.LSN, reply bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.out[:0]
	b = append(b, 'd', 0, 0, 0, 4+statusLength, 'r')
	be := binary.BigEndian
	b = be.AppendUint64(b, uint64(written))
	b = be.AppendUint64(b, uint64(flushed))
	b = be.AppendUint64(b, 0)
	b = be.AppendUint64(b, uint64(time.Now().UnixMicro()-microsecondsTo2000))
	b = append(b, 0)
	if reply {
		b[len(b)-1] = 1
	}
	f.out = b
	return f.write(b)
}

func (f *feed) write(b []byte) error {
	if err := f.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := f.conn.Write(b); err != nil {
		return fmt.Errorf("report position: %w", err)
	}
	return nil
}

// finish answers the server's end of the copy, or ends it of our own accord,
// and reads until the connection is idle. WAL that is still under way is
// dropped. The row says where the next timeline begins.
func (f *feed) finish() (endRow, error) {
	var row endRow
	f.mu.Lock()
	err := f.write([]byte{'c', 0, 0, 0, 4}) // CopyDone
	f.mu.Unlock()
	if err != nil {
		return row, err
	}
	for {
		msg, err := f.hijacked.Frontend.Receive()
		if err != nil {
			return row, err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if row, err = parseEndRow(m); err != nil {
				return row, err
			}
		case *pgproto3.ErrorResponse:
			return row, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return row, nil
		}
	}
}

// holds reports whether the server still has the WAL that the stream begins
// with, of which there must be some, and makes the connection idle again.
func (f *feed) holds() (bool, error) {
	for {
		ev, err := f.receive()
		switch {
		case removed(err):
			return false, f.refused()
		case err != nil:
			return false, err
		case ev.kind == walEvent:
			_, err = f.finish()
			return err == nil, err
		case ev.kind != keepaliveEvent:
			return false, errServerStops
		}
	}
}

// refused reads until the connection is idle after an error of the server.
func (f *feed) refused() error {
	for {
		msg, err := f.hijacked.Frontend.Receive()
		if err != nil {
			return err
		}
		if _, idle := msg.(*pgproto3.ReadyForQuery); idle {
			return nil
		}
	}
}

// release gives the idle connection back for commands.
func (f *feed) release() (*pgconn.PgConn, error) {
	if err := f.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	f.hijacked.TxStatus = 'I'
	return pgconn.Construct(f.hijacked)
}

// close ends the connection at once.
func (f *feed) close() {
	if !f.keep {
		_ = f.conn.Close()
	}
}

// goodbyeTimeout bounds how long goodbye waits for the server.
const goodbyeTimeout = 2 * time.Second

// goodbye ends the copy and the connection, and waits until the server has
// read it: closing with unread bytes about would take the last status back.
func (f *feed) goodbye() {
	f.mu.Lock()
	err := f.write([]byte{'c', 0, 0, 0, 4, 'X', 0, 0, 0, 4}) // CopyDone, Terminate
	f.mu.Unlock()
	if err != nil {
		return
	}
	if err := f.conn.SetReadDeadline(time.Now().Add(goodbyeTimeout)); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, f.conn)
}

// endRow is the result row {next_tli, next_tli_startpos} after a timeline's end.
type endRow struct {
	timeline wal.TimelineID
	start    wal.LSN
}

func parseEndRow(m *pgproto3.DataRow) (endRow, error) {
	if len(m.Values) != 2 {
		return endRow{}, fmt.Errorf("the server's end-of-timeline row has %d columns", len(m.Values))
	}
	tli, err := strconv.ParseUint(string(m.Values[0]), 10, 32)
	if err != nil {
		return endRow{}, fmt.Errorf("next timeline: %w", err)
	}
	start, err := wal.ParseLSN(string(m.Values[1]))
	if err != nil {
		return endRow{}, fmt.Errorf("start of timeline %d: %w", tli, err)
	}
	return endRow{timeline: wal.TimelineID(tli), start: start}, nil
}
