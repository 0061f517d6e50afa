package config

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestRetriesAreToldSeldom: the first one, and one a minute with the count.
func TestRetriesAreToldSeldom(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	notify := notifier(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	for range 1000 {
		notify(errors.New("away"), "put", "a/b", time.Second)
		now = now.Add(150 * time.Millisecond)
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 3 || !strings.Contains(out.String(), "failures=1 ") || !strings.Contains(out.String(), "failures=801 ") {
		t.Errorf("%d warnings:\n%s", n, out.String())
	}
}
