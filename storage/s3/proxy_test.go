package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/s3test"
	"github.com/walden-pg/walden/storage"
)

// proxy stands before a real server and does what networks do.
type proxy struct {
	server *s3test.Server
	url    string
	mu     sync.Mutex
	rules  []*rule
	seen   map[string]int
	total  int // requests
}

// A rule applies to the next times requests of one kind.
type rule struct {
	kind  string // see kind; empty: request number at, of whatever kind
	at    int
	times int
	// do answers instead of the server. forward, if it is called, lets the
	// server do its work and returns its answer.
	do func(w http.ResponseWriter, forward func() *httptest.ResponseRecorder)
}

// kind names the S3 operation of a request.
func kind(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "UploadPart"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodGet && q.Get("list-type") == "2":
		return "ListObjectsV2"
	}
	return map[string]string{"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[r.Method]
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{server: s3test.StartEmbedded(t), seen: map[string]int{}}
	target, err := url.Parse(p.server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		do := p.match(kind(r))
		if do == nil {
			pass.ServeHTTP(w, r)
			return
		}
		do(w, func() *httptest.ResponseRecorder {
			answer := httptest.NewRecorder()
			pass.ServeHTTP(answer, r)
			return answer
		})
	}))
	t.Cleanup(front.Close)
	p.url = front.URL
	return p
}

func (p *proxy) match(kind string) func(http.ResponseWriter, func() *httptest.ResponseRecorder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[kind]++
	n := p.total
	p.total++
	for _, r := range p.rules {
		if (r.kind == kind || r.kind == "" && r.at == n) && r.times > 0 {
			r.times--
			return r.do
		}
	}
	return nil
}

func (p *proxy) rule(kind string, times int, do func(http.ResponseWriter, func() *httptest.ResponseRecorder)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{kind: kind, times: times, do: do})
}

// failAt applies do to request number at, counted from 0. met reports whether
// there was one.
func (p *proxy) failAt(at int, do func(http.ResponseWriter, func() *httptest.ResponseRecorder)) (met func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &rule{at: at, times: 1, do: do}
	p.rules = append(p.rules, r)
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return r.times == 0
	}
}

func (p *proxy) count(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[kind]
}

func (p *proxy) open(t *testing.T) *Store {
	t.Helper()
	o := options(p.server)
	o.Endpoint, o.PartSize, o.singlePut = p.url, 5<<20, 6<<20
	return open(t, o)
}

// hangUp breaks the connection without an answer.
func hangUp(w http.ResponseWriter, _ func() *httptest.ResponseRecorder) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// loseReply lets the server do it, and then breaks the connection.
func loseReply(w http.ResponseWriter, forward func() *httptest.ResponseRecorder) {
	forward()
	hangUp(w, nil)
}

// canned returns a canned answer of S3.
func canned(status int, code string) func(http.ResponseWriter, func() *httptest.ResponseRecorder) {
	return func(w http.ResponseWriter, _ func() *httptest.ResponseRecorder) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if code != "" {
			_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>canned</Message></Error>`)
		}
	}
}

// write creates an object of size bytes by a Writer.
func write(t *testing.T, s storage.Store, key string, size int) error {
	t.Helper()
	w, err := s.Create(t.Context(), key, storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(pattern(size)); err != nil {
		return err
	}
	return w.Commit()
}

// The sizes of an object that goes in one request and of one in three parts.
const small, large = 100_000, 12 << 20

// TestCommitFaults: whatever happens on the way of a Commit, the outcome is
// told as it is.
func TestCommitFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	for _, c := range []struct {
		name string
		kind string // of the request that fails; empty: the one that makes the object visible
		n    int
		do   func(http.ResponseWriter, func() *httptest.ResponseRecorder)
	}{
		{"lost reply", "", 1, loseReply},
		{"lost request", "", 2, hangUp},
		{"slow down", "", 3, canned(503, "SlowDown")},
		{"internal error", "", 2, canned(500, "InternalError")},
		{"bare 502", "", 1, canned(502, "")},
		{"conflict", "", 2, canned(409, "ConditionalRequestConflict")},
		{"error in a good answer", "CompleteMultipartUpload", 1, canned(200, "InternalError")},
		{"part: slow down", "UploadPart", 4, canned(503, "SlowDown")},
		{"part: lost reply", "UploadPart", 2, loseReply},
		{"part: lost request", "UploadPart", 2, hangUp},
		{"part: checksum", "UploadPart", 1, canned(400, "BadDigest")},
		{"begin: lost reply", "CreateMultipartUpload", 1, loseReply},
		{"begin: slow down", "CreateMultipartUpload", 1, canned(503, "SlowDown")},
	} {
		for name, size := range map[string]int{"small": small, "large": large} {
			if size == small && c.kind != "" {
				continue
			}
			t.Run(c.name+" "+name, func(t *testing.T) {
				p := newProxy(t)
				s := p.open(t)
				kind := c.kind
				if kind == "" {
					kind = map[bool]string{false: "PutObject", true: "CompleteMultipartUpload"}[size == large]
				}
				p.rule(kind, c.n, c.do)
				if err := write(t, s, "object", size); err != nil {
					t.Fatal(err)
				}
				if p.count(kind) <= c.n && c.do != nil && c.name != "lost reply" {
					t.Fatalf("only %d requests %s: the fault was not met", p.count(kind), kind)
				}
				wantContent(t, s, "object", pattern(size))
				// And it is not ours the second time.
				if err := write(t, s, "object", size); !errors.Is(err, storage.ErrExist) {
					t.Fatalf("second writer: %v", err)
				}
			})
		}
	}
}

// TestCommitLostToAnother: the reply is lost, but the object is another's.
func TestCommitLostToAnother(t *testing.T) {
	for name, size := range map[string]int{"small": small, "large": large} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t)
			s := p.open(t)
			theirs := []byte("another's")
			kind := map[bool]string{false: "PutObject", true: "CompleteMultipartUpload"}[size == large]
			p.rule(kind, 1, func(w http.ResponseWriter, _ func() *httptest.ResponseRecorder) {
				if err := storage.PutBytes(t.Context(), open(t, options(p.server)), "object", theirs, storage.PutOptions{}); err != nil {
					t.Error(err)
				}
				hangUp(w, nil)
			})
			err := write(t, s, "object", size)
			if !errors.Is(err, storage.ErrExist) || storage.Retryable(err) {
				t.Fatalf("got %v", err)
			}
			wantContent(t, s, "object", theirs)
			if n := p.server.Uploads(t); n != 0 {
				t.Fatalf("%d uploads are left", n)
			}
		})
	}
}

// TestCommitFails: a fault that stays is an error that says whether the object may be there.
func TestCommitFails(t *testing.T) {
	for _, c := range []struct {
		name      string
		faults    []func(http.ResponseWriter, func() *httptest.ResponseRecorder)
		retryable bool
	}{
		{"denied", []func(http.ResponseWriter, func() *httptest.ResponseRecorder){canned(403, "AccessDenied")}, false},
		{"slow for ever", []func(http.ResponseWriter, func() *httptest.ResponseRecorder){canned(503, "SlowDown")}, true},
		// The first attempt may have done it.
		{"lost, then denied", []func(http.ResponseWriter, func() *httptest.ResponseRecorder){hangUp, canned(403, "AccessDenied")}, true},
	} {
		for name, size := range map[string]int{"small": small, "large": large} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				p := newProxy(t)
				s := p.open(t)
				kind := map[bool]string{false: "PutObject", true: "CompleteMultipartUpload"}[size == large]
				for i, f := range c.faults {
					times := 1
					if i == len(c.faults)-1 {
						times = 1000
					}
					p.rule(kind, times, f)
				}
				err := write(t, s, "object", size)
				var e *storage.Error
				if !errors.As(err, &e) || storage.Retryable(err) != c.retryable || e.Op != "commit" || e.Key != "object" {
					t.Fatalf("got %#v (%v)", err, err)
				}
				if n := p.count(kind); n > sendTries {
					t.Fatalf("%d attempts", n)
				}
				if n := p.server.Uploads(t); n != 0 {
					t.Fatalf("%d uploads are left", n)
				}
				if _, err := s.Stat(t.Context(), "object"); !errors.Is(err, storage.ErrNotExist) {
					t.Fatalf("stat: %v", err)
				}
			})
		}
	}
}

// TestPartFails: a part that cannot be sent ends the Writer and the Put.
func TestPartFails(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	p.rule("UploadPart", 1000, canned(403, "AccessDenied"))
	if err := write(t, s, "object", large); err == nil || storage.Retryable(err) || storage.Hint(err) == "" {
		t.Fatalf("writer: %v", err)
	}
	err := storage.PutBytes(t.Context(), s, "object", pattern(large), storage.PutOptions{})
	if err == nil || storage.Retryable(err) {
		t.Fatalf("put: %v", err)
	}
	if n := p.server.Uploads(t); n != 0 {
		t.Fatalf("%d uploads are left", n)
	}
	if p.count("AbortMultipartUpload") != 2 || p.count("CompleteMultipartUpload") != 0 {
		t.Fatalf("requests: %v", p.seen)
	}
}

// TestUploadVanishes: somebody ends the upload before it is completed.
func TestUploadVanishes(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	p.rule("CompleteMultipartUpload", 1000, canned(404, "NoSuchUpload"))
	err := write(t, s, "object", large)
	if err == nil || errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExist) || storage.Hint(err) == "" {
		t.Fatalf("got %v", err)
	}
}

// TestPutLostReply: WithRetry meets its own object; the caller compares.
func TestPutLostReply(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	p.rule("PutObject", 1, loseReply)
	err := storage.PutBytes(t.Context(), s, "object", pattern(small), storage.PutOptions{})
	if !storage.Retryable(err) {
		t.Fatalf("got %v", err)
	}
	wantContent(t, s, "object", pattern(small))
	p.rule("PutObject", 1, loseReply)
	err = storage.PutBytes(t.Context(), storage.WithRetry(s, storage.RetryOptions{MaxInterval: time.Millisecond}), "object2", pattern(small), storage.PutOptions{})
	if !errors.Is(err, storage.ErrExist) {
		t.Fatalf("got %v", err)
	}
	wantContent(t, s, "object2", pattern(small))
	// The parts of a large one are marked, so that it knows itself.
	p.rule("CompleteMultipartUpload", 1, loseReply)
	if err := storage.PutBytes(t.Context(), s, "object3", pattern(large), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenBodies: a body that ends early is an error, and WithRetry mends it.
func TestBrokenBodies(t *testing.T) {
	p := newProxy(t)
	s := p.open(t)
	b := pattern(1 << 20)
	if err := storage.PutBytes(t.Context(), s, "object", b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	cut := func(w http.ResponseWriter, forward func() *httptest.ResponseRecorder) {
		a := forward()
		for k, v := range a.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes()[:a.Body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		hangUp(w, nil)
	}
	ranges := [][2]int64{{0, -1}, {0, 500_000}, {1000, 100_000}, {-300_000, 0}, {-5 << 20, 0}, {1, -1}}
	for _, r := range ranges {
		p.rule("GetObject", 1, cut)
		body, err := s.Open(t.Context(), "object", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(body)
		body.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) || !storage.Retryable(err) {
			t.Fatalf("%v: got %v", r, err)
		}
	}
	retried := storage.WithRetry(s, storage.RetryOptions{MaxInterval: time.Millisecond})
	for _, r := range ranges {
		p.rule("GetObject", 3, cut)
		body, err := retried.Open(t.Context(), "object", r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		start, n, rangeErr := storage.Range(int64(len(b)), r[0], r[1])
		if err != nil || rangeErr != nil || !bytes.Equal(got, b[start:start+n]) {
			t.Fatalf("%v: %d bytes, %v", r, len(got), err)
		}
	}
	testReplaced(t, p, retried, cut)
}

// testReplaced: a reader does not go on in another object of the same name.
func testReplaced(t *testing.T, p *proxy, s storage.Store, cut func(http.ResponseWriter, func() *httptest.ResponseRecorder)) {
	t.Helper()
	p.rule("GetObject", 1, cut)
	body, err := s.Open(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := s.Delete(t.Context(), "object"); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutBytes(t.Context(), s, "object", make([]byte, 1<<20), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(body); err == nil || storage.Retryable(err) {
		t.Fatalf("read on in another object: %v", err)
	}
}

// TestListFaults: a listing resumes, and never drops or repeats a key.
func TestListFaults(t *testing.T) {
	p := newProxy(t)
	o := options(p.server)
	o.Endpoint, o.pageSize = p.url, 3
	s := open(t, o)
	var want []string
	for _, c := range "abcdefghijk" {
		want = append(want, string(c))
		if err := storage.PutBytes(t.Context(), s, string(c), nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var pages atomic.Int64
	p.rule("ListObjectsV2", 1000, func(w http.ResponseWriter, forward func() *httptest.ResponseRecorder) {
		if pages.Add(1)%2 == 0 {
			canned(503, "SlowDown")(w, nil)
			return
		}
		a := forward()
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes())
	})
	var got []string
	for info, err := range storage.WithRetry(s, storage.RetryOptions{MaxInterval: time.Millisecond}).List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if len(got) != len(want) || pages.Load() < 5 {
		t.Fatalf("got %q in %d pages", got, pages.Load())
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %q", got)
		}
	}
}

// TestConcurrency: no more parts than asked for are on their way, and the
// buffers are used again.
func TestConcurrency(t *testing.T) {
	p := newProxy(t)
	o := options(p.server)
	o.Endpoint, o.PartSize, o.Concurrency = p.url, 5<<20, 2
	s := open(t, o)
	var now, most atomic.Int64
	p.rule("UploadPart", 1000, func(w http.ResponseWriter, forward func() *httptest.ResponseRecorder) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		// The second comes while the first waits, or never; a third would come now.
		for end := time.Now().Add(20 * time.Second); most.Load() < 2 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		a := forward()
		now.Add(-1)
		for k, v := range a.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(a.Code)
	})
	if err := write(t, s, "object", 43<<20); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "object", pattern(43<<20))
	if most.Load() != 2 {
		t.Fatalf("%d parts at a time, want 2", most.Load())
	}
	if n := len(s.buffers); n == 0 || n > 3 {
		t.Fatalf("%d spare buffers", n)
	}
}
