//go:build unix

package integration

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// meter is a way to a server on which what the server sends is counted.
type meter struct {
	address string
	sent    atomic.Int64
}

func newMeter(t *testing.T, to string) *meter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	m := &meter{address: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				defer server.Close()
				_, _ = io.Copy(server, client)
			}()
			go func() {
				defer client.Close()
				_, _ = io.Copy(io.MultiWriter(client, m), server)
			}()
		}
	}()
	return m
}

func (m *meter) Write(b []byte) (int, error) {
	m.sent.Add(int64(len(b)))
	return len(b), nil
}

// TestExtractDownloads counts every byte that an extraction gets from the bucket, WAL
// included: less than a third of the backup, and what it says of packs is within that; of a table in a
// small database, and of a small table in a large one.
func TestExtractDownloads(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest(), store: s3Store, segmentMB: 16, settings: map[string]string{"max_wal_size": "4GB"}})
	s.pg.Exec("CREATE DATABASE app")
	s.pg.Exec("CREATE DATABASE bulk")
	const rows = "AS SELECT i, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) AS t FROM generate_series(1, %d) i"
	s.execIn("bulk", fmt.Sprintf("CREATE TABLE bulk "+rows+"; CREATE TABLE orders "+rows, 1500000, 100000))
	s.execIn("app", fmt.Sprintf("CREATE TABLE orders "+rows, 100000))
	s.backup()
	s.pg.Exec("SELECT pg_create_restore_point('here')")
	s.archiveAll()
	endpoint, err := url.Parse(s.s3.Endpoint)
	check(t, err)
	for _, database := range []string{"app", "bulk"} {
		t.Run(database, func(t *testing.T) {
			m := newMeter(t, endpoint.Host)
			s.env = []string{"WALDEN_REPOSITORY_S3_ENDPOINT=http://" + m.address}
			out := filepath.Join(s.dir, database+".dump")
			var d struct {
				Download int64 `json:"download_bytes"`
				Plan     struct {
					Backup struct {
						Bytes  int64
						Stored int64 `json:"stored_bytes"`
					}
				}
			}
			s.run("extract", "--scratch", s.dir, "--pg-bin", s.pg.BinDir(), "--name", "here", "--database", database, "--table", "public.orders",
				"--format", "custom", "--output", out, "--json").ok(t).json(t, &d)
			got, whole := m.sent.Load(), d.Plan.Backup.Stored
			t.Logf("backup %.0f MiB, stored %.0f MiB; extract got %.1f MiB, said %.1f MiB of packs", mib(d.Plan.Backup.Bytes), mib(whole), mib(got), mib(d.Download))
			if got >= whole/3 {
				t.Errorf("%d bytes were downloaded, a third of the backup is %d", got, whole/3)
			}
			if d.Download >= got || d.Download < got/2 {
				t.Errorf("it says that it downloaded %d bytes of packs, and %d came in all", d.Download, got)
			}
			list := s.pg.Run("pg_restore", "--list", out)
			if !strings.Contains(list, "TABLE DATA public orders") {
				t.Errorf("pg_restore lists\n%s", list)
			}
			s.pg.Exec("CREATE DATABASE back_" + database)
			s.pg.Run("pg_restore", "-d", s.pg.Conninfo("back_"+database), out)
			if n := s.pg.QueryIn("back_"+database, "SELECT count(*) || ' ' || count(DISTINCT t) FROM orders")[0][0]; n != "100000 100000" {
				t.Errorf("%s rows", n)
			}
		})
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
