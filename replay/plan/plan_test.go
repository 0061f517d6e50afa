package plan_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	systemID = 7000000000000000001
	segment  = wal.SegmentSize(1 << 20)
	backupID = "20261122T090000Z-test"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at is a moment some minutes after noon.
func at(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

// world is a repository with one backup and a history on two timelines:
//
//	timeline 1: backup, commit 10 (12:01), commit 11 (12:05), restore point a,
//	            abort 12 (12:04: the clock went back), segment ends,
//	            commit 13 (12:06), restore point twice, commit 14 (12:08), twice again
//	timeline 2: leaves timeline 1 before commit 14; commit 20 (12:20)
type world struct {
	t     *testing.T
	repo  *repository.Repository
	inc   archive.Incarnation
	arch  *archive.Archive
	start map[uint32]wal.LSN // of the record that ends a transaction
	stop  wal.LSN            // of the backup
	end   wal.LSN            // of timeline 1
	fork  wal.LSN
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := emptyWorld(t)
	b := waltest.NewBuilder(17, systemID, 1, segment)
	redo, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(redo, at(0))
	_, w.stop = b.BackupEnd(redo)
	w.commit(b, 10, at(1))
	w.commit(b, 11, at(5))
	b.RestorePoint("a", at(5))
	w.start[12], _ = b.Abort(12, at(4))
	b.Switch()
	w.commit(b, 13, at(6))
	b.RestorePoint("twice", at(7))
	w.fork = b.Position()
	child := b.Fork(2, "no recovery target specified")
	w.commit(b, 14, at(8))
	b.RestorePoint("twice", at(9))
	b.Switch()
	w.end = b.Position()
	w.store(b)
	w.backup(redo, checkpoint)

	child.EndOfRecovery(1, at(19))
	w.commit(child, 20, at(20))
	child.Switch()
	w.store(child)
	_, err := w.arch.PutHistory(t.Context(), 2, []byte("1\t"+w.fork.String()+"\tno recovery target specified\n"))
	w.ok(err)
	return w
}

func emptyWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, start: map[uint32]wal.LSN{}}
	var err error
	w.repo, _, err = repository.Init(t.Context(), mem.New(), repository.Options{})
	w.ok(err)
	w.inc, _, err = archive.CreateIncarnation(t.Context(), w.repo, "main", systemID, segment, 17)
	w.ok(err)
	w.arch = archive.New(w.repo, w.inc)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) commit(b *waltest.Builder, xid uint32, when time.Time) {
	w.start[xid], _ = b.Commit(xid, when)
}

func (w *world) store(b *waltest.Builder) {
	w.t.Helper()
	for _, seg := range b.Complete() {
		_, err := w.arch.PutSegment(w.t.Context(), seg, bytes.NewReader(b.Bytes(seg)))
		w.ok(err)
	}
}

func (w *world) backup(redo, checkpoint wal.LSN) {
	w.t.Helper()
	put := func(key string, kind frame.Kind) (digest string, size int64) {
		f, err := w.repo.Put(w.t.Context(), key, []byte("content"), repository.ObjectOptions{Kind: kind})
		w.ok(err)
		return hex.EncodeToString(f.StoredDigest[:]), f.StoredSize()
	}
	packDigest, packSize := put(basebackup.PackKey(w.inc, backupID, 0), frame.KindPack)
	shardDigest, shardSize := put(basebackup.ShardKey(w.inc, backupID, 0), frame.KindExtents)
	m, err := json.Marshal(basebackup.Manifest{
		Packs:  []basebackup.PackRef{{Backup: backupID, Digest: packDigest, Size: packSize, Raw: 7, Live: 7}},
		Shards: []basebackup.ShardRef{{Backup: backupID, Digest: shardDigest, Size: shardSize, Entries: 1}},
		Format: basebackup.FormatVersion, ID: backupID, Cluster: "main", SystemID: systemID, Major: 17, ServerVersion: 170000, SegmentSize: segment,
		Timeline: 1, StartLSN: redo, CheckpointLSN: checkpoint, StopLSN: w.stop, StopTimeline: 1,
		WALRanges: []basebackup.WALRange{{Timeline: 1, Start: redo, End: w.stop}},
		StartTime: at(-1), StopTime: at(0), Label: "test",
		Settings: map[string]string{"max_prepared_transactions": "0"},
	})
	w.ok(err)
	_, err = w.repo.Put(w.t.Context(), basebackup.ManifestKey(w.inc, backupID), m, repository.ObjectOptions{Kind: frame.KindManifest})
	w.ok(err)
}

// plan plans as the command does.
func (w *world) plan(t plan.Target) (*plan.Plan, error) {
	w.t.Helper()
	r := catalog.NewReader(w.repo, w.arch, 0)
	snap, err := r.Load(w.t.Context())
	w.ok(err)
	if err := r.Satisfy(w.t.Context(), snap, func() (plan.Needs, error) { return plan.Need(snap, t) }); err != nil {
		return nil, err
	}
	return plan.Make(snap, t)
}

func TestStops(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		target plan.Target
		lsn    wal.LSN // of the record that stops recovery
		before bool
		kept   uint32 // the last transaction that is replayed; 0: none
	}{
		"time, on timeline 1": {plan.Target{Kind: plan.Time, Time: at(7), Timeline: "1"}, w.start[14], true, 13},
		"time exactly":        {plan.Target{Kind: plan.Time, Time: at(1)}, w.start[11], true, 10},
		"time, exclusive":     {plan.Target{Kind: plan.Time, Time: at(1), Exclusive: true}, w.start[10], true, 0},
		// The first record beyond the time counts, though a later one is earlier.
		"time, clock went back": {plan.Target{Kind: plan.Time, Time: at(4)}, w.start[11], true, 10},
		"time on the newest":    {plan.Target{Kind: plan.Time, Time: at(10)}, w.start[20], true, 13},
		"xid":                   {plan.Target{Kind: plan.XID, XID: 11}, w.start[11], false, 11},
		"xid, exclusive":        {plan.Target{Kind: plan.XID, XID: 11, Exclusive: true}, w.start[11], true, 10},
		"xid that aborted":      {plan.Target{Kind: plan.XID, XID: 12}, w.start[12], false, 12},
		"lsn":                   {plan.Target{Kind: plan.LSN, LSN: w.start[13]}, w.start[13], false, 13},
		"lsn, exclusive":        {plan.Target{Kind: plan.LSN, LSN: w.start[13], Exclusive: true}, w.start[13], true, 12},
		"xid of the old branch": {plan.Target{Kind: plan.XID, XID: 14, Timeline: "1"}, w.start[14], false, 14},
		"xid of the new branch": {plan.Target{Kind: plan.XID, XID: 20}, w.start[20], false, 20},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.plan(c.target)
			if err != nil {
				t.Fatal(err)
			}
			if p.Stop.LSN != c.lsn || p.Stop.Before != c.before || p.Backup.ID != backupID {
				t.Errorf("stops %+v, want before=%v %s", p.Stop, c.before, c.lsn)
			}
			var kept uint32
			if p.Stop.LastKept != nil {
				kept = p.Stop.LastKept.XID
			}
			if kept != c.kept {
				t.Errorf("keeps up to transaction %d, want %d", kept, c.kept)
			}
		})
	}
}

func TestLatestAndImmediate(t *testing.T) {
	w := newWorld(t)
	p, err := w.plan(plan.Target{Kind: plan.Latest, Timeline: "1"})
	if err != nil || p.Stop.End != w.end || p.Timeline != 1 {
		t.Errorf("latest on timeline 1: %+v %v, want the end %s", p, err, w.end)
	}
	if p, err = w.plan(plan.Target{Kind: plan.Latest}); err != nil || p.Timeline != 2 {
		t.Fatalf("latest: %+v, %v", p, err)
	}
	// The segment that holds the switch comes from the child.
	if want := (wal.Segment{Timeline: 2, Number: segment.Number(w.fork), Size: segment}).Name(); p.LastSegment != want {
		t.Errorf("the last segment is %s, want the child's %s", p.LastSegment, want)
	}
	if p, err = w.plan(plan.Target{Kind: plan.Immediate}); err != nil || p.Stop.End != w.stop {
		t.Errorf("immediate: %+v, %v, want the end of the backup %s", p, err, w.stop)
	}
}

// Every target becomes a position, set behind those that are emptied, and the timeline is pinned.
func TestSettings(t *testing.T) {
	w := newWorld(t)
	p, err := w.plan(plan.Target{Kind: plan.XID, XID: 11, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	value := map[string]string{}
	lastTarget := ""
	for _, s := range p.Settings {
		value[s.Name] = s.Value
		if slices.Contains([]string{"recovery_target", "recovery_target_xid", "recovery_target_time", "recovery_target_lsn", "recovery_target_name"}, s.Name) {
			lastTarget = s.Name
		}
	}
	if value["recovery_target_lsn"] != w.start[11].String() || lastTarget != "recovery_target_lsn" || value["recovery_target_inclusive"] != "false" || value["recovery_target_timeline"] != "2" {
		t.Errorf("settings %v", p.Settings)
	}
}

// A standby goes along with a promotion, unless that could lead it elsewhere.
func TestStandbyFollows(t *testing.T) {
	w := newWorld(t)
	for asked, want := range map[string]string{"": "latest", "latest": "latest", "2": "2", "1": "1", "current": "1"} {
		p, err := w.plan(plan.Target{Kind: plan.Latest, Timeline: asked})
		if err != nil {
			t.Fatal(err)
		}
		if p.Follow != want {
			t.Errorf("timeline %q: a standby follows %q, want %q", asked, p.Follow, want)
		}
	}
	c, b := newScene()
	c.commitAt(b, 0)
	c.endSegment(b)
	child := c.forkAt(b, 1)
	c.endSegment(child)
	c.backupAt(b, 2)
	c.endSegment(b)
	c.archive(t, everything)
	if p := c.mustPlan(t, plan.Target{Kind: plan.Latest}); p.Timeline != 1 || p.Follow != "1" {
		t.Errorf("beside a newer timeline: timeline %s, a standby follows %q", p.Timeline, p.Follow)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		target plan.Target
		want   string
	}{
		"time beyond the last commit": {plan.Target{Kind: plan.Time, Time: at(60)}, "2026-11-22 12:20:00"},
		"time before the backup":      {plan.Target{Kind: plan.Time, Time: at(-60), Timeline: "1", Exclusive: true}, ""},
		"unknown xid":                 {plan.Target{Kind: plan.XID, XID: 99}, "99"},
		"xid of the other branch":     {plan.Target{Kind: plan.XID, XID: 14, Timeline: "2"}, "14"},
		"unknown restore point":       {plan.Target{Kind: plan.Name, Name: "b"}, "b"},
		"lsn beyond the end":          {plan.Target{Kind: plan.LSN, LSN: 1 << 40}, w.end.String()},
		"lsn before the backup's end": {plan.Target{Kind: plan.LSN, LSN: wal.LSN(segment), Exclusive: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.plan(c.target)
			var refused *plan.UnreachableError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || len(refused.Reachable()) == 0 {
				t.Errorf("plan %+v, error %v, want %q", p, err, c.want)
			}
		})
	}
	var ambiguous *plan.AmbiguousError
	if _, err := w.plan(plan.Target{Kind: plan.Name, Name: "twice", Timeline: "1"}); !errors.As(err, &ambiguous) || len(ambiguous.Points) != 2 {
		t.Errorf("a name that was used twice: %v", err)
	}
	var none *plan.NoBackupError
	if _, err := w.plan(plan.Target{Kind: plan.Latest, Backup: "20200101T000000Z-none"}); !errors.As(err, &none) || !none.Absent() {
		t.Errorf("a backup that is not there: %v", err)
	}
}

// TestGap: a missing segment is refused by name.
func TestGap(t *testing.T) {
	w := newWorld(t)
	w.ok(w.repo.Store().Delete(t.Context(), archive.SegmentKey(w.inc, wal.Segment{Timeline: 1, Number: 1, Size: segment})))
	var refused interface {
		error
		Reachable() []catalog.Window
	}
	if _, err := w.plan(plan.Target{Kind: plan.XID, XID: 13, Timeline: "1"}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "000000010000000000000001") {
		t.Errorf("without the segment of the backup: %v", err)
	}
}

func TestNothing(t *testing.T) {
	w := emptyWorld(t)
	var none *plan.NoBackupError
	if _, err := w.plan(plan.Target{Kind: plan.Latest}); !errors.As(err, &none) || !none.Absent() {
		t.Errorf("an empty repository: %v", err)
	}
}
