package plan_test

import (
	"errors"
	"testing"

	"github.com/walden-pg/walden/replay/plan"
)

// What lies on another branch is refused with the last moment in common and the
// first on this one, both of which can be reached.
func TestBesideTheFork(t *testing.T) {
	w := newWorld(t)
	_, err := w.plan(plan.Target{Kind: plan.XID, XID: 14, Timeline: "2"})
	var e *plan.UnreachableError
	if !errors.As(err, &e) || e.Hint() != "Ask for --timeline 1." {
		t.Fatalf("%v", err)
	}
	if e.Before == nil || e.Before.LSN != w.fork || e.Before.Timeline != 1 || e.Before.Flags != "--lsn "+w.fork.String()+" --exclusive --timeline 2" ||
		e.Before.Time == nil || !e.Before.Time.Equal(at(6)) {
		t.Errorf("before: %+v", e.Before)
	}
	if e.After == nil || e.After.LSN != w.start[20] || e.After.Timeline != 2 || !e.After.Time.Equal(at(20)) {
		t.Errorf("after: %+v", e.After)
	}
	if len(e.Choices()) != 2 {
		t.Errorf("choices %+v", e.Choices())
	}
	p, err := w.plan(plan.Target{Kind: plan.LSN, LSN: e.Before.LSN, Exclusive: true, Timeline: "2"})
	if err != nil || p.Stop.LastKept == nil || p.Stop.LastKept.XID != 13 || p.Stop.FirstLost == nil || p.Stop.FirstLost.XID != 20 {
		t.Errorf("what is offered before: %+v, %v", p, err)
	}
	p, err = w.plan(plan.Target{Kind: plan.LSN, LSN: e.After.LSN, Timeline: "2"})
	if err != nil || p.Stop.LastKept == nil || p.Stop.LastKept.XID != 20 {
		t.Errorf("what is offered after: %+v, %v", p, err)
	}
}

// Every refusal says what would help.
func TestRefusalsSayWhatWouldHelp(t *testing.T) {
	w := newWorld(t)
	for _, target := range []plan.Target{
		{Kind: plan.Time, Time: at(60)}, {Kind: plan.Time, Time: at(-60)}, {Kind: plan.XID, XID: 99}, {Kind: plan.XID, XID: 14},
		{Kind: plan.Name, Name: "twice", Timeline: "1"}, {Kind: plan.Name, Name: "none"}, {Kind: plan.LSN, LSN: 1 << 40},
		{Kind: plan.Latest, Backup: "20200101T000000Z-none"}, {Kind: plan.Latest, Timeline: "7"},
	} {
		_, err := w.plan(target)
		var hinter interface{ Hint() string }
		if !errors.As(err, &hinter) || len(hinter.Hint()) < 20 {
			t.Errorf("%s: %v, hint missing", target, err)
		}
	}
}
