// Package s3test starts S3 servers for tests: versitygw, within the test's
// process or as one of its own.
package s3test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walden-pg/walden/internal/freeport"
)

// Credentials of every server that this package starts.
const (
	accessKey = "walden-test"
	secretKey = "walden-test-secret"
)

// Server is an S3 server with an empty bucket, addressed by path style, in us-east-1.
type Server struct {
	Endpoint, Bucket, AccessKey, SecretKey string
	process                                *process // nil: in this process, or someone else's
}

// Start returns a server for tests of what stands on S3: the one that
// WALDEN_TEST_S3_ENDPOINT names, else a versitygw process, else (not on CI) one
// within this process. Each call makes a new bucket.
func Start(t testing.TB) *Server {
	t.Helper()
	if s := external(t); s != nil {
		return s
	}
	if _, err := binary(); err == nil || os.Getenv("CI") == "true" {
		return StartProcess(t)
	}
	return StartEmbedded(t)
}

// external returns the server that the environment names: WALDEN_TEST_S3_ENDPOINT, with
// WALDEN_TEST_S3_ACCESS_KEY and WALDEN_TEST_S3_SECRET_KEY.
func external(t testing.TB) *Server {
	t.Helper()
	endpoint := os.Getenv("WALDEN_TEST_S3_ENDPOINT")
	if endpoint == "" {
		return nil
	}
	s := &Server{Endpoint: endpoint, AccessKey: os.Getenv("WALDEN_TEST_S3_ACCESS_KEY"), SecretKey: os.Getenv("WALDEN_TEST_S3_SECRET_KEY")}
	s.Bucket = s.NewBucket(t)
	return s
}

// Stop kills the server's process, as a crash would; connections break. Only for
// servers of StartProcess.
func (s *Server) Stop() {
	if s.process == nil {
		panic("s3test: this server is no process of ours")
	}
	s.process.kill()
}

// Restart starts a stopped server again: the same address, the same data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.process.start(t)
}

// IsProcess reports whether Stop and Restart work.
func (s *Server) IsProcess() bool { return s.process != nil }

// Client returns a client of the SDK.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
}

var buckets atomic.Int64

// NewBucket makes one more bucket and returns its name.
func (s *Server) NewBucket(t testing.TB) string { return s.newBucket(t, false) }

// NewLockedBucket makes a bucket with object lock, and so with versions.
func (s *Server) NewLockedBucket(t testing.TB) string { return s.newBucket(t, true) }

func (s *Server) newBucket(t testing.TB, lock bool) string {
	t.Helper()
	name := fmt.Sprintf("walden-%d-%d", time.Now().UnixNano(), buckets.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	in := &s3.CreateBucketInput{Bucket: aws.String(name)}
	if lock {
		in.ObjectLockEnabledForBucket, in.ObjectOwnership = aws.Bool(true), types.ObjectOwnershipBucketOwnerEnforced
	}
	if _, err := s.Client().CreateBucket(ctx, in); err != nil {
		t.Fatalf("s3test: create bucket: %v", err)
	}
	return name
}

// Uploads returns how many multipart uploads of the bucket are unfinished.
func (s *Server) Uploads(t testing.TB) int {
	t.Helper()
	out, err := s.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(s.Bucket)})
	if err != nil {
		t.Fatalf("s3test: list uploads: %v", err)
	}
	return len(out.Uploads)
}

// freeAddress returns an address of this machine for one server, which is its
// alone until release is called.
func freeAddress(t testing.TB) (address string, release func()) {
	t.Helper()
	port, release, err := freeport.Reserve()
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), release
}

// await waits until the address accepts connections.
func await(address string, failed <-chan error) error {
	deadline := time.After(time.Minute)
	for {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-failed:
			return fmt.Errorf("s3test: server ended: %w", err)
		case <-deadline:
			return fmt.Errorf("s3test: server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
