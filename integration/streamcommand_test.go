//go:build unix

package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// TestStreamCommand: what `walden stream` shows of itself while it runs, and at its end.
func TestStreamCommand(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest(), noArchiving: true})
	spool := pgtest.TempDir(t)
	s.env = append(s.env, "WALDEN_CLUSTERS_MAIN_STREAM_SPOOL="+spool, "WALDEN_CLUSTERS_MAIN_STREAM_SPOOL_LIMIT=64MB")
	s.run("check", "--archive-timeout", "0", "--json").exits(t, 1) // no WAL is archived yet

	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	check(t, err)
	log, err := os.Create(filepath.Join(dir, "log"))
	check(t, err)
	defer out.Close()
	defer log.Close()
	cmd := s.command(t.Context(), "stream", "--json", "--metrics-listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = out, log
	check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	logged := func() string {
		b, err := os.ReadFile(log.Name())
		check(t, err)
		return string(b)
	}
	address := regexp.MustCompile(`msg="metrics are served" address=(\S+)`)
	s.pg.WaitFor("the metrics' address", func() bool { return address.MatchString(logged()) })
	url := "http://" + address.FindStringSubmatch(logged())[1]
	get := func(path string) (int, string) {
		resp, err := http.Get(url + path)
		check(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		check(t, err)
		return resp.StatusCode, string(b)
	}
	s.pg.WaitFor("the stream", func() bool { code, _ := get("/healthz"); return code == http.StatusOK })
	s.pg.PgbenchInit(1)
	s.pg.WaitFor("no lag", func() bool {
		_, body := get("/metrics")
		return strings.Contains(body, "\nwalden_stream_lag_bytes{cluster=\"main\"} 0\n") && !strings.Contains(body, "\nwalden_stream_segments_sealed_total{cluster=\"main\"} 0\n")
	})

	var checked struct {
		Findings []struct{ Probe, Status string }
	}
	s.run("check", "--json").exits(t, 0).json(t, &checked)
	found := map[string]string{}
	for _, f := range checked.Findings {
		found[f.Probe] = f.Status
	}
	for _, probe := range []string{"archive_mode", "slot", "synchronous commits", "spool", "archiving"} {
		if found[probe] != "ok" {
			t.Errorf("check: %s is %q", probe, found[probe])
		}
	}
	s.run("stream", "--slot", "another").exits(t, 5).says(t, "another walden stream uses it", "hint:")

	check(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, logged())
	}
	b, err := os.ReadFile(out.Name())
	check(t, err)
	var d struct {
		Cluster      string `json:"cluster"`
		Phase        string `json:"phase"`
		Durable      string `json:"durable_lsn"`
		Acknowledged string `json:"acknowledged_lsn"`
		Segments     int    `json:"segments"`
		Findings     *int   `json:"findings"`
	}
	if err := json.Unmarshal(b, &d); err != nil || d.Cluster != "main" || d.Phase != "stopping" || d.Durable == "" || d.Durable != d.Acknowledged || d.Segments == 0 || d.Findings == nil || *d.Findings != 0 {
		t.Errorf("%v, %+v:\n%s", err, d, b)
	}
	if !strings.Contains(logged(), "level=INFO msg=streaming") {
		t.Errorf("the log: %s", logged())
	}
}
