package metrics

import (
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/stream"
)

// serve shows what status holds, until the test ends.
func serve(t *testing.T, status *atomic.Pointer[stream.Status]) (url string) {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeStream("main", func() stream.Status { return *status.Load() }) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Address()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestScrape(t *testing.T) {
	var status atomic.Pointer[stream.Status]
	status.Store(&stream.Status{
		Phase: stream.Streaming, Timeline: 3, ServerEnd: 0x5000100, Received: 0x5000080, Durable: 0x5000040, Acknowledged: 0x5000020,
		LagBytes: 192, LagSeconds: 0.5, Pending: 64, Buffered: 16 << 20, Waiting: true, SlotLag: 224, SlotRoom: -1,
		ReceivedBytes: 1000, Fragments: 7, FragmentBytes: 900, Segments: 2, UploadSeconds: 1.5, Retries: 4, Connections: 5,
		Gaps: []stream.GapError{{Timeline: 3, From: wal.LSN(1), To: wal.LSN(2)}}, Findings: 2,
	})
	url := serve(t, &status)
	code, body := get(t, url+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	for name, want := range map[string]string{
		"connected": "1", "failing": "0", "synchronous": "1", "timeline": "3",
		"server_lsn": "8.3886336e+07", "received_lsn": "8.3886208e+07", "durable_lsn": "8.3886144e+07", "acknowledged_lsn": "8.3886112e+07",
		"lag_bytes": "192", "lag_seconds": "0.5", "pending_bytes": "64", "spool_bytes": "1.6777216e+07", "slot_lag_bytes": "224",
		"received_bytes_total": "1000", "uploads_total": "7", "uploaded_bytes_total": "900", "segments_sealed_total": "2",
		"upload_seconds_total": "1.5", "retries_total": "4", "connections_total": "5", "gaps_total": "1", "findings_total": "2",
	} {
		if line := "walden_stream_" + name + `{cluster="main"} ` + want + "\n"; !strings.Contains(body, "\n"+line) {
			t.Errorf("%q is missing", line)
		}
		if !strings.Contains(body, "# HELP walden_stream_"+name+" ") {
			t.Errorf("%s has no help", name)
		}
	}
	if strings.Contains(body, "slot_room_bytes") {
		t.Error("what is not known has a value")
	}
	if !strings.Contains(body, "process_resident_memory_bytes ") && !strings.Contains(body, "go_goroutines ") {
		t.Error("nothing is told of the process")
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return // what it checks beyond the above is style
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestHealth(t *testing.T) {
	var status atomic.Pointer[stream.Status]
	status.Store(&stream.Status{Phase: stream.Connecting})
	url := serve(t, &status) + "/healthz"
	for _, c := range []struct {
		status stream.Status
		code   int
		want   string
	}{
		{stream.Status{Phase: stream.Connecting}, 503, "connecting"},
		{stream.Status{Phase: stream.Streaming}, 200, "ok"},
		{stream.Status{Phase: stream.Streaming, Failure: "no bucket"}, 503, "streaming: no bucket"},
		{stream.Status{Phase: stream.Stopping}, 503, "stopping"},
		{stream.Status{Phase: stream.Streaming, Pending: 1, Delay: 59 * time.Second}, 200, "ok"},
		{stream.Status{Phase: stream.Streaming, Pending: 1, Delay: 75 * time.Second, Overdue: true}, 503, "streaming: what was received has not been in the repository for 1m15s"},
	} {
		status.Store(&c.status)
		if code, body := get(t, url); code != c.code || body != c.want+"\n" {
			t.Errorf("%+v: %d %q", c.status, code, body)
		}
	}
}

func TestAddressThatIsTaken(t *testing.T) {
	s, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = Listen(t.Context(), s.Address())
	var le *ListenError
	if !errors.As(err, &le) || !strings.Contains(err.Error(), s.Address()) || le.Hint() == "" {
		t.Errorf("%v", err)
	}
	if _, err := Listen(t.Context(), "nonsense"); !errors.As(err, &le) {
		t.Errorf("%v", err)
	}
}
