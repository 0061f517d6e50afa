package restore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// A segment that recovery needs by another name lies in pg_wal, and counts as archived.
func TestCopySegments(t *testing.T) {
	f := newFixture(t, fixtureOptions{})
	f.publish(fixtureOptions{})
	b := waltest.NewBuilder(15, testSystem, 1, 1<<20)
	b.Commit(700, time.Now())
	child := b.Fork(2, "before transaction 701")
	child.Switch()
	seg := wal.SegmentAt(2, child.Complete()[0].Start(), 1<<20)
	a := archive.New(f.repo, f.inc)
	if _, err := a.PutSegment(t.Context(), seg, bytes.NewReader(child.Bytes(seg))); err != nil {
		t.Fatal(err)
	}
	p, o := f.plan(), f.options(t)
	as := "00000001" + seg.Name()[8:]
	p.Copies = []plan.Copy{{Segment: seg.Name(), As: as}}
	if _, err := run(t.Context(), f.repo, p, o, tempDisk{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(o.To, "pg_wal", as))
	if err != nil || !bytes.Equal(got, child.Bytes(seg)) {
		t.Errorf("%d other bytes, %v", len(got), err)
	}
	// Apart from the two it is as ever.
	for _, name := range []string{"pg_wal/" + as, "pg_wal/archive_status/" + as + ".done"} {
		if err := os.Remove(filepath.Join(o.To, name)); err != nil {
			t.Error(err)
		}
	}
	f.check(t, o)

	// Without the segment there is no cluster to start.
	p, o = f.plan(), f.options(t)
	p.Copies = []plan.Copy{{Segment: "000000020000000000000077", As: as}}
	var absent *archive.AbsentError
	if _, err := run(t.Context(), f.repo, p, o, tempDisk{}); !errors.As(err, &absent) && !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("without the segment: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.To, controlPath)); err == nil {
		t.Error("a server could start on what is there")
	}
}
