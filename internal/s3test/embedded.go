package s3test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// embedded is the gateway of this process: there can only be one.
var embedded struct {
	once     sync.Once
	endpoint string
	dir      string
	err      error
}

// StartEmbedded returns the gateway within this process, with a new bucket. It
// ends with the process. Its data lies in a temporary directory, which
// CleanEmbedded removes: call that from TestMain.
func StartEmbedded(t testing.TB) *Server {
	t.Helper()
	embedded.once.Do(func() { embedded.err = runEmbedded(t) })
	if embedded.err != nil {
		t.Fatal(embedded.err)
	}
	s := &Server{Endpoint: embedded.endpoint, AccessKey: accessKey, SecretKey: secretKey}
	s.Bucket = s.NewBucket(t)
	return s
}

// CleanEmbedded removes what the gateway within this process has stored.
func CleanEmbedded() {
	if embedded.dir != "" {
		os.RemoveAll(embedded.dir)
	}
}

func runEmbedded(t testing.TB) error {
	dir, err := os.MkdirTemp("", "walden-s3test-")
	if err != nil {
		return err
	}
	embedded.dir = dir
	data, versions := dir+"/data", dir+"/versions"
	for _, d := range []string{data, versions} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	backend, err := posix.New(data, meta.XattrMeta{}, posix.PosixOpts{
		VersioningDir: versions, CopyObjectThreshold: 5 << 30, Concurrency: 100,
	})
	if err != nil {
		return fmt.Errorf("s3test: %w", err)
	}
	address, _ := freeAddress(t) // for as long as the process lives
	failed := make(chan error, 1)
	go func() {
		failed <- embedgw.RunVersityGW(context.Background(), backend, &embedgw.Config{
			RootUserAccess: accessKey, RootUserSecret: secretKey, Ports: []string{address}, Quiet: true,
			MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10_000, VirtualDomain: "localhost",
		})
	}()
	embedded.endpoint = "http://" + address
	return await(address, failed)
}
