package stream

import (
	"testing"
	"time"
)

// TestOutage: what fails four times a second for an hour is told of about once a minute.
func TestOutage(t *testing.T) {
	start := time.Now()
	var o outage
	told, last := 0, 0
	var quiet time.Duration
	at := start
	for first := true; at.Sub(start) < time.Hour; first = false {
		before := o.told
		n, tell := o.failed(first, at)
		if tell {
			told, last = told+1, n
			if !first {
				quiet = max(quiet, at.Sub(before))
			}
		}
		if first && !tell {
			t.Error("the first failure is not told")
		}
		at = at.Add(250 * time.Millisecond)
	}
	if told < 55 || told > 65 || quiet > maxSilence+time.Second || last < 14_000 {
		t.Errorf("told %d times, at last after %d failures, silent for %s", told, last, quiet)
	}
	away, over, tell := o.worked(true, at)
	if !over || !tell || away != time.Hour {
		t.Errorf("away for %s, over %v, tell %v", away, over, tell)
	}
	if _, over, tell = o.worked(false, at); !over || tell {
		t.Errorf("the end is told again: %v, %v", over, tell)
	}
}

// TestOutageFlaps: of what fails again and again for a moment little is told, and
// each end only if its beginning was.
func TestOutageFlaps(t *testing.T) {
	start := time.Now()
	var o outage
	told, ends := 0, 0
	for i := range 3000 {
		at := start.Add(time.Duration(i) * 200 * time.Millisecond)
		if _, tell := o.failed(true, at); tell {
			told++
		}
		if _, _, tell := o.worked(true, at.Add(10*time.Millisecond)); tell {
			ends++
		}
	}
	if told > 15 || ends != told {
		t.Errorf("%d beginnings and %d ends were told in ten minutes", told, ends)
	}
	// After a good while it is new again.
	if _, tell := o.failed(true, start.Add(time.Hour)); !tell {
		t.Error("a new outage is not told at once")
	}
	// It is over when the last one has got through.
	o.failed(true, start.Add(time.Hour))
	if _, over, _ := o.worked(true, start.Add(time.Hour)); over {
		t.Error("it is over while one still fails")
	}
	o.left()
	if _, over, tell := o.worked(false, start.Add(time.Hour)); !over || !tell {
		t.Error("it is not over")
	}
}
