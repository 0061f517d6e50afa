package restore

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/wal/control"
)

// alreadyDone reports whether the data directory is what this very call would
// make, whole and never started: then an earlier run was killed after its last
// step, before it could say so. The marker, which goes last, is gone; the
// settings and the places of tablespaces are those of this call; and the server,
// which leaves postmaster.opts behind, was never there, unless the recovery that
// followed was cut off and this call is to go on with it.
func (r *restorer) alreadyDone(t *targets) bool {
	data := t.data.path
	absent := func(name string) bool {
		_, err := os.Lstat(filepath.Join(data, name))
		return os.IsNotExist(err)
	}
	cutOff := r.options.Resume && !absent(recovery.UnfinishedName)
	if !absent(MarkerName) || !cutOff && (!absent("postmaster.pid") || !absent("postmaster.opts")) {
		return false
	}
	signal := "recovery.signal"
	if r.options.Standby {
		signal = "standby.signal"
	}
	if absent(signal) && !cutOff { // a promotion removes it
		return false
	}
	c, err := control.Read(filepath.Join(data, filepath.FromSlash(controlPath)))
	if err != nil || c.SystemIdentifier != r.manifest.SystemID {
		return false
	}
	for _, ts := range t.tablespaces {
		link := filepath.Join(data, "pg_tblspc", strconv.FormatUint(uint64(ts.OID), 10))
		if to, err := os.Readlink(link); err != nil || to != ts.path {
			return false
		}
	}
	conf, err := os.ReadFile(filepath.Join(data, autoConf))
	if err != nil {
		return false
	}
	at := bytes.LastIndex(conf, []byte(blockBegins))
	if at < 0 {
		return false
	}
	// Behind the words that begin the block stands the date of that run.
	_, have, found := strings.Cut(string(conf[at:]), ": ")
	_, want, _ := strings.Cut(r.settings.block(r.manifest.ID, r.plan.Target, r.options.Databases, time.Time{}), ": ")
	return found && have == want
}

// repeated is the result where nothing was left to do.
func (r *restorer) repeated() *Result {
	result := r.result()
	result.Warnings = append(result.Warnings, "an earlier run of this command had restored the directory completely: nothing was left to do")
	return result
}
