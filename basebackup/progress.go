package basebackup

import (
	"time"
)

// progress gathers what Options.Progress is told. It is used by one goroutine.
type progress struct {
	to   func(Progress)
	now  func() time.Time
	p    Progress
	last time.Time // when it was told last
}

// progressInterval bounds how often the callback is called.
const progressInterval = 100 * time.Millisecond

func newProgress(id string, to func(Progress), now func() time.Time) progress {
	if to == nil {
		to = func(Progress) {}
	}
	return progress{to: to, now: now, p: Progress{ID: id}}
}

// phase begins a phase, or says what the current one is waiting for.
func (p *progress) phase(phase Phase, message string) {
	if p.p.Phase != phase {
		p.p.Phase, p.p.PhaseStart = phase, p.now()
	}
	p.p.Message = message
	p.tell()
}

func (p *progress) total(bytes int64) { p.p.Total = bytes }

func (p *progress) file() { p.p.Files++ }

// stored counts bytes.
func (p *progress) stored(n int) {
	p.p.Done += int64(n)
	if p.now().Sub(p.last) >= progressInterval {
		p.tell()
	}
}

func (p *progress) tell() {
	p.last = p.now()
	p.to(p.p)
}
