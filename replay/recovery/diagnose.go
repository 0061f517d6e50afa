package recovery

import (
	"fmt"
	"strconv"
	"strings"
)

// diagnosis is a sort of failure that is recognised by the server's words.
type diagnosis struct {
	kind FailureKind
	text pattern
	hint string
}

// diagnoses are tried in order against the FATAL and PANIC messages and then
// against the server's earliest words.
var diagnoses = []diagnosis{
	{FailureTargetNotReached, lazily(`recovery ended before configured recovery target was reached`),
		"the archive's WAL ends before the target: choose an earlier target, or restore without one (--latest)"},
	{FailureInconsistent, lazily(`requested recovery stop point is before consistent recovery point`),
		"the target lies before the end of the backup: choose an older backup, or a target after the backup's stop LSN"},
	{FailureInconsistent, lazily(`WAL ends before (end of online backup|consistent recovery point)`),
		"WAL that the backup needs is missing or damaged: run walden verify, and restore from another backup"},
	{FailureTimeline, lazily(`requested timeline \d+ (is not a child of this server's history|does not contain minimum recovery point)|recovery target timeline \d+ does not exist`),
		"the backup does not lie on the path to that timeline: choose another timeline, or another backup"},
	{FailureRestoreCommand, lazily(`could not restore file ".*" from archive|archive file ".*" has wrong size|restore_command.*(failed|must)|must specify "?restore_command"?`),
		"the command that fetches WAL failed; what it said is in the log. When its cause is gone, start the server again: recovery goes on where it was"},
	{FailureStart, lazily(`could not create any TCP/IP sockets|could not bind .* address|Address already in use`),
		"the port is in use: choose another, or stop the server that uses it"},
	{FailureStart, lazily(`could not create any Unix-domain sockets|could not create lock file "[^"]*\.s\.PGSQL|Unix-domain socket path ".*" is too long`),
		"the socket could not be made: choose another run directory"},
	{FailureStart, lazily(`lock file "postmaster\.pid" (already exists|is empty)|pre-existing shared memory block`),
		"a server runs on this directory, or parts of one that died still do: stop it first"},
	{FailureStart, lazily(`could not access file "(.*)": No such file or directory|could not load library`),
		"a library that the configuration asks for (shared_preload_libraries) is not installed here: install it, or set shared_preload_libraries to '' for this server"},
	{FailureStart, lazily(`data directory ".*" has (wrong ownership|invalid permissions)|could not (read permissions|access directory)|Permission denied`),
		"the directory must belong to the user that runs the server, with mode 0700 or 0750"},
	{FailureStart, lazily(`"root" execution of the PostgreSQL server is not permitted`),
		"start it as the user that owns the data directory"},
	{FailureStart, lazily(`could not map anonymous shared memory|could not create shared memory segment|could not create semaphores`),
		"this machine has not the memory that the configuration asks for: set shared_buffers (and huge_pages = off) lower for this server"},
	{FailureStart, lazily(`could not load (server certificate|private key|root certificate)|could not load .*pg_hba\.conf|could not open (configuration )?file|could not access the server configuration file`),
		"a file that the configuration names is missing on this machine"},
	{FailureStart, lazily(`configuration file ".*" contains errors|unrecognized configuration parameter|invalid value for parameter|parameter ".*" (cannot|requires)`),
		"the configuration does not suit this server: correct it, or override the setting"},
	{FailureDied, lazily(`No space left on device`),
		"the disk is full: make room and start the server again, recovery goes on where it was"},
}

var smaller = lazily(`(\w+) = (-?\d+) is a lower setting than on the (?:primary|master) server,? (?:where its value was|\(its value was) (-?\d+)`)

// diagnose says why a server did not reach its target. exit is how the process
// ended, "" if it still ran.
func (o *observer) diagnose(exit, logFile string) *Failure {
	f := &Failure{Exit: exit, LogFile: logFile, Messages: o.messages()}
	if o.tooSmall != nil && o.diagnoseSettings(f) {
		return f
	}
	for _, e := range o.fatal {
		for _, d := range diagnoses {
			if d.text().MatchString(e.text) || d.text().MatchString(e.detail) {
				f.Kind, f.Hint, f.Reason = d.kind, d.hint, firstLine(e.text)
				return f
			}
		}
	}
	f.Kind = FailureDied
	for _, line := range append(o.faultTexts(), o.foreign...) {
		for _, d := range diagnoses {
			// Before replay anything that was wrong is why it did not begin.
			if o.redoStart == 0 && d.text().MatchString(line) {
				f.Kind, f.Hint, f.Reason = d.kind, d.hint, firstLine(line)
				return f
			}
		}
	}
	o.diagnoseDeath(f)
	return f
}

func (o *observer) diagnoseSettings(f *Failure) bool {
	e := o.tooSmall
	m := smaller().FindStringSubmatch(e.detail)
	if m == nil {
		m = smaller().FindStringSubmatch(e.text) // 13 had it in the message
	}
	if m == nil {
		return false
	}
	value, _ := strconv.Atoi(m[2])
	primary, _ := strconv.Atoi(m[3])
	f.Kind = FailureSettings
	f.Parameter = &Parameter{Name: m[1], Value: value, Primary: primary}
	f.Reason = fmt.Sprintf("%s is %d here and was %d on the primary: a server that can be read during recovery needs at least as many", m[1], value, primary)
	f.Hint = fmt.Sprintf("set %s = %d (or more) and start the server again: recovery goes on where it was", m[1], primary)
	return true
}

// diagnoseDeath words the end of a server that gave no reason known here.
func (o *observer) diagnoseDeath(f *Failure) {
	switch {
	case len(o.fatal) > 0:
		f.Reason = firstLine(o.fatal[0].text)
	case o.shutDown && o.redoStart != 0:
		f.Reason = "the server was shut down before recovery had come to its end"
		f.Hint = "start it again: recovery goes on where it was"
	case o.redoStart == 0 && len(o.foreign) > 0:
		f.Kind, f.Reason = FailureStart, o.foreign[len(o.foreign)-1]
	case strings.HasPrefix(f.Exit, "signal:"):
		f.Reason = "the server was killed"
		f.Hint = "if nobody did that, look for the system's out-of-memory killer; the same command can be run again"
	default:
		f.Reason = "the server ended before recovery had come to its end"
	}
	if f.Kind == FailureDied && o.redoStart == 0 && !strings.HasPrefix(f.Exit, "signal:") && !o.startupCrashed() {
		f.Kind = FailureStart
	}
}

// startupCrashed tells whether the process that replays died by a signal.
func (o *observer) startupCrashed() bool {
	for _, t := range o.faultTexts() {
		if strings.Contains(t, "was terminated by signal") {
			return true
		}
	}
	return false
}

func (o *observer) faultTexts() []string {
	texts := make([]string, 0, len(o.faults))
	for _, e := range o.faults {
		texts = append(texts, e.text)
	}
	return texts
}

// messages are the server's own words that a person should see.
func (o *observer) messages() []string {
	var all []string
	for _, e := range o.faults {
		all = append(all, e.String())
	}
	if o.tooSmall != nil && o.tooSmall.severity != "FATAL" {
		all = append(all, o.tooSmall.String())
	}
	for _, e := range o.fatal {
		all = append(all, e.String())
	}
	if len(all) > 0 && o.redoStart != 0 && len(o.foreign) == 0 {
		return all
	}
	return append(all, o.foreign...)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
