package basebackup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/walden-pg/walden/wal"
)

// maxLabelFile bounds backup_label, a text of a dozen lines.
const maxLabelFile = 64 << 10

// recorded is what a source has told.
type recorded struct {
	start          StartInfo
	end            EndInfo
	began, ended   bool
	labelText      string
	label          backupLabel
	serverManifest FileEntry
	files, bytes   int64
	sent           map[string]bool // those of the configuration files that were received
}

// complete checks that nothing essential is missing.
func (g *recorded) complete() error {
	switch {
	case !g.began || !g.ended:
		return errors.New("the source ended without saying where the backup starts and stops")
	case g.labelText == "":
		return errors.New("the server sent no backup_label")
	case g.serverManifest.Path == "":
		return errors.New("the server sent no backup_manifest")
	case g.label.start != g.start.StartLSN || g.label.timeline != g.start.Timeline:
		return fmt.Errorf("backup_label says that the backup starts at %s on timeline %d, the server said %s on timeline %d",
			g.label.start, g.label.timeline, g.start.StartLSN, g.start.Timeline)
	case g.end.StopLSN < g.start.StartLSN || g.end.Timeline < g.start.Timeline:
		return fmt.Errorf("the backup stops at %s on timeline %d, before it starts", g.end.StopLSN, g.end.Timeline)
	}
	return nil
}

// recorder is the Sink of Take.
type recorder struct{ t *taker }

var _ Sink = (*recorder)(nil)

// Begin implements Sink.
func (r *recorder) Begin(s StartInfo) error {
	t := r.t
	if t.got.began {
		return errors.New("the source began twice")
	}
	// The source has a connection of its own: it may have reached another
	// server than the first one did (several hosts, a failover).
	if err := t.checkSystem(s.SystemID, s.ServerVersion); err != nil {
		return err
	}
	t.got.start, t.got.began, t.got.sent = s, true, map[string]bool{}
	t.progress.total(s.Estimate)
	t.progress.phase(PhaseCopying, "")
	return nil
}

// Directory implements Sink.
func (r *recorder) Directory(h Header) error {
	return r.t.shards.add(FileEntry{Path: h.Path, Kind: KindDir, Mode: h.Mode, ModTime: h.ModTime})
}

// Symlink implements Sink.
func (r *recorder) Symlink(h Header) error {
	return r.t.shards.add(FileEntry{Path: h.Path, Kind: KindSymlink, Mode: h.Mode, ModTime: h.ModTime, Target: h.Target})
}

// File implements Sink.
func (r *recorder) File(h Header, body io.Reader) error {
	e := FileEntry{Path: h.Path, Kind: KindFile, Size: h.Size, Mode: h.Mode, ModTime: h.ModTime}
	if slices.ContainsFunc(r.t.facts.ConfigFiles, func(c ConfigFile) bool { return c.Within == h.Path }) {
		r.t.got.sent[h.Path] = true
	}
	if h.Path == "backup_label" {
		return r.labelFile(e, body)
	}
	return r.t.store(e, body)
}

// labelFile keeps the text of backup_label on its way.
func (r *recorder) labelFile(e FileEntry, body io.Reader) error {
	if e.Size > maxLabelFile {
		return fmt.Errorf("backup_label has %d bytes", e.Size)
	}
	var text bytes.Buffer
	if err := r.t.store(e, io.TeeReader(body, &text)); err != nil {
		return err
	}
	label, err := parseBackupLabel(text.Bytes())
	if err != nil {
		return fmt.Errorf("backup_label: %w", err)
	}
	r.t.got.label, r.t.got.labelText = label, text.String()
	return nil
}

// Manifest implements Sink.
func (r *recorder) Manifest(body io.Reader) error {
	if r.t.got.serverManifest.Path != "" {
		return errors.New("the server sent two manifests")
	}
	e := FileEntry{Path: ManifestPath, Kind: KindFile, Size: unknownSize, Mode: 0o600, ModTime: r.t.o.now()}
	return r.t.store(e, body)
}

// Progress implements Sink. What counts is what was stored.
func (r *recorder) Progress(int64) {}

// End implements Sink.
func (r *recorder) End(e EndInfo) error {
	r.t.got.end, r.t.got.ended = e, true
	return nil
}

// backupLabel is what a backup_label says (transam/xlogbackup.c).
type backupLabel struct {
	start, checkpoint wal.LSN
	timeline          wal.TimelineID
	standby           bool
	label             string
}

func parseBackupLabel(text []byte) (l backupLabel, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "START WAL LOCATION":
			position, _, _ := strings.Cut(value, " ")
			l.start, err = wal.ParseLSN(position)
		case "CHECKPOINT LOCATION":
			l.checkpoint, err = wal.ParseLSN(value)
		case "BACKUP FROM":
			l.standby = value == "standby"
		case "START TIMELINE":
			l.timeline, err = wal.ParseTimelineID(value)
		case "LABEL":
			l.label = value
		}
		if err != nil {
			return l, fmt.Errorf("%s: %w", key, err)
		}
	}
	if l.start == 0 || l.checkpoint == 0 || l.timeline == 0 {
		return l, errors.New("start, checkpoint or timeline is missing")
	}
	return l, lines.Err()
}
