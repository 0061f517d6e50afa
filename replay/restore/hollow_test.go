package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/storage/frame"
)

// newPartial is a backup with two large databases of which one is chosen.
func newPartial(t *testing.T, fo fixtureOptions) (*fixture, *databases.Choice) {
	t.Helper()
	f := newFixture(t, fo)
	for i, name := range []string{"base/16384/2619", "base/16384/16400", "base/16384/16400_vm", "base/20000/16400", "base/20000/16400.1", "base/20000/PG_VERSION"} {
		f.add(basebackup.FileEntry{Path: name, Kind: basebackup.KindFile, Mode: 0o600}, random(uint64(20+i), 300<<10+i))
	}
	f.add(basebackup.FileEntry{Path: "base/20000/empty", Kind: basebackup.KindFile, Mode: 0o600}, nil)
	f.publish(fo)
	// Databases 5 and 20000 are left out; 5 lies in a tablespace.
	all := &databases.Contents{Backup: testID, Databases: []databases.Database{
		{OID: 1}, {OID: 5, Files: 1, Bytes: 20000}, {OID: 16384},
		{OID: 20000, Files: 4, Bytes: 3*(300<<10) + 3 + 4 + 5},
	}}
	choice, err := all.Choose("16384")
	if err != nil {
		t.Fatal(err)
	}
	return f, choice
}

// A restore of one database makes the others' files as long as they were, and reads
// nothing for them: their packs may be missing.
func TestHollow(t *testing.T) {
	for name, fo := range map[string]fixtureOptions{
		"one pack":  {codec: frame.CodecLZ4},
		"scattered": {codec: frame.CodecNone, packSize: 128 << 10, pieceSize: 8192, shuffle: true, shardSize: 5},
	} {
		t.Run(name, func(t *testing.T) {
			f, choice := newPartial(t, fo)
			o := f.options(t)
			o.Databases = choice
			var last Progress
			o.Progress = func(p Progress) { last = p }
			got, err := f.restore(t, o)
			if err != nil {
				t.Fatal(err)
			}
			f.check(t, o)
			if got.Files != f.manifest.Files-5 || got.Bytes != f.manifest.Bytes-choice.HollowBytes || last.TotalBytes != got.Bytes || last.Bytes != got.Bytes || last.Files != last.TotalFiles {
				t.Errorf("%+v, last progress %+v", got, last)
			}
			amount, err := Estimate(t.Context(), f.repo, f.inc, f.manifest, choice)
			if err != nil || amount.Files != got.Files || amount.Bytes != got.Bytes || amount.Download != got.Downloaded || got.Downloaded == 0 {
				t.Errorf("estimate %+v, %v", amount, err)
			}
			whole, err := Estimate(t.Context(), f.repo, f.inc, f.manifest, nil)
			if err != nil || whole.Files != f.manifest.Files || whole.Bytes != f.manifest.Bytes || whole.Download < amount.Download || whole.Packs != int64(len(f.manifest.Packs)) || amount.Packs > whole.Packs || amount.Packs == 0 {
				t.Errorf("estimate of all %+v, %v", whole, err)
			}
			conf, err := os.ReadFile(filepath.Join(o.To, autoConf))
			if err != nil || !strings.Contains(string(conf), "\nignore_invalid_pages = 'on'\n") || !strings.Contains(string(conf), "restore of database 16384 alone, of backup") {
				t.Errorf("settings:\n%s%v", conf, err)
			}
			if n := len(got.Warnings); n == 0 || !strings.Contains(got.Warnings[n-1], "the files of 5, 20000 are zeros") {
				t.Errorf("warnings %q", got.Warnings)
			}
			// The same again is done; another choice is refused.
			if again, err := f.restore(t, o); err != nil || again.Bytes != got.Bytes || len(again.Warnings) != len(got.Warnings)+1 {
				t.Errorf("again: %+v, %v", again, err)
			}
			o.Databases = nil
			var refused *TargetError
			if _, err := f.restore(t, o); !errors.As(err, &refused) {
				t.Errorf("all databases over some: %v", err)
			}
		})
	}
}

// What is left out is not read: the packs that only it lies in may be gone.
func TestHollowReadsNothing(t *testing.T) {
	fo := fixtureOptions{codec: frame.CodecNone, packSize: 64 << 10}
	f, choice := newPartial(t, fo)
	gone := 0
	for _, ref := range f.manifest.Packs {
		needed := false
		for _, e := range f.entries {
			for _, x := range e.Extents {
				needed = needed || x.Pack == ref.Number && !choice.IsHollow(e.Path)
			}
		}
		if !needed {
			gone++
			if err := f.store.Delete(t.Context(), basebackup.PackKey(f.inc, ref.Backup, ref.Number)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if gone == 0 {
		t.Fatal("no pack is needed by hollow files alone")
	}
	o := f.options(t)
	if _, err := f.restore(t, o); err == nil {
		t.Error("a whole restore without some packs")
	}
	o = f.options(t)
	o.Databases = choice
	if _, err := f.restore(t, o); err != nil {
		t.Error(err)
	}
	f.check(t, o)
}

// Each step of making hollow files fails once; the same restore then succeeds.
func TestHollowStepsFail(t *testing.T) {
	f, choice := newPartial(t, fixtureOptions{codec: frame.CodecLZ4, config: true})
	counting := &faultDisk{at: -1}
	o := f.options(t)
	o.Databases = choice
	if _, err := run(t.Context(), f.repo, f.plan(), o, counting); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < counting.steps-1; at += 3 {
		o := f.options(t)
		o.Databases = choice
		f.interrupt(t, &faultDisk{at: at, dead: at%2 == 0}, o)
		if t.Failed() {
			t.Fatalf("step %d", at)
		}
	}
}

// The room that hollow files do not take is not asked for.
func TestHollowNeedsNoSpace(t *testing.T) {
	f, choice := newPartial(t, fixtureOptions{codec: frame.CodecLZ4})
	o := f.options(t)
	o.Databases = choice
	chosen, err := checkTargets(o, f.manifest)
	if err != nil {
		t.Fatal(err)
	}
	large := *f.manifest
	large.Bytes = 1 << 60
	var refused *TargetError
	if err := chosen.checkSpace(&large, choice); !errors.As(err, &refused) {
		t.Skipf("the file system does not tell what is free: %v", err)
	}
	choice.HollowBytes = large.Bytes - 1<<20
	if err := chosen.checkSpace(&large, choice); err != nil {
		t.Error(err)
	}
}
