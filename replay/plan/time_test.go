package plan_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/plan"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	want := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for _, text := range []string{
		"2026-11-22 10:00:00+01", "2026-11-22T10:00:00+01:00", "2026-11-22T09:00:00Z", "2026-11-22 09:00:00 UTC",
		"2026-11-22 04:00:00-0500", "2026-11-22 10:00+01", "-2h", "-120m", "-1h60m",
	} {
		if got, err := plan.ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := plan.ParseTime("2026-11-22 10:00:00.123456789+01", now); err != nil || got.Nanosecond() != 123456000 {
		t.Errorf("a fraction: %v, %v", got, err)
	}
	for _, text := range []string{"2026-11-22 10:00:00", "2026-11-22", "2026-11-22T10:00", "yesterday", "", "-", "-5", "-1m1h", "-9999999999d", "2026-13-01 00:00:00Z"} {
		_, err := plan.ParseTime(text, now)
		var bad *plan.TimeError
		if !errors.As(err, &bad) || bad.Hint() == "" {
			t.Errorf("%q: %v", text, err)
		}
		if strings.HasPrefix(text, "2026-11") && (!bad.NoOffset || !strings.Contains(bad.Hint(), "+01:00")) {
			t.Errorf("%q: %+v does not offer this machine's zone", text, bad)
		}
	}
}

func TestParseXID(t *testing.T) {
	for text, want := range map[string]uint32{"3": 3, "742": 742, "4294967295": 4294967295, "4294967300": 4, "8589935334": 742} {
		got, full, err := plan.ParseXID(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
		target := plan.Target{Kind: plan.XID, XID: got, FullXID: full}
		if target.Value() != text || target.Validate() != nil {
			t.Errorf("%q: the target's value is %s, %v", text, target.Value(), target.Validate())
		}
	}
	for _, text := range []string{"", "0", "2", "-5", "+5", "x", "4294967296", "99999999999999999999"} {
		if got, _, err := plan.ParseXID(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-11-22 10:00:00+01", "-15m", "-3d", "2026-11-22", "x"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := plan.ParseTime(s, now)
		if err == nil && strings.HasPrefix(strings.TrimSpace(s), "-") && got.After(now) {
			t.Errorf("%q lies after now: %v", s, got)
		}
	})
}
