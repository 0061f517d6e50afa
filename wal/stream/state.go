package stream

import (
	"sync"
	"time"

	"github.com/walden-pg/walden/wal"
)

// Phase is what a receiver is doing.
type Phase string

// The phases.
const (
	Connecting Phase = "connecting" // to a server, for the first time or again
	Streaming  Phase = "streaming"
	Stopping   Phase = "stopping" // ships what it has
)

// Status is what a receiver is doing and how far it has come. Counters count
// from its start.
type Status struct {
	Phase Phase `json:"phase"`
	// Host and Port are the server's that is streamed from, or was last.
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port,omitempty"`
	// Timeline of the positions below; 0: nothing has been received.
	Timeline wal.TimelineID `json:"timeline,omitempty"`
	// ServerEnd is how far the server's WAL reached when it was last heard.
	ServerEnd wal.LSN `json:"server_lsn"`
	// Received, Durable and Acknowledged: everything before them is here, is in
	// the repository, and was reported to the server as flushed.
	Received     wal.LSN `json:"received_lsn"`
	Durable      wal.LSN `json:"durable_lsn"`
	Acknowledged wal.LSN `json:"acknowledged_lsn"`
	// Pending is how many bytes are here that are not in the repository, and
	// Delay how long the oldest of them has been here.
	Pending int64         `json:"pending_bytes"`
	Delay   time.Duration `json:"-"`
	// Overdue says that Delay is longer than ten times the longest that WAL waits for
	// more (Options.MaxDelay), and than a minute: whatever the reason, what is received does not get
	// into the repository as it should.
	Overdue bool `json:"-"`
	// LagBytes is how much of the server's WAL is not in the repository, as far as
	// it was heard of, and LagSeconds since when that has been so of the oldest of it.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
	// Buffered is what the spool, or the temporary files in its place, hold.
	Buffered int64 `json:"buffered_bytes"`
	// Waiting says that commits on the server wait for us.
	Waiting bool `json:"synchronous"`
	// SlotLag is how much WAL the slot holds back on the server, in bytes, and
	// SlotRoom how much more it may; -1: not known, or without limit.
	SlotLag  int64 `json:"slot_lag_bytes"`
	SlotRoom int64 `json:"slot_room_bytes"`

	ReceivedBytes int64 `json:"received_bytes"`
	// Fragments, Segments: uploads of fragments, and segments that were sealed.
	Fragments     int64 `json:"fragments"`
	FragmentBytes int64 `json:"fragment_bytes"`
	Segments      int64 `json:"segments"`
	// UploadSeconds is the time that uploads took, added up.
	UploadSeconds float64 `json:"upload_seconds"`
	// Retries: attempts that the repository failed. Connections: to servers.
	Retries     int64 `json:"retries"`
	Connections int64 `json:"connections"`
	// NameSnapshots: snapshots of names that were stored.
	NameSnapshots int64 `json:"name_snapshots"`
	// Gaps are stretches of WAL that the server no longer had, and Findings counts
	// them and whatever else was found to be bad.
	Gaps     []GapError `json:"gaps,omitempty"`
	Findings int        `json:"findings"`
	// Failure is why the repository, this machine's disk or the server does not work now.
	Failure string `json:"failure,omitempty"`
}

// state is the shared part of a receiver's status.
type state struct {
	mu        sync.Mutex
	status    Status
	repoErr   error
	serverErr error
	// serverLost is when the server failed that had worked before.
	serverLost time.Time
	findings   int
	lag        lagClock
	late       time.Duration // the Delay beyond which Status says Overdue; 0: none
}

func (s *state) change(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// eager reports whether commits wait for us.
func (s *state) eager() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Waiting
}

// behind reports whether the server has at least a segment more to send.
func (s *state) behind(size wal.SegmentSize) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.ServerEnd > s.status.Received+wal.LSN(size)
}

// hasAll reports whether all of the server's WAL that was heard of has been received.
func (s *state) hasAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.Received >= s.status.ServerEnd
}

// heard notes what a message of the server says.
func (s *state) heard(serverEnd, received wal.LSN, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.ServerEnd = max(serverEnd, received)
	s.lag.reached(s.status.ServerEnd, time.Now())
	s.status.Received = received
	s.status.ReceivedBytes += int64(n)
}

func (s *state) uploaded(n int64, took time.Duration) {
	s.change(func(st *Status) {
		st.Fragments++
		st.FragmentBytes += n
		st.UploadSeconds += took.Seconds()
	})
}

func (s *state) sealed(took time.Duration) {
	s.change(func(st *Status) {
		st.Segments++
		st.UploadSeconds += took.Seconds()
	})
}

// failed notes that the repository failed, or this machine's disk.
func (s *state) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !local(err) {
		s.status.Retries++
	}
	s.repoErr = err
}

func (s *state) repositoryWorks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repoErr = nil
}

// lastFailure is why the repository does not work now; nil: it does.
func (s *state) lastFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repoErr
}

// serverFailed notes why there is no server now; nil: there is.
func (s *state) serverFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serverErr == nil && err != nil {
		s.serverLost = time.Now()
	}
	s.serverErr = err
}

// noServer is why there is no server now, and since when; nil: there is.
func (s *state) noServer() (since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serverLost, s.serverErr
}

// finding notes that something bad was found which does not end the stream:
// Run will say so at its end.
func (s *state) finding() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings++
}

// gap notes a gap, and reports whether it is new.
func (s *state) gap(g GapError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.status.Gaps {
		if old == g {
			return false
		}
	}
	s.status.Gaps = append(s.status.Gaps, g)
	s.findings++
	return true
}

// snapshot is the status with what the journal knows.
func (s *state) snapshot(j *journal) Status {
	received, durable, _ := j.positions()
	pending, oldest := j.pending()
	tli, _ := j.position()
	j.mu.Lock()
	buffered := j.buffered
	j.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Timeline, st.Received, st.Durable, st.Pending, st.Buffered = tli, received, durable, pending, buffered
	st.Gaps = append([]GapError(nil), st.Gaps...)
	if pending > 0 {
		st.Delay = time.Since(oldest)
		st.Overdue = s.late > 0 && st.Delay > s.late
	}
	if durable > 0 && st.ServerEnd > durable {
		st.LagBytes = int64(st.ServerEnd - durable)
	}
	st.LagSeconds = max(st.Delay, s.lag.lag(durable, time.Now())).Seconds()
	st.Findings = s.findings
	switch {
	case s.repoErr != nil:
		st.Failure = s.repoErr.Error()
	case s.serverErr != nil:
		st.Failure = s.serverErr.Error()
	}
	return st
}

// findingsError is what Run returns if something bad was found; else nil.
func (s *state) findingsError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.findings == 0 {
		return nil
	}
	return &FindingsError{Findings: s.findings, Gaps: append([]GapError(nil), s.status.Gaps...)}
}
