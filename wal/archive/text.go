package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/walden-pg/walden/wal"
)

// pushText archives a history or backup history file.
func (a *Archive) pushText(ctx context.Context, f wal.File, r io.Reader, o PushOptions) (PushResult, error) {
	limit := int64(maxHistory)
	if f.Kind == wal.FileBackup {
		limit = maxBackupHistory
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return 0, fmt.Errorf("push %s: %w", f.Name(), err)
	}
	if int64(len(b)) > limit {
		return 0, &RefusedError{Name: f.Name(), Reason: fmt.Sprintf("it has more than %d bytes, which no %s file has", limit, f.Kind)}
	}
	return a.putText(ctx, f, b, o)
}

// PutHistory archives a timeline's history file: content is that of the file,
// byte for byte. A file that does not describe the timeline is a
// *RefusedError, other content than is archived already a *ConflictError.
func (a *Archive) PutHistory(ctx context.Context, tli wal.TimelineID, content []byte) (PushResult, error) {
	return a.putText(ctx, wal.File{Kind: wal.FileHistory, Timeline: tli}, content, PushOptions{})
}

// PutBackupHistory archives a backup history file: f is its name, taken apart.
func (a *Archive) PutBackupHistory(ctx context.Context, f wal.File, content []byte) (PushResult, error) {
	if f.Kind != wal.FileBackup {
		return 0, fmt.Errorf("archive %s: it is no backup history file", f.Name())
	}
	return a.putText(ctx, f, content, PushOptions{})
}

func (a *Archive) putText(ctx context.Context, f wal.File, content []byte, o PushOptions) (PushResult, error) {
	if err := CheckText(f, content); err != nil {
		return 0, &RefusedError{Name: f.Name(), Reason: err.Error(), Err: err,
			Advice: "the file is damaged or incomplete; compare it with the one on a standby"}
	}
	return a.store(ctx, f, bytes.NewReader(content), int64(len(content)), o)
}

// CheckText returns an error unless content can be that of the history file or the
// backup history file f.
func CheckText(f wal.File, content []byte) error {
	if f.Kind == wal.FileBackup {
		return checkBackupHistory(f, content)
	}
	return checkHistory(f, content)
}

// checkHistory returns an error unless content can be the history of the
// timeline: every timeline that has a history file has a parent.
func checkHistory(f wal.File, content []byte) error {
	h, err := wal.ParseHistory(f.Timeline, content)
	if err != nil {
		return err
	}
	if len(h.Entries) == 0 {
		return fmt.Errorf("it names no parent of timeline %s", f.Timeline)
	}
	return nil
}

// startLine is what the line begins with that says where the backup started
// (build_backup_content in src/backend/access/transam/xlogbackup.c).
const startLine = "START WAL LOCATION: "

// checkBackupHistory returns an error unless content is about a backup that
// starts where the file's name says.
func checkBackupHistory(f wal.File, content []byte) error {
	for line := range strings.Lines(string(content)) {
		rest, ok := strings.CutPrefix(line, startLine)
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(rest, " ")
		start, err := wal.ParseLSN(text)
		if err != nil {
			return fmt.Errorf("its line %q: %w", strings.TrimSpace(line), err)
		}
		if want := f.Segment.Start() + wal.LSN(f.Offset); start != want {
			return fmt.Errorf("it is of a backup that starts at %s, its name says %s", start, want)
		}
		return nil
	}
	return fmt.Errorf("it has no line %q", strings.TrimSpace(startLine))
}
