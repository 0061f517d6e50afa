package s3

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
)

// scripted returns a store before a server that answers every request by h.
func scripted(t *testing.T, h http.HandlerFunc) *Store {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return open(t, scriptedOptions(server.URL))
}

func scriptedOptions(url string) Options {
	return Options{
		Bucket: "backups", Endpoint: url, PathStyle: true, Region: "eu-central-1",
		AccessKey: "key", SecretKey: "secret", pause: time.Millisecond,
	}
}

func fails(status int, code string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		if r.Method == http.MethodHead {
			w.WriteHeader(status)
			return
		}
		canned(status, code)(w, nil)
	}
}

// operations does each operation once and returns the errors.
func operations(ctx context.Context, s storage.Store) map[string]error {
	_, openErr := s.Open(ctx, "a/b", 0, -1)
	_, statErr := s.Stat(ctx, "a/b")
	var listErr error
	for _, listErr = range s.List(ctx, "a/", "") {
	}
	return map[string]error{
		"open": openErr, "stat": statErr, "list": listErr,
		"put": storage.PutBytes(ctx, s, "a/b", []byte("x"), storage.PutOptions{}), "delete": s.Delete(ctx, "a/b"),
	}
}

// TestAnswers: what the store answers is understood, and nothing but an absent object
// is absence.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status    int
		code      string
		retryable bool
		hint      string // part of it
		is        error
		header    []string
	}{
		{404, "NoSuchBucket", false, "create the bucket backups", nil, nil},
		{404, "", false, "does the bucket backups exist", nil, nil},
		{403, "AccessDenied", false, "s3:ListBucket", fs.ErrPermission, nil},
		{403, "", false, "s3:ListBucket", fs.ErrPermission, nil},
		{403, "InvalidAccessKeyId", false, "does not know this access key", fs.ErrPermission, nil},
		{403, "SignatureDoesNotMatch", false, "secret key", fs.ErrPermission, nil},
		{400, "ExpiredToken", false, "renew", fs.ErrPermission, nil},
		{403, "RequestTimeTooSkewed", true, "clock", nil, nil},
		{301, "PermanentRedirect", false, "region us-west-2", nil, []string{"X-Amz-Bucket-Region", "us-west-2"}},
		{301, "PermanentRedirect", false, "another region", nil, []string{"Location", "http://other.example/"}},
		{307, "TemporaryRedirect", true, "another region", nil, []string{"Location", "http://other.example/"}},
		{400, "AuthorizationHeaderMalformed", false, "eu-central-1", nil, nil},
		{400, "InvalidStorageClass", false, "storage class", nil, nil},
		{409, "OperationAborted", true, "", nil, nil},
		{409, "SomethingElse", false, "", nil, nil},
		{429, "", true, "", nil, nil},
		{429, "TooManyRequests", true, "", nil, nil},
		{408, "", true, "", nil, nil},
		{400, "RequestTimeout", true, "", nil, nil},
		{500, "InternalError", true, "", nil, nil},
		{500, "", true, "", nil, nil},
		{502, "", true, "", nil, nil},
		{503, "SlowDown", true, "", nil, nil},
		{503, "", true, "", nil, nil},
		{501, "NotImplemented", false, "lacks", nil, nil},
		{507, "XMinioStorageFull", false, "full", nil, nil},
		{418, "Teapot", false, "", nil, nil},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.code), func(t *testing.T) {
			s := scripted(t, fails(c.status, c.code, c.header...))
			for op, err := range operations(t.Context(), s) {
				var e *storage.Error
				if !errors.As(err, &e) || e.Op != op {
					t.Errorf("%s: %#v", op, err)
					continue
				}
				if errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExist) {
					t.Errorf("%s: taken for absence or existence: %v", op, err)
				}
				if storage.Retryable(err) != c.retryable {
					t.Errorf("%s: retryable is %v: %v", op, !c.retryable, err)
				}
				if !strings.Contains(e.Hint, c.hint) {
					t.Errorf("%s: hint %q, want %q", op, e.Hint, c.hint)
				}
				if c.is != nil && c.status != 400 && !errors.Is(err, c.is) {
					t.Errorf("%s: %v is not %v", op, err, c.is)
				}
				if strings.Contains(err.Error()+e.Hint, "secret:") || strings.Contains(err.Error(), "RequestID: ,") {
					t.Errorf("%s: message %q", op, err)
				}
			}
		})
	}
}

// TestAbsence: only a GET that says so proves that an object is absent.
func TestAbsence(t *testing.T) {
	s := scripted(t, fails(404, "NoSuchKey"))
	for op, err := range operations(t.Context(), s) {
		if absent := errors.Is(err, storage.ErrNotExist); absent != (op == "open" || op == "stat" || op == "put" || op == "list") {
			t.Errorf("%s: %v", op, err)
		}
		if op == "delete" && err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	// HEAD says not found, GET knows better.
	for code, status := range map[string]int{"NoSuchBucket": 404, "AccessDenied": 403, "InternalError": 500} {
		s = scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(404)
				return
			}
			canned(status, code)(w, nil)
		})
		if _, err := s.Stat(t.Context(), "a"); err == nil || errors.Is(err, storage.ErrNotExist) || storage.Retryable(err) != (status == 500) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// TestNotS3: a web server that is no S3 store is never an empty repository.
func TestNotS3(t *testing.T) {
	for _, status := range []int{200, 404, 302, 403} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html><body><p>It works!</body></html>")
		})
		ops := operations(t.Context(), s)
		for _, op := range []string{"open", "stat", "list"} {
			if status == 200 && op != "list" {
				continue // any answer is the content
			}
			if err := ops[op]; err == nil || errors.Is(err, storage.ErrNotExist) {
				t.Errorf("%d: %s: %v", status, op, err)
			}
		}
	}
}

// TestRangeAnswers: an answer that is not what was asked for is an error.
func TestRangeAnswers(t *testing.T) {
	for _, c := range []struct {
		off, n       int64
		status       int
		contentRange string
		body         string
		ok           bool
	}{
		{5, 3, 206, "bytes 5-7/100", "abc", true},
		{5, 3, 206, "bytes 5-7/*", "abc", true},
		{-3, 0, 206, "bytes 97-99/100", "abc", true},
		{-3, 0, 200, "", "abc", true}, // the whole object is not longer
		{0, 5, 200, "", "abc", true},
		{0, -1, 200, "", "abc", true},
		{98, 10, 206, "bytes 98-99/100", "ab", true},
		{5, 3, 200, "", "abcdefghijkl", false}, // the range was ignored
		{-3, 0, 200, "", "abcdefghijkl", false},
		{0, 3, 200, "", "abcdefghijkl", false},
		{5, 3, 206, "bytes 4-6/100", "abc", false},
		{5, 3, 206, "bytes 5-6/100", "ab", false}, // less than there is
		{5, 3, 206, "bytes 5-8/100", "abcd", false},
		{5, 3, 206, "bytes 5-8/*", "abcd", false},
		{-3, 0, 206, "bytes 90-99/*", "abcdefghij", false},
		{5, 3, 206, "bytes 5-7/100", "ab", false}, // Content-Length is wrong
		{-3, 0, 206, "bytes 90-92/100", "abc", false},
		{5, 3, 206, "bytes 5-7/3", "abc", false},
		{5, 3, 206, "bytes x-7/100", "abc", false},
		{5, 3, 206, "octets 5-7/100", "abc", false},
		{5, 3, 206, "bytes 7-5/100", "abc", false},
	} {
		s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if c.contentRange != "" {
				w.Header().Set("Content-Range", c.contentRange)
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(c.body)))
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		r, err := s.Open(t.Context(), "a", c.off, c.n)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			r.Close()
		}
		if c.ok != (err == nil) || c.ok && string(got) != c.body {
			t.Errorf("[%d, %d] %s: %q, %v", c.off, c.n, c.contentRange, got, err)
		}
	}
}

// TestStalls: a server that stops moving is given up, in whatever it stops.
func TestStalls(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "the beginning")
			_ = http.NewResponseController(w).Flush()
		}
		<-release
	}))
	defer server.Close()
	defer close(release)
	o := scriptedOptions(server.URL)
	o.idle = time.Second
	s := open(t, o)
	start := time.Now()
	_, statErr := s.Stat(t.Context(), "a")
	var listErr error
	for _, listErr = range s.List(t.Context(), "", "") {
	}
	r, err := s.Open(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// A reader that takes its time is not given up.
	if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * o.idle)
	if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_, readErr := io.ReadAll(r)
	for op, err := range map[string]error{
		"stat": statErr, "list": listErr, "read": readErr,
		"put": storage.PutBytes(t.Context(), s, "a", pattern(8<<20), storage.PutOptions{}),
	} {
		if !errors.Is(err, errStalled) || !storage.Retryable(err) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("it took %v", d)
	}
}

// TestSlowButAlive: what goes on, however slowly, is not given up.
func TestSlowButAlive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		for i := range 10 {
			fmt.Fprint(w, i)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(250 * time.Millisecond)
		}
	}))
	defer server.Close()
	o := scriptedOptions(server.URL)
	o.idle = 2 * time.Second
	b, err := storage.ReadAll(t.Context(), open(t, o), "a", 10)
	if err != nil || string(b) != "0123456789" {
		t.Fatalf("%q, %v", b, err)
	}
}

// TestTLS: certificates are checked, and a wrong one is explained.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "content")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	plainHTTP := httptest.NewServer(server.Config.Handler)
	defer plainHTTP.Close()
	elsewhere := func(o *Options) {
		o.Endpoint = "https://s3.wrong.test"
		o.transport = func(tr *http.Transport) {
			tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			}
		}
	}
	for name, c := range map[string]struct {
		change func(o *Options)
		hint   string // empty: it works
	}{
		"unknown CA":   {func(*Options) {}, "CA's PEM file"},
		"CA file":      {func(o *Options) { o.CAFile = ca }, ""},
		"not verified": {func(o *Options) { o.InsecureSkipVerify = true }, ""},
		"other host":   {func(o *Options) { o.CAFile = ca; elsewhere(o) }, "another host name"},
		"no TLS":       {func(o *Options) { o.Endpoint = strings.Replace(plainHTTP.URL, "http:", "https:", 1) }, "does not speak TLS"},
	} {
		o := scriptedOptions(server.URL)
		c.change(&o)
		b, err := storage.ReadAll(t.Context(), open(t, o), "a", 100)
		if c.hint == "" && (err != nil || string(b) != "content") {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if c.hint != "" && (err == nil || storage.Retryable(err) || !strings.Contains(storage.Hint(err), c.hint)) {
			t.Errorf("%s: %v; hint %q", name, err, storage.Hint(err))
		}
	}
}

// TestUnreachable: nobody there.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for op, err := range operations(t.Context(), open(t, scriptedOptions("http://"+l.Addr().String()))) {
		if !storage.Retryable(err) || !strings.Contains(storage.Hint(err), l.Addr().String()) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: %v; hint %q", op, err, storage.Hint(err))
		}
		if strings.Contains(err.Error(), "StatusCode") {
			t.Errorf("%s speaks of an answer where none came: %v", op, err)
		}
	}
	o := scriptedOptions("http://walden.invalid")
	o.transport = func(tr *http.Transport) {
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "walden.invalid", IsNotFound: true}}
		}
	}
	for op, err := range operations(t.Context(), open(t, o)) {
		if storage.Retryable(err) || storage.Hint(err) == "" || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: %v; hint %q", op, err, storage.Hint(err))
		}
	}
}

// TestCredentials: the standard chain is asked, late, and its failure explained.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": dir + "/config", "AWS_SHARED_CREDENTIALS_FILE": dir + "/credentials", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		t.Setenv(k, v)
	}
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, "x")
	}))
	defer server.Close()
	o := Options{Bucket: "backups", Endpoint: server.URL, PathStyle: true}
	for op, err := range operations(t.Context(), open(t, o)) {
		if storage.Retryable(err) || !strings.Contains(storage.Hint(err), "AWS_ACCESS_KEY_ID") || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: %v; hint %q", op, err, storage.Hint(err))
		}
	}
	s := open(t, o) // before the files exist
	if err := os.WriteFile(dir+"/credentials", []byte("[default]\naws_access_key_id = FROMFILE\naws_secret_access_key = s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.ReadAll(t.Context(), s, "a", 10); err != nil || !strings.Contains(authorization, "FROMFILE/") || !strings.Contains(authorization, "/us-east-1/s3/") {
		t.Fatalf("authorization %q, %v", authorization, err)
	}
	t.Setenv("AWS_PROFILE", "absent")
	if _, err := open(t, o).Stat(t.Context(), "a"); err == nil || storage.Hint(err) == "" || storage.Retryable(err) {
		t.Fatalf("absent profile: %v", err)
	}
}

// TestCredentialsStall: a service that hands out credentials and has stopped
// moving is given up as well, whatever the caller's patience.
func TestCredentialsStall(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	dir := t.TempDir()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": dir + "/config", "AWS_SHARED_CREDENTIALS_FILE": dir + "/credentials",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL,
	} {
		t.Setenv(k, v)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := open(t, Options{Bucket: "backups", Endpoint: server.URL, PathStyle: true, idle: 100 * time.Millisecond}).Stat(ctx, "a")
	if err == nil || ctx.Err() != nil || storage.Hint(err) == "" {
		t.Fatalf("%v; hint %q", err, storage.Hint(err))
	}
}

// TestOptions: what cannot be right is refused before it is used.
func TestOptions(t *testing.T) {
	good := Options{Bucket: "backups"}
	if _, err := New(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(o *Options){
		"no bucket":     func(o *Options) { o.Bucket = "" },
		"bucket path":   func(o *Options) { o.Bucket = "a/b" },
		"no scheme":     func(o *Options) { o.Endpoint = "localhost:9000" },
		"other scheme":  func(o *Options) { o.Endpoint = "ftp://localhost" },
		"user in URL":   func(o *Options) { o.Endpoint = "https://me:secret@localhost" },
		"half a key":    func(o *Options) { o.AccessKey = "x" },
		"small parts":   func(o *Options) { o.PartSize = 1 << 20 },
		"large parts":   func(o *Options) { o.PartSize = 6 << 30 },
		"concurrency":   func(o *Options) { o.Concurrency = -1 },
		"no CA file":    func(o *Options) { o.CAFile = "/does/not/exist.pem" },
		"not a CA file": func(o *Options) { o.CAFile = notPEM },
		"long prefix":   func(o *Options) { o.Prefix = strings.Repeat("p", 600) },
	} {
		o := good
		change(&o)
		if _, err := New(t.Context(), o); err == nil || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
