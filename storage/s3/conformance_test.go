package s3

import (
	"os"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/s3test"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/storetest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	s3test.CleanEmbedded()
	os.Exit(code)
}

func options(server *s3test.Server) Options {
	return Options{
		Bucket: server.Bucket, Prefix: "some/prefix", Endpoint: server.Endpoint, PathStyle: true,
		AccessKey: server.AccessKey, SecretKey: server.SecretKey,
		pause: 5 * time.Millisecond,
	}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEmbedded runs the suite with small pages and small parts, so that
// everything that is cut in pieces is.
func TestEmbedded(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storage.Store {
		o := options(s3test.StartEmbedded(t))
		o.PartSize, o.singlePut, o.pageSize = 5<<20, 5<<20, 7
		return open(t, o)
	}, storetest.ManyKeys(60))
}

// TestProcess runs the suite as the driver is used, against a server of its own.
func TestProcess(t *testing.T) {
	server := s3test.StartProcess(t)
	storetest.Run(t, func(t *testing.T) storage.Store {
		o := options(server)
		o.Bucket = server.NewBucket(t)
		return open(t, o)
	})
}
