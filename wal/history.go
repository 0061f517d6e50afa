package wal

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// HistoryEntry is one line of a timeline history file: a timeline that lies on
// the way to the file's own, and where it was left.
type HistoryEntry struct {
	Timeline TimelineID
	End      LSN    // the first byte that belongs to the next timeline
	Reason   string // why it was left, in PostgreSQL's words; one line, may be empty
}

// History is the ancestry of a timeline, oldest ancestor first. A timeline
// without a history file (1, or one whose parents are unknown) has no entries.
//
// The ends need not ascend: a recovery that stops before it has reached the
// fork of its target timeline writes that timeline as its parent with an
// earlier position. The rule to resolve a position is PostgreSQL's
// (tliOfPointInHistory in access/transam/timeline.c): the newest timeline that
// covers it wins.
type History struct {
	Timeline TimelineID
	Entries  []HistoryEntry
}

// Span is a stretch of WAL of one timeline: [Begin, End), End 0 meaning open.
type Span struct {
	Timeline   TimelineID
	Begin, End LSN
}

// ParseHistory reads the content of the history file of timeline tli by the
// rules of readTimeLineHistory: lines of timeline, switch position and reason,
// with blank lines and lines that begin with # skipped, timelines ascending and
// below tli. It is stricter in that it takes no junk inside the fields.
func ParseHistory(tli TimelineID, b []byte) (History, error) {
	h := History{Timeline: tli}
	if tli == 0 {
		return h, fmt.Errorf("parse timeline history: there is no timeline 0")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return h, fmt.Errorf("parse history of timeline %s: it contains zero bytes", tli)
	}
	last := TimelineID(0)
	number := 0
	for line := range strings.SplitSeq(string(b), "\n") {
		number++
		line = strings.Trim(line, " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseHistoryLine(line)
		if err == nil && e.Timeline <= last {
			err = fmt.Errorf("timeline %s after %s: they must ascend", e.Timeline, last)
		}
		if err == nil && e.Timeline >= tli {
			err = fmt.Errorf("timeline %s is not below %s", e.Timeline, tli)
		}
		if err != nil {
			return History{}, fmt.Errorf("parse history of timeline %s: line %d: %w", tli, number, err)
		}
		last = e.Timeline
		h.Entries = append(h.Entries, e)
	}
	return h, nil
}

func parseHistoryLine(line string) (HistoryEntry, error) {
	number, rest := cutBlank(line)
	position, reason := cutBlank(rest)
	v, err := strconv.ParseUint(number, 10, 32)
	if err != nil || v == 0 || number[0] == '+' {
		return HistoryEntry{}, fmt.Errorf("%q is no timeline", number)
	}
	if position == "" {
		return HistoryEntry{}, fmt.Errorf("the position where timeline %s was left is missing", number)
	}
	end, err := ParseLSN(position)
	if err != nil {
		return HistoryEntry{}, err
	}
	return HistoryEntry{Timeline: TimelineID(v), End: end, Reason: reason}, nil
}

// cutBlank splits s at its first run of blanks.
func cutBlank(s string) (field, rest string) {
	i := strings.IndexAny(s, " \t\r\v\f")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t\r\v\f")
}

// Encode writes the entries as PostgreSQL up to 18 would write them in a new
// file. Archived history files are kept byte for byte and never rewritten;
// this serves tests and tools.
func (h History) Encode() []byte {
	var b bytes.Buffer
	for _, e := range h.Entries {
		fmt.Fprintf(&b, "%d\t%s\t%s\n", uint32(e.Timeline), e.End, e.Reason)
	}
	return b.Bytes()
}

// Parent is the timeline this one was split from and the position where that
// happened; false for a timeline without a known parent.
func (h History) Parent() (HistoryEntry, bool) {
	if len(h.Entries) == 0 {
		return HistoryEntry{}, false
	}
	return h.Entries[len(h.Entries)-1], true
}

// TimelineAt is the timeline whose WAL holds the byte at l on the way to
// h.Timeline, with the stretch [begin, end) it holds, end 0 meaning open.
// There always is exactly one.
func (h History) TimelineAt(l LSN) (tli TimelineID, begin, end LSN) {
	for _, s := range h.Path() {
		if l >= s.Begin && (s.End == 0 || l < s.End) {
			return s.Timeline, s.Begin, s.End
		}
	}
	return h.Timeline, 0, 0 // not reached: a path begins at 0, has no holes and is open at its end
}

// Contains reports whether the byte at l was written by timeline tli on the
// way to h.Timeline.
func (h History) Contains(tli TimelineID, l LSN) bool {
	at, _, _ := h.TimelineAt(l)
	return at == tli
}

// Path is the way to h.Timeline, oldest stretch first: it begins at 0, each
// stretch begins where the one before ends, and the last, of h.Timeline
// itself, is open. Timelines that contribute no byte are not on it.
func (h History) Path() []Span {
	// From the newest backwards: what is covered already is always [begin, ∞),
	// because every line begins where the one before it ends.
	begin := h.begin(len(h.Entries))
	spans := []Span{{Timeline: h.Timeline, Begin: begin}}
	for i := len(h.Entries) - 1; i >= 0; i-- {
		from := h.begin(i)
		if from >= begin {
			continue
		}
		spans = append(spans, Span{Timeline: h.Entries[i].Timeline, Begin: from, End: begin})
		begin = from
	}
	for i, j := 0, len(spans)-1; i < j; i, j = i+1, j-1 {
		spans[i], spans[j] = spans[j], spans[i]
	}
	return spans
}

// begin is where the i-th timeline begins: where the one before it was left.
func (h History) begin(i int) LSN {
	if i == 0 {
		return 0
	}
	return h.Entries[i-1].End
}
