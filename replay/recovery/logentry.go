package recovery

import (
	"strings"
)

// logPrefix is the log_line_prefix that the server is started with: time,
// process, SQLSTATE. parseLine knows it.
const logPrefix = "%m [%p] %e "

// entry is one message of the server with its further fields, or a line that
// is no message of the server: output of a command that it runs.
type entry struct {
	severity string // LOG, WARNING, ERROR, FATAL, PANIC …; empty: a foreign line
	state    string // SQLSTATE; empty where the prefix was not in force yet
	text     string
	detail   string
	hint     string
}

// A field of a message: the prefix may be missing, since the server's earliest
// messages are written before it knows its settings.
var lineForm = lazily(
	`^(?:\S+ \S+ \S+ \[\d+\] ([0-9A-Z]{5}) )?` +
		`(DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION|BACKTRACE):  ?(.*)$`)

// logReader puts lines together to entries. The zero value is ready.
type logReader struct {
	entries []*entry
	last    *entry  // the message that further fields belong to
	field   *string // the field that a continuation line belongs to
	partial string  // the beginning of a line whose end is not written yet
}

// write takes more of the log and returns the entries that begin in it. The
// newest entry may still get its details with the next call: PostgreSQL writes
// a message in one piece, but a reader can meet it half-way.
func (r *logReader) write(b []byte) []*entry {
	before := len(r.entries)
	text := r.partial + string(b)
	r.partial = ""
	for {
		line, rest, found := strings.Cut(text, "\n")
		if !found {
			// A line that never ends is cut: the log is no place to run out of memory.
			if len(line) > maxLine {
				r.line(line[:maxLine])
				line = ""
			}
			r.partial = line
			break
		}
		r.line(strings.TrimSuffix(line, "\r"))
		text = rest
	}
	added := r.entries[before:]
	if len(r.entries) > maxEntries {
		r.entries = append([]*entry(nil), r.entries[len(r.entries)-maxEntries/2:]...)
	}
	return added
}

const (
	maxLine    = 64 << 10
	maxEntries = 512
)

func (r *logReader) line(line string) {
	if cont, ok := strings.CutPrefix(line, "\t"); ok && r.field != nil {
		if len(*r.field) < maxLine {
			*r.field += "\n" + cont
		}
		return
	}
	m := lineForm().FindStringSubmatch(line)
	if m == nil {
		// What has the shape of no message comes from restore_command, or from
		// the server's earliest words ("postgres: could not …").
		r.field = nil
		r.add(&entry{text: line})
		return
	}
	state, severity, text := m[1], m[2], m[3]
	switch severity {
	case "DETAIL":
		r.attach(text, func(e *entry) *string { return &e.detail })
	case "HINT":
		r.attach(text, func(e *entry) *string { return &e.hint })
	case "CONTEXT", "STATEMENT", "QUERY", "LOCATION", "BACKTRACE":
		var discard string
		r.field = &discard
	default:
		e := &entry{severity: severity, state: state, text: text}
		r.last, r.field = e, &e.text
		r.add(e)
	}
}

func (r *logReader) add(e *entry) { r.entries = append(r.entries, e) }

func (r *logReader) attach(text string, field func(*entry) *string) {
	if r.last == nil {
		r.last = &entry{}
	}
	r.field = field(r.last)
	*r.field = text
}

// String is the entry as a person wants to read it, in one line.
func (e *entry) String() string {
	var b strings.Builder
	if e.severity != "" {
		b.WriteString(e.severity)
		b.WriteString(": ")
	}
	b.WriteString(strings.ReplaceAll(e.text, "\n", " "))
	for _, more := range []string{e.detail, e.hint} {
		if more != "" {
			b.WriteString(" — ")
			b.WriteString(strings.ReplaceAll(more, "\n", " "))
		}
	}
	return b.String()
}
