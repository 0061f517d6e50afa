package verify

import (
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/wal"
)

// tellBackup takes from a backup history file what it tells of a backup of Walden's: should the manifest
// be damaged, this is where it began and ended. The lines are those of build_backup_content
// (access/transam/xlogbackup.c); the label is the one that Walden gives by default.
func (c *checker) tellBackup(tli wal.TimelineID, content string) {
	b := catalog.Backup{Timeline: tli, StopTimeline: tli}
	for line := range strings.Lines(content) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		first, _, _ := strings.Cut(value, " ")
		var err error
		switch name {
		case "START WAL LOCATION":
			b.StartLSN, err = wal.ParseLSN(first)
		case "STOP WAL LOCATION":
			b.StopLSN, err = wal.ParseLSN(first)
		case "CHECKPOINT LOCATION":
			b.CheckpointLSN, err = wal.ParseLSN(first)
		case "STOP TIME":
			// Its zone is the server's, as an abbreviation: only this one is sure.
			b.StopTime, err = time.Parse("2006-01-02 15:04:05 UTC", value)
			if err != nil {
				b.StopTime, err = time.Time{}, nil
			}
		case "LABEL":
			b.Label = value
			b.ID = strings.TrimPrefix(value, "walden ")
		}
		if err != nil {
			return
		}
	}
	if basebackup.CheckID(b.ID) == nil && b.StartLSN != 0 && b.StopLSN >= b.StartLSN && b.CheckpointLSN != 0 {
		c.told[b.ID] = b
	}
}

// known is what is known of a backup whose manifest tells nothing any more: by the last record, or by
// its backup history file. ok is false if it is nothing.
func (c *checker) known(id string) (b catalog.Backup, ok bool) {
	if r := c.recorded(id); r != nil {
		return r.Backup, true
	}
	b, ok = c.told[id]
	return b, ok
}

// recorded is what the last record says of a complete backup; nil: nothing.
func (c *checker) recorded(id string) *recordedBackup {
	if c.old == nil {
		return nil
	}
	for i := range c.old.Backups {
		if c.old.Backups[i].ID == id {
			return &c.old.Backups[i]
		}
	}
	return nil
}
