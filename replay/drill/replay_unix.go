//go:build unix

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/restore"
	"github.com/walden-pg/walden/replay/scratch"
)

// restored restores the backup, or leaves a finding.
func (d *drill) restored(ctx context.Context) (*restore.Result, bool) {
	began := time.Now()
	restored, err := d.restore(ctx)
	d.record.RestoreSeconds = time.Since(began).Seconds()
	if err != nil {
		d.fail(ctx, CheckRestore, "the backup cannot be restored: "+err.Error(), nil, d.record.RestoreSeconds)
		return nil, false
	}
	d.record.add(Check{Name: CheckRestore, State: Passed, Seconds: d.record.RestoreSeconds,
		Text: fmt.Sprintf("%d files were restored, and every frame and file has its checksum", d.record.Files)})
	return restored, true
}

// replayed leaves an open server, or a finding.
func (d *drill) replayed(ctx context.Context, restored *restore.Result) bool {
	began := time.Now()
	err := d.replay(ctx, restored)
	d.record.ReplaySeconds = time.Since(began).Seconds()
	if err != nil {
		var f *recovery.Failure
		var lines []string
		if errors.As(err, &f) {
			lines = f.Messages
			if kept, err := d.keepLog(f.LogFile); err != nil {
				d.warn("the server's log cannot be kept: " + err.Error())
			} else if kept != "" {
				lines = append(slices.Clone(lines), "the server's log: "+kept)
			}
			f.LogFile = "" // it goes with scratch
		}
		d.fail(ctx, CheckStop, "PostgreSQL did not come to the planned stop: "+err.Error(), lines, d.record.ReplaySeconds)
		return false
	}
	d.record.add(Check{Name: CheckStop, State: Passed, Seconds: d.record.ReplaySeconds, Text: d.stopText()})
	return true
}

// keepLog copies the server's log out of the scratch directory, and says where to; "": there is none.
func (d *drill) keepLog(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	kept := filepath.Join(d.Scratch, "walden-drill-"+d.record.ID+".log")
	if kept, err = filepath.Abs(kept); err != nil {
		return "", err
	}
	return kept, os.WriteFile(kept, b, 0o600)
}

// fail adds a finding, unless the drill is being interrupted.
func (d *drill) fail(ctx context.Context, name, text string, details []string, seconds float64) {
	if ctx.Err() != nil {
		return
	}
	if len(details) > messages {
		details = append(slices.Clone(details[:messages]), fmt.Sprintf("… and %d more lines", len(details)-messages))
	}
	d.record.add(Check{Name: name, State: Failed, Text: text, Details: details, Seconds: seconds})
}

func (d *drill) restore(ctx context.Context) (*restore.Result, error) {
	o := restore.Options{
		To: d.scratch.Path(scratch.DataName), Tablespaces: map[string]string{}, Jobs: d.Jobs,
		Action: restore.ActionPromote, Logger: d.log,
		Progress: func(p restore.Progress) { d.report(Restoring, "", p.Bytes, p.TotalBytes) },
	}
	var err error
	if o.RestoreCommand, err = d.RestoreCommand(d.plan, d.overlay); err != nil {
		return nil, err
	}
	if d.containers != nil {
		o.Owner = d.Docker.Owner
	}
	for _, ts := range d.manifest.Tablespaces {
		if !ts.InPlace {
			o.Tablespaces[ts.Location] = filepath.Join(d.scratch.Path(scratch.TablespacesName), strconv.FormatUint(uint64(ts.OID), 10))
		}
	}
	res, err := restore.Run(ctx, d.source, d.plan, o)
	if err != nil {
		return nil, err
	}
	if d.containers != nil {
		if err := d.containers.settle(res.Directory); err != nil {
			return nil, err
		}
	}
	r := d.record
	r.Files, r.Bytes, r.DownloadBytes = res.Files, res.Bytes, res.Downloaded
	return res, nil
}

func (d *drill) replay(ctx context.Context, restored *restore.Result) error {
	settings, err := scratch.Settings(restored.Directory, d.manifest.Major, d.plan.Minimums, d.Set)
	if err != nil {
		return err
	}
	o := recovery.Options{
		Directory: restored.Directory, ConfigDirectory: restored.ConfigDirectory, BinDir: d.BinDir, Wrapped: d.containers != nil,
		HBA: scratch.HBA, Settings: settings, Expect: d.Expect(d.plan), TellLater: true, Logger: d.log,
		Progress: func(p recovery.Progress) {
			if p.Start == 0 || p.LSN < p.Start || p.End <= p.Start {
				d.report(Replaying, "", 0, 0)
				return
			}
			d.report(Replaying, "", int64(p.LSN-p.Start), int64(p.End-p.Start))
		},
	}
	// Names are asked for after the restore: they are hints for connections alone.
	if d.contents, err = databases.Read(ctx, d.source, d.Incarnation, d.manifest); err != nil {
		d.log.Info("the names of the backup's databases cannot be read", "error", err)
		d.contents = &databases.Contents{}
	}
	if n := len(d.contents.Superusers); n > 0 {
		o.User = d.contents.Superusers[n-1]
	}
	o.Database = "template1"
	if d.outcome, err = recovery.Run(ctx, o); err != nil {
		return err
	}
	d.record.WALBytes = int64(d.outcome.LSN - d.plan.Backup.StartLSN)
	if d.outcome.State != recovery.Promoted || d.outcome.Server == nil {
		return fmt.Errorf("the server is %q after recovery, and should be open", d.outcome.State)
	}
	if !d.outcome.LSNExact {
		return fmt.Errorf("the server does not tell at which record it stopped, only that it came to %s: %s", d.outcome.LSN, strings.Join(d.outcome.Warnings, "; "))
	}
	return nil
}

// stopText says where recovery ended.
func (d *drill) stopText() string {
	o, s := d.outcome, d.plan.Stop
	text := fmt.Sprintf("recovery ended at %s on timeline %s", o.LSN, o.Timeline)
	switch {
	case s.LSN == 0 && o.LSN > s.End:
		return text + fmt.Sprintf(": the plan said %s, and more WAL has been archived since", s.End)
	case s.LSN == 0:
		return text + ", where the plan said"
	case s.Before:
		return text + fmt.Sprintf(", just before the record at %s, as planned", s.LSN)
	}
	return text + fmt.Sprintf(", just after the record at %s, as planned", s.LSN)
}
