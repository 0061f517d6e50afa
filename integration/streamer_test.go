//go:build unix

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
)

// streamer is a running `walden stream`.
type streamer struct {
	s      *site
	t      *testing.T
	args   []string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error
}

// stream starts `walden stream` and returns at once.
func (s *site) stream(args ...string) *streamer {
	s.t.Helper()
	p := &streamer{s: s, t: s.t, args: append([]string{"stream"}, args...), done: make(chan error, 1)}
	p.cmd = s.command(context.Background(), p.args...)
	p.cmd.Stderr = &p.stderr
	check(s.t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	s.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// kill ends it with SIGKILL.
func (p *streamer) kill() {
	p.t.Helper()
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends it with SIGTERM and expects an exit code.
func (p *streamer) stop(code int) {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.ends(code)
}

// ends waits for its end.
func (p *streamer) ends(code int) {
	p.t.Helper()
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Fatal(err)
		}
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("walden stream does not end:\n%s", p.stderr.String())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("walden stream: exit code %d, want %d\n%s", got, code, p.stderr.String())
	}
}

// attached waits until the server streams to it.
func (p *streamer) attached(c *pgtest.Cluster) {
	p.t.Helper()
	c.WaitFor("walden stream to be attached", func() bool {
		return c.QueryValue("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walden' AND state = 'streaming'") == "1"
	})
}

// caughtUp waits until what the server has flushed is acknowledged.
func (p *streamer) caughtUp(c *pgtest.Cluster) {
	p.t.Helper()
	lsn := c.QueryValue("SELECT pg_current_wal_flush_lsn()")
	c.WaitFor("walden stream to have shipped "+lsn, func() bool {
		return c.QueryValue("SELECT coalesce(bool_or(flush_lsn >= $1::pg_lsn), false) FROM pg_stat_replication WHERE application_name = 'walden'", lsn) == "t"
	})
}

// supervise keeps a `walden stream` running, and kills it at random moments,
// until the function that it returns is called; that leaves one running.
func (s *site) supervise(random *rand.Rand, every time.Duration, args ...string) (settle func() *streamer) {
	stop := make(chan struct{})
	last := make(chan *streamer)
	wait := func() time.Duration { return every/2 + time.Duration(random.Int64N(int64(every))) }
	go func() {
		p := s.stream(args...)
		for {
			select {
			case <-stop:
				last <- p
				return
			case <-time.After(wait()):
				_ = p.cmd.Process.Kill()
				<-p.done
				p = s.stream(args...)
			}
		}
	}()
	return func() *streamer {
		close(stop)
		return <-last
	}
}

// counter is a client that commits numbers, one after the other, and knows
// which of the commits returned.
type counter struct {
	mu    sync.Mutex
	acked []time.Time // when the commit of number i+1 returned
	stop  context.CancelFunc
	done  chan struct{}
}

// count starts a counter. It ends with its connection.
func (s *site) count() *counter {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := s.pg.Connect(ctx, "postgres")
	check(s.t, err)
	c := &counter{stop: cancel, done: make(chan struct{})}
	s.t.Cleanup(cancel)
	go func() {
		defer close(c.done)
		defer conn.Close(context.Background())
		for n := 1; ; n++ {
			if _, err := conn.Exec(ctx, "INSERT INTO counter VALUES ($1)", n); err != nil {
				return
			}
			c.mu.Lock()
			c.acked = append(c.acked, time.Now())
			c.mu.Unlock()
		}
	}()
	return c
}

// last is the last number whose commit returned before a moment.
func (c *counter) last(before time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.acked)
	for n > 0 && c.acked[n-1].After(before) {
		n--
	}
	return n
}

// faultProxy stands between walden and an S3 server.
type faultProxy struct {
	url     string
	down    atomic.Bool
	latency atomic.Int64
	// resets and errors are the shares of requests that are cut off, and that
	// are answered with 500 or 503, in percent.
	resets, errors atomic.Int64
	requests       atomic.Int64
}

func newFaultProxy(t *testing.T, endpoint string) *faultProxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	check(t, err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	p := &faultProxy{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		time.Sleep(time.Duration(p.latency.Load()))
		switch {
		case p.down.Load() || rand.Int64N(100) < p.resets.Load():
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				_ = conn.Close()
			}
		case rand.Int64N(100) < p.errors.Load():
			w.WriteHeader([]int{http.StatusInternalServerError, http.StatusServiceUnavailable}[rand.IntN(2)])
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

// restoredCounter restores to the end of what is archived and counts.
func (s *site) restoredCounter(name string) (last int) {
	s.t.Helper()
	c := s.open(s.restore(name, "--latest"))
	defer c.Stop(pgtest.Immediate)
	row := c.Query("SELECT coalesce(max(n), 0), count(*) FROM counter")[0]
	if row[0] != row[1] {
		s.t.Errorf("numbers up to %s were restored, but only %s of them", row[0], row[1])
	}
	last, err := strconv.Atoi(row[0])
	check(s.t, err)
	return last
}

// gone kills the server and removes its disk.
func (s *site) gone() {
	s.t.Helper()
	s.pg.Kill()
	if out, err := exec.Command("rm", "-rf", s.pg.DataDir()).CombinedOutput(); err != nil {
		s.t.Fatal(fmt.Errorf("%w: %s", err, out))
	}
}
