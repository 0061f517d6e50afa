package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FormatTime writes a time as PostgreSQL and people read it, in UTC with its
// offset and as many digits of the second as it has, at most microseconds.
func FormatTime(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format("2006-01-02 15:04:05.999999-07")
}

// TimeError says that a text is not an unambiguous point in time.
type TimeError struct {
	Text string
	// NoOffset: it is a time, but does not say in which zone.
	NoOffset bool
	hint     string
}

// Error says what is wrong.
func (e *TimeError) Error() string {
	if e.NoOffset {
		return fmt.Sprintf("the time %q does not say its offset from UTC, so it names a different moment in every zone", e.Text)
	}
	return fmt.Sprintf("%q is not a time", e.Text)
}

// Hint shows how to write it.
func (e *TimeError) Hint() string { return e.hint }

// layouts with an offset. A fraction of the second after 05 is always accepted.
var withOffset = []string{
	"2006-01-02 15:04:05Z07", "2006-01-02T15:04:05Z07", "2006-01-02 15:04:05 Z07", "2006-01-02 15:04Z07", "2006-01-02T15:04Z07",
	"2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02T15:04Z07:00",
	"2006-01-02 15:04:05Z0700", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05 Z0700", "2006-01-02 15:04Z0700", "2006-01-02T15:04Z0700",
}

var withoutOffset = []string{
	"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02",
}

// ParseTime reads a point in time: RFC 3339, the same with a blank for the T, an
// offset in hours, minutes left out or not ("2026-11-22 10:00:00.5+01"), with
// " UTC" for the offset, or a time before now: "-15m", "-2h30m", "-3d" (units w,
// d, h, m, s; a day is 24 hours). now also gives the local zone for hints. The
// result is in UTC, cut to microseconds. The error is a *TimeError.
func ParseTime(text string, now time.Time) (time.Time, error) {
	s := strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		d, ok := parseAgo(rest)
		if !ok {
			return time.Time{}, &TimeError{Text: text, hint: "A time before now is written as in -15m, -2h30m or -3d."}
		}
		return now.Add(-d).UTC().Truncate(time.Microsecond), nil
	}
	if rest, ok := strings.CutSuffix(s, " UTC"); ok {
		s = rest + "Z"
	}
	for _, layout := range withOffset {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Microsecond), nil
		}
	}
	for _, layout := range withoutOffset {
		if t, err := time.Parse(layout, s); err == nil {
			return time.Time{}, &TimeError{Text: text, NoOffset: true, hint: offsetHint(t, now.Location())}
		}
	}
	return time.Time{}, &TimeError{Text: text, hint: fmt.Sprintf(
		"Write it as in %q, or as a time before now as in -15m.", now.Format("2006-01-02 15:04:05-07:00"))}
}

// offsetHint shows a wall-clock time with the offsets that may be meant.
func offsetHint(t time.Time, local *time.Location) string {
	const layout = "2006-01-02 15:04:05.999999-07:00"
	utc := t.Format(layout)
	there := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), local)
	name, offset := there.Zone()
	if offset == 0 {
		return fmt.Sprintf("If UTC is meant, which is also this machine's zone now, write %q.", utc)
	}
	return fmt.Sprintf("If UTC is meant, write %q; if this machine's zone (%s) is meant, write %q.", utc, name, there.Format(layout))
}

// maxAgo bounds a time before now: about a hundred years.
const maxAgo = 100 * 365 * 24 * time.Hour

// parseAgo reads a duration of decimal numbers with units, each unit at most
// once and in descending order.
func parseAgo(s string) (time.Duration, bool) {
	units := []struct {
		letter byte
		length time.Duration
	}{{'w', 7 * 24 * time.Hour}, {'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}
	var sum time.Duration
	if s == "" {
		return 0, false
	}
	for s != "" {
		i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(s[:i], 10, 64)
		for len(units) > 0 && units[0].letter != s[i] {
			units = units[1:]
		}
		if err != nil || len(units) == 0 || n > int64(maxAgo/units[0].length) {
			return 0, false
		}
		sum += time.Duration(n) * units[0].length
		units, s = units[1:], s[i+1:]
	}
	return sum, sum <= maxAgo
}
