//go:build unix

package stream_test

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walden-pg/walden/internal/pgtest/fakepg"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/waltest"
)

// scriptedID is the system identifier of a primary.
const scriptedID = 7345001122334455667

// primary is a scripted server that has the WAL of a builder and streams it.
type primary struct {
	t       *testing.T
	server  *fakepg.Server
	builder *waltest.Builder

	mu sync.Mutex
	// end is how far its WAL reaches, removed the number of the first segment it has.
	end     wal.LSN
	removed uint64
	// silent: it answers nothing and sends nothing once it streams.
	silent bool
	// senderTimeout is wal_sender_timeout.
	senderTimeout string
	// refusal is the code of the error that whoever does not stream is refused with.
	refusal string
	// shutdown: it ends the stream as a server does that shuts down.
	shutdown bool
	slot     wal.LSN
	slotLost bool
	// asks makes it ask for a reply.
	asks     chan struct{}
	statuses []status
	asked    int // statuses that wanted a reply
}

// newPrimary has n complete segments, from 1 on, and a piece of the next.
func newPrimary(t *testing.T, n int) *primary {
	t.Helper()
	return primaryOf(t, build(n))
}

// build writes n complete segments and a piece of the next.
func build(n int) *waltest.Builder {
	b := waltest.NewBuilder(17, scriptedID, 1, segmentSize)
	for i := range n {
		b.Commit(uint32(1000+i), time.Now())
		b.FillSegment()
	}
	for range 10 {
		b.Message(10_000)
	}
	b.Commit(9000, time.Now())
	return b
}

// primaryOf has the WAL of a builder, which several may read.
func primaryOf(t *testing.T, b *waltest.Builder) *primary {
	t.Helper()
	p := &primary{t: t, builder: b, end: b.Position(), senderTimeout: "1min", refusal: "42501", asks: make(chan struct{})}
	p.slot = wal.LSN(segmentSize)
	p.server = fakepg.New(t, p.handle)
	return p
}

// rig is a new repository, with decorate around what the receiver sees, and the primary.
func (p *primary) rig(decorate func(storage.Store) storage.Store) *rig {
	g := newRigFor(p.t, scriptedID, 17, decorate)
	g.o.Conninfo = p.server.Conninfo()
	return g
}

// bytes is the content of a segment.
func (p *primary) bytes(number uint64) []byte { return p.builder.Bytes(p.segment(number)) }

func (p *primary) segment(number uint64) wal.Segment {
	return wal.Segment{Timeline: 1, Number: number, Size: segmentSize}
}

// change changes what the primary is, under its lock.
func (p *primary) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// get reads something of it.
func get[T any](p *primary, f func() T) T {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f()
}

var startCommand = regexp.MustCompile(`^START_REPLICATION (SLOT walden )?PHYSICAL ([0-9A-F/]+) TIMELINE 1$`)

func (p *primary) handle(c *fakepg.Conn, sql string) bool {
	if c.Parameters["replication"] == "" {
		c.Error(get(p, func() string { return p.refusal }), "no other connections here")
		return true
	}
	if m := startCommand.FindStringSubmatch(sql); m != nil {
		at, err := wal.ParseLSN(m[2])
		if err != nil {
			p.t.Error(err)
			return false
		}
		return p.start(c, at, m[1] != "")
	}
	p.answer(c, sql)
	return true
}

// answer answers what is not a stream.
func (p *primary) answer(c *fakepg.Conn, sql string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	settings := map[string]string{
		"SHOW wal_segment_size": "1MB", "SHOW server_version_num": "170000",
		"SHOW synchronous_standby_names": "", "SHOW wal_sender_timeout": p.senderTimeout,
	}
	setting, shown := settings[sql]
	switch {
	case shown:
		c.Rows("value", []any{setting})
	case sql == "IDENTIFY_SYSTEM":
		c.Rows("systemid timeline xlogpos dbname", []any{uint64(scriptedID), 1, p.end, nil})
	case sql == "READ_REPLICATION_SLOT walden" && p.slot == 0:
		c.Rows("slot_type restart_lsn restart_tli", []any{nil, nil, nil})
	case sql == "READ_REPLICATION_SLOT walden":
		c.Rows("slot_type restart_lsn restart_tli", []any{"physical", p.slot, 1})
	case sql == "DROP_REPLICATION_SLOT walden":
		p.slot, p.slotLost = 0, false
		c.Rows("", nil...)
	case strings.HasPrefix(sql, "CREATE_REPLICATION_SLOT walden"):
		p.slot = wal.SegmentAt(1, p.end, segmentSize).Start()
		c.Rows("slot_name", []any{"walden"})
	default:
		c.Error("42601", "unexpected: "+sql)
		return
	}
	c.Ready()
}

// start streams until the client ends the copy.
func (p *primary) start(c *fakepg.Conn, at wal.LSN, withSlot bool) bool {
	if withSlot && get(p, func() bool { return p.slotLost }) {
		c.Error("55000", "can no longer access replication slot")
		return true
	}
	c.Send(&pgproto3.CopyBothResponse{})
	if segmentSize.Number(at) < get(p, func() uint64 { return p.removed }) {
		c.Error("58P01", fmt.Sprintf("requested WAL segment %s has already been removed", wal.SegmentAt(1, at, segmentSize).Name()))
		return true
	}
	if c.Flush() != nil {
		return false
	}
	done, replies := make(chan bool, 1), make(chan struct{}, 100)
	go func() { done <- p.receive(c, replies) }()
	for {
		next, silent := p.send(c, at)
		at = next
		if get(p, func() bool { return p.shutdown }) {
			c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
			_ = c.Flush()
			return false
		}
		asks, answers := p.asks, replies
		if silent {
			asks, answers = nil, nil
		}
		select {
		case ended := <-done:
			if ended {
				c.Send(&pgproto3.CopyDone{})
				c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
				c.Ready()
			}
			return ended
		case <-asks:
			c.Data(keepalive(true))
		case <-answers:
			c.Data(keepalive(false))
		case <-time.After(2 * time.Millisecond):
		}
		if c.Flush() != nil {
			return false
		}
	}
}

// send sends the next WAL, if there is any.
func (p *primary) send(c *fakepg.Conn, at wal.LSN) (next wal.LSN, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent || at >= p.end {
		return at, p.silent
	}
	seg := wal.SegmentAt(1, at, segmentSize)
	from := int64(at - seg.Start())
	to := min(from+128<<10, segmentSize.Bytes(), int64(p.end-seg.Start()))
	c.Data(walData(at, p.builder.Bytes(seg)[from:to]))
	return seg.Start() + wal.LSN(to), false
}

// receive takes the client's messages until its CopyDone, of which it reports whether it came.
func (p *primary) receive(c *fakepg.Conn, replies chan<- struct{}) bool {
	for {
		msg, err := c.Receive()
		if err != nil {
			return false
		}
		switch m := msg.(type) {
		case *pgproto3.CopyDone:
			return true
		case *pgproto3.CopyData:
			at := func(i int) wal.LSN { return wal.LSN(binary.BigEndian.Uint64(m.Data[i:])) }
			p.change(func() {
				p.statuses = append(p.statuses, status{at(1), at(9), at(17)})
				if m.Data[33] == 1 {
					p.asked++
				}
			})
			if m.Data[33] == 1 {
				select {
				case replies <- struct{}{}:
				default:
				}
			}
		}
	}
}

// acknowledged is the flush position that was reported last.
func (p *primary) acknowledged() wal.LSN {
	return get(p, func() wal.LSN {
		if n := len(p.statuses); n > 0 {
			return p.statuses[n-1].flush
		}
		return 0
	})
}
