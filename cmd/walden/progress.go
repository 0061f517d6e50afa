package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a long command has come: a bar on a terminal, a line
// every ten seconds otherwise. It writes to standard error and is used by one
// goroutine at a time.
type progress struct {
	out      io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	phase    string
	began    time.Time
	lastLine time.Time
}

// lineInterval is the time between two lines where there is no terminal.
const lineInterval = 10 * time.Second

func (e *environment) newProgress() *progress {
	f, ok := e.stderr.(*os.File)
	now := time.Now()
	return &progress{out: e.stderr, terminal: ok && term.IsTerminal(int(f.Fd())), began: now, lastLine: now}
}

// show tells the phase and how many of total bytes are done; total 0: not known.
func (p *progress) show(phase string, done, total int64) {
	if phase != p.phase {
		p.finish()
		p.phase, p.began, p.lastLine = phase, time.Now(), time.Now()
	}
	if !p.terminal {
		p.line(done, total)
		return
	}
	if p.bar == nil {
		length := total
		if length <= 0 {
			length = -1
		}
		p.bar = progressbar.NewOptions64(length, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(phase),
			progressbar.OptionShowBytes(total > 0), progressbar.OptionUseIECUnits(true), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	if total > 0 {
		p.bar.ChangeMax64(max(total, done))
	}
	// The bar only fails where the terminal does, and then nobody looks.
	_ = p.bar.Set64(done)
}

func (p *progress) line(done, total int64) {
	now := time.Now()
	if now.Sub(p.lastLine) < lineInterval {
		return
	}
	p.lastLine = now
	switch {
	case total > 0 && done > 0:
		left := time.Duration(float64(now.Sub(p.began)) * float64(max(total-done, 0)) / float64(done))
		fmt.Fprintf(p.out, "%s: %s of %s (%d %%), about %s left\n", p.phase, size(done), size(total), min(100, done*100/total), left.Round(time.Second))
	case done > 0:
		fmt.Fprintf(p.out, "%s: %s\n", p.phase, size(done))
	default:
		fmt.Fprintf(p.out, "%s, for %s\n", p.phase, now.Sub(p.began).Round(time.Second))
	}
}

// finish clears the bar.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // see show
		p.bar = nil
	}
}

// size renders bytes in binary units: 1.5 GiB.
func size(n int64) string {
	return humanize.IBytes(uint64(max(n, 0)))
}
