package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
)

// A refusal says the same in text and in JSON: why, what would help, and what can be
// reached in its place.
func TestRefusal(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 123000, time.UTC)
	before := &plan.Point{LSN: 0x3000028, Time: &at, Timeline: 1, What: "the last transaction before it", Flags: "--lsn 0/3000028"}
	after := &plan.Point{LSN: 0x5000100, Timeline: 1, What: "the end of backup B2", Flags: "--immediate --backup B2"}
	twice := plan.Point{LSN: 0x4000028, Time: &at, Timeline: 2, What: `restore point "x"`, Flags: "--lsn 0/4000028", TimeFlags: "--time '2026-11-22 09:00:00.000123+00'"}
	for name, c := range map[string]struct {
		err  error
		text []string
		keys []string
	}{
		"gap": {&plan.GapError{Target: "time T", Backup: "B1", Gaps: []catalog.Gap{{}}, Advice: "Bring it back", Before: before, After: after},
			[]string{
				"  hint: Bring it back.\n",
				"  before: the last transaction before it at 0/3000028, 2026-11-22 09:00:00.000123+00: --lsn 0/3000028\n",
				"  after: the end of backup B2 at 0/5000100: --immediate --backup B2\n",
			}, []string{"before", "after", "gaps"}},
		"unreachable": {&plan.UnreachableError{Target: "time T", Reason: "it is late", Advice: "Wait", Before: before},
			[]string{"walden: time T cannot be reached: it is late\n  hint: Wait.\n  before: "}, []string{"before"}},
		"ambiguous": {&plan.AmbiguousError{Target: `restore point "x"`, Points: []plan.Point{twice, twice}},
			[]string{`  one of: restore point "x" at 0/4000028, 2026-11-22 09:00:00.000123+00: --lsn 0/4000028, or --time '2026-11-22 09:00:00.000123+00'` + "\n"},
			[]string{"points"}},
		"no backup": {&plan.NoBackupError{Target: "time T", Refused: []plan.Refused{{Backup: "B1", Reason: "it is damaged"}}},
			[]string{"B1: it is damaged", "  hint: "}, []string{"refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			e := &environment{stdout: &out, stderr: &errOut, json: true}
			if code := e.finish(t.Context(), "plan", c.err); code != exitUnreachable {
				t.Errorf("exit code %d", code)
			}
			for _, want := range c.text {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("standard error lacks %q:\n%s", want, errOut.String())
				}
			}
			var doc map[string]any
			if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			for _, key := range append(c.keys, "error", "hint", "exit_code") {
				if _, ok := doc[key]; !ok {
					t.Errorf("the document lacks %s: %s", key, out.String())
				}
			}
		})
	}
}
