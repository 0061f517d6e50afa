package extract

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/record"
)

// TablespaceError refuses a segment for a server in scratch: replaying it would create
// a tablespace outside of scratch. Where that machine also has the original, both would write to the same files
// (create_tablespace_directories in tablespace.c takes what is there while it is in recovery).
type TablespaceError struct {
	// Segment is the segment's name.
	Segment string
	// LSN is where the record starts, OID and Location are the tablespace's; the
	// location is empty where the record goes on in the next segment.
	LSN      wal.LSN
	OID      uint32
	Location string
}

// Error names the segment and the tablespace.
func (e *TablespaceError) Error() string {
	where := fmt.Sprintf("tablespace %d at %s", e.OID, e.Location)
	if e.Location == "" {
		where = "a tablespace"
	}
	return fmt.Sprintf("segment %s creates %s (record at %s): a server in scratch must not write there", e.Segment, where, e.LSN)
}

// Hint says how to do without the record.
func (e *TablespaceError) Hint() string {
	return "start from a backup that was taken later, when the tablespace was there (--backup ID), or restore the whole cluster on another machine"
}

// tablespaceCreate is the kind of record (XLOG_TBLSPC_CREATE in tablespace.h).
const tablespaceCreate = 0x00

// CheckTablespaces looks through a file that wal-get has delivered to a server in
// scratch. The error is a *TablespaceError if it is a segment that creates a
// tablespace with a location; one that lies in the data directory itself has none. Files that are no
// segments pass. Where the WAL in the segment ends the search does too: what is valid has been judged before.
func CheckTablespaces(path, name string, size wal.SegmentSize) error {
	seg, err := wal.ParseSegment(name, size)
	if err != nil {
		return nil //nolint:nilerr // a history file
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer f.Close()
	walk := record.NewReader(f, record.Options{Start: seg.Start(), SegmentSize: size, Length: size.Bytes()})
	for walk.Next() {
		if rec := walk.Record(); creates(rec.Header) {
			if err := judge(name, rec); err != nil {
				return err
			}
		}
	}
	var end *record.Error
	if err := walk.Err(); err != nil && !errors.As(err, &end) {
		return fmt.Errorf("extract: %w", err)
	}
	if h, ok := walk.Tail().Header(); ok && creates(h) {
		return &TablespaceError{Segment: name, LSN: walk.Tail().LSN}
	}
	return nil
}

func creates(h record.Header) bool {
	return h.RMGR == record.RMTablespace && h.Info&0xF0 == tablespaceCreate
}

// judge decodes xl_tblspc_create_rec: the OID, and the location up to a zero.
func judge(name string, rec *record.Record) error {
	var d record.Decoded
	if err := rec.Decode(&d); err != nil {
		return fmt.Errorf("extract: segment %s: %w", name, err)
	}
	if len(d.Main) < 5 {
		return fmt.Errorf("extract: segment %s: the record at %s creates a tablespace and has %d bytes", name, rec.LSN, len(d.Main))
	}
	location, _, _ := bytes.Cut(d.Main[4:], []byte{0})
	if len(location) == 0 {
		return nil
	}
	return &TablespaceError{Segment: name, LSN: rec.LSN, OID: binary.LittleEndian.Uint32(d.Main), Location: string(location)}
}
