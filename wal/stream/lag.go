package stream

import (
	"time"

	"github.com/walden-pg/walden/wal"
)

// lagClock remembers when the server's WAL was seen to reach which position, so
// that it can be told since when something has not been in the repository. It
// is bounded: the longer the lag, the coarser it is remembered, and always so that
// the lag is rather called too long than too short.
type lagClock struct {
	marks []lagMark
	every time.Duration // the least time between two marks
}

// lagMark: WAL before end, and not before the mark ahead of it, was there at.
type lagMark struct {
	end wal.LSN
	at  time.Time
}

const (
	lagResolution = 50 * time.Millisecond
	maxLagMarks   = 512
)

// reached notes that the server's WAL has been seen to reach end.
func (c *lagClock) reached(end wal.LSN, now time.Time) {
	n := len(c.marks)
	switch {
	case n > 0 && end == c.marks[n-1].end:
		return
	case n > 0 && end < c.marks[n-1].end:
		// Another server, or another timeline: what was seen there counts no more.
		c.marks, n = c.marks[:0], 0
	}
	c.every = max(c.every, lagResolution)
	if n > 0 && now.Sub(c.marks[n-1].at) < c.every {
		c.marks[n-1].end = end
		return
	}
	if n == maxLagMarks {
		for i := range n / 2 {
			c.marks[i] = lagMark{end: c.marks[2*i+1].end, at: c.marks[2*i].at}
		}
		c.marks = c.marks[:n/2]
		c.every *= 2
	}
	c.marks = append(c.marks, lagMark{end, now})
}

// lag is how long the oldest WAL behind durable has been there; 0: there is none.
func (c *lagClock) lag(durable wal.LSN, now time.Time) time.Duration {
	done := 0
	for done < len(c.marks) && c.marks[done].end <= durable {
		done++
	}
	c.marks = append(c.marks[:0], c.marks[done:]...)
	if len(c.marks) == 0 {
		c.every = lagResolution
		return 0
	}
	return now.Sub(c.marks[0].at)
}
