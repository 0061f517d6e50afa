//go:build unix

package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/stream"
)

// put stores a fragment.
func (g *rig) put(seg wal.Segment, content []byte, from, to int64) archive.Fragment {
	g.t.Helper()
	f := archive.Fragment{Segment: seg, From: from, To: to}
	if _, err := g.archive.PutFragment(g.t.Context(), f, bytes.NewReader(content)); err != nil {
		g.t.Fatal(err)
	}
	return f
}

// seal stores whole segments of a primary.
func (g *rig) seal(p *primary, numbers ...uint64) {
	g.t.Helper()
	for _, n := range numbers {
		if _, err := g.archive.PutSegment(g.t.Context(), p.segment(n), bytes.NewReader(p.bytes(n))); err != nil {
			g.t.Fatal(err)
		}
	}
}

// serves holds what is delivered of a segment against the primary's.
func (g *rig) serves(p *primary, number uint64) {
	g.t.Helper()
	seg := p.segment(number)
	path := filepath.Join(g.t.TempDir(), seg.Name())
	if err := g.archive.Fetch(g.t.Context(), seg.Name(), path); err != nil {
		g.t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	want := bytes.Clone(p.bytes(number))
	if p.end < seg.End() {
		clear(want[p.end-seg.Start():])
	}
	if !bytes.Equal(got, want) {
		g.t.Errorf("%s differs from the server's", seg.Name())
	}
}

// ends stops the receiver, and expects it to end long before its StopTimeout.
func (r *running) ends() error {
	r.g.t.Helper()
	begin := time.Now()
	err := r.stop()
	if took := time.Since(begin); took > 10*time.Second {
		r.g.t.Errorf("it took %s to end", took)
	}
	if n := r.OpenFiles(); n != 0 {
		r.g.t.Errorf("%d files of segments are left open", n)
	}
	return err
}

// TestConflictEndsAtOnce: what only a person can mend is not waited for.
func TestConflictEndsAtOnce(t *testing.T) {
	p := newPrimary(t, 1)
	g := p.rig(nil)
	g.o.StopTimeout = time.Hour
	other := bytes.Clone(p.bytes(1))
	other[7000] ^= 1
	g.put(p.segment(1), other, 0, 9000)
	begin := time.Now()
	r := g.start()
	var conflict *archive.ConflictError
	if err := r.wait(); !errors.As(err, &conflict) {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if n := r.OpenFiles(); n != 0 {
		t.Errorf("%d files of segments are left open", n)
	}
}

// TestBehindArchive: a server that has less than is archived, a standby that lags
// or an earlier state, has all that was received of it in the repository.
func TestBehindArchive(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		for _, differs := range []bool{false, true} {
			t.Run(fmt.Sprintf("sealed %v, differs %v", sealed, differs), func(t *testing.T) {
				p := newPrimary(t, 1)
				g := p.rig(nil)
				g.o.StopTimeout = time.Hour
				seg := p.segment(1)
				if sealed {
					g.seal(p, 1)
				} else {
					g.put(seg, p.bytes(1), 0, 10_000)
					g.put(seg, p.bytes(1), 9000, 700_000)
				}
				p.end = seg.Start() + 500_000
				if differs {
					p.builder.Bytes(seg)
					other := newPrimary(t, 0)
					p.builder = other.builder // another first record
				}
				want := min(p.end, p.builder.Position())
				p.end = want
				r := g.start()
				r.until("all to be received", func(s stream.Status) bool { return s.Received == want })
				err := r.ends()
				var other *stream.OtherContentError
				switch {
				case !differs && err != nil:
					t.Errorf("Run returned %v", err)
				case !differs && p.acknowledged() != want:
					t.Errorf("%s is acknowledged, %s was received and is archived", p.acknowledged(), want)
				case differs && sealed && (!errors.As(err, &other) || other.Segment != seg || other.Hint() == "" ||
					!strings.Contains(err.Error(), archive.SegmentKey(g.archive.Incarnation(), seg)) || strings.Contains(err.Error(), "fragments")):
					t.Errorf("Run returned %v", err)
				case differs && err == nil:
					t.Error("other content was taken for the same")
				}
			})
		}
	}
}

// TestFullJournal: while the repository is away and no more fits, the server is
// told so for as long as it takes, and its silence means nothing; its going does.
func TestFullJournal(t *testing.T) {
	p := newPrimary(t, 6)
	p.senderTimeout = "300ms"
	away := &gate{}
	g := p.rig(away.decorate)
	g.o.Spool, g.o.SpoolLimit, g.o.StopTimeout = t.TempDir(), 2*segmentSize.Bytes(), 100*time.Millisecond
	g.patience = 300 * time.Millisecond
	away.shut(true)
	r := g.start()
	r.until("the spool to be full", func(s stream.Status) bool { return s.Buffered >= g.o.SpoolLimit })
	told := get(p, func() int { return len(p.statuses) })
	time.Sleep(4 * g.patience)
	if s := r.Status(); s.Connections != 1 || s.Phase != stream.Streaming {
		t.Errorf("the connection was given up: %+v", s)
	}
	if n := get(p, func() int { return len(p.statuses) }) - told; n < 4 {
		t.Errorf("%d statuses in %s", n, 4*g.patience)
	}
	p.server.Disconnect()
	r.until("the end of the connection to be noticed", func(s stream.Status) bool { return s.Connections > 1 })
	var unshipped *stream.UnshippedError
	if err := r.ends(); !errors.As(err, &unshipped) {
		t.Errorf("Run returned %v", err)
	}
	away.shut(false)
	g.patience = 0
	r = g.start()
	r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
	if err := r.ends(); err != nil {
		t.Error(err)
	}
	for n := range uint64(7) {
		g.serves(p, 1+n)
	}
}

// TestSilentServer: a server that sends nothing for long is asked; one that
// answers is kept, one that does not is given up.
func TestSilentServer(t *testing.T) {
	p := newPrimary(t, 0)
	g := p.rig(nil)
	g.patience = time.Second
	r := g.start()
	r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end })
	time.Sleep(3 * g.patience)
	if s := r.Status(); s.Connections != 1 {
		t.Errorf("an idle connection was given up: %+v", s)
	}
	if n := get(p, func() int { return p.asked }); n < 3 {
		t.Errorf("a silent server was asked %d times", n)
	}
	begin := time.Now()
	p.change(func() { p.silent = true })
	r.until("the silent server to be given up", func(s stream.Status) bool {
		return s.Connections > 1 && strings.Contains(s.Failure, "nothing was heard") || s.Connections > 2
	})
	if took := time.Since(begin); took < g.patience/2 {
		t.Errorf("the server was given up after %s", took)
	}
	p.change(func() { p.silent = false })
	r.until("the stream", func(s stream.Status) bool { return s.Phase == stream.Streaming && s.Failure == "" })
	if err := r.ends(); err != nil {
		t.Error(err)
	}
}

// TestShippedWithoutConnection: a spool that does not join is uploaded while nobody
// holds a connection for it.
func TestShippedWithoutConnection(t *testing.T) {
	p := newPrimary(t, 4)
	away := &gate{}
	g := p.rig(away.decorate)
	g.o.Spool, g.o.StopTimeout = t.TempDir(), 100*time.Millisecond
	away.full.Store(true)
	r := g.start()
	r.until("all to be received", func(s stream.Status) bool { return s.Received == p.end })
	r.abandon(away)
	files := spooled(t, g.o.Spool)
	if len(files) != 5 {
		t.Fatalf("the spool holds %v", files)
	}
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	r = g.start()
	r.until("an upload to be tried", func(s stream.Status) bool { return s.Retries > 0 && s.Connections > 0 })
	for deadline := time.Now().Add(20 * time.Second); p.server.Open() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection is held while a spool is uploaded")
		}
	}
	time.Sleep(500 * time.Millisecond)
	if n, s := p.server.Open(), r.Status(); n != 0 || s.Connections != 1 {
		t.Errorf("%d connections are open: %+v", n, s)
	}
	away.full.Store(false)
	r.until("all to be acknowledged", func(s stream.Status) bool { return s.Acknowledged == p.end })
	if err := r.ends(); err != nil {
		t.Error(err)
	}
	for n := range uint64(5) {
		g.serves(p, 1+n)
	}
}

// TestLongOutageIsToldSeldom: in the log, that is, and its end once.
func TestLongOutageIsToldSeldom(t *testing.T) {
	p := newPrimary(t, 1)
	away := &gate{}
	g := p.rig(away.decorate)
	var log bytes.Buffer
	g.o.Logger = logTo(&log)
	away.shut(true)
	r := g.start()
	r.until("many retries", func(s stream.Status) bool { return s.Retries >= 5 })
	away.shut(false)
	r.until("all to be durable", func(s stream.Status) bool { return s.Durable == p.end && s.Failure == "" })
	if err := r.ends(); err != nil {
		t.Error(err)
	}
	warned, again := strings.Count(log.String(), "level=WARN msg=\"the repository"), strings.Count(log.String(), "level=INFO msg=\"the repository works again\"")
	if warned != 1 || again != 1 || !strings.Contains(log.String(), "away=") {
		t.Errorf("%d retries were told %d times, their end %d times:\n%s", r.Status().Retries, warned, again, log.String())
	}
}
