//go:build unix

package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// rig is a cluster and the archive its WAL goes to.
type rig struct {
	t       *testing.T
	server  *pgtest.Cluster
	store   *mem.Store
	archive *archive.Archive
	o       stream.Options
	// patience, if not 0, is how long a server may be silent.
	patience time.Duration
	// late, if not 0, is after how long what was received is overdue.
	late time.Duration
}

func newRig(t *testing.T, server *pgtest.Cluster, decorate func(storage.Store) storage.Store) *rig {
	t.Helper()
	g := newRigFor(t, server.SystemID(), server.Major(), decorate)
	g.server, g.o.Conninfo = server, server.Conninfo("postgres")
	return g
}

// newRigFor is a new repository for a cluster.
func newRigFor(t *testing.T, systemID uint64, major int, decorate func(storage.Store) storage.Store) *rig {
	t.Helper()
	g := &rig{t: t, store: mem.New()}
	if decorate == nil {
		decorate = func(s storage.Store) storage.Store { return s }
	}
	repo, _, err := repository.Init(t.Context(), g.store, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", systemID, segmentSize, major)
	if err != nil {
		t.Fatal(err)
	}
	// What is looked at is not decorated.
	g.archive = archive.New(repo, inc)
	other, err := repository.Open(t.Context(), decorate(g.store), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.o = stream.Options{
		Archive: archive.New(other, inc), MaxDelay: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return g
}

// testWriter logs to a test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// logTo logs to a buffer that is read once nobody logs any more.
func logTo(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, nil)) // the handler locks
}

// running is a receiver at work.
type running struct {
	*stream.Receiver
	g      *rig
	cancel context.CancelFunc
	done   chan error
}

func (g *rig) start() *running {
	g.t.Helper()
	r, err := stream.New(g.o)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.patience != 0 {
		r.SetPatience(g.patience/3, g.patience)
	}
	if g.late != 0 {
		r.SetLate(g.late)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Receiver: r, g: g, cancel: cancel, done: make(chan error, 1)}
	go func() { run.done <- r.Run(ctx) }()
	g.t.Cleanup(func() {
		cancel()
		if run.done != nil {
			<-run.done
		}
	})
	return run
}

// wait waits for the end of Run.
func (r *running) wait() error {
	r.g.t.Helper()
	select {
	case err := <-r.done:
		r.done = nil
		return err
	case <-time.After(time.Minute):
		r.g.t.Fatal("the receiver does not end")
		return nil
	}
}

func (r *running) stop() error {
	r.g.t.Helper()
	r.cancel()
	return r.wait()
}

// until waits until the receiver's status is as wanted.
func (r *running) until(what string, ok func(stream.Status) bool) {
	r.g.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(r.Status()); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-r.done:
			r.done = nil
			r.g.t.Fatalf("waiting for %s: the receiver ended: %v", what, err)
		default:
		}
		if time.Now().After(deadline) {
			r.g.t.Fatalf("waited in vain for %s: %+v", what, r.Status())
		}
	}
}

// caughtUp waits until everything that a server has flushed is durable.
func (r *running) caughtUp(server *pgtest.Cluster) wal.LSN {
	r.g.t.Helper()
	end := flushed(r.g.t, server)
	r.until("all WAL to be durable", func(s stream.Status) bool { return s.Durable >= end })
	return end
}

func flushed(t *testing.T, server *pgtest.Cluster) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(server.QueryValue("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// work makes a few segments of WAL.
func work(server *pgtest.Cluster, n int) {
	server.Exec("CREATE TABLE IF NOT EXISTS work (id serial PRIMARY KEY, filler text)")
	for range n {
		server.Exec("INSERT INTO work (filler) SELECT repeat(md5(i::text), 30) FROM generate_series(1, 300) i")
	}
}

// extent is the only stretch of a timeline that is archived.
func (g *rig) extent(tli wal.TimelineID) archive.Extent {
	g.t.Helper()
	list, err := g.archive.Extents(g.t.Context(), tli)
	if err != nil || len(list) != 1 {
		g.t.Fatalf("archived of timeline %s: %v, %v", tli, list, err)
	}
	return list[0]
}

// compare fetches what is archived from a position to another and compares it
// with the server's own files.
func (g *rig) compare(tli wal.TimelineID, from, to wal.LSN, dataDir string) {
	g.t.Helper()
	dir := g.t.TempDir()
	for n := segmentSize.Number(from); n <= segmentSize.PrevNumber(to); n++ {
		seg := wal.Segment{Timeline: tli, Number: n, Size: segmentSize}
		path := filepath.Join(dir, seg.Name())
		if err := g.archive.Fetch(g.t.Context(), seg.Name(), path); err != nil {
			g.t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			g.t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dataDir, "pg_wal", seg.Name()))
		if err != nil {
			g.t.Fatal(err)
		}
		length := min(segmentSize.Bytes(), int64(to-seg.Start()))
		if !bytes.Equal(got[:length], want[:length]) {
			g.t.Errorf("%s differs from the server's", seg.Name())
		}
		if rest := got[length:]; len(bytes.Trim(rest, "\x00")) > 0 && to < seg.End() {
			g.t.Errorf("%s has more than zeros behind %s", seg.Name(), to)
		}
	}
}

// slotAt is where the slot holds WAL from.
func slotAt(server *pgtest.Cluster) string {
	return server.QueryValue("SELECT coalesce(max(restart_lsn)::text, '') FROM pg_replication_slots WHERE slot_name = 'walden'")
}

var keepWAL = map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}

func newCluster(t *testing.T, major int) *pgtest.Cluster {
	t.Helper()
	return pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: keepWAL})
}

// TestReceive: everything arrives, byte for byte, is acknowledged, sealed, and
// goes on where it ended.
func TestReceive(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			g := newRig(t, newCluster(t, major), nil)
			r := g.start()
			r.until("the stream", func(s stream.Status) bool { return s.Phase == stream.Streaming })
			begin, err := wal.ParseLSN(slotAt(g.server))
			if err != nil {
				t.Fatal(err)
			}
			begin = wal.SegmentAt(1, begin, segmentSize).Start()
			for range 3 {
				work(g.server, 3)
				end := r.caughtUp(g.server)
				g.compare(1, begin, end, g.server.DataDir())
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				// What was acknowledged last is where the slot is.
				g.server.WaitFor("the slot to be let go", func() bool {
					return g.server.QueryValue("SELECT active FROM pg_replication_slots") == "f"
				})
				if at, _ := wal.ParseLSN(slotAt(g.server)); at < end {
					t.Errorf("the slot is at %s, everything up to %s was shipped", at, end)
				}
				r = g.start()
			}
			work(g.server, 1)
			r.caughtUp(g.server)
			if e := g.extent(1); e.Begin != begin {
				t.Errorf("archived from %s, received from %s", e.Begin, begin)
			}
			// Sealed segments lose their fragments.
			r.until("few fragments", func(stream.Status) bool {
				live, err := g.archive.Live(t.Context(), 1)
				return err == nil && len(live) <= 1
			})
			if s := r.Status(); s.Retries != 0 || s.Failure != "" || len(s.Gaps) != 0 || s.Waiting {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestFastShutdown: the server's last record is received, and it does not wait
// longer than a moment, whatever the repository does.
func TestFastShutdown(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprintf("repository away %v", broken), func(t *testing.T) {
			away := &gate{}
			g := newRig(t, newCluster(t, pgtest.Newest()), away.decorate)
			g.o.MaxDelay = time.Hour // what is shipped is shipped because the server waits
			r := g.start()
			work(g.server, 8)
			r.until("the first upload", func(s stream.Status) bool { return s.Segments+s.Fragments > 0 })
			away.shut(broken)
			g.server.Exec("INSERT INTO work (filler) VALUES ('last')")
			time.Sleep(200 * time.Millisecond)
			begin := time.Now()
			g.server.Stop(pgtest.Fast)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("the shutdown took %s", took)
			}
			checkpoint := controlCheckpoint(t, g.server)
			away.shut(false)
			r.until("the last record", func(s stream.Status) bool { return s.Durable > checkpoint && s.Pending == 0 })
			live, err := g.archive.Live(t.Context(), 1)
			if err != nil || len(live) != 1 {
				t.Fatalf("%v, %v", live, err)
			}
			x, err := g.archive.LiveIndex(t.Context(), live[0])
			if err != nil || x.LastRecord != checkpoint {
				t.Errorf("the last archived record is at %s, the shutdown checkpoint at %s, %v", x.LastRecord, checkpoint, err)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// controlCheckpoint is the position of the latest checkpoint of a server that is stopped.
func controlCheckpoint(t *testing.T, server *pgtest.Cluster) wal.LSN {
	t.Helper()
	for line := range strings.Lines(server.Run("pg_controldata", server.DataDir())) {
		if text, ok := strings.CutPrefix(line, "Latest checkpoint location:"); ok {
			l, err := wal.ParseLSN(strings.TrimSpace(text))
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
	}
	t.Fatal("pg_controldata tells no checkpoint")
	return 0
}

// TestGap: WAL that is gone is reported and left out, and the stream goes on.
func TestGap(t *testing.T) {
	for _, major := range []int{pgtest.Majors()[0], pgtest.Newest()} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			server := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
				"max_slot_wal_keep_size": "2MB", "wal_keep_size": "0", "min_wal_size": "2MB", "max_wal_size": "4MB", "autovacuum": "off"}})
			g := newRig(t, server, nil)
			r := g.start()
			work(server, 1)
			end := r.caughtUp(server)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			work(server, 12)
			server.Exec("CHECKPOINT")
			server.WaitFor("the slot to be lost", func() bool {
				work(server, 1)
				server.Exec("CHECKPOINT")
				return server.QueryValue("SELECT wal_status FROM pg_replication_slots") == "lost"
			})
			r = g.start()
			r.until("the gap to be reported", func(s stream.Status) bool { return len(s.Gaps) == 1 })
			work(server, 1)
			r.caughtUp(server)
			gap := r.Status().Gaps[0]
			if gap.Timeline != 1 || gap.From != end || gap.To <= gap.From {
				t.Errorf("gap %+v, what was archived ended at %s", gap, end)
			}
			// Nothing that the server still had is part of it.
			last := wal.Segment{Timeline: 1, Number: segmentSize.PrevNumber(gap.To), Size: segmentSize}
			if _, err := os.Stat(filepath.Join(server.DataDir(), "pg_wal", last.Name())); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the server still has %s of the gap %+v: %v", last.Name(), gap, err)
			}
			list, err := g.archive.Extents(t.Context(), 1)
			if err != nil || len(list) != 2 || list[0].End != end || list[1].Begin != gap.To {
				t.Errorf("archived: %v, %v", list, err)
			}
			var found *stream.FindingsError
			if err := r.stop(); !errors.As(err, &found) || len(found.Gaps) != 1 {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// TestForeignServer: the WAL of another cluster is refused.
func TestForeignServer(t *testing.T) {
	g := newRig(t, newCluster(t, pgtest.Newest()), nil)
	g.o.Conninfo = newCluster(t, pgtest.Newest()).Conninfo("postgres")
	var foreign *stream.ForeignServerError
	if err := g.start().wait(); !errors.As(err, &foreign) || foreign.Hint() == "" {
		t.Errorf("%v", err)
	}
}

// TestWrongPassword: who cannot log in is told at once.
func TestWrongRole(t *testing.T) {
	g := newRig(t, newCluster(t, pgtest.Newest()), nil)
	g.server.Exec("CREATE ROLE plain LOGIN")
	g.o.Conninfo = fmt.Sprintf("host=%s port=%d user=plain dbname=postgres", g.server.SocketDir(), g.server.Port())
	if err := g.start().wait(); err == nil || !strings.Contains(err.Error(), "plain") {
		t.Errorf("%v", err)
	}
}
