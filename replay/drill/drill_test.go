package drill

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

func TestParseAssertions(t *testing.T) {
	got, err := ParseAssertions("\n-- there are orders\nSELECT count(*) > 0\n\n  FROM orders; \n\n-- database: shop\nSELECT ';' = ';';\r\n  -- two\n  -- three\nSELECT true -- not the end;\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Assertion{
		{Name: "there are orders", SQL: "SELECT count(*) > 0\n\n  FROM orders"},
		{Database: "shop", SQL: "SELECT ';' = ';'"},
		{Name: "three", Database: "shop", SQL: "SELECT true -- not the end"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, words := range map[string]string{
		"SELECT 1;\n\nSELECT 2\n": "line 3", "": "no statement", "-- nothing\n": "no statement", ";\n": "line 1",
	} {
		if _, err := ParseAssertions(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFlags(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 2, 0, 123456000, time.UTC)
	for want, target := range map[string]plan.Target{
		"--latest":                               {Kind: plan.Latest, Timeline: plan.LatestTimeline},
		"--latest --timeline 3":                  {Kind: plan.Latest, Timeline: "3"},
		"--immediate --backup x":                 {Kind: plan.Immediate, Backup: "x"},
		"--lsn 0/5000028 --exclusive":            {Kind: plan.LSN, LSN: 0x5000028, Exclusive: true},
		"--xid 744":                              {Kind: plan.XID, XID: 744},
		"--time '2026-11-22 10:02:00.123456+00'": {Kind: plan.Time, Time: at},
		`--name 'it'\''s'`:                       {Kind: plan.Name, Name: "it's"},
	} {
		if got := flags(target); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestLoss(t *testing.T) {
	last := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	began := last.Add(time.Minute)
	end := func(at *time.Time) []catalog.Window {
		return []catalog.Window{{To: catalog.Moment{LSN: 0x5000100, Time: at}}}
	}
	for name, c := range map[string]struct {
		windows []catalog.Window
		at      *position
		failed  error
		want    float64
		says    string
	}{
		"nothing archived":       {nil, nil, nil, -1, "everything"},
		"all archived":           {end(&last), &position{0x5000100, began}, nil, 0, "nothing"},
		"only a header more":     {end(&last), &position{0x5000100, began}, nil, 0, "nothing"},
		"the server is ahead":    {end(&last), &position{0x5000200, last.Add(2 * time.Second)}, nil, 2, "at most 2s"},
		"its clock is behind":    {end(&last), &position{0x5000200, last.Add(-time.Second)}, nil, 0, "at most"},
		"not asked":              {end(&last), nil, nil, 60, "was not asked"},
		"it does not answer":     {end(&last), nil, errors.New("connection refused"), 60, "connection refused"},
		"no time in the archive": {end(nil), nil, nil, -1, "not known"},
	} {
		l := lossOf(c.windows, 1<<20, c.at, c.failed, began)
		if l.Seconds != c.want || !strings.Contains(l.Text, c.says) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestReportSumsUp(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var list []*Record
	add := func(r Record) {
		r.Time = at.Add(time.Duration(len(list)) * time.Hour)
		list = append(list, &r)
	}
	for i := range 15 {
		add(Record{Result: Proven, RestoreSeconds: float64(i), Loss: &Loss{Seconds: float64(i) / 10}})
	}
	add(Record{Result: NotProven, Failure: "bad"})
	add(Record{Result: Proven, RestoreSeconds: 100, Scenario: DamagedPack})
	add(Record{Result: Interrupted})
	s := NewReport("main", 1, list, nil).Summary
	if !s.Failing || s.Drills != 18 || s.Proven != 15 || s.Failed != 1 || s.Interrupted != 1 || s.Scenarios != 1 || s.Streak != 0 || s.LastFailure != "bad" {
		t.Errorf("%+v", s)
	}
	if s.ReadySeconds != 10 || s.MaxReadySeconds != 14 || s.BeforeReadySeconds != 2 || s.MaxLossSeconds != 1.4 {
		t.Errorf("times: %+v", s)
	}
	add(Record{Result: Proven, RestoreSeconds: 1})
	if s := NewReport("main", 1, list, nil).Summary; s.Failing || s.Streak != 1 || !s.LastProven.Equal(list[len(list)-1].Time) {
		t.Errorf("%+v", s)
	}
}

// TestPageIsWhole: the page is well-formed, holds nothing that a record brought as markup, and
// its bars lie inside of the charts.
func TestPageIsWhole(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var list []*Record
	for i := range 200 {
		list = append(list, &Record{
			ID: fmt.Sprint(i), Time: at, Result: Proven, Target: "<b>&\"", Backup: "x", PlanSeconds: 0.01, RestoreSeconds: float64(i * i), ReplaySeconds: 3, CheckSeconds: 70,
			Loss: &Loss{Seconds: float64(i)}, RTOSeconds: 50000, RPOSeconds: 5, Checks: []Check{{Name: CheckStop, State: Passed, Text: "</li><script>"}},
		})
	}
	list[7].Result, list[7].Failure = NotProven, "an assertion failed: a < b"
	list[8].Loss = &Loss{Seconds: -1}
	list[9].Loss = nil
	for _, some := range [][]*Record{nil, list[:1], list} {
		var page bytes.Buffer
		if err := NewReport("main", 2, some, []Unreadable{{ID: "z", Error: "no"}}).WriteHTML(&page, at); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(page.String(), "<script") || strings.Contains(page.String(), "<b>&") {
			t.Error("a record's text became markup")
		}
		rects := 0
		d := xml.NewDecoder(&page)
		d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
				rects++
				inside(t, e)
			}
		}
		if n := min(len(some), charted); rects < 3*n {
			t.Errorf("%d drills have %d bars", n, rects)
		}
	}
}

func TestScale(t *testing.T) {
	for v, want := range map[float64]string{0: "4ms", 0.5: "1s", 3.9: "4s", 41: "1m", 60: "1m", 61: "2m", 3000: "1h", 5000: "2h", 90 * 3600: "96h"} {
		if got := short(nice(v)); got != want || nice(v) < v {
			t.Errorf("a chart with %g ends at %s, want %s", v, got, want)
		}
	}
}

// inside fails the test unless a bar lies in its chart.
func inside(t *testing.T, e xml.StartElement) {
	t.Helper()
	v := map[string]float64{}
	for _, a := range e.Attr {
		var f float64
		if _, err := fmt.Sscanf(a.Value, "%g", &f); err == nil {
			v[a.Name.Local] = f
		}
	}
	if v["x"] < chartLeft || v["x"]+v["width"] > chartWidth+0.01 || v["y"] < 0 || v["height"] < 0 || v["y"]+v["height"] > chartHeight {
		t.Errorf("a bar lies outside: %v", v)
	}
}

func TestRecordsAreKept(t *testing.T) {
	repo, _, err := repository.Init(t.Context(), mem.New(), repository.Options{Codec: frame.CodecLZ4})
	if err != nil {
		t.Fatal(err)
	}
	inc := archive.Incarnation{Cluster: "main", Number: 1, SystemID: 7, SegmentSize: wal.SegmentSize(1 << 20)}
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var want []*Record
	for i := range 3 {
		r := &Record{Format: formatVersion, Time: at.AddDate(0, 0, i), Result: Proven, Checks: []Check{{Name: CheckStop, State: Passed}}}
		if i == 2 { // in the same second as the one before, and its key comes first
			r.Time = want[1].Time.Add(time.Millisecond)
			r.ID = strings.TrimRight(want[1].ID, "abcdefghijklmnopqrstuvwxyz0123456789") + "0"
		} else {
			r.ID = newID(r.Time)
		}
		if err := store(t.Context(), repo, inc, r); err != nil {
			t.Fatal(err)
		}
		want = append(want, r)
	}
	if err := store(t.Context(), repo, inc, want[0]); err == nil {
		t.Error("a record was written over")
	}
	later := &Record{Format: formatVersion + 1, ID: newID(at.AddDate(0, 0, 9))}
	if err := store(t.Context(), repo, inc, later); err != nil {
		t.Fatal(err)
	}
	got, unreadable, err := Load(t.Context(), repo, inc, time.Time{})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if len(unreadable) != 1 || unreadable[0].ID != later.ID || !strings.Contains(unreadable[0].Error, "format 2") {
		t.Errorf("%+v", unreadable)
	}
	got, _, err = Load(t.Context(), repo, inc, at.AddDate(0, 0, 1))
	if len(got) != 2 || err != nil {
		t.Errorf("from the second day: %d, %v", len(got), err)
	}
}
