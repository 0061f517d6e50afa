package wal

import (
	"fmt"
	"strings"
)

// FileKind tells the files apart that PostgreSQL hands to archive_command and
// asks restore_command for.
type FileKind uint8

// The kinds of files. The zero value is none of them.
const (
	FileSegment FileKind = iota + 1 // a complete WAL segment
	FileHistory                     // a timeline history file
	FilePartial                     // the last, unfinished segment of a timeline that was left
	FileBackup                      // a backup history file
)

// String names the kind in words.
func (k FileKind) String() string {
	switch k {
	case FileSegment:
		return "segment"
	case FileHistory:
		return "timeline history"
	case FilePartial:
		return "partial segment"
	case FileBackup:
		return "backup history"
	}
	return fmt.Sprintf("FileKind(%d)", uint8(k))
}

// The endings of file names in pg_wal.
const (
	historySuffix = ".history"
	partialSuffix = ".partial"
	backupSuffix  = ".backup"
)

// File is the meaning of a file name in pg_wal or in an archive.
type File struct {
	Kind     FileKind
	Segment  Segment    // all kinds but FileHistory; for FileBackup the one the backup starts in
	Timeline TimelineID // of every kind
	Offset   uint32     // FileBackup: the backup's start, in bytes from the start of Segment
}

// ParseFile reads the name of a file that PostgreSQL archives: a segment
// (000000010000000000000003), a timeline history file (00000002.history), a
// partial segment (….partial) or a backup history file (….00000028.backup).
// Anything else is an error, and what is accepted has exactly that Name.
func ParseFile(name string, size SegmentSize) (File, error) {
	switch {
	case strings.HasSuffix(name, historySuffix):
		return parseHistoryName(name)
	case strings.HasSuffix(name, backupSuffix):
		return parseBackupName(name, size)
	}
	kind := FileSegment
	base, partial := strings.CutSuffix(name, partialSuffix)
	if partial {
		kind = FilePartial
	}
	seg, err := ParseSegment(base, size)
	if err != nil {
		return File{}, fmt.Errorf("parse wal file name %q: %w", name, err)
	}
	return File{Kind: kind, Segment: seg, Timeline: seg.Timeline}, nil
}

func parseHistoryName(name string) (File, error) {
	tli, ok := parseUpperHex32(strings.TrimSuffix(name, historySuffix))
	if !ok || tli == 0 {
		return File{}, fmt.Errorf("parse wal file name %q: want a timeline of eight upper-case hexadecimal digits before %s", name, historySuffix)
	}
	return File{Kind: FileHistory, Timeline: TimelineID(tli)}, nil
}

func parseBackupName(name string, size SegmentSize) (File, error) {
	base, offset, found := strings.Cut(strings.TrimSuffix(name, backupSuffix), ".")
	if !found {
		return File{}, fmt.Errorf("parse wal file name %q: want <segment>.<offset>%s", name, backupSuffix)
	}
	seg, err := ParseSegment(base, size)
	if err != nil {
		return File{}, fmt.Errorf("parse wal file name %q: %w", name, err)
	}
	off, ok := parseUpperHex32(offset)
	if !ok || int64(off) >= size.Bytes() {
		return File{}, fmt.Errorf("parse wal file name %q: want an offset of eight upper-case hexadecimal digits inside the segment", name)
	}
	return File{Kind: FileBackup, Segment: seg, Timeline: seg.Timeline, Offset: off}, nil
}

// Name is the file's name in pg_wal and in an archive; "" for a File of no kind.
func (f File) Name() string {
	switch f.Kind {
	case FileSegment:
		return f.Segment.Name()
	case FilePartial:
		return f.Segment.Name() + partialSuffix
	case FileHistory:
		return f.Timeline.Hex() + historySuffix
	case FileBackup:
		return fmt.Sprintf("%s.%08X%s", f.Segment.Name(), f.Offset, backupSuffix)
	}
	return ""
}
