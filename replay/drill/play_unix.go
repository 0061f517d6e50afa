//go:build unix

package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/recovery"
	"github.com/walden-pg/walden/replay/scratch"
	"github.com/walden-pg/walden/storage/overlay"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
)

// overlayName is the file in scratch that says with what damage wal-get is to show the repository.
const overlayName = "overlay.json"

// aim sets the target of a scenario that has one of its own.
func (d *drill) aim() error {
	switch {
	case d.Scenario == LostPrimary && (d.Pick != "" || d.Target.Kind != plan.Latest):
		return &ScenarioError{d.Scenario, "its moment is the end of the WAL: leave the target out"}
	case d.Scenario != OldTimeline:
		return nil
	case d.Pick != "" || d.Target.Kind != plan.Latest || d.Target.Timeline != "":
		return &ScenarioError{d.Scenario, "its moment is the end of the older timeline: leave the target out"}
	}
	lines := d.archived.snapshot.Timelines
	for i := len(lines) - 1; i >= 0; i-- {
		if lines[i].Parent != 0 {
			d.Target.Timeline = strconv.FormatUint(uint64(lines[i].Parent), 10)
			return nil
		}
	}
	return &ScenarioError{d.Scenario, "the cluster has never switched to another timeline"}
}

// play plays the scenario and notes what has come of it.
func (d *drill) play(ctx context.Context) error {
	began := time.Now()
	happened, ok, err := map[Scenario]func(context.Context) (string, bool, error){
		DamagedPack: d.damagedPack, MissingSegment: d.missingSegment, BucketDown: d.bucketDown,
		LostPrimary: d.plain, OldTimeline: d.plain,
	}[d.Scenario](ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	d.record.Happened = happened
	c := Check{Name: CheckScenario, State: Passed, Text: "what was expected has happened", Seconds: time.Since(began).Seconds()}
	if !ok {
		c.State, c.Text = Failed, fmt.Sprintf("scenario %s: what was expected did not happen: %s", d.Scenario, happened)
	}
	d.record.add(c)
	return nil
}

// shown returns the repository with damage, and leaves word of it for wal-get.
func (d *drill) shown(ctx context.Context, damage overlay.Damage) (*repository.Repository, error) {
	d.overlay = d.scratch.Path(overlayName)
	if err := overlay.Write(d.overlay, damage); err != nil {
		return nil, err
	}
	return repository.Open(ctx, overlay.New(d.Repo.Store(), damage), repository.Options{})
}

// plain is an ordinary drill, whose checks tell.
func (d *drill) plain(ctx context.Context) (string, bool, error) {
	err := d.inScratch(func() error { d.whole(ctx); return nil })
	if err != nil {
		return "", false, err
	}
	if d.record.Failure != "" {
		return d.record.Failure, false, nil
	}
	text := fmt.Sprintf("the cluster was back after %s, at %s on timeline %s", round(d.record.Ready().Seconds()), d.outcome.LSN, d.outcome.Timeline)
	if d.Scenario == LostPrimary && d.record.Loss != nil {
		text += "; lost is " + d.record.Loss.Text
	}
	return text, true, nil
}

// damagedPack turns a bit over in a pack of the backup.
func (d *drill) damagedPack(ctx context.Context) (string, bool, error) {
	var packs []basebackup.PackRef
	for _, p := range d.manifest.Packs {
		if p.Backup == d.manifest.ID && p.Live > 0 {
			packs = append(packs, p)
		}
	}
	if len(packs) == 0 { // an incremental backup of nothing new
		packs = d.manifest.Packs
	}
	pack := packs[rand.N(len(packs))]
	key := basebackup.PackKey(d.Incarnation, pack.Backup, pack.Number)
	damage := overlay.Damage{Flips: []overlay.Flip{{Key: key, Offset: 16}}} // in the first frame, which holds the first file
	var refused error
	err := d.inScratch(func() (err error) {
		if d.source, err = d.shown(ctx, damage); err != nil {
			return err
		}
		_, refused = d.restore(ctx)
		return nil
	})
	switch {
	case err != nil || ctx.Err() != nil:
		return "", false, err
	case refused == nil:
		return "a bit of pack " + key + " was turned over, and the restore did not notice it", false, nil
	case !strings.Contains(refused.Error(), key):
		return "the restore failed, and does not name the pack " + key + ": " + refused.Error(), false, nil
	}
	happened := "the restore refused: " + refused.Error()
	other, err := d.without(ctx, pack)
	if err != nil {
		return "", false, err
	}
	if other == nil {
		return happened + "; no other backup leads to the moment: with this pack it would be lost", true, nil
	}
	if err := d.use(ctx, other); err != nil {
		return "", false, err
	}
	err = d.inScratch(func() (err error) {
		if d.source, err = d.shown(ctx, damage); err == nil {
			d.whole(ctx)
		}
		return err
	})
	if err != nil {
		return "", false, err
	}
	if d.record.Failure != "" {
		return happened + "; backup " + other.Backup.ID + " should have served instead, but " + d.record.Failure, false, nil
	}
	return happened + "; backup " + other.Backup.ID + " served instead", true, nil
}

// without plans a restore to the target from another backup that has no use for the pack.
func (d *drill) without(ctx context.Context, pack basebackup.PackRef) (*plan.Plan, error) {
	all := d.archived.snapshot.Backups
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].ID == d.plan.Backup.ID {
			continue
		}
		m, err := basebackup.Load(ctx, d.Repo, d.Incarnation, all[i].ID)
		if err != nil {
			return nil, err
		}
		uses := false
		for _, p := range m.Packs {
			uses = uses || p.Backup == pack.Backup && p.Number == pack.Number
		}
		if uses {
			continue
		}
		t := d.Target
		t.Backup = all[i].ID
		p, err := d.archived.prove(ctx, t)
		if err == nil {
			return p, nil
		}
		if !refusal(err) {
			return nil, err
		}
	}
	return nil, nil
}

// refusal reports whether an error is one of the planner's.
func refusal(err error) bool {
	var (
		beyond    *plan.UnreachableError
		ambiguous *plan.AmbiguousError
		none      *plan.NoBackupError
		gap       *plan.GapError
	)
	return errors.As(err, &beyond) || errors.As(err, &ambiguous) || errors.As(err, &none) || errors.As(err, &gap)
}

// middle draws a segment of the plan, behind the backup's own and before the last if there is one.
func (d *drill) middle() (wal.Segment, error) {
	size := d.Incarnation.SegmentSize
	first, last := size.Number(d.plan.Backup.StartLSN), size.PrevNumber(d.plan.Stop.End)
	if last == first {
		return wal.Segment{}, &ScenarioError{d.Scenario, "all the WAL of the plan lies in one segment: choose a later moment, or an older backup with --backup"}
	}
	if behind := size.PrevNumber(d.plan.Backup.StopLSN) + 1; behind < last {
		first = behind
	}
	path, err := d.archived.snapshot.Path(d.plan.Timeline)
	return path.Segment(first + rand.N(last-first)), err
}

// missingSegment hides a segment on the way.
func (d *drill) missingSegment(ctx context.Context) (string, bool, error) {
	seg, err := d.middle()
	if err != nil {
		return "", false, err
	}
	damage := overlay.Damage{Hide: segmentKeys(d.Incarnation, seg)}
	var happened string
	var ok bool
	err = d.inScratch(func() (err error) {
		if d.source, err = d.shown(ctx, damage); err != nil {
			return err
		}
		if d.archived, err = look(ctx, d.source, d.Incarnation); err != nil {
			return err
		}
		t := d.Target
		t.Backup = d.plan.Backup.ID
		_, err = d.archived.prove(ctx, t)
		var gap *plan.GapError
		switch {
		case err == nil:
			happened = "segment " + seg.Name() + " was hidden, and the plan does without it"
			return nil
		case !errors.As(err, &gap):
			if !refusal(err) {
				return err
			}
			happened = "the plan refused, but not for the gap: " + err.Error()
			ok = strings.Contains(err.Error(), seg.Name())
			return nil
		}
		happened = "the plan refused: " + err.Error()
		if ok = strings.Contains(err.Error(), seg.Name()); !ok || gap.Before == nil {
			return nil
		}
		before := plan.Target{
			Kind: plan.LSN, LSN: gap.Before.LSN, Exclusive: strings.Contains(gap.Before.Flags, "--exclusive"),
			Timeline: strconv.FormatUint(uint64(gap.Before.Timeline), 10), Backup: t.Backup,
		}
		p, err := d.archived.prove(ctx, before)
		if err == nil {
			err = d.use(ctx, p)
		}
		if err != nil {
			happened, ok = happened+"; the moment before it that it names cannot be planned: "+err.Error(), false
			return nil
		}
		d.record.Target, d.record.Flags = before.String(), flags(before)
		d.whole(ctx)
		if d.record.Failure != "" {
			happened, ok = happened+"; the moment before it that it names was not restored: "+d.record.Failure, false
			return nil
		}
		happened += "; " + gap.Before.String() + ", the nearest moment before it, was restored"
		return nil
	})
	return happened, ok, err
}

// bucketDown lets the repository fail in the middle of the replay.
func (d *drill) bucketDown(ctx context.Context) (string, bool, error) {
	seg, err := d.middle()
	var only *ScenarioError
	if errors.As(err, &only) { // then the only one fails
		path, pathErr := d.archived.snapshot.Path(d.plan.Timeline)
		seg, err = path.Segment(d.Incarnation.SegmentSize.Number(d.plan.Backup.StartLSN)), pathErr
	}
	if err != nil {
		return "", false, err
	}
	var happened string
	var ok bool
	err = d.inScratch(func() (err error) {
		damage := overlay.Damage{Fail: segmentKeys(d.Incarnation, seg)}
		if d.source, err = d.shown(ctx, damage); err != nil {
			return err
		}
		restored, ok1 := d.restored(ctx)
		if !ok1 {
			happened = d.record.Failure
			return nil
		}
		err = d.replay(ctx, restored)
		var failure *recovery.Failure
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			happened = fmt.Sprintf("the repository failed at segment %s, and PostgreSQL opened all the same, at %s", seg.Name(), d.outcome.LSN)
			return nil
		case !errors.As(err, &failure) || failure.Kind != recovery.FailureRestoreCommand:
			happened = fmt.Sprintf("the repository failed at segment %s, and recovery ended otherwise than by that: %v", seg.Name(), err)
			return nil
		}
		happened = fmt.Sprintf("the repository failed at segment %s: PostgreSQL stopped (%s)", seg.Name(), failure.Reason)
		if d.source, err = d.shown(ctx, overlay.Damage{}); err != nil {
			return err
		}
		if ok = d.replayed(ctx, restored); !ok {
			happened += "; once it was back recovery did not come to the stop: " + d.record.Failure
			return nil
		}
		d.judged(ctx)
		happened += fmt.Sprintf("; once it was back recovery went on to the planned stop at %s", d.outcome.LSN)
		ok = d.record.Failure == ""
		return nil
	})
	return happened, ok, err
}

// inScratch does something in a scratch directory of its own.
func (d *drill) inScratch(do func() error) (err error) {
	if d.scratch, err = scratch.Make(d.Scratch, kind); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.scratch.Remove(d.BinDir)) }()
	if d.Docker != nil {
		if err := d.enclose(); err != nil {
			return err
		}
		d.BinDir = d.containers.bin
	}
	return do()
}

// whole restores, replays and checks.
func (d *drill) whole(ctx context.Context) {
	if restored, ok := d.restored(ctx); ok && d.replayed(ctx, restored) {
		d.judged(ctx)
	}
}

// judged makes the checks on the open server.
func (d *drill) judged(ctx context.Context) {
	d.judgeRTO()
	began := time.Now()
	d.examine(ctx)
	d.record.CheckSeconds = time.Since(began).Seconds()
}
