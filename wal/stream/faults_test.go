//go:build unix

package stream_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// gate is a store that can be shut: then nothing is stored and nothing read.
type gate struct {
	storage.Store
	closed atomic.Bool
	// full: nothing is stored, but what is there can be read.
	full    atomic.Bool
	latency atomic.Int64
	// fails is the share of operations that fail, in percent.
	fails atomic.Int64
}

func (g *gate) decorate(s storage.Store) storage.Store {
	g.Store = s
	return g
}

func (g *gate) shut(closed bool) { g.closed.Store(closed) }

var errAway = errors.New("the repository is away")

func (g *gate) pass(ctx context.Context, op, key string) error {
	select {
	case <-ctx.Done():
		return &storage.Error{Op: op, Key: key, Err: ctx.Err()}
	case <-time.After(time.Duration(g.latency.Load())):
	}
	if g.closed.Load() || rand.Int64N(100) < g.fails.Load() {
		return &storage.Error{Op: op, Key: key, Err: errAway, Temporary: true}
	}
	return nil
}

func (g *gate) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	if err := g.pass(ctx, "put", key); err != nil {
		return err
	}
	if g.full.Load() {
		return &storage.Error{Op: "put", Key: key, Err: errAway, Temporary: true}
	}
	err := g.Store.Put(ctx, key, r, size, o)
	if err == nil && rand.Int64N(100) < g.fails.Load()/2 {
		return &storage.Error{Op: "put", Key: key, Err: errAway, Temporary: true} // the reply was lost
	}
	return err
}

func (g *gate) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := g.pass(ctx, "open", key); err != nil {
		return nil, err
	}
	return g.Store.Open(ctx, key, off, n)
}

func (g *gate) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := g.pass(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	return g.Store.Stat(ctx, key)
}

func (g *gate) Delete(ctx context.Context, key string) error {
	if err := g.pass(ctx, "delete", key); err != nil {
		return err
	}
	return g.Store.Delete(ctx, key)
}

// abandon ends a receiver as kill -9 would: nothing of it reaches the store any more.
func (r *running) abandon(g *gate) {
	g.shut(true)
	r.cancel()
	select {
	case <-r.done:
		r.done = nil
	case <-time.After(time.Minute):
		r.g.t.Fatal("the receiver does not end")
	}
	g.shut(false)
}

// TestKilledAgainAndAgain: receivers die at random moments under load, with
// a repository that is slow and fails now and then; nothing is missing.
func TestKilledAgainAndAgain(t *testing.T) {
	away := &gate{}
	g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
	away.latency.Store(int64(5 * time.Millisecond))
	away.fails.Store(20)
	g.o.StopTimeout = 50 * time.Millisecond
	g.server.PgbenchInit(1)
	load := g.server.PgbenchStart("-c", "2", "-T", "600")
	for range 8 {
		r := g.start()
		time.Sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond))))
		r.abandon(away)
	}
	load.Stop()
	g.o.StopTimeout = 0
	away.fails.Store(0)
	r := g.start()
	end := r.caughtUp(g.server)
	e := g.extent(1)
	if e.End < end {
		t.Errorf("archived up to %s, the server is at %s", e.End, end)
	}
	g.compare(1, e.Begin, g.extent(1).End, g.server.DataDir())
	r.until("what earlier runs left to be tidied up", func(stream.Status) bool {
		live, err := g.archive.Live(t.Context(), 1)
		return err == nil && len(live) <= 1
	})
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// TestSynchronousCommitsSurvive: the server is killed while commits wait for
// the receiver; every commit that returned is archived.
func TestSynchronousCommitsSurvive(t *testing.T) {
	server := pgtest.New(t, pgtest.Options{SegmentSizeMB: 1, Settings: map[string]string{"synchronous_standby_names": "walden", "autovacuum": "off"}})
	server.Exec("SET synchronous_commit = local; CREATE TABLE counter (n int)")
	away := &gate{}
	away.latency.Store(int64(3 * time.Millisecond))
	g := newRig(t, server, away.decorate)
	g.o.MaxDelay = time.Hour // commits must not need it
	r := g.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := server.Connect(ctx, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var last wal.LSN
	stop := time.Now().Add(3 * time.Second)
	for n := 0; time.Now().Before(stop); n++ {
		if _, err := conn.Exec(ctx, "INSERT INTO counter VALUES ($1)", n); err != nil {
			t.Fatal(err)
		}
		var text string
		if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
			t.Fatal(err)
		}
		if last, err = wal.ParseLSN(text); err != nil {
			t.Fatal(err)
		}
		// At a page's start PostgreSQL names the place after its header.
		if last.PageOffset() <= 40 {
			last = last.Page()
		}
		// The commit's record ends there or before, and nobody else writes.
		e := archivedTo(t, g.archive)
		if e < last {
			t.Fatalf("commit %d returned at %s, archived up to %s", n, last, e)
		}
	}
	if s := r.Status(); !s.Waiting {
		t.Errorf("status %+v", s)
	}
	server.Kill()
	var idle *stream.NotReceivingError // or its end was not noticed yet
	if err := r.stop(); err != nil && !errors.As(err, &idle) {
		t.Error(err)
	}
}

// archivedTo is up to where the WAL of timeline 1 is archived without a hole.
func archivedTo(t *testing.T, a *archive.Archive) wal.LSN {
	t.Helper()
	for range 10 { // it is written to meanwhile
		list, err := a.Extents(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 {
			return list[0].End
		}
	}
	t.Fatal("there is a hole")
	return 0
}

// TestSpool: while the repository is away WAL goes to the spool, is
// acknowledged from there, and is uploaded by the next receiver although the server is gone.
func TestSpool(t *testing.T) {
	away := &gate{}
	g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
	g.o.Spool, g.o.Acknowledge, g.o.StopTimeout = t.TempDir(), stream.Local, 100*time.Millisecond
	r := g.start()
	r.caughtUp(g.server)
	away.shut(true)
	work(g.server, 16)
	end := flushed(t, g.server)
	r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged >= end })
	if s := r.Status(); s.Durable >= end || s.Buffered < 3*segmentSize.Bytes() || s.Failure == "" {
		t.Errorf("status %+v", s)
	}
	var busy *stream.BusyError
	if err := g.start().wait(); !errors.As(err, &busy) {
		t.Errorf("a second receiver with the same spool: %v", err)
	}
	server := g.server
	dir := server.DataDir()
	server.Kill()
	r.cancel()
	var unshipped *stream.UnshippedError
	if err := r.wait(); !errors.As(err, &unshipped) || !errors.Is(err, errAway) || unshipped.Bytes == 0 {
		t.Errorf("Run returned %v", err)
	}
	away.shut(false)
	r = g.start()
	r.until("the spool to be uploaded", func(s stream.Status) bool { return s.Durable >= end })
	e := g.extent(1)
	g.compare(1, e.Begin, end, dir)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// TestWithoutSpool: while the repository is away no more is read than fits, and
// the server keeps the rest, and the connection, however long that takes.
func TestWithoutSpool(t *testing.T) {
	away := &gate{}
	g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
	g.server.Exec("ALTER SYSTEM SET wal_sender_timeout = '2s'")
	g.server.Reload()
	g.server.WaitFor("the setting", func() bool { return g.server.QueryValue("SHOW wal_sender_timeout") == "2s" })
	g.patience = 3 * time.Second
	r := g.start()
	r.caughtUp(g.server)
	away.shut(true)
	for range 12 {
		work(g.server, 20)
	}
	r.until("the files to be full", func(s stream.Status) bool { return s.Buffered >= 64<<20 })
	end := flushed(t, g.server)
	time.Sleep(5 * time.Second) // on purpose: longer than either side waits for the other
	if s := r.Status(); s.Received >= end || s.Connections != 1 || s.Phase != stream.Streaming {
		t.Errorf("everything was read, or the connection was lost: %+v, %s", s, end)
	}
	away.shut(false)
	r.caughtUp(g.server)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	e := g.extent(1)
	if e.End < end {
		t.Errorf("archived up to %s, the server was at %s", e.End, end)
	}
	g.compare(1, e.Begin, e.End, g.server.DataDir())
}
