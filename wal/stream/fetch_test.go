package stream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/stream"
)

const segmentSize = wal.SegmentSize(1 << 20)

// content is deterministic "WAL".
func content(from wal.LSN, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((uint64(from) + uint64(i)) * 2654435761 >> 13)
	}
	return b
}

func walData(start wal.LSN, b []byte) []byte {
	m := []byte{'w'}
	m = binary.BigEndian.AppendUint64(m, uint64(start))
	m = binary.BigEndian.AppendUint64(m, uint64(start)+uint64(len(b)))
	m = binary.BigEndian.AppendUint64(m, 0)
	return append(m, b...)
}

func keepalive(reply bool) []byte {
	m := append([]byte{'k'}, make([]byte, 16)...)
	if reply {
		return append(m, 1)
	}
	return append(m, 0)
}

// status is a standby status update as the server received it.
type status struct{ write, flush, apply wal.LSN }

// sender is the server's side of one stream.
type sender struct {
	t  *testing.T
	c  *fakepg.Conn
	mu sync.Mutex
	// statuses in order; done is closed at the client's CopyDone.
	statuses []status
	done     chan struct{}
}

func newSender(t *testing.T, c *fakepg.Conn) *sender {
	s := &sender{t: t, c: c, done: make(chan struct{})}
	c.Send(&pgproto3.CopyBothResponse{})
	_ = c.Flush()
	return s
}

// receive takes messages until the client's CopyDone.
func (s *sender) receive() {
	defer close(s.done)
	for {
		msg, err := s.c.Receive()
		if err != nil {
			return
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if len(m.Data) != 34 || m.Data[0] != 'r' {
				s.t.Errorf("client sent %d bytes of type %q", len(m.Data), m.Data[0])
				return
			}
			at := func(i int) wal.LSN { return wal.LSN(binary.BigEndian.Uint64(m.Data[i:])) }
			s.mu.Lock()
			s.statuses = append(s.statuses, status{at(1), at(9), at(17)})
			s.mu.Unlock()
		case *pgproto3.CopyDone:
			return
		}
	}
}

func (s *sender) finish() {
	<-s.done
	s.c.Send(&pgproto3.CopyDone{})
	s.c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
	s.c.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")})
	s.c.Ready()
}

func connect(t *testing.T, s *fakepg.Server) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), s.Conninfo()+" replication=true")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// collector is a Put that keeps what it gets.
type collector struct{ segments map[string][]byte }

func (c *collector) put(_ context.Context, seg wal.Segment, r io.ReaderAt) error {
	if c.segments == nil {
		c.segments = map[string][]byte{}
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, seg.Size.Bytes()))
	c.segments[seg.Name()] = b
	return err
}

func TestFetchSegments(t *testing.T) {
	from := wal.LSN(5*segmentSize) + 4711
	to := wal.LSN(7*segmentSize) + 1 // just into segment 7
	var s *sender
	server := fakepg.New(t, func(c *fakepg.Conn, sql string) bool {
		if !strings.HasPrefix(sql, "START_REPLICATION") {
			c.Rows("n", []any{1})
			c.Ready()
			return true
		}
		s = newSender(t, c)
		go s.receive()
		random := rand.New(rand.NewPCG(7, 7))
		// Message borders fall anywhere, segment borders included, and the
		// server has more than is wanted.
		for at := wal.LSN(5 * segmentSize); at < 9*wal.LSN(segmentSize); {
			n := 1 + random.IntN(128<<10)
			c.Data(walData(at, content(at, n)))
			at += wal.LSN(n)
			if random.IntN(10) == 0 {
				c.Data(keepalive(true))
			}
		}
		_ = c.Flush()
		s.finish()
		return true
	})
	conn := connect(t, server)
	var got collector
	var last wal.LSN
	durable := wal.LSN(0)
	err := stream.FetchSegments(context.Background(), stream.FetchOptions{
		Conn: conn, Slot: "walden_backup_1", Timeline: 3, From: from, To: to, SegmentSize: segmentSize,
		Put: func(ctx context.Context, seg wal.Segment, r io.ReaderAt) error {
			durable = seg.End()
			return got.put(ctx, seg, r)
		},
		Received: func(l wal.LSN) { last = l },
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(5); n <= 7; n++ {
		seg := wal.Segment{Timeline: 3, Number: n, Size: segmentSize}
		if !bytes.Equal(got.segments[seg.Name()], content(seg.Start(), int(segmentSize))) {
			t.Errorf("segment %s differs", seg.Name())
		}
	}
	if len(got.segments) != 3 || last < 8*wal.LSN(segmentSize) || durable != 8*wal.LSN(segmentSize) {
		t.Errorf("%d segments, received to %s", len(got.segments), last)
	}
	if want := "START_REPLICATION SLOT walden_backup_1 PHYSICAL 0/500000 TIMELINE 3"; server.Queries()[0] != want {
		t.Errorf("query %q, want %q", server.Queries()[0], want)
	}
	checkStatuses(t, s)
	// The connection can be used again.
	if _, err := conn.Exec(context.Background(), "SHOW x").ReadAll(); err != nil {
		t.Errorf("after the stream: %v", err)
	}
}

// checkStatuses: nothing was ever acknowledged but whole segments that Put had
// taken, and write never ran ahead of flush.
func checkStatuses(t *testing.T, s *sender) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.statuses) < 3 {
		t.Errorf("only %d status messages", len(s.statuses))
	}
	before := wal.LSN(0)
	for _, st := range s.statuses {
		if st.write != st.flush || st.apply != st.flush || st.flush%wal.LSN(segmentSize) != 0 || st.flush < before {
			t.Errorf("status %+v after %s", st, before)
		}
		before = st.flush
	}
	if before != 8*wal.LSN(segmentSize) {
		t.Errorf("the last status says %s", before)
	}
}

func TestFetchErrors(t *testing.T) {
	start := wal.LSN(5 * segmentSize)
	options := stream.FetchOptions{Timeline: 1, From: start, To: start + 1, SegmentSize: segmentSize}
	cases := []struct {
		name   string
		handle func(t *testing.T, c *fakepg.Conn) bool
		check  func(error) bool
	}{
		{"removed", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Error("58P01", "requested WAL segment 000000010000000000000005 has already been removed")
			return true
		}, func(err error) bool {
			var removed *stream.RemovedError
			return errors.As(err, &removed) && removed.Segment.Number == 5 && removed.Hint() != ""
		}},
		{"removed after the start", func(t *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Error("58P01", "gone")
			return true
		}, func(err error) bool {
			var removed *stream.RemovedError
			return errors.As(err, &removed)
		}},
		{"invalid slot", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Error("55000", "cannot read from replication slot")
			return true
		}, func(err error) bool {
			var pg *pgconn.PgError
			return errors.As(err, &pg) && pg.Code == "55000"
		}},
		{"timeline ended before", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Rows("next_tli next_tli_startpos", []any{"2", "0/500000"})
			c.Ready()
			return true
		}, func(err error) bool {
			var end *stream.EndOfTimelineError
			return errors.As(err, &end) && end.Next == 2 && end.Switch == 0x500000
		}},
		{"timeline ends within", func(t *testing.T, c *fakepg.Conn) bool {
			s := newSender(t, c)
			c.Data(walData(start, content(start, 1000)))
			c.Send(&pgproto3.CopyDone{})
			_ = c.Flush()
			s.receive()
			c.Rows("next_tli next_tli_startpos", []any{"2", "0/500200"})
			c.Send(&pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")})
			c.Ready()
			return true
		}, func(err error) bool {
			var end *stream.EndOfTimelineError
			return errors.As(err, &end) && end.Next == 2 && end.Switch == 0x500200
		}},
		{"shut down", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
			return true
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "shutting down") }},
		{"a gap", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Data(walData(start, content(start, 100)))
			c.Data(walData(start+101, content(start+101, 100)))
			return true
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "0/500064 was due") }},
		{"cut", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Data(walData(start, content(start, 100)))
			return false
		}, func(err error) bool { return err != nil }},
		{"junk", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Data([]byte("w"))
			return true
		}, func(err error) bool { return err != nil }},
		{"empty", func(_ *testing.T, c *fakepg.Conn) bool {
			c.Send(&pgproto3.CopyBothResponse{})
			c.Data(nil)
			return true
		}, func(err error) bool { return err != nil }},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			server := fakepg.New(t, func(c *fakepg.Conn, _ string) bool { return test.handle(t, c) })
			o := options
			o.Conn = connect(t, server)
			o.Put = func(context.Context, wal.Segment, io.ReaderAt) error {
				return errors.New("no segment is whole here")
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := stream.FetchSegments(ctx, o); !test.check(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFetchIsCancelled(t *testing.T) {
	server := fakepg.New(t, func(c *fakepg.Conn, _ string) bool {
		s := newSender(t, c)
		c.Data(walData(5*wal.LSN(segmentSize), content(0, 100)))
		_ = c.Flush()
		s.receive()
		return false
	})
	o := stream.FetchOptions{
		Conn: connect(t, server), Timeline: 1, From: 5 * wal.LSN(segmentSize), To: 6 * wal.LSN(segmentSize),
		SegmentSize: segmentSize, StatusInterval: 10 * time.Millisecond,
		Put: func(context.Context, wal.Segment, io.ReaderAt) error { return nil },
	}
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := stream.FetchSegments(ctx, o)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "0/500064") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("it took %s", d)
	}
}

func TestPutErrorEndsTheFetch(t *testing.T) {
	full := errors.New("disk full")
	server := fakepg.New(t, func(c *fakepg.Conn, _ string) bool {
		s := newSender(t, c)
		c.Data(walData(5*wal.LSN(segmentSize), content(0, int(segmentSize))))
		_ = c.Flush()
		s.receive()
		for _, st := range s.statuses {
			if st.flush != 0 || st.write != 0 {
				t.Errorf("status %+v though nothing is durable", st)
			}
		}
		return false
	})
	conn := connect(t, server)
	err := stream.FetchSegments(context.Background(), stream.FetchOptions{
		Conn: conn, Timeline: 1, From: 5 * wal.LSN(segmentSize), To: 6 * wal.LSN(segmentSize), SegmentSize: segmentSize,
		Put: func(context.Context, wal.Segment, io.ReaderAt) error { return full },
	})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

func TestFetchRefusesNonsense(t *testing.T) {
	for _, o := range []stream.FetchOptions{
		{Timeline: 0, From: 1, To: 2, SegmentSize: segmentSize},
		{Timeline: 1, From: 2, To: 2, SegmentSize: segmentSize},
		{Timeline: 1, From: 1, To: 2, SegmentSize: 12345},
		{Timeline: 1, From: 1, To: 2, SegmentSize: segmentSize, Slot: "a b"},
	} {
		if stream.FetchSegments(context.Background(), o) == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestLargeSegments go through a temporary file, of which nothing is left.
func TestLargeSegments(t *testing.T) {
	const size = wal.SegmentSize(32 << 20)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	server := fakepg.New(t, func(c *fakepg.Conn, _ string) bool {
		s := newSender(t, c)
		go s.receive()
		for at := wal.LSN(size); at < 2*wal.LSN(size); at += 128 << 10 {
			c.Data(walData(at, bytes.Repeat([]byte{byte(at >> 17)}, 128<<10)))
			_ = c.Flush()
		}
		s.finish()
		return true
	})
	whole := false
	err := stream.FetchSegments(context.Background(), stream.FetchOptions{
		Conn: connect(t, server), Timeline: 1, From: wal.LSN(size), To: wal.LSN(size) + 1, SegmentSize: size,
		Put: func(_ context.Context, seg wal.Segment, r io.ReaderAt) error {
			b, err := io.ReadAll(io.NewSectionReader(r, 0, size.Bytes()))
			whole = err == nil && len(b) == int(size)
			for i := 0; whole && i < len(b); i += 64 << 10 {
				whole = b[i] == byte((seg.Start()+wal.LSN(i))>>17)
			}
			return err
		},
	})
	if err != nil || !whole {
		t.Errorf("whole: %v, error %v", whole, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
