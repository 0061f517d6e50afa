package drill

import (
	"slices"
	"time"
)

// Report is the history of a cluster's drills.
type Report struct {
	Cluster     string  `json:"cluster"`
	Incarnation int     `json:"incarnation"`
	Summary     Summary `json:"summary"`
	// Drills are the records, oldest first.
	Drills []*Record `json:"drills"`
	// Unreadable are records that are there and cannot be read.
	Unreadable []Unreadable `json:"unreadable"`
}

// Summary is what the records say together. Drills that were interrupted, and scenarios, are
// counted, and left out of the rest.
type Summary struct {
	Drills      int `json:"drills"`
	Proven      int `json:"proven"`
	Failed      int `json:"failed"`
	Interrupted int `json:"interrupted"`
	Scenarios   int `json:"scenarios"`
	// LastProven is when the last drill began that proved something, Streak how many
	// have in a row, up to the newest.
	LastProven *time.Time `json:"last_proven,omitempty"`
	Streak     int        `json:"streak"`
	// LastFailed is when the last one failed, LastFailure what was found, and Failing whether that was the newest.
	LastFailed  *time.Time `json:"last_failed,omitempty"`
	LastFailure string     `json:"last_failure,omitempty"`
	Failing     bool       `json:"failing"`
	// ReadySeconds is the median, and MaxReadySeconds the longest, time until the cluster could
	// be used, of the last Recent that were proven; Before that of as many before those; 0: there are none.
	ReadySeconds       float64 `json:"ready_seconds"`
	MaxReadySeconds    float64 `json:"max_ready_seconds"`
	BeforeReadySeconds float64 `json:"before_ready_seconds"`
	// MaxLossSeconds is the largest loss of those; -1: none is known.
	MaxLossSeconds float64 `json:"max_loss_seconds"`
}

// Recent is how many drills the times of a Summary are of.
const Recent = 10

// NewReport sums the records up, which must be in order of time.
func NewReport(cluster string, incarnation int, records []*Record, unreadable []Unreadable) *Report {
	r := &Report{Cluster: cluster, Incarnation: incarnation, Drills: records, Unreadable: unreadable}
	if r.Drills == nil {
		r.Drills = []*Record{}
	}
	if r.Unreadable == nil {
		r.Unreadable = []Unreadable{}
	}
	s := &r.Summary
	s.Drills, s.MaxLossSeconds = len(records), -1
	var proven []*Record
	for _, d := range records {
		switch {
		case d.Scenario != "":
			s.Scenarios++
		case d.Result == Interrupted:
			s.Interrupted++
		case d.Result == Proven:
			s.Proven++
			s.Streak++
			s.LastProven, s.Failing = &d.Time, false
			proven = append(proven, d)
		default:
			s.Failed++
			s.Streak = 0
			s.LastFailed, s.LastFailure, s.Failing = &d.Time, d.Failure, true
		}
	}
	last := proven[max(0, len(proven)-Recent):]
	before := proven[max(0, len(proven)-2*Recent):max(0, len(proven)-Recent)]
	s.ReadySeconds, s.MaxReadySeconds = ready(last)
	s.BeforeReadySeconds, _ = ready(before)
	for _, d := range last {
		if d.Loss != nil {
			s.MaxLossSeconds = max(s.MaxLossSeconds, d.Loss.Seconds)
		}
	}
	return r
}

// ready is the median and the longest time of records until the cluster could be used.
func ready(list []*Record) (median, longest float64) {
	if len(list) == 0 {
		return 0, 0
	}
	var all []float64
	for _, d := range list {
		all = append(all, d.Ready().Seconds())
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
