package basebackup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/wal/stream"
)

func TestTake(t *testing.T) {
	for _, archives := range []bool{true, false} {
		t.Run(fmt.Sprintf("archive_mode %v", archives), func(t *testing.T) {
			p, c := newPlace(t), newCluster(1)
			c.archives = archives
			c.configs = []ConfigFile{{Path: "/etc/postgresql/postgresql.conf", Content: []byte("max_connections = 100\n")}, {Path: "/etc/empty.conf"}}
			if archives {
				p.archiveAll(t, c)
				c.refuseFetch = errors.New("nothing needs to be fetched")
			}
			var seen []Phase
			o := p.options(c)
			o.Progress = func(g Progress) {
				if !slices.Contains(seen, g.Phase) {
					seen = append(seen, g.Phase)
				}
			}
			m, err := Take(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			p.checkBackup(t, c, m)
			checkManifest(t, c, m)
			if want := []Phase{PhaseCheckpoint, PhaseCopying, PhaseVerifying, PhaseWAL, PhasePublishing}; !slices.Equal(seen, want) {
				t.Errorf("phases %v", seen)
			}
			if !c.released {
				t.Error("the slot was not released")
			}
			loaded, err := Load(context.Background(), p.repo, p.inc, m.ID)
			if err != nil {
				t.Fatal(err)
			}
			p.checkBackup(t, c, loaded)
			checkManifest(t, c, loaded)
		})
	}
}

func checkManifest(t *testing.T, c *cluster, m *Manifest) {
	t.Helper()
	switch {
	case m.StartLSN != c.start || m.CheckpointLSN != c.start+64 || m.StopLSN != c.stop || m.Timeline != 1 || m.StopTimeline != 1:
		t.Errorf("positions of %+v", m)
	case m.SystemID != testSystem || m.Major != 17 || m.ServerVersion != testVersion || m.SegmentSize != testSegment || m.Cluster != "main":
		t.Errorf("identity of %+v", m)
	case m.FromStandby || m.BackupLabel != c.label() || m.Label != "walden "+m.ID:
		t.Errorf("label of %+v", m)
	case len(m.Tablespaces) != 1 || m.Settings["max_connections"] != "100" || len(m.ConfigFiles) != len(c.configs):
		t.Errorf("facts of %+v", m)
	case len(m.WALRanges) != 1 || m.WALRanges[0] != (WALRange{1, c.start, c.stop}):
		t.Errorf("WAL ranges %+v", m.WALRanges)
	case len(m.Packs) < 4 || len(m.Shards) != 1 || m.StoredBytes == 0:
		t.Errorf("packs %+v, shards %+v", m.Packs, m.Shards)
	case !slices.Contains(m.Warnings, "a warning"):
		t.Errorf("warnings %q", m.Warnings)
	case CheckID(m.ID) != nil || m.StartTime.IsZero() || m.StopTime.Before(m.StartTime):
		t.Errorf("id %s, times %s and %s", m.ID, m.StartTime, m.StopTime)
	}
}

// TestTakeFails: after every failure there is no backup, nothing of it is left
// behind, the slot is gone, and the next backup works.
func TestTakeFails(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	cases := []struct {
		name     string
		sabotage func(*cluster)
		want     string
		check    func(error) bool
	}{
		{"the source breaks", func(c *cluster) { c.breakSource = errors.New("connection reset") }, "connection reset", nil},
		{"damaged pages", func(c *cluster) { c.breakSource = &ChecksumError{Err: errors.New("block 7")} }, "block 7",
			func(err error) bool { var e *ChecksumError; return errors.As(err, &e) }},
		{"a file arrives changed", func(c *cluster) {
			c.editFile = func(path string, b []byte) {
				if path == "base/5/20000" {
					b[2_999_999] ^= 1
				}
			}
		}, "base/5/20000", func(err error) bool { var e *MismatchError; return errors.As(err, &e) }},
		{"a file is not listed", func(c *cluster) {
			c.editManifest = func(s string) string { return resign(dropLine(s, "base/5/20000")) }
		}, `"base/5/20000" was received but is not in the manifest`, nil},
		{"a listed file is missing", func(c *cluster) {
			c.editManifest = func(s string) string { return resign(strings.Replace(s, "base/5/20000", "base/5/20001", 1)) }
		}, `"base/5/20001" is in the manifest but was not received`, nil},
		{"the size differs", func(c *cluster) {
			c.editManifest = func(s string) string { return resign(strings.Replace(s, `"Size": 3000000`, `"Size": 3000001`, 1)) }
		}, "3000000 bytes instead of 3000001", nil},
		{"the manifest is damaged", func(c *cluster) {
			c.editManifest = func(s string) string { return strings.Replace(s, "GMT", "CET", 1) }
		}, "its checksum is", nil},
		{"the manifest is cut", func(c *cluster) { c.editManifest = func(s string) string { return s[:len(s)/2] } }, "backup_manifest", nil},
		{"another cluster's manifest", func(c *cluster) {
			c.editManifest = func(s string) string { return resign(strings.Replace(s, fmt.Sprint(testSystem), "12345", 1)) }
		}, "12345", nil},
		{"another server", func(c *cluster) { c.systemID = 99 }, "system identifier 99",
			func(err error) bool { var e *IdentityError; return errors.As(err, &e) && e.Hint() != "" }},
		{"no slot and no archive", func(c *cluster) { c.noSlot = errors.New("all slots are in use") }, "all slots are in use", nil},
		{"the WAL is gone", func(c *cluster) { c.refuseFetch = errors.New("already removed") }, "already removed",
			func(err error) bool { var e *WALError; return errors.As(err, &e) && e.Hint() != "" }},
		{"the timeline ends", func(c *cluster) { c.refuseFetch = &stream.EndOfTimelineError{Timeline: 1, Next: 2, Switch: 0x2000100} }, "timeline 2 begins",
			func(err error) bool {
				var e *WALError
				return errors.As(err, &e) && strings.Contains(e.Hint(), "take the backup again")
			}},
		{"the WAL never comes", func(c *cluster) { c.archives = true; c.noSlot = errors.New("none") }, "did not come into the archive", nil},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			p, c := newPlace(t), newCluster(2)
			test.sabotage(c)
			_, err := Take(context.Background(), p.options(c))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if test.check != nil && !test.check(err) {
				t.Errorf("error is %v", err)
			}
			for _, prefix := range []string{"backups/", "packs/", "extents/"} {
				if keys := p.keys(t, prefix); len(keys) != 0 {
					t.Errorf("left behind: %q", keys)
				}
			}
			if c.noSlot == nil && !c.released && c.systemID == 0 {
				t.Error("the slot was not released")
			}
			nextWorks(t, p)
		})
	}
}

func nextWorks(t *testing.T, p *place) {
	t.Helper()
	c := newCluster(2)
	m, err := Take(context.Background(), p.options(c))
	if err != nil {
		t.Fatalf("the next backup: %v", err)
	}
	p.checkBackup(t, c, m)
}

func dropLine(s, with string) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, with) }), "")
}

// resign recomputes the manifest's checksum.
func resign(s string) string {
	body, _, _ := strings.Cut(s, `"Manifest-Checksum"`)
	return withChecksum(body)
}

// TestTakeFaults lets every operation on the store fail, one after the other,
// with and without having been done. Whatever happens: a backup that is listed
// is whole, and the next one works.
func TestTakeFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	for _, lost := range []bool{false, true} {
		for n, done := 0, false; !done; n++ {
			p, c := newPlace(t), newSmallCluster()
			broken := faulty.New(p.store)
			through := p.over(t, broken)
			broken.Clear()
			broken.Inject(faulty.Fault{Skip: n, LostReply: lost})
			o := through.options(c)
			_, err := Take(context.Background(), o)
			if err == nil && broken.Count(faulty.Any) <= n {
				done = true
				if n < 20 {
					t.Errorf("only %d operations", n)
				}
			}
			checkListed(t, p, c, err, fmt.Sprintf("operation %d (lost reply: %v)", n, lost))
			if n%16 == 0 {
				nextWorks(t, p)
			}
		}
	}
}

// TestTakeOutage: the store fails for good from some operation on, so that
// nothing can be cleaned up either.
func TestTakeOutage(t *testing.T) {
	for n := 0; ; n += 3 {
		p, c := newPlace(t), newSmallCluster()
		broken := faulty.New(p.store)
		through := p.over(t, broken)
		broken.Clear()
		broken.Inject(faulty.Fault{Skip: n, Times: -1, Permanent: true})
		_, err := Take(context.Background(), through.options(c))
		if n == 0 && err == nil {
			t.Fatal("a backup without a store")
		}
		checkListed(t, p, c, err, fmt.Sprintf("outage from operation %d on", n))
		if n%9 == 0 {
			nextWorks(t, p)
		}
		if err == nil {
			return
		}
	}
}

func checkListed(t *testing.T, p *place, c *cluster, err error, when string) {
	t.Helper()
	list, listErr := List(context.Background(), p.repo, p.inc)
	if listErr != nil {
		t.Fatalf("%s: %v", when, listErr)
	}
	if err == nil && len(list.Backups) != 1 || len(list.Backups) > 1 || len(list.Unreadable) != 0 {
		t.Fatalf("%s: Take returned %v, %d backups are listed, %d unreadable", when, err, len(list.Backups), len(list.Unreadable))
	}
	for _, m := range list.Backups {
		p.checkBackup(t, c, m)
	}
}

func TestTakeIsCancelled(t *testing.T) {
	p, c := newPlace(t), newCluster(4)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	c.whileCopying = func() {
		if n++; n == 20 {
			cancel()
		}
	}
	_, err := Take(ctx, p.options(c))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if keys := p.keys(t, ""); len(keys) > 1 { // identity.json
		t.Errorf("left behind: %q", keys)
	}
	nextWorks(t, p)
}

func TestTakeTwiceAtOnce(t *testing.T) {
	p := newPlace(t)
	var wg sync.WaitGroup
	var ms [4]*Manifest
	for i := range ms {
		wg.Go(func() {
			var err error
			if ms[i], err = Take(context.Background(), p.options(newCluster(5))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := List(context.Background(), p.repo, p.inc)
	if err != nil || len(list.Backups) != len(ms) {
		t.Fatalf("%d backups, error %v", len(list.Backups), err)
	}
	for _, m := range ms {
		p.checkBackup(t, newCluster(5), m)
	}
}

func TestWrongIncarnation(t *testing.T) {
	p, c := newPlace(t), newCluster(6)
	for _, change := range []func(*Options){
		func(o *Options) { o.Incarnation.SystemID++ },
		func(o *Options) { o.Incarnation.SegmentSize *= 2 },
		func(o *Options) { o.Incarnation.Major++ },
	} {
		o := p.options(c)
		change(&o)
		var wrong *IdentityError
		if _, err := Take(context.Background(), o); !errors.As(err, &wrong) || wrong.Hint() == "" {
			t.Errorf("error %v", err)
		}
	}
	if keys := p.keys(t, "backups/"); len(keys) != 0 {
		t.Errorf("claims of refused backups: %q", keys)
	}
}

// TestMissingWALSegment: a hole in the WAL of the backup is never published over.
func TestMissingWALSegment(t *testing.T) {
	for _, remove := range []int{1, 2, 3} {
		p, c := newPlace(t), newCluster(7)
		c.archives, c.refuseFetch = true, errors.New("gone")
		p.archiveAll(t, c)
		seg := c.wal.Complete()[remove]
		var key string
		for _, k := range p.keys(t, "wal/") {
			if strings.HasSuffix(k, seg.Name()) {
				key = k
			}
		}
		if err := p.store.Delete(context.Background(), key); err != nil || key == "" {
			t.Fatal(key, err)
		}
		var missing *WALError
		_, err := Take(context.Background(), p.options(c))
		if !errors.As(err, &missing) || missing.Segment != seg {
			t.Errorf("without %s: error %v", seg.Name(), err)
		}
	}
}

func TestList(t *testing.T) {
	ctx := context.Background()
	p, c := newPlace(t), newCluster(8)
	list, err := List(ctx, p.repo, p.inc)
	if err != nil || len(list.Backups)+len(list.Incomplete)+len(list.Unreadable) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	o := p.options(c)
	var ids []string
	for i := range 4 {
		o.now = func() time.Time { return time.Date(2026, 11, 22, 21, 30, i, 0, time.UTC) }
		m, err := Take(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	if err := p.store.Delete(ctx, ManifestKey(p.inc, ids[1])); err != nil {
		t.Fatal(err)
	}
	damage(t, p, ManifestKey(p.inc, ids[2]))
	list, err = List(ctx, p.repo, p.inc)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Backups) != 2 || list.Backups[0].ID != ids[0] || list.Backups[1].ID != ids[3] {
		t.Errorf("backups %+v", list.Backups)
	}
	if len(list.Incomplete) != 1 || list.Incomplete[0].ID != ids[1] || list.Incomplete[0].PID == 0 {
		t.Errorf("incomplete %+v", list.Incomplete)
	}
	if len(list.Unreadable) != 1 || list.Unreadable[0].ID != ids[2] {
		t.Errorf("unreadable %+v", list.Unreadable)
	}
	var missing *NotFoundError
	if _, err := Load(ctx, p.repo, p.inc, ids[1]); !errors.As(err, &missing) || !missing.Incomplete {
		t.Errorf("load of an incomplete backup: %v", err)
	}
	if _, err := Load(ctx, p.repo, p.inc, "20261122T213000Z-zzzz"); !errors.As(err, &missing) || missing.Incomplete {
		t.Errorf("load of no backup: %v", err)
	}
	if _, err := Load(ctx, p.repo, p.inc, "../../etc"); err == nil {
		t.Error("an id that is none was accepted")
	}
}

// damage flips a bit in the middle of an object.
func damage(t *testing.T, p *place, key string) {
	t.Helper()
	ctx := context.Background()
	b, err := storage.ReadAll(ctx, p.store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := p.store.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if err := storage.PutBytes(ctx, p.store, key, b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestDamageIsFound: no damaged object of a backup is ever read as if it were whole.
func TestDamageIsFound(t *testing.T) {
	ctx := context.Background()
	p, c := newPlace(t), newCluster(9)
	m, err := Take(ctx, p.options(c))
	if err != nil {
		t.Fatal(err)
	}
	readAll := func() error {
		for e, err := range ReadFiles(ctx, p.repo, p.inc, m) {
			if err != nil {
				return err
			}
			if e.Kind != KindFile {
				continue
			}
			r := OpenFile(ctx, p.repo, p.inc, m, e)
			buf := make([]byte, 64<<10)
			for err == nil {
				_, err = r.Read(buf)
			}
			_ = r.Close()
			if err.Error() != "EOF" {
				return err
			}
		}
		return nil
	}
	if err := readAll(); err != nil {
		t.Fatal(err)
	}
	keys := append(p.keys(t, "packs/"), p.keys(t, "extents/")...)
	for _, key := range keys {
		whole, err := storage.ReadAll(ctx, p.store, key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		damage(t, p, key)
		if err := readAll(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("damage in %s: error %v", key, err)
		}
		// Another pack in its place is no better than a damaged one.
		replace(t, p, key, nil)
		if err := readAll(); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("without %s: error %v", key, err)
		}
		replace(t, p, key, whole)
	}
	if err := readAll(); err != nil {
		t.Error(err)
	}
}

func replace(t *testing.T, p *place, key string, b []byte) {
	t.Helper()
	ctx := context.Background()
	if err := p.store.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	if b == nil {
		return
	}
	if err := storage.PutBytes(ctx, p.store, key, b, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}
