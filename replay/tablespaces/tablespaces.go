// Package tablespaces keeps recovery from writing into another cluster's tablespace.
//
// The WAL of CREATE TABLESPACE names a directory of the machine it was written on. In recovery PostgreSQL takes that
// directory as it is, whatever lies in it (create_tablespace_directories in commands/tablespace.c), and what follows in the
// WAL, DROP and TRUNCATE included, then goes to the files there. Where the cluster that is restored shares a machine with
// the original, these are the original's. The restore_command is the last place at which that can be stopped.
package tablespaces

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// Guard says what is refused.
type Guard struct {
	// Scratch refuses every location: the server is to write nowhere but in scratch.
	// Otherwise those are refused that another cluster has files in.
	Scratch bool
	// Stop is where recovery surely stops: records that begin there or later are not
	// replayed, and not judged. 0: everything is replayed.
	Stop wal.LSN
	// DataDirectory is that of the server that recovers; a tablespace that it has already is its own.
	DataDirectory string
}

// Error refuses a segment: replaying it would create a tablespace at a place that is not the server's.
type Error struct {
	// Segment is the segment's name.
	Segment string
	// LSN is where the record starts, OID and Location are the tablespace's; the
	// location is empty where the record goes on in the next segment.
	LSN      wal.LSN
	OID      uint32
	Location string
	// Scratch is the guard's.
	Scratch bool
}

// Error names the segment and the tablespace.
func (e *Error) Error() string {
	where, why := fmt.Sprintf("tablespace %d at %s", e.OID, e.Location), "where a cluster has files already"
	if e.Location == "" {
		where, why = "a tablespace", "at a place that cannot be told, since the record goes on in the next segment"
	}
	if e.Scratch {
		why = "and a server in scratch must not write there"
	}
	return fmt.Sprintf("segment %s creates %s (record at %s), %s", e.Segment, where, e.LSN, why)
}

// Hint says how to do without the record.
func (e *Error) Hint() string {
	if e.Scratch {
		return "start from a backup that was taken later, when the tablespace was there (--backup ID), or restore the whole cluster on another machine"
	}
	return fmt.Sprintf("recovery would write into that cluster's files; restore on another machine, or stop before the record (--lsn %s --exclusive), "+
		"or start from a later backup, which has the tablespace, and put it elsewhere (--backup ID --tablespace OLD=NEW); "+
		"if the cluster is gone for good remove its files, or restore with --take-tablespaces", e.LSN)
}

// tablespaceCreate is the kind of record (XLOG_TBLSPC_CREATE in tablespace.h).
const tablespaceCreate = 0x00

// Check looks through a file that wal-get has delivered. The error is an *Error if it is a segment that creates a
// tablespace which the guard refuses; one that lies in the data directory itself passes. Files that are no
// segments pass. Where the WAL in the segment ends the search does too: what is valid has been judged before.
func (g Guard) Check(path, name string, size wal.SegmentSize) error {
	seg, err := wal.ParseSegment(name, size)
	if err != nil || g.Stop != 0 && seg.Start() >= g.Stop {
		return nil //nolint:nilerr // a history file
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("tablespaces: %w", err)
	}
	defer f.Close()
	walk := record.NewReader(f, record.Options{Start: seg.Start(), SegmentSize: size, Length: size.Bytes()})
	for walk.Next() {
		rec := walk.Record()
		if g.Stop != 0 && rec.LSN >= g.Stop {
			return nil
		}
		if creates(rec.Header) {
			if err := g.judge(name, rec); err != nil {
				return err
			}
		}
	}
	var end *record.Error
	if err := walk.Err(); err != nil && !errors.As(err, &end) {
		return fmt.Errorf("tablespaces: %w", err)
	}
	tail := walk.Tail()
	if h, ok := tail.Header(); ok && creates(h) && (g.Stop == 0 || tail.LSN < g.Stop) {
		return &Error{Segment: name, LSN: tail.LSN, Scratch: g.Scratch}
	}
	return nil
}

func creates(h record.Header) bool {
	return h.RMGR == record.RMTablespace && h.Info&0xF0 == tablespaceCreate
}

// judge decodes xl_tblspc_create_rec: the OID, and the location up to a zero.
func (g Guard) judge(name string, rec *record.Record) error {
	var d record.Decoded
	if err := rec.Decode(&d); err != nil {
		return fmt.Errorf("tablespaces: segment %s: %w", name, err)
	}
	if len(d.Main) < 5 {
		return fmt.Errorf("tablespaces: segment %s: the record at %s creates a tablespace and has %d bytes", name, rec.LSN, len(d.Main))
	}
	location, _, _ := bytes.Cut(d.Main[4:], []byte{0})
	if len(location) == 0 {
		return nil
	}
	e := &Error{Segment: name, LSN: rec.LSN, OID: binary.LittleEndian.Uint32(d.Main), Location: string(location), Scratch: g.Scratch}
	if g.Scratch {
		return e
	}
	if used, err := g.usedByOthers(e.OID, e.Location); err != nil || !used {
		return err
	}
	return e
}

// versionDirectory begins the name of the directory that a cluster makes in a
// tablespace's location (TABLESPACE_VERSION_DIRECTORY in common/relpath.h).
const versionDirectory = "PG_"

// usedByOthers tells whether a cluster has files at a location, and not this one: recovery that is begun again
// replays the record once more and finds its own.
func (g Guard) usedByOthers(oid uint32, location string) (bool, error) {
	link := filepath.Join(g.DataDirectory, "pg_tblspc", strconv.FormatUint(uint64(oid), 10))
	if to, err := os.Readlink(link); err == nil && to == location {
		return false, nil
	}
	entries, err := os.ReadDir(location)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // PostgreSQL stops, and says that it must be made
	}
	if err != nil {
		return false, fmt.Errorf("tablespaces: whether a cluster has files in %s cannot be told: %w", location, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), versionDirectory) {
			return true, nil
		}
	}
	return false, nil
}
