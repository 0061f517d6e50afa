package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/walden-pg/walden/wal/stream"
)

// statusLine shows how a receiver does: on a terminal one line that is redrawn in
// place, and stays below what is written to it meanwhile; otherwise an entry
// in the log now and then. It is safe for concurrent use.
type statusLine struct {
	terminal bool
	width    func() int

	mu   sync.Mutex
	out  io.Writer
	text string // what is shown; "": nothing
}

const (
	redrawInterval = 500 * time.Millisecond
	// statusInterval is the time between two entries in the log.
	statusInterval = time.Minute
)

func (e *environment) newStatusLine() *statusLine {
	l := &statusLine{out: e.stderr}
	if f, ok := e.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		l.terminal = true
		l.width = func() int {
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil || w <= 0 {
				return 80
			}
			return w
		}
	}
	return l
}

const clearLine = "\r\x1b[K"

// Write writes above the line.
func (l *statusLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return l.out.Write(p)
	}
	fmt.Fprint(l.out, clearLine)
	n, err := l.out.Write(p)
	fmt.Fprint(l.out, l.text)
	return n, err
}

// show draws the line.
func (l *statusLine) show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The last column stays free: many terminals wrap when it is written.
	if r, w := []rune(text), l.width()-1; len(r) > w {
		text = string(r[:max(w, 0)])
	}
	l.text = text
	fmt.Fprint(l.out, clearLine+text)
}

// clear takes the line away.
func (l *statusLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text != "" {
		fmt.Fprint(l.out, clearLine)
		l.text = ""
	}
}

// follow shows the status until stop is closed.
func (l *statusLine) follow(stop <-chan struct{}, t *target, status func() stream.Status) {
	interval := statusInterval
	if l.terminal {
		interval = redrawInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var rate throughput
	rate.update(status().ReceivedBytes, time.Now())
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		s := status()
		bytes := rate.update(s.ReceivedBytes, time.Now())
		if l.terminal {
			l.show(statusText(t.name, s, bytes))
			continue
		}
		t.log.Info("status", statusAttrs(s, bytes)...)
	}
}

// throughput is a rate over the last few seconds, or since it was asked for last.
type throughput struct {
	seen []struct {
		bytes int64
		at    time.Time
	}
}

const throughputWindow = 5 * time.Second

// update notes how many bytes there have been, and returns bytes a second.
func (t *throughput) update(bytes int64, now time.Time) float64 {
	t.seen = append(t.seen, struct {
		bytes int64
		at    time.Time
	}{bytes, now})
	for len(t.seen) > 2 && now.Sub(t.seen[1].at) >= throughputWindow {
		t.seen = t.seen[1:]
	}
	first := t.seen[0]
	if d := now.Sub(first.at).Seconds(); d > 0 {
		return float64(bytes-first.bytes) / d
	}
	return 0
}

// statusText is the line on a terminal.
func statusText(cluster string, s stream.Status, rate float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", cluster)
	if s.Timeline == 0 {
		b.WriteString("nothing received yet")
	} else {
		fmt.Fprintf(&b, "%s on timeline %s is safe, lag %s, %.1f s, %s/s", s.Durable, s.Timeline, size(s.LagBytes), s.LagSeconds, size(int64(rate)))
	}
	switch {
	case s.Phase == stream.Stopping:
		b.WriteString(", stopping")
	case s.Phase != stream.Streaming:
		fmt.Fprintf(&b, ", %s", s.Phase)
	case s.Host != "":
		fmt.Fprintf(&b, ", from %s", hostText(s))
	}
	if s.Waiting {
		b.WriteString(", commits wait for it")
	}
	if n := len(s.Gaps); n > 0 {
		fmt.Fprintf(&b, ", %d GAPS", n)
	}
	if s.Failure != "" {
		fmt.Fprintf(&b, ", FAILING: %s", strings.ReplaceAll(s.Failure, "\n", " "))
	}
	return b.String()
}

func hostText(s stream.Status) string {
	if strings.HasPrefix(s.Host, "/") {
		return fmt.Sprintf("%s port %d", s.Host, s.Port)
	}
	return fmt.Sprintf("%s:%d", s.Host, s.Port)
}

// statusAttrs is the same as an entry in the log.
func statusAttrs(s stream.Status, rate float64) []any {
	attrs := []any{
		slog.String("phase", string(s.Phase)), slog.String("host", hostText(s)), slog.Any("timeline", s.Timeline),
		slog.String("received_lsn", s.Received.String()), slog.String("durable_lsn", s.Durable.String()), slog.String("acknowledged_lsn", s.Acknowledged.String()),
		slog.Int64("lag_bytes", s.LagBytes), slog.Float64("lag_seconds", s.LagSeconds), slog.Int64("bytes_per_second", int64(rate)),
		slog.Int64("buffered_bytes", s.Buffered), slog.Int64("retries", s.Retries), slog.Bool("synchronous", s.Waiting),
	}
	if s.SlotLag >= 0 {
		attrs = append(attrs, slog.Int64("slot_lag_bytes", s.SlotLag))
	}
	if len(s.Gaps) > 0 {
		attrs = append(attrs, slog.Int("gaps", len(s.Gaps)))
	}
	if s.Failure != "" {
		attrs = append(attrs, slog.String("failure", s.Failure))
	}
	return attrs
}
