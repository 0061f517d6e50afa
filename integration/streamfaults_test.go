//go:build unix

package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/freeport"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// faultTimes say how long each fault lasts, and how long the S3 server is away.
type faultTimes struct{ each, outage time.Duration }

// throughFaults lets the S3 server be slow, reset connections, fail and be away
// while commits wait for the stream; those that returned are all restored.
func throughFaults(t *testing.T, major int, times faultTimes) {
	s := newSite(t, siteOptions{major: major, store: s3Store, noArchiving: true})
	s.pg.Exec("CREATE TABLE counter (n int PRIMARY KEY)")
	s.pg.PgbenchInit(1)
	s.backup()
	proxy := newFaultProxy(t, s.s3.Endpoint)
	s.env = []string{"WALDEN_REPOSITORY_S3_ENDPOINT=" + proxy.url}
	p := s.stream("--max-delay", "200ms")
	p.attached(s.pg)
	s.pg.Exec("ALTER SYSTEM SET synchronous_standby_names = 'walden'")
	s.pg.Reload()
	s.pg.WaitFor("the setting", func() bool { return s.pg.QueryValue("SHOW synchronous_standby_names") == "walden" })
	load := s.pg.PgbenchStart("-c", "2", "-T", "3600", "-n", "-R", "50")
	c := s.count()
	progress := func(what string, least time.Duration) {
		t.Helper()
		before, began := c.last(time.Now()), time.Now()
		s.pg.WaitFor("commits, "+what, func() bool { return c.last(time.Now()) > before+2 })
		time.Sleep(least - time.Since(began))
		t.Logf("%s: %d commits in %s", what, c.last(time.Now())-before, time.Since(began).Round(time.Millisecond))
	}
	progress("nothing is wrong", 0)
	proxy.latency.Store(int64(500 * time.Millisecond))
	progress("500 ms a request", times.each)
	proxy.latency.Store(0)
	proxy.resets.Store(33)
	progress("a third of the connections reset", times.each)
	proxy.resets.Store(0)
	proxy.errors.Store(33)
	progress("a third of the requests failing", times.each)
	proxy.down.Store(true)
	time.Sleep(times.outage / 2) // on purpose: an outage takes a while
	before := c.last(time.Now())
	time.Sleep(times.outage / 2)
	if n := c.last(time.Now()); n > before+1 {
		t.Errorf("%d commits returned while nothing could be stored", n-before)
	}
	proxy.down.Store(false)
	progress("after the outage", max(times.each, 8*time.Second))
	s.gone()
	load.Abandon()
	<-c.done
	proxy.errors.Store(0)
	p.stop(0)
	log := p.stderr.String()
	if n := strings.Count(log, "level=WARN"); n == 0 || n > 12+int(8*(times.each+times.outage)/time.Minute) {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	if !strings.Contains(log, "the repository works again") {
		t.Errorf("the end of the outage is not told:\n%s", log)
	}
	s.env = nil
	want := c.last(time.Now())
	if got := s.restoredCounter("restored"); got < want {
		t.Errorf("commits up to %d returned, restored are those up to %d", want, got)
	}
	t.Logf("%d requests for %d commits", proxy.requests.Load(), want)
}

func TestStreamThroughFaults(t *testing.T) {
	throughFaults(t, pgtest.Newest(), faultTimes{outage: 10 * time.Second})
}

// TestSoakStreamThroughFaults: the same with an S3 server that is away for a full
// minute, and each other fault for as long, again and again.
func TestSoakStreamThroughFaults(t *testing.T) {
	random, until := pgtest.Soak(t)
	for round := 0; round == 0 || time.Now().Before(until); round++ {
		majors := pgtest.Majors()
		major := majors[random.IntN(len(majors))]
		t.Run(fmt.Sprintf("%d on %d", round, major), func(t *testing.T) {
			throughFaults(t, major, faultTimes{each: time.Minute, outage: time.Minute})
		})
	}
}

// position is an LSN that a receiver's metrics tell.
func position(t *testing.T, address, name string) wal.LSN {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	m := regexp.MustCompile(`(?m)^walden_stream_` + name + `\{cluster="main"\} (\S+)$`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("the metrics tell no %s:\n%s", name, body)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	check(t, err)
	return wal.LSN(n)
}

// TestStreamReplaced: the primary is gone, and so is the receiver, with its machine. One
// that knows nothing but the repository takes its place, and everything that
// was received is served to the last byte.
func TestStreamReplaced(t *testing.T) {
	for _, st := range []store{fileStore, s3Store} {
		t.Run(string(st), func(t *testing.T) {
			s := newSite(t, siteOptions{major: pgtest.Newest(), store: st, noArchiving: true})
			s.pg.PgbenchInit(1)
			port, release, err := freeport.Reserve()
			check(t, err)
			defer release()
			listen := fmt.Sprintf("127.0.0.1:%d", port)
			first := s.stream("--max-delay", "200ms", "--spool", pgtest.TempDir(t), "--metrics-listen", listen)
			first.attached(s.pg)
			begin, err := wal.ParseLSN(s.pg.QueryValue("SELECT restart_lsn FROM pg_replication_slots"))
			check(t, err)
			load := s.pg.PgbenchStart("-c", "3", "-T", "600", "-n", "-R", "300")
			time.Sleep(2 * time.Second)
			s.pg.Kill()
			load.Abandon()
			var received wal.LSN
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
				received = position(t, listen, "received_lsn")
				if received == position(t, listen, "durable_lsn") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("what was received does not become durable")
				}
			}
			first.kill()

			second := s.stream("--max-delay", "200ms", "--spool", pgtest.TempDir(t))
			time.Sleep(2 * time.Second) // it tries to connect
			second.stop(0)
			s.servesTo(begin, received)
		})
	}
}

// servesTo holds what wal-get delivers up to a position, where the archive ends,
// against the files of a server that has gone.
func (s *site) servesTo(begin, end wal.LSN) {
	t := s.t
	t.Helper()
	const size = wal.SegmentSize(1 << 20)
	path := filepath.Join(s.dir, "RECOVERYXLOG")
	seg := wal.SegmentAt(1, begin, size)
	for ; seg.Start() < end; seg = seg.Next() {
		s.run("wal-get", seg.Name(), path).ok(t)
		got, err := os.ReadFile(path)
		check(t, err)
		want, err := os.ReadFile(filepath.Join(s.pg.DataDir(), "pg_wal", seg.Name()))
		check(t, err)
		n := min(size.Bytes(), int64(end-seg.Start()))
		if int64(len(got)) != size.Bytes() || !bytes.Equal(got[:n], want[:n]) || len(bytes.Trim(got[n:], "\x00")) > 0 {
			t.Errorf("%s is not what the server wrote up to %s", seg.Name(), end)
		}
	}
	s.run("wal-get", seg.Name(), path).exits(t, 1)
}
