package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// start sends START_REPLICATION. end is true if the server answered that the
// timeline ends where we wanted to begin; the connection is idle then.
func (f *fetcher) start(ctx context.Context) (end bool, err error) {
	slot := ""
	if f.o.Slot != "" {
		slot = "SLOT " + f.o.Slot + " "
	}
	sql := fmt.Sprintf("START_REPLICATION %sPHYSICAL %s TIMELINE %d", slot, f.position, f.o.Timeline)
	f.o.Conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := f.o.Conn.Frontend().Flush(); err != nil {
		return false, fmt.Errorf("send START_REPLICATION: %w", err)
	}
	var next endRow
	for {
		msg, err := f.o.Conn.ReceiveMessage(ctx)
		if err != nil {
			return false, received(ctx, err)
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return false, nil
		case *pgproto3.DataRow:
			if next, err = parseEndRow(m); err != nil {
				return false, err
			}
		case *pgproto3.ErrorResponse:
			return false, f.serverError(m)
		case *pgproto3.ReadyForQuery:
			return true, f.timelineEnded(next)
		}
	}
}

// receive returns the next message, or nil if a status message is due first.
// The message is valid until the next call.
func (f *fetcher) receive(ctx context.Context) (pgproto3.BackendMessage, error) {
	// The deadline below must not be mistaken for the caller's.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	due, cancel := context.WithDeadline(ctx, f.status)
	defer cancel()
	msg, err := f.o.Conn.ReceiveMessage(due)
	if err == nil {
		return msg, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if due.Err() != nil && !f.o.Conn.IsClosed() {
		return nil, nil
	}
	return nil, err
}

// message handles one message of the stream. done says that the server has
// ended the copy of its own accord.
func (f *fetcher) message(ctx context.Context, msg pgproto3.BackendMessage) (done bool, err error) {
	switch m := msg.(type) {
	case *pgproto3.CopyData:
		return false, f.data(ctx, m.Data)
	case *pgproto3.CopyDone:
		return true, nil
	case *pgproto3.ErrorResponse:
		return false, f.serverError(m)
	case *pgproto3.CommandComplete:
		return false, errors.New("the server ended the stream: it is shutting down")
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		return false, nil
	}
	return false, fmt.Errorf("unexpected message %T in the stream", msg)
}

// endOfTimeline answers the server's CopyDone, reads where the next timeline
// begins and says so.
func (f *fetcher) endOfTimeline(ctx context.Context) error {
	next, err := f.finish(ctx)
	if err != nil {
		return err
	}
	return f.timelineEnded(next)
}

// stop ends the stream because all wanted segments are durable.
func (f *fetcher) stop(ctx context.Context) error {
	_, err := f.finish(ctx)
	return err
}

// finish sends CopyDone and reads until the connection is idle. WAL that is
// still under way is dropped.
func (f *fetcher) finish(ctx context.Context) (endRow, error) {
	var next endRow
	f.o.Conn.Frontend().Send(&pgproto3.CopyDone{})
	if err := f.o.Conn.Frontend().Flush(); err != nil {
		return next, fmt.Errorf("end the stream: %w", err)
	}
	for {
		msg, err := f.o.Conn.ReceiveMessage(ctx)
		if err != nil {
			return next, received(ctx, err)
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if next, err = parseEndRow(m); err != nil {
				return next, err
			}
		case *pgproto3.ErrorResponse:
			return next, f.serverError(m)
		case *pgproto3.ReadyForQuery:
			return next, nil
		}
	}
}

func (f *fetcher) timelineEnded(next endRow) error {
	return &EndOfTimelineError{Timeline: f.o.Timeline, Next: next.timeline, Switch: next.start}
}

// serverError turns "requested WAL segment … has already been removed"
// (SQLSTATE 58P01, walsender.c) into a *RemovedError.
func (f *fetcher) serverError(m *pgproto3.ErrorResponse) error {
	err := pgconn.ErrorResponseToPgError(m)
	if err.Code == "58P01" {
		return &RemovedError{Segment: f.segment, Err: err}
	}
	return err
}

// received prefers the caller's cancellation to what it did to the connection.
func received(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
