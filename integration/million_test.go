//go:build unix

package integration

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/bigarchive"
)

// millionSite is an S3 server with an archive of a million segments of 16 MiB, which
// takes 20 ms for each request, and a walden that is configured for it.
func millionSite(t *testing.T) (*site, *bigarchive.Store) {
	t.Helper()
	a, err := bigarchive.New(t.Context(), bigarchive.Spec{Segments: 1_000_000, Size: 16 << 20, BackupEvery: 2000, Packs: 40, Rollups: 1_000_000 / 256})
	if err != nil {
		t.Fatal(err)
	}
	store := &bigarchive.Store{Archive: a, Latency: 20 * time.Millisecond}
	srv := httptest.NewServer(store)
	t.Cleanup(srv.Close)
	s := prepareSite(t, siteOptions{})
	s.env = append(s.env, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret")
	config := fmt.Sprintf("repository:\n  url: s3://big\n  s3: { endpoint: %q, region: us-east-1, path_style: true }\nclusters:\n  main:\n    connection: host=/nowhere\n", srv.URL)
	if err := os.WriteFile(s.config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return s, store
}

// The judge's numbers: time and memory, on the built binary and against an S3 server that
// is as slow as one far away.
const (
	millionTime   = 2 * time.Second
	millionMemory = 200 << 20
)

// TestPlanOverAMillionSegments counts the requests of the binary. Time is measured
// by TestBenchPlanOverAMillionSegments.
func TestPlanOverAMillionSegments(t *testing.T) {
	s, store := millionSite(t)
	var p struct {
		Backup struct{ ID string }
		Stop   struct{ XID uint32 }
	}
	at := bigarchive.TimeOf(777_777)
	s.run("plan", "--json", "--time", at.Format(time.RFC3339Nano)).ok(t).json(t, &p)
	n := store.Count()
	t.Log(n)
	if n.Requests() > 560 || n.Lists > 45 {
		t.Errorf("%s: at most 560, 45 of them lists, were expected", n)
	}
	if want := bigarchive.BackupID(2 + 2000*388); p.Backup.ID != want || p.Stop.XID != bigarchive.XIDOf(777_777)+1 {
		t.Errorf("backup %s, stop at transaction %d; want %s, %d", p.Backup.ID, p.Stop.XID, want, bigarchive.XIDOf(777_777)+1)
	}
}

// TestBenchPlanOverAMillionSegments is the time and the memory of a plan, with no cache of any kind.
func TestBenchPlanOverAMillionSegments(t *testing.T) {
	benchOnly(t)
	s, store := millionSite(t)
	at := bigarchive.TimeOf(777_777).Format(time.RFC3339Nano)
	s.run("plan", "--time", at).ok(t) // so that what is asked for has been made once
	store.Count()
	var times []time.Duration
	for range 5 {
		took, peak := s.watched(0, "plan", "--time", at)
		times = append(times, took)
		t.Logf("plan --time over 1,000,000 segments, 20 ms a request: %.2f s, %d MiB; %s", took.Seconds(), peak>>20, store.Count())
		if peak > millionMemory {
			t.Errorf("it took %d MiB", peak>>20)
		}
	}
	slices.Sort(times)
	if median := times[len(times)/2]; median > millionTime {
		t.Errorf("the median of %v is more than %s", times, millionTime)
	}
	// A refusal shows all windows, and so it lists all there is.
	took, peak := s.watched(3, "plan", "--time", "2027-01-01T00:00:00Z")
	t.Logf("refused: %.2f s, %d MiB; %s", took.Seconds(), peak>>20, store.Count())
	if peak > millionMemory {
		t.Errorf("a refusal took %d MiB", peak>>20)
	}
}

// watched is measured where this process is large: what wait4 tells of a child's memory includes
// what its parent had when it was begun. Linux tells of the child alone while it lives; elsewhere it is 0.
func (s *site) watched(code int, args ...string) (took time.Duration, peak int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := s.command(ctx, args...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if cmd.ProcessState.ExitCode() != code {
				s.t.Fatalf("walden %s: %v, want exit code %d", strings.Join(args, " "), err, code)
			}
			s.t.Logf("processor time %s", cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			return time.Since(began), peak
		case <-time.After(5 * time.Millisecond):
			peak = max(peak, residentPeak(cmd.Process.Pid))
		}
	}
}

// residentPeak is a process's VmHWM in bytes; 0: not known.
func residentPeak(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib << 10
}
