package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/walden-pg/walden/internal/s3test"
	"github.com/walden-pg/walden/storage"
)

// These tests need a real server's behaviour, beyond the suite's.

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)
	}
	return b
}

func wantContent(t *testing.T, s storage.Store, key string, want []byte) {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), s, key, int64(len(want)))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes, want %d: %v", key, len(got), len(want), err)
	}
}

// TestVirtualHost addresses the bucket by host name.
func TestVirtualHost(t *testing.T) {
	server := s3test.StartEmbedded(t)
	o := options(server)
	_, port, _ := strings.Cut(strings.TrimPrefix(server.Endpoint, "http://"), ":")
	var hosts []string
	o.PathStyle, o.Endpoint = false, "http://localhost:"+port
	o.transport = func(tr *http.Transport) {
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			hosts = append(hosts, address)
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		}
	}
	s := open(t, o)
	b := pattern(7 << 20)
	if err := storage.PutBytes(t.Context(), s, "virtual/host", b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "virtual/host", b)
	if want := server.Bucket + ".localhost:" + port; len(hosts) == 0 || hosts[0] != want {
		t.Fatalf("connected to %q, want %q", hosts, want)
	}
	// The same object is there for path style.
	wantContent(t, open(t, options(server)), "virtual/host", b)
}

// TestStoredChecksums: the store keeps the CRC-32C of what was sent in one
// request and in parts.
func TestStoredChecksums(t *testing.T) {
	server := s3test.StartEmbedded(t)
	o := options(server)
	o.singlePut = 6 << 20
	s := open(t, o)
	if err := storage.PutBytes(t.Context(), s, "single", []byte("walden"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutBytes(t.Context(), s, "parts", pattern(17<<20), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]func(sum string) bool{
		"single": func(sum string) bool { return sum == "12d7bA==" },
		"parts":  func(sum string) bool { return strings.HasSuffix(sum, "-3") },
	} {
		out, err := server.Client().HeadObject(t.Context(), &awss3.HeadObjectInput{
			Bucket: aws.String(server.Bucket), Key: aws.String("some/prefix/" + key), ChecksumMode: "ENABLED",
		})
		if err != nil || !want(aws.ToString(out.ChecksumCRC32C)) {
			t.Fatalf("%s: checksum %q, %v", key, aws.ToString(out.ChecksumCRC32C), err)
		}
	}
}

// TestNoUploadsLeft: whatever becomes of a Writer, no parts stay behind.
func TestNoUploadsLeft(t *testing.T) {
	server := s3test.StartEmbedded(t)
	s := open(t, options(server))
	if err := storage.PutBytes(t.Context(), s, "taken", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, end := range map[string]func(w storage.Writer) error{
		"taken":     storage.Writer.Commit,
		"aborted":   func(w storage.Writer) error { return errors.Join(w.Abort(), errors.New("aborted")) },
		"cancelled": func(w storage.Writer) error { cancel(); return errors.Join(w.Commit(), w.Abort()) },
	} {
		c := t.Context()
		if name == "cancelled" {
			c = ctx
		}
		w, err := s.Create(c, name, storage.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(pattern(9 << 20)); err != nil {
			t.Fatal(err)
		}
		if name == "aborted" && server.Uploads(t) == 0 {
			t.Fatal("no upload was begun: the test tests nothing")
		}
		if err := end(w); err == nil {
			t.Fatalf("%s: no error", name)
		}
		if n := server.Uploads(t); n != 0 {
			t.Fatalf("%s: %d uploads are left", name, n)
		}
	}
}

// TestRetention: in a bucket with object lock the version is kept.
func TestRetention(t *testing.T) {
	server := s3test.StartEmbedded(t)
	o := options(server)
	o.Bucket = server.NewLockedBucket(t)
	o.singlePut = 5 << 20
	s := open(t, o)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	for key, size := range map[string]int{"single": 10, "parts": 6 << 20} {
		if err := storage.PutBytes(t.Context(), s, key, pattern(size), storage.PutOptions{RetainUntil: until}); err != nil {
			t.Fatal(err)
		}
		out, err := server.Client().HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: aws.String(o.Bucket), Key: aws.String("some/prefix/" + key)})
		if err != nil || out.ObjectLockMode != "COMPLIANCE" || !aws.ToTime(out.ObjectLockRetainUntilDate).Equal(until) {
			t.Fatalf("%s: %v until %v, %v", key, out.ObjectLockMode, out.ObjectLockRetainUntilDate, err)
		}
		_, err = server.Client().DeleteObject(t.Context(), &awss3.DeleteObjectInput{
			Bucket: aws.String(o.Bucket), Key: aws.String("some/prefix/" + key), VersionId: out.VersionId,
		})
		if err == nil {
			t.Fatalf("%s: the version could be deleted", key)
		}
	}
}

// TestForeignObjects: what is in the bucket and not ours is passed over.
func TestForeignObjects(t *testing.T) {
	server := s3test.StartEmbedded(t)
	s := open(t, options(server))
	for _, name := range []string{"some/prefix/a folder/x", "some/prefix/ä", "some/prefix/z%7Ez", "elsewhere", "some/prefix2", "some/prefix/.hidden/x"} {
		_, err := server.Client().PutObject(t.Context(), &awss3.PutObjectInput{
			Bucket: aws.String(server.Bucket), Key: aws.String(name), Body: strings.NewReader("x"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := storage.PutBytes(t.Context(), s, "ours", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if len(got) != 1 || got[0] != "ours" {
		t.Fatalf("listed %q", got)
	}
}

// TestServerDies: while the server is away every operation fails with a
// temporary error and a hint; WithRetry bridges a restart, readers included.
func TestServerDies(t *testing.T) {
	server := s3test.StartProcess(t)
	s := open(t, options(server))
	b := pattern(24 << 20)
	if err := storage.PutBytes(t.Context(), s, "before", b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	retried := storage.WithRetry(s, storage.RetryOptions{MaxElapsed: 30 * time.Second, MaxInterval: 200 * time.Millisecond})
	r, err := retried.Open(t.Context(), "before", -int64(len(b)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	_, statErr := s.Stat(t.Context(), "before")
	_, openErr := s.Open(t.Context(), "before", 0, -1)
	var listErr error
	for _, listErr = range s.List(t.Context(), "", "") {
	}
	for op, err := range map[string]error{
		"stat": statErr, "open": openErr, "list": listErr,
		"put": storage.PutBytes(t.Context(), s, "new", nil, storage.PutOptions{}), "delete": s.Delete(t.Context(), "before"),
	} {
		if !storage.Retryable(err) || !strings.Contains(storage.Hint(err), server.Endpoint) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: %v; hint %q", op, err, storage.Hint(err))
		}
	}
	restarted := make(chan error, 1)
	go func() { restarted <- storage.PutBytes(t.Context(), retried, "new", b, storage.PutOptions{}) }()
	time.Sleep(300 * time.Millisecond)
	server.Restart(t)
	if err := <-restarted; err != nil {
		t.Fatalf("put over a restart: %v", err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(head, rest...), b) {
		t.Fatalf("read over a restart: %d bytes, %v", len(head)+len(rest), err)
	}
	wantContent(t, s, "new", b)
}
