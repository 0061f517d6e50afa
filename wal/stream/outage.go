package stream

import (
	"sync"
	"time"
)

// outage thins out what is logged while something does not work: the first
// failure is told at once, then at growing intervals how many there have been.
// That holds too for what works again for a moment and then fails again.
type outage struct {
	mu sync.Mutex
	// failing is how many of those that use it are failing now.
	failing int
	// began is the first failure since when it has not worked; zero: it works.
	began time.Time
	// failures are those since then, and shown says that one of them was told.
	failures int
	shown    bool
	// told is when something was told last, and every how long to be silent then.
	told  time.Time
	every time.Duration
}

const (
	firstSilence = 5 * time.Second
	maxSilence   = time.Minute
)

// failed notes a failure; first says that it is the first one of the caller.
// It reports how many there have been, and whether to tell of it.
func (o *outage) failed(first bool, now time.Time) (failures int, tell bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if first {
		o.failing++
	}
	if o.began.IsZero() {
		o.began, o.failures, o.shown = now, 0, false
	}
	o.failures++
	quiet := now.Sub(o.told)
	switch {
	case o.every == 0 || quiet >= 2*maxSilence:
		o.every = firstSilence
	case quiet < o.every:
		return o.failures, false
	default:
		o.every = min(3*o.every, maxSilence)
	}
	o.told, o.shown = now, true
	return o.failures, true
}

// worked notes a success; failed says that the caller had failed before. over
// reports whether nobody fails any more, and tell whether there was an outage that
// had been told of: then away is how long it took.
func (o *outage) worked(failed bool, now time.Time) (away time.Duration, over, tell bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if failed {
		o.failing--
	}
	if o.failing > 0 {
		return 0, false, false
	}
	if o.began.IsZero() {
		return 0, true, false
	}
	away, o.began = now.Sub(o.began), time.Time{}
	return away, true, o.shown
}

// left notes that a caller that had failed tries no more.
func (o *outage) left() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failing--
}
