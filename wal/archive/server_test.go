//go:build unix

package archive_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/control"
)

// TestFilesOfServers archives all that real servers hand to their
// archive_command, through a backup and a promotion, and fetches it back.
func TestFilesOfServers(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			dir := archivedFiles(t, major)
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			s := mem.New()
			repo := newRepository(t, s)
			ctl, err := control.Read(filepath.Join(dir, "pg_control"))
			if err != nil {
				t.Fatal(err)
			}
			inc := create(t, repo, ctl.SystemIdentifier, ctl.SegmentSize)
			a := archive.New(repo, inc)
			kinds := map[wal.FileKind]int{}
			for _, e := range entries {
				f, err := wal.ParseFile(e.Name(), ctl.SegmentSize)
				if err != nil {
					continue // pg_control
				}
				kinds[f.Kind]++
				path := filepath.Join(dir, e.Name())
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if res, err := archive.PushFile(t.Context(), repo, []archive.Incarnation{inc}, path); err != nil || res != archive.Stored {
					t.Errorf("push %s: %v, %v", e.Name(), res, err)
					continue
				}
				if got, err := fetch(t, a, e.Name()); err != nil || !bytes.Equal(got, content) {
					t.Errorf("fetch %s: %d bytes of %d, %v", e.Name(), len(got), len(content), err)
				}
				if res, err := archive.PushFile(t.Context(), repo, []archive.Incarnation{inc}, path); err != nil || res != archive.Identical {
					t.Errorf("push %s again: %v, %v", e.Name(), res, err)
				}
			}
			for _, k := range []wal.FileKind{wal.FileSegment, wal.FileHistory, wal.FilePartial, wal.FileBackup} {
				if kinds[k] == 0 {
					t.Errorf("the server archived no %s file", k)
				}
			}
			checkTimelines(t, a)
		})
	}
}

// archivedFiles is a directory of what a server archived before and after it
// was promoted, with a copy of its control file.
func archivedFiles(t *testing.T, major int) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "files")
	pgtest.MkdirAll(t, dir)
	primary := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
		"archive_mode": "on", "archive_command": "cp %p " + dir + "/%f", "max_wal_senders": "4", "wal_level": "replica", "wal_keep_size": "64MB",
	}})
	primary.Exec("CREATE TABLE t AS SELECT i, repeat('x', 500) AS s FROM generate_series(1, 8000) i")
	primary.WaitArchived(primary.SwitchWAL())
	standby := primary.Standby("standby")
	primary.Exec("INSERT INTO t SELECT i, repeat('y', 100) FROM generate_series(1, 500) i")
	standby.WaitReplayed(primary)
	primary.Stop(pgtest.Fast)
	standby.Promote()
	standby.Exec("INSERT INTO t SELECT i, repeat('z', 500) FROM generate_series(1, 8000) i")
	standby.WaitArchived(standby.SwitchWAL())
	b, err := os.ReadFile(filepath.Join(standby.DataDir(), "global", "pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pg_control"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkTimelines checks what the archive tells about both timelines.
func checkTimelines(t *testing.T, a *archive.Archive) {
	t.Helper()
	histories, err := a.Histories(t.Context())
	if err != nil || len(histories) != 1 {
		t.Fatalf("histories %v, %v", histories, err)
	}
	parent, _ := histories[2].Parent()
	for tli, holds := range map[wal.TimelineID]bool{1: false, 2: true} {
		ranges, err := a.Ranges(t.Context(), tli)
		if err != nil || len(ranges) != 1 {
			t.Fatalf("ranges of timeline %s: %+v, %v", tli, ranges, err)
		}
		n := a.Incarnation().SegmentSize.Number(parent.End)
		if in := ranges[0].First <= n && n <= ranges[0].Last; in != holds {
			t.Errorf("timeline %s: %+v, fork at %s", tli, ranges[0], parent.End)
		}
		last := wal.Segment{Timeline: tli, Number: ranges[0].Last, Size: a.Incarnation().SegmentSize}
		x, err := a.Index(t.Context(), last)
		if err != nil || x.PageTimelineLast != tli {
			t.Errorf("index of %s: %+v, %v", last.Name(), x, err)
		}
		wantAbsent(t, a, last.Next().Name())
	}
	if b, err := a.HistoryContent(t.Context(), 2); err != nil || !strings.Contains(string(b), parent.End.String()) {
		t.Errorf("history %q, %v", b, err)
	}
}
