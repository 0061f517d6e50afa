package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
)

var errInjected = errors.New("injected fault")

// faultDisk counts the steps and makes them fail: step number at and, if dead,
// all after it, as when the process is killed there.
type faultDisk struct {
	tempDisk
	mu     sync.Mutex
	steps  int
	at     int // -1: never
	dead   bool
	failed bool
	open   int
	most   int // files open at once
}

func (d *faultDisk) step() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.steps
	d.steps++
	if d.at >= 0 && (n == d.at || d.dead && n > d.at) {
		d.failed = true
		return errInjected
	}
	return nil
}

func (d *faultDisk) counted(h handle, err error) (handle, error) {
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	d.most = max(d.most, d.open)
	return &faultHandle{h, d}, nil
}

func (d *faultDisk) Mkdir(path string, mode fs.FileMode) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Mkdir(path, mode)
}

func (d *faultDisk) Create(path string, mode fs.FileMode) (handle, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	return d.counted(d.tempDisk.Create(path, mode))
}

func (d *faultDisk) Open(path string) (handle, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	return d.counted(d.tempDisk.Open(path))
}

func (d *faultDisk) Symlink(target, path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Symlink(target, path)
}

func (d *faultDisk) Chmod(path string, mode fs.FileMode) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Chmod(path, mode)
}

func (d *faultDisk) Chown(path string, uid, gid int) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Chown(path, uid, gid)
}

func (d *faultDisk) Chtimes(path string, when time.Time) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Chtimes(path, when)
}

func (d *faultDisk) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Rename(from, to)
}

func (d *faultDisk) Remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.Remove(path)
}

// RemoveAll stops half-way when it fails.
func (d *faultDisk) RemoveAll(path string) error {
	if err := d.step(); err != nil {
		if entries, readErr := os.ReadDir(path); readErr == nil && len(entries) > 0 {
			os.RemoveAll(filepath.Join(path, entries[0].Name()))
		}
		return err
	}
	return d.tempDisk.RemoveAll(path)
}

func (d *faultDisk) SyncDir(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.tempDisk.SyncDir(path)
}

type faultHandle struct {
	handle
	disk *faultDisk
}

// WriteAt writes a part when it fails, as a full disk does.
func (h *faultHandle) WriteAt(b []byte, off int64) (int, error) {
	if err := h.disk.step(); err != nil {
		n, _ := h.handle.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return h.handle.WriteAt(b, off)
}

func (h *faultHandle) Truncate(size int64) error {
	if err := h.disk.step(); err != nil {
		return err
	}
	return h.handle.Truncate(size)
}

func (h *faultHandle) Sync() error {
	if err := h.disk.step(); err != nil {
		return err
	}
	return h.handle.Sync()
}

func (h *faultHandle) Chmod(mode fs.FileMode) error {
	if err := h.disk.step(); err != nil {
		return err
	}
	return h.handle.Chmod(mode)
}

func (h *faultHandle) Close() error {
	h.disk.mu.Lock()
	h.disk.open--
	h.disk.mu.Unlock()
	return h.handle.Close()
}

// Each step of a restore fails once, and the process dies at each: the error is
// told, no server can start on what is left unless it is complete, and the same
// restore then succeeds; so does one that is interrupted twice.
func TestEveryStepFails(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	fo := fixtureOptions{packSize: 16 << 10, shardSize: 9, config: true}
	f := newFixture(t, fo)
	f.publish(fo)
	counting := &faultDisk{at: -1}
	if _, err := run(t.Context(), f.repo, f.plan(), f.options(t), counting); err != nil {
		t.Fatal(err)
	}
	if counting.open != 0 {
		t.Errorf("%d files were left open", counting.open)
	}
	if counting.steps < 150 {
		t.Fatalf("only %d steps", counting.steps)
	}
	for _, dead := range []bool{false, true} {
		for at := range counting.steps - 1 { // the last one is not needed any more
			d := &faultDisk{at: at, dead: dead}
			f.interrupt(t, d, f.options(t))
			if t.Failed() {
				t.Fatalf("step %d, dead %v", at, dead)
			}
		}
	}
}

// interrupt runs a restore that fails, or dies and then a second that dies while
// it removes what the first left, and last one that must succeed.
func (f *fixture) interrupt(t *testing.T, d *faultDisk, o Options) {
	t.Helper()
	if _, err := run(t.Context(), f.repo, f.plan(), o, d); !errors.Is(err, errInjected) {
		t.Errorf("error %v", err)
	}
	if d.open != 0 {
		t.Errorf("%d files were left open", d.open)
	}
	f.wholeOrUnstartable(t, o)
	if d.dead && d.at%3 == 0 {
		again := &faultDisk{at: d.at % 40, dead: true}
		if _, err := run(t.Context(), f.repo, f.plan(), o, again); !errors.Is(err, errInjected) {
			t.Errorf("second error %v", err)
		}
		f.wholeOrUnstartable(t, o)
	}
	if _, err := f.restore(t, o); err != nil {
		t.Error(err)
		return
	}
	f.check(t, o)
	for _, dir := range []string{o.To, o.To + ".config", o.Tablespaces["/srv/ts"]} {
		if slices.Contains(namesIn(t, dir), MarkerName) {
			t.Errorf("%s is still marked", dir)
		}
	}
}

// A restore that is killed while it removes its marks, and again at any step of
// clearing what it left, can be run once more: it still knows all it has written.
func TestKilledAtTheEndAndAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	fo := fixtureOptions{config: true}
	f := newFixture(t, fo)
	f.publish(fo)
	counting := &faultDisk{at: -1}
	if _, err := run(t.Context(), f.repo, f.plan(), f.options(t), counting); err != nil {
		t.Fatal(err)
	}
	// The marks are removed and synced one by one, that of the data directory last.
	for at := counting.steps - 6; at < counting.steps-1; at++ {
		for second := range 24 {
			o := f.options(t)
			if _, err := run(t.Context(), f.repo, f.plan(), o, &faultDisk{at: at, dead: true}); !errors.Is(err, errInjected) {
				t.Fatalf("step %d: %v", at, err)
			}
			again := &faultDisk{at: second, dead: true}
			_, _ = run(t.Context(), f.repo, f.plan(), o, again)
			f.wholeOrUnstartable(t, o)
			if _, err := f.restore(t, o); err != nil {
				t.Fatalf("killed at step %d, then at step %d: %v", at, second, err)
			}
			// By then everything is marked anew.
			if !again.failed {
				break
			}
		}
	}
}

// wholeOrUnstartable allows a pg_control only where everything else is in place.
func (f *fixture) wholeOrUnstartable(t *testing.T, o Options) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(o.To, "global", "pg_control")); err != nil {
		unstartable(t, o.To)
		return
	}
	for _, name := range []string{"backup_label", "PG_VERSION", "recovery.signal", "pg_tblspc/16400/PG_17_202406281/5/1", "base/1/2601"} {
		if _, err := os.Stat(filepath.Join(o.To, name)); err != nil {
			t.Errorf("a pg_control, but: %v", err)
		}
	}
}

// A restore that is begun again with other places for its tablespaces cleans
// the ones it had begun with.
func TestOtherPlacesTheSecondTime(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	if _, err := run(t.Context(), f.repo, f.plan(), o, &faultDisk{at: 60, dead: true}); err == nil {
		t.Fatal("no error")
	}
	before := o.Tablespaces["/srv/ts"]
	o.Tablespaces = map[string]string{"/srv/ts": before + "2"}
	if _, err := f.restore(t, o); err != nil {
		t.Fatal(err)
	}
	f.check(t, o)
	if names := namesIn(t, before); len(names) != 0 {
		t.Errorf("%s still holds %v", before, names)
	}
}

// A tablespace's directory that another, interrupted restore works on is not
// taken from it.
func TestPlaceOfAnotherRestore(t *testing.T) {
	fo := fixtureOptions{}
	f := newFixture(t, fo)
	f.publish(fo)
	o := f.options(t)
	if _, err := run(t.Context(), f.repo, f.plan(), o, &faultDisk{at: 60, dead: true}); err == nil {
		t.Fatal("no error")
	}
	other := o
	other.To += "-other"
	var refused *TargetError
	if _, err := f.restore(t, other); !errors.As(err, &refused) {
		t.Fatalf("error %v", err)
	}
	// But once that one is gone it may be.
	if err := os.RemoveAll(o.To); err != nil {
		t.Fatal(err)
	}
	if _, err := f.restore(t, other); err != nil {
		t.Fatal(err)
	}
	f.check(t, other)
}

// Many files whose pieces lie far apart: the number of open files is bounded.
func TestOpenFilesAreBounded(t *testing.T) {
	fo := fixtureOptions{packSize: 1 << 20, pieceSize: 8192, shuffle: true}
	f := newFixture(t, fo)
	for i := range 4 * maxFinished {
		f.add(basebackup.FileEntry{Path: "base/5/" + itoa(i), Kind: basebackup.KindFile, Mode: 0o600}, random(uint64(i), 3*8192+i))
	}
	f.publish(fo)
	o := f.options(t)
	o.Jobs = 3
	d := &faultDisk{at: -1}
	if _, err := run(t.Context(), f.repo, f.plan(), o, d); err != nil {
		t.Fatal(err)
	}
	f.check(t, o)
	if d.most > maxParked+2*maxFinished+2*o.Jobs || d.open != 0 {
		t.Errorf("%d files were open at once, %d at the end", d.most, d.open)
	}
}
