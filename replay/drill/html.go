package drill

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/plan"
)

//go:embed report.html
var page string

// charted is how many drills the charts show: the last ones.
const charted = 120

// Sizes of a chart, in its own units.
const (
	chartWidth, chartHeight = 960.0, 220.0
	chartLeft, chartBottom  = 56.0, 20.0
)

// chart is a picture of one bar a drill.
type chart struct {
	Title         string
	Width, Height float64
	Left, Bottom  float64
	Bars          []bar
	Ticks         []tick
	// Limits are the objectives, as lines.
	Limits []tick
}

type bar struct {
	Title string
	Parts []part
}

type part struct {
	Class               string
	X, Y, Width, Height float64
}

type tick struct {
	Y     float64
	Label string
}

// WriteHTML writes the report as one page that needs nothing else. now is when it was made.
func (r *Report) WriteHTML(w io.Writer, now time.Time) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"moment":  plan.FormatTime,
		"seconds": round,
		"ready":   func(d *Record) string { return round(d.Ready().Seconds()) },
		"bytes":   sizeText,
		"count":   func(n int) string { return fmt.Sprint(n) },
	}).Parse(page)
	if err != nil {
		return fmt.Errorf("drill: report: %w", err)
	}
	newest := make([]*Record, len(r.Drills))
	for i, d := range r.Drills {
		newest[len(newest)-1-i] = d
	}
	shown := r.Drills[max(0, len(r.Drills)-charted):]
	err = t.Execute(w, struct {
		*Report
		Now    time.Time
		Newest []*Record
		Charts []chart
	}{r, now, newest, []chart{timeChart(shown), lossChart(shown)}})
	if err != nil {
		return fmt.Errorf("drill: report: %w", err)
	}
	return nil
}

func sizeText(n int64) string {
	const unit = 1024
	f, i := float64(n), 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, []string{"", "KiB", "MiB", "GiB", "TiB"}[i])
}

// timeChart draws how long plan, restore, replay and the checks took.
func timeChart(list []*Record) chart {
	most, limit := 0.0, 0.0
	for _, d := range list {
		most = max(most, d.Ready().Seconds()+d.CheckSeconds)
	}
	if n := len(list); n > 0 {
		limit = list[n-1].RTOSeconds
	}
	c := newChart("Time to restore, to replay and to check", most, limit)
	for i, d := range list {
		b := bar{Title: fmt.Sprintf("%s, %s, %s: ready after %s, checked after %s more", plan.FormatTime(d.Time.Truncate(time.Second)), d.Target, d.Result,
			round(d.Ready().Seconds()), round(d.CheckSeconds))}
		sum := 0.0
		failed := ""
		if d.Result != Proven {
			failed = " bad"
		}
		for _, p := range []struct {
			class   string
			seconds float64
		}{{"restore", d.PlanSeconds + d.RestoreSeconds}, {"replay", d.ReplaySeconds}, {"check", d.CheckSeconds}} {
			b.Parts = append(b.Parts, c.part(p.class+failed, i, len(list), sum, p.seconds))
			sum += p.seconds
		}
		c.Bars = append(c.Bars, b)
	}
	return c.chart
}

// lossChart draws what would have been lost.
func lossChart(list []*Record) chart {
	most, limit := 0.0, 0.0
	for _, d := range list {
		if d.Loss != nil {
			most = max(most, d.Loss.Seconds)
		}
	}
	if n := len(list); n > 0 {
		limit = list[n-1].RPOSeconds
	}
	c := newChart("Loss, had the server been lost when the drill began", most, limit)
	for i, d := range list {
		if d.Loss == nil {
			continue
		}
		b := bar{Title: plan.FormatTime(d.Time.Truncate(time.Second)) + ": " + d.Loss.Text}
		b.Parts = append(b.Parts, c.part("loss", i, len(list), 0, max(0, d.Loss.Seconds)))
		c.Bars = append(c.Bars, b)
	}
	return c.chart
}

// scaled is a chart with the value at its top.
type scaled struct {
	chart
	top float64
}

func newChart(title string, most, limit float64) scaled {
	c := scaled{chart{Title: title, Width: chartWidth, Height: chartHeight, Left: chartLeft, Bottom: chartHeight - chartBottom}, nice(max(most, limit))}
	for i := range intervals + 1 {
		v := c.top * float64(i) / intervals
		c.Ticks = append(c.Ticks, tick{c.y(v), short(v)})
	}
	if limit > 0 {
		c.Limits = append(c.Limits, tick{c.y(limit), "objective " + short(limit)})
	}
	return c
}

// steps are distances of lines in a chart that a person can read, in seconds.
var steps = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30,
	60, 2 * 60, 5 * 60, 10 * 60, 15 * 60, 30 * 60, 3600, 2 * 3600, 6 * 3600, 12 * 3600, 24 * 3600}

// intervals is how many there are in a chart.
const intervals = 4

// nice is the value at the top of a chart that v fits in.
func nice(v float64) float64 {
	for _, step := range steps {
		if v <= intervals*step {
			return intervals * step
		}
	}
	days := math.Ceil(v / intervals / 86400)
	return intervals * days * 86400
}

// short writes a time without zeros at its end.
func short(seconds float64) string {
	s := time.Duration(seconds * float64(time.Second)).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (c scaled) y(v float64) float64 { return c.Bottom - v/c.top*(c.Bottom-20) }

// part is the rectangle of a value on top of others.
func (c scaled) part(class string, i, count int, from, value float64) part {
	step := min((c.Width-c.Left)/float64(max(count, 1)), 40)
	top := c.y(from + value)
	return part{Class: class, X: c.Left + float64(i)*step + step*0.1, Y: top, Width: step * 0.8, Height: c.y(from) - top}
}
