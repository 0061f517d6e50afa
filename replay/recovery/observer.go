package recovery

import (
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal"
)

// observer learns from the server's log how recovery goes. The sentences are
// those of xlogrecovery.c (xlog.c before 15), xlogarchive.c and postmaster.c.
type observer struct {
	segmentSize wal.SegmentSize

	stop         Stop
	redoStart    wal.LSN
	consistentAt wal.LSN
	position     wal.LSN // replay has got at least here
	segment      string  // the file that was fetched last
	targetLine   wal.TimelineID
	newTimeline  wal.TimelineID
	lastTime     time.Time // of the last replayed transaction

	pointInTime   bool // a target is set
	standby       bool
	redoDone      bool
	noRedo        bool
	pausedAtEnd   bool
	pausedEarly   bool // "recovery has paused" before the end
	shutTarget    bool
	complete      bool // archive recovery complete
	ready         bool // accepts connections
	readyReadOnly bool
	shutDown      bool

	tooSmall *entry   // "hot standby is not possible …", "recovery aborted because …"
	fatal    []*entry // FATAL and PANIC of the server itself
	faults   []*entry // other messages with an error's SQLSTATE
	foreign  []string // the last lines that commands wrote

	invalid map[string]InvalidPages // by the relation's file
}

var (
	lsnIn      = lazily(`[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}`)
	stopTx     = lazily(`^recovery stopping (before|after) (commit|abort) of (?:prepared )?transaction (\d+), time (.+)$`)
	stopLSN    = lazily(`^recovery stopping (before|after) WAL location \(LSN\) "([0-9A-Fa-f]+/[0-9A-Fa-f]+)"$`)
	stopName   = lazily(`(?s)^recovery stopping at restore point "(.*)", time (.+)$`)
	restored   = lazily(`^restored log file "([0-9A-F]{24}|[0-9A-F]{8}\.history)" from archive$`)
	redoFrom   = lazily(`^redo starts at (\S+)$`)
	redoAt     = lazily(`^redo in progress, elapsed time: .*current LSN: (\S+)$`)
	redoDone   = lazily(`^redo done at (\S+)`)
	consistent = lazily(`^consistent recovery state reached at (\S+)$`)
	lastTime   = lazily(`^last completed transaction was at log time (.+)$`)
	newLine    = lazily(`^selected new timeline ID: (\d+)$`)
)

// take learns from one entry.
func (o *observer) take(e *entry) {
	switch e.severity {
	case "":
		o.takeForeign(e.text)
		return
	case "FATAL", "PANIC":
		o.takeFatal(e)
		return
	}
	if e.severity == "WARNING" && o.takeInvalid(e.text) {
		return
	}
	if !o.takeStop(e.text) && !o.takePosition(e.text) {
		o.takeState(e)
	}
	if e.state != "" && e.state != "00000" && !fromClient(e.state) && len(o.faults) < 20 {
		o.faults = append(o.faults, e)
	}
}

func (o *observer) takeForeign(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(o.foreign) == 8 {
		o.foreign = append(o.foreign[:0], o.foreign[1:]...)
	}
	o.foreign = append(o.foreign, line)
}

func (o *observer) takeFatal(e *entry) {
	if fromClient(e.state) {
		return
	}
	if strings.HasPrefix(e.text, "recovery aborted because of insufficient parameter settings") ||
		strings.HasPrefix(e.text, "hot standby is not possible because") {
		o.tooSmall = e
	}
	if len(o.fatal) < 20 {
		o.fatal = append(o.fatal, e)
	}
}

// fromClient tells whether a FATAL message is about a client, not about the
// server: refused or ended connections.
func fromClient(state string) bool {
	switch {
	case strings.HasPrefix(state, "28"), strings.HasPrefix(state, "08"), strings.HasPrefix(state, "3D"),
		state == "57P03", state == "57P01", state == "57P02", state == "53300", state == "42501":
		return true
	}
	return false
}

// takeStop recognises why recovery stops.
func (o *observer) takeStop(text string) bool {
	if !strings.HasPrefix(text, "recovery stopping ") {
		return false
	}
	s := Stop{Message: strings.ReplaceAll(text, "\n", " ")}
	if m := stopTx().FindStringSubmatch(text); m != nil {
		s.Kind, s.Before, s.Abort = StopTransaction, m[1] == "before", m[2] == "abort"
		xid, _ := strconv.ParseUint(m[3], 10, 32)
		s.XID, s.Time = uint32(xid), parseTime(m[4])
	} else if m := stopLSN().FindStringSubmatch(text); m != nil {
		s.Kind, s.Before = StopLSN, m[1] == "before"
		s.LSN, _ = wal.ParseLSN(m[2])
	} else if m := stopName().FindStringSubmatch(text); m != nil {
		s.Kind, s.Name, s.Time = StopRestorePoint, m[1], parseTime(m[2])
	} else if strings.HasPrefix(text, "recovery stopping after reaching consistency") {
		s.Kind = StopConsistency
	}
	o.stop = s
	return true
}

// takePosition recognises how far replay has got.
func (o *observer) takePosition(text string) bool {
	if m := restored().FindStringSubmatch(text); m != nil {
		o.takeRestored(m[1])
		return true
	}
	lsn := func(form pattern) wal.LSN {
		if m := form().FindStringSubmatch(text); m != nil {
			if found := lsnIn().FindString(m[1]); found != "" {
				v, _ := wal.ParseLSN(found)
				return v
			}
		}
		return 0
	}
	if v := lsn(redoFrom); v != 0 {
		o.redoStart, o.position = v, max(o.position, v)
	} else if v := lsn(redoAt); v != 0 {
		o.position = max(o.position, v)
	} else if v := lsn(redoDone); v != 0 {
		o.redoDone, o.position = true, max(o.position, v)
	} else if v := lsn(consistent); v != 0 {
		o.consistentAt, o.position = v, max(o.position, v)
	} else if m := lastTime().FindStringSubmatch(text); m != nil {
		o.lastTime = parseTime(m[1])
	} else if m := newLine().FindStringSubmatch(text); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 32)
		o.newTimeline = wal.TimelineID(n)
	} else {
		return false
	}
	return true
}

// takeRestored notes a file that restore_command delivered. Segments are asked
// for when replay needs them, or shortly before (prefetching): that replay has
// come to the one before is certain, unless it has not begun.
func (o *observer) takeRestored(name string) {
	o.segment = name
	if line, ok := strings.CutSuffix(name, ".history"); ok {
		n, _ := strconv.ParseUint(line, 16, 32)
		o.targetLine = max(o.targetLine, wal.TimelineID(n))
		return
	}
	seg, err := wal.ParseSegment(name, o.segmentSize)
	if err != nil || o.redoStart == 0 || seg.Number == 0 {
		return
	}
	o.position = max(o.position, seg.Start()-wal.LSN(o.segmentSize))
}

// takeState recognises the turns of a server's life.
func (o *observer) takeState(e *entry) {
	is := func(prefix string) bool { return strings.HasPrefix(e.text, prefix) }
	switch {
	case is("starting point-in-time recovery"):
		o.pointInTime = true
	case is("entering standby mode"):
		o.standby = true
	case is("redo is not required"):
		o.noRedo = true
	case is("pausing at the end of recovery"):
		o.pausedAtEnd = true
	case is("recovery has paused"):
		o.pausedEarly = true
	case is("hot standby is not possible because"):
		o.tooSmall = e
	case is("shutdown at recovery target"):
		o.shutTarget = true
	case is("archive recovery complete"):
		o.complete = true
	case is("database system is ready to accept connections"):
		o.ready = true
	case is("database system is ready to accept read"):
		o.readyReadOnly = true
	case is("database system is shut down"):
		o.shutDown = true
	}
}

// stage says what the server is doing.
func (o *observer) stage() Stage {
	switch {
	case o.redoDone || o.pausedAtEnd || o.shutTarget || o.complete || o.stop.Kind != "":
		return StageFinishing
	case o.consistentAt != 0:
		return StageConsistent
	case o.redoStart != 0:
		return StageReplaying
	}
	return StageStarting
}

// parseTime reads a time as PostgreSQL writes it in messages, in the server's
// TimeZone: 2026-11-22 10:00:00.123456+01, with +05:30 and +00:19:32 for the
// offsets that need them. Zero: not understood (years BC, "infinity").
func parseTime(s string) time.Time {
	for _, form := range []string{"2006-01-02 15:04:05.999999Z07", "2006-01-02 15:04:05.999999Z07:00", "2006-01-02 15:04:05.999999Z07:00:00"} {
		// "Z07" reads "+00" as well as "Z".
		if t, err := time.Parse(form, strings.TrimSpace(s)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
