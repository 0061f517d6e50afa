package stream

import "time"

// SetPatience shortens how long a receiver waits for a server: before it asks,
// and before it gives it up.
func (r *Receiver) SetPatience(ask, giveUp time.Duration) { r.patience = patience{ask, giveUp, giveUp} }

// SetLate shortens after how long what was received is overdue.
func (r *Receiver) SetLate(d time.Duration) { r.state.late = d }

// OpenFiles counts the files of segments that are open.
func (r *Receiver) OpenFiles() int {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	n := 0
	for _, s := range r.journal.segments {
		if s.file != nil && s.file.Fd() != ^uintptr(0) {
			n++
		}
	}
	return n
}
