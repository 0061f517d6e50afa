package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walden-pg/walden/wal"
)

// FetchOptions say which segments to fetch, and from where.
type FetchOptions struct {
	// Conn is a connection with replication=true that is idle. If FetchSegments
	// returns nil or an *EndOfTimelineError it is idle again; after any other
	// error its state is unknown and it is to be closed.
	Conn *pgconn.PgConn
	// Slot is a physical slot to advance, or "" for none. A temporary slot must
	// belong to Conn.
	Slot string
	// Timeline is the timeline to read.
	Timeline wal.TimelineID
	// From and To: the segments from the one that contains From to the one that
	// contains To-1. From must be less than To.
	From, To    wal.LSN
	SegmentSize wal.SegmentSize
	// Put makes a whole segment durable. r is valid until it returns.
	Put func(ctx context.Context, seg wal.Segment, r io.ReaderAt) error
	// Received, if not nil, is told how far the stream has come, at most once
	// for each message of the server.
	Received func(wal.LSN)
	// StatusInterval is how often the server hears from us; 0: 10 seconds.
	StatusInterval time.Duration
}

func (o *FetchOptions) check() error {
	if err := o.SegmentSize.Valid(); err != nil {
		return err
	}
	if o.Timeline == 0 || o.From >= o.To {
		return fmt.Errorf("cannot fetch WAL from %s to %s on timeline %d", o.From, o.To, o.Timeline)
	}
	if o.Slot != "" && !validSlot(o.Slot) {
		return fmt.Errorf("illegal slot name %q", o.Slot)
	}
	return nil
}

// validSlot follows ReplicationSlotValidateName (replication/slot.c).
func validSlot(name string) bool {
	if name == "" || len(name) > 63 {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// FetchSegments receives whole segments and puts each, in order. It waits for
// WAL that the server has not written yet: bound it with ctx.
//
// Errors: *RemovedError if the server no longer has the first segment,
// *EndOfTimelineError if the timeline ends before the last segment is whole,
// ctx.Err() (wrapped, with the position reached), what Put returned, or a
// *pgconn.PgError.
func FetchSegments(ctx context.Context, o FetchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	f := &fetcher{o: o}
	f.segment = wal.Segment{Timeline: o.Timeline, Number: o.SegmentSize.Number(o.From), Size: o.SegmentSize}
	f.last = o.SegmentSize.PrevNumber(o.To)
	f.position = f.segment.Start()
	if f.o.StatusInterval <= 0 {
		f.o.StatusInterval = 10 * time.Second
	}
	buf, err := newBuffer(o.SegmentSize.Bytes())
	if err != nil {
		return fmt.Errorf("fetch WAL: %w", err)
	}
	defer buf.Close()
	f.buf = buf
	if err := f.run(ctx); err != nil {
		return fmt.Errorf("fetch WAL of timeline %d at %s: %w", o.Timeline, f.position, err)
	}
	return nil
}

type fetcher struct {
	o        FetchOptions
	buf      buffer
	segment  wal.Segment // the one being received
	last     uint64      // number of the last one wanted
	position wal.LSN     // the next byte expected
	durable  wal.LSN     // everything below has been put; 0: nothing yet
	status   time.Time   // when the next status message is due
}

func (f *fetcher) run(ctx context.Context) error {
	end, err := f.start(ctx)
	if err != nil || end {
		return err
	}
	f.status = time.Now().Add(f.o.StatusInterval)
	for f.segment.Number <= f.last {
		msg, err := f.receive(ctx)
		if err != nil {
			return err
		}
		if msg == nil { // nothing came: a status is due
			if err := f.sendStatus(ctx); err != nil {
				return err
			}
			continue
		}
		done, err := f.message(ctx, msg)
		if err != nil {
			return err
		}
		if done {
			return f.endOfTimeline(ctx)
		}
	}
	return f.stop(ctx)
}

// data handles the payload of one CopyData message. It is valid only until the
// next receive, and is copied into the buffer here.
func (f *fetcher) data(ctx context.Context, payload []byte) error {
	if len(payload) == 0 {
		return errors.New("the server sent an empty message")
	}
	switch payload[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(payload[1:])
		if err != nil {
			return err
		}
		if k.ReplyRequested || !time.Now().Before(f.status) {
			return f.sendStatus(ctx)
		}
		return nil
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(payload[1:])
		if err != nil {
			return err
		}
		return f.wal(ctx, wal.LSN(x.WALStart), x.WALData)
	}
	return fmt.Errorf("the server sent a message of unknown type %q", payload[0])
}

// wal takes a run of WAL, which may cross a segment boundary.
func (f *fetcher) wal(ctx context.Context, start wal.LSN, b []byte) error {
	if start != f.position {
		return fmt.Errorf("the server sent WAL at %s where %s was due", start, f.position)
	}
	for len(b) > 0 && f.segment.Number <= f.last {
		n := min(int64(len(b)), int64(f.segment.End()-f.position))
		if err := f.buf.WriteAt(b[:n], int64(f.position-f.segment.Start())); err != nil {
			return fmt.Errorf("buffer %s: %w", f.segment.Name(), err)
		}
		b = b[n:]
		f.position += wal.LSN(n)
		if f.position < f.segment.End() {
			break
		}
		if err := f.o.Put(ctx, f.segment, f.buf); err != nil {
			return err
		}
		f.durable = f.segment.End()
		f.segment = f.segment.Next()
		if err := f.sendStatus(ctx); err != nil {
			return err
		}
	}
	if f.o.Received != nil {
		f.o.Received(f.position)
	}
	if !time.Now().Before(f.status) {
		return f.sendStatus(ctx)
	}
	return nil
}

// sendStatus reports what is durable as written, flushed and applied alike.
// pglogrepl replaces a zero flush position by the write position, so the two
// must never differ; three zeros leave the slot where it is.
func (f *fetcher) sendStatus(ctx context.Context) error {
	f.status = time.Now().Add(f.o.StatusInterval)
	p := pglogrepl.LSN(f.durable)
	err := pglogrepl.SendStandbyStatusUpdate(ctx, f.o.Conn, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: p, WALFlushPosition: p, WALApplyPosition: p,
	})
	if err != nil {
		return fmt.Errorf("report position: %w", err)
	}
	return nil
}
