//go:build unix

package control_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/control"
)

// TestAgainstServers compares what Read says with what pg_controldata prints.
func TestAgainstServers(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: 1, Settings: map[string]string{
				"max_connections": "37", "max_wal_senders": "7", "max_prepared_transactions": "5",
				"max_worker_processes": "9", "max_locks_per_transaction": "71", "wal_log_hints": "on", "track_commit_timestamp": "on",
			}})
			// Beside the running server it must be readable at any moment.
			for range 50 {
				if _, err := control.ReadDirectory(c.DataDir()); err != nil {
					t.Fatal(err)
				}
			}
			c.Stop(pgtest.Fast)
			f, err := control.ReadDirectory(c.DataDir())
			if err != nil {
				t.Fatal(err)
			}
			printed := controlData(t, c)
			onOff := map[bool]string{true: "on", false: "off"}
			for label, got := range map[string]any{
				"pg_control version number":            f.ControlVersion,
				"Catalog version number":               f.CatalogVersion,
				"Database system identifier":           f.SystemIdentifier,
				"Database cluster state":               f.State,
				"Latest checkpoint location":           f.CheckPoint,
				"Latest checkpoint's REDO location":    f.LastCheckPoint.Redo,
				"Latest checkpoint's TimeLineID":       f.LastCheckPoint.Timeline,
				"Latest checkpoint's PrevTimeLineID":   f.LastCheckPoint.PreviousTimeline,
				"Latest checkpoint's full_page_writes": onOff[f.LastCheckPoint.FullPageWrites],
				"Latest checkpoint's NextXID":          fmt.Sprintf("%d:%d", f.LastCheckPoint.NextXID>>32, uint32(f.LastCheckPoint.NextXID)),
				"Minimum recovery ending location":     f.MinRecoveryPoint,
				"Min recovery ending loc's timeline":   uint32(f.MinRecoveryTimeline),
				"Backup start location":                f.BackupStartPoint,
				"Backup end location":                  f.BackupEndPoint,
				"End-of-backup record required":        map[bool]string{true: "yes", false: "no"}[f.BackupEndRequired],
				"wal_level setting":                    f.Settings.WALLevel,
				"wal_log_hints setting":                onOff[f.Settings.WALLogHints],
				"max_connections setting":              f.Settings.MaxConnections,
				"max_worker_processes setting":         f.Settings.MaxWorkerProcesses,
				"max_wal_senders setting":              f.Settings.MaxWALSenders,
				"max_prepared_xacts setting":           f.Settings.MaxPreparedXacts,
				"max_locks_per_xact setting":           f.Settings.MaxLocksPerXact,
				"track_commit_timestamp setting":       onOff[f.Settings.TrackCommitTimestamps],
				"Database block size":                  f.BlockSize,
				"Blocks per segment of large relation": f.RelationBlocks,
				"WAL block size":                       f.WALBlockSize,
				"Bytes per WAL segment":                uint32(f.SegmentSize),
				"Data page checksum version":           f.DataChecksumVersion,
			} {
				text := fmt.Sprint(got)
				if lsn, ok := got.(wal.LSN); ok && major >= 19 { // 19 writes the lower half with eight digits
					text = fmt.Sprintf("%X/%08X", uint64(lsn)>>32, uint32(lsn))
				}
				if want, ok := printed[label]; !ok || want != text {
					t.Errorf("%s: pg_controldata says %q, we %s", label, want, text)
				}
			}
			if f.Major != major {
				t.Errorf("major %d, want %d", f.Major, major)
			}
			if d := f.Time.Sub(f.LastCheckPoint.Time); d < -time.Second || d > 10*time.Minute {
				t.Errorf("checkpoint at %s, file written at %s", f.LastCheckPoint.Time, f.Time)
			}
		})
	}
}

// controlData returns the lines of pg_controldata by label.
func controlData(t *testing.T, c *pgtest.Cluster) map[string]string {
	t.Helper()
	cmd := pgtest.Command(context.Background(), c.Bin("pg_controldata"), c.DataDir())
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_controldata: %v", err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(out)) {
		label, value, _ := strings.Cut(line, ":")
		lines[label] = strings.TrimSpace(value)
	}
	return lines
}
