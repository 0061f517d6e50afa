//go:build unix

package integration

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// update writes the pages anew with the values of this run. What a page shows of
// the output stays as it is; a run that differs in more fails.
var update = flag.Bool("update", false, "write the values of this run into docs/runbooks")

// step is a command of a page with what the page says came of it.
type step struct {
	line    int // of the page, from 1
	command string
	code    int
	output  []pageLine
}

type pageLine struct {
	line int
	text string
}

var exitCodeLine = regexp.MustCompile(`^\(exit code (\d+)\)$`)

// stepsOf reads the blocks of the language console: a line that begins with a
// dollar sign is a command, goes on after a backslash, and has its output below.
func stepsOf(t *testing.T, path string) []step {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	var steps []step
	inside, continued := false, false
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		line = strings.TrimRight(line, "\n")
		last := len(steps) - 1
		code := exitCodeLine.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case !inside:
		case continued:
			steps[last].command += "\n" + line
			continued = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: number, command: line[2:]})
			continued = strings.HasSuffix(line, `\`)
		case last < 0:
			t.Fatalf("%s:%d: output without a command", path, number)
		case code != nil:
			steps[last].code, err = strconv.Atoi(code[1])
			check(t, err)
		default:
			steps[last].output = append(steps[last].output, pageLine{number, line})
		}
	}
	return steps
}

var (
	// valueToken is what differs from run to run: a position, a time, an id, a count.
	valueToken = regexp.MustCompile(`[0-9A-F]+/[0-9A-F]+\b|[0-9][0-9A-Za-z:.+-]*`)
	rowLine    = regexp.MustCompile(`-{3,}`)
	spaces     = regexp.MustCompile(`\s+`)
	sizeUnit   = regexp.MustCompile(`# (B|kB|MB|KiB|MiB|GiB)\b`)
	many       = regexp.MustCompile(`about a second|about # seconds`)
)

// shape is a line without what differs from run to run.
func shape(line string) string {
	line = rowLine.ReplaceAllString(valueToken.ReplaceAllString(line, "#"), "-")
	line = many.ReplaceAllString(sizeUnit.ReplaceAllString(line, "# bytes"), "# seconds")
	return strings.TrimSpace(spaces.ReplaceAllString(line, " "))
}

// compare finds the lines of the page among those that were printed, in their
// order, and notes the values that stand in both; it returns the first line that
// is not there. The page leaves out what it likes, at the end of a line with "…".
func (r *runbook) compare(page []pageLine, printed []string) (missing string) {
	for _, p := range page {
		begin, cut := strings.CutSuffix(p.text, "…")
		if shape(begin) == "" {
			continue
		}
		i := find(printed, r.substitute(begin), cut, strings.TrimSpace)
		if i < 0 {
			i = find(printed, begin, cut, shape)
		}
		if i < 0 {
			return p.text
		}
		r.note(begin, printed[i])
		r.printed[p.line] = printed[i]
		if cut {
			r.printed[p.line] = r.substitute(begin) + "…"
		}
		printed = printed[i+1:]
	}
	return ""
}

// find is the index of the first line that equals, or begins with, another in a form.
func find(lines []string, want string, cut bool, form func(string) string) int {
	want = form(want)
	return slices.IndexFunc(lines, func(line string) bool {
		return form(line) == want || cut && strings.HasPrefix(form(line), want)
	})
}

// rewrite puts what was run, and the lines that were printed, into the page.
func (r *runbook) rewrite(path string) {
	r.t.Helper()
	b, err := os.ReadFile(path)
	check(r.t, err)
	lines := strings.Split(string(b), "\n")
	for number, text := range r.printed {
		lines[number-1] = text
	}
	check(r.t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644))
}

// note remembers which value of this run stands for which of the page: what a
// reader would copy.
func (r *runbook) note(page, printed string) {
	now := valueToken.FindAllString(printed, -1)
	for i, v := range valueToken.FindAllString(page, -1) {
		if len(v) >= len("0/10000") && i < len(now) {
			r.seen[trim(v)] = trim(now[i])
		}
	}
}

// substitute puts the values of this run into a command of the page.
func (r *runbook) substitute(command string) string {
	return valueToken.ReplaceAllStringFunc(command, func(v string) string {
		if now, ok := r.seen[trim(v)]; ok {
			return now + strings.TrimPrefix(v, trim(v))
		}
		return v
	})
}

// trim takes the punctuation of a sentence off a value.
func trim(v string) string { return strings.TrimRight(v, ":.-+") }

// asWritten is output with the paths that the pages name.
func (r *runbook) asWritten(out string) string {
	back := make([]string, 0, len(r.places))
	for i := 0; i < len(r.places); i += 2 {
		if r.places[i+1] != "" {
			back = append(back, r.places[i+1], r.places[i])
		}
	}
	return strings.NewReplacer(back...).Replace(out)
}
