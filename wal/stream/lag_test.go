package stream

import (
	"testing"
	"time"

	"github.com/walden-pg/walden/wal"
)

func TestLagClock(t *testing.T) {
	var c lagClock
	t0 := time.Unix(1000, 0)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	check := func(durable wal.LSN, ms, want int) {
		t.Helper()
		if got := c.lag(durable, at(ms)); got != time.Duration(want)*time.Millisecond {
			t.Errorf("durable %s at %d ms: %s, want %d ms", durable, ms, got, want)
		}
	}
	check(0, 0, 0)
	c.reached(100, at(0))
	c.reached(100, at(500)) // nothing new
	check(0, 500, 500)
	c.reached(200, at(600))
	c.reached(300, at(610)) // as good as at once
	check(100, 700, 100)
	check(250, 800, 200)
	check(300, 900, 0)
	check(300, 90000, 0) // idle
	c.reached(400, at(90000))
	c.reached(50, at(91000)) // another server
	check(0, 92000, 1000)
	check(60, 92000, 0)
}

// TestLagClockIsBounded holds that a long outage costs precision and not memory.
func TestLagClockIsBounded(t *testing.T) {
	var c lagClock
	t0 := time.Unix(1000, 0)
	const n = 100_000
	for i := range n {
		c.reached(wal.LSN(1000+i), t0.Add(time.Duration(i)*time.Second))
	}
	if len(c.marks) > maxLagMarks {
		t.Fatalf("%d marks", len(c.marks))
	}
	now := t0.Add(n * time.Second)
	for _, durable := range []int{0, 500, 50_000, 99_000} {
		real := time.Duration(n-durable) * time.Second
		if got := c.lag(wal.LSN(1000+durable), now); got < real || got > real+n/100*time.Second {
			t.Errorf("durable up to %d: %s, want about %s", durable, got, real)
		}
	}
}
