package restore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

const (
	testID     = "20261122T213000Z-k3f9"
	testSystem = 7345001122334455667
)

// fixture is a backup made by hand: no other package's idea of how one is
// written is needed to test how it is read.
type fixture struct {
	t        testing.TB
	store    *mem.Store
	repo     *repository.Repository
	inc      archive.Incarnation
	manifest *basebackup.Manifest
	entries  []basebackup.FileEntry
	content  map[string][]byte // by the path in the backup
	modTime  time.Time
}

// fixtureOptions say how the bytes lie in packs.
type fixtureOptions struct {
	codec frame.Codec
	// packSize is how many raw bytes a pack takes, pieceSize how long an
	// extent may be; 0: no limit.
	packSize, pieceSize int64
	// shuffle writes the pieces of all files in random order.
	shuffle bool
	// shardSize is how many entries a shard takes; 0: no limit.
	shardSize int
	config    bool // with configuration files outside the data directory
	mode750   bool
}

func newFixture(t testing.TB, o fixtureOptions) *fixture {
	t.Helper()
	f := &fixture{t: t, store: mem.New(), content: map[string][]byte{}, modTime: time.Date(2026, 11, 22, 21, 30, 5, 0, time.UTC)}
	var err error
	if f.repo, _, err = repository.Init(t.Context(), f.store, repository.Options{Codec: o.codec, Workers: 2}); err != nil {
		t.Fatal(err)
	}
	if f.inc, _, err = archive.CreateIncarnation(t.Context(), f.repo, "main", testSystem, 1<<20, 15); err != nil {
		t.Fatal(err)
	}
	f.manifest = &basebackup.Manifest{
		Format: basebackup.FormatVersion, ID: testID, Cluster: "main", SystemID: testSystem, Major: 17, ServerVersion: 170011, SegmentSize: 1 << 20,
		Timeline: 1, StartLSN: 0x700028, CheckpointLSN: 0x700060, StopLSN: 0x700100, StopTimeline: 1,
		Settings: map[string]string{"data_directory": "/var/lib/pg"},
		Tablespaces: []basebackup.Tablespace{
			{OID: 16400, Location: "/srv/ts", Size: 8192},
			{OID: 16401, Location: "pg_tblspc/16401", InPlace: true},
		},
	}
	f.addStandard(o)
	return f
}

// addStandard adds what a cluster has, at least.
func (f *fixture) addStandard(o fixtureOptions) {
	mode := uint32(0o600)
	dirMode := uint32(0o700)
	if o.mode750 {
		mode, dirMode = 0o640, 0o750
	}
	for _, d := range []string{"base", "base/1", "global", "pg_wal", "pg_wal/archive_status", "pg_tblspc", "pg_tblspc/16401", "pg_tblspc/16401/PG_17_202406281"} {
		f.entries = append(f.entries, basebackup.FileEntry{Path: d, Kind: basebackup.KindDir, Mode: dirMode, ModTime: f.modTime})
	}
	add := func(path, text string) {
		f.add(basebackup.FileEntry{Path: path, Kind: basebackup.KindFile, Mode: mode}, []byte(text))
	}
	add("backup_label", "START WAL LOCATION: 0/700028 (file 000000010000000000000007)\n")
	add("PG_VERSION", "17\n")
	add("postgresql.auto.conf", "# Do not edit\nrecovery_target_name = 'older'\narchive_mode = 'always'")
	add("standby.signal", "")
	add("base/1/1259", "")
	add("base/1/PG_VERSION", "17\n")
	add("base/1/with 'quote", "odd")
	add("base/1/\xff\xfe", "not UTF-8")
	f.add(basebackup.FileEntry{Path: "base/1/2600", Kind: basebackup.KindFile, Mode: mode}, random(1, 8192))
	f.add(basebackup.FileEntry{Path: "base/1/2601", Kind: basebackup.KindFile, Mode: mode}, random(2, 8193))
	f.add(basebackup.FileEntry{Path: "base/1/2602", Kind: basebackup.KindFile, Mode: mode}, random(3, 8191))
	f.entries = append(f.entries, basebackup.FileEntry{Path: "pg_tblspc/16400", Kind: basebackup.KindSymlink, Mode: 0o777, Target: "/srv/ts"})
	f.add(basebackup.FileEntry{Path: "pg_tblspc/16400/PG_17_202406281/5/1", Kind: basebackup.KindFile, Mode: mode}, random(4, 20000))
	f.add(basebackup.FileEntry{Path: "pg_tblspc/16401/PG_17_202406281/2", Kind: basebackup.KindFile, Mode: mode}, random(5, 10))
	if o.config {
		f.manifest.Settings["config_file"] = "/etc/pg/main.conf"
		f.manifest.Settings["hba_file"] = "/etc/hba/pg_hba.conf"
		f.manifest.Settings["external_pid_file"] = "/run/pg.pid"
		for _, path := range []string{"/etc/pg/main.conf", "/etc/pg/conf.d/more.conf", "/etc/hba/pg_hba.conf", "/opt/shared.conf"} {
			text := "# " + path + "\n"
			if path == "/etc/pg/main.conf" {
				text += "include_dir 'conf.d'\ninclude_dir = 'empty.d'\ninclude_dir '/etc/elsewhere'\ninclude_dir '../above'\n"
			}
			f.add(basebackup.FileEntry{Path: path, Kind: basebackup.KindConfig}, []byte(text))
			f.manifest.ConfigFiles = append(f.manifest.ConfigFiles, path)
		}
	}
	f.add(basebackup.FileEntry{Path: "global/pg_control", Kind: basebackup.KindFile, Mode: mode}, controlFile())
	f.add(basebackup.FileEntry{Path: "backup_manifest", Kind: basebackup.KindFile, Mode: mode}, []byte("{}\n"))
}

func (f *fixture) add(e basebackup.FileEntry, content []byte) {
	e.Size, e.CRC, e.ModTime = int64(len(content)), crc32c.Checksum(content), f.modTime
	f.entries = append(f.entries, e)
	f.content[e.Path] = content
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = "abcdefgh"[r.IntN(8)]
	}
	return b
}

// controlFile is that of a PostgreSQL 17 cluster.
func controlFile() []byte {
	b := make([]byte, 8192)
	u32 := func(off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
	binary.LittleEndian.PutUint64(b, testSystem)
	u32(8, 1700)
	u32(12, 202406281)
	u32(16, 6)
	binary.LittleEndian.PutUint64(b[32:], 0x700060)
	binary.LittleEndian.PutUint64(b[40:], 0x700028)
	u32(48, 1)
	u32(52, 1)
	u32(216, 8192)
	u32(220, 131072)
	u32(224, 8192)
	u32(228, 1<<20)
	u32(288, crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// publish writes packs, shards and the manifest.
func (f *fixture) publish(o fixtureOptions) {
	f.t.Helper()
	type chunk struct {
		entry  int
		at, to int64
	}
	var chunks []chunk
	for i := range f.entries {
		e := &f.entries[i]
		size := e.Size
		for at := int64(0); at < size; {
			to := size
			if o.pieceSize > 0 {
				to = min(size, at+o.pieceSize)
			}
			chunks = append(chunks, chunk{i, at, to})
			at = to
		}
		e.Extents = nil
	}
	if o.shuffle {
		rand.New(rand.NewPCG(7, 7)).Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
	}
	extents := map[int]map[int64]basebackup.Extent{}
	var w *repository.ObjectWriter
	number := 0
	for _, c := range chunks {
		if w != nil && o.packSize > 0 && w.Offset() >= o.packSize {
			f.finishPack(w, number)
			w = nil
			number++
		}
		if w == nil {
			var err error
			if w, err = f.repo.Create(f.t.Context(), basebackup.PackKey(f.inc, testID, number), repository.ObjectOptions{Kind: frame.KindPack, PageHash: true}); err != nil {
				f.t.Fatal(err)
			}
		}
		if err := w.Align(); err != nil {
			f.t.Fatal(err)
		}
		if extents[c.entry] == nil {
			extents[c.entry] = map[int64]basebackup.Extent{}
		}
		extents[c.entry][c.at] = basebackup.Extent{Pack: number, Offset: w.Offset(), Length: c.to - c.at}
		if _, err := w.Write(f.content[f.entries[c.entry].Path][c.at:c.to]); err != nil {
			f.t.Fatal(err)
		}
	}
	f.finishPack(w, number)
	for i := range f.entries {
		e := &f.entries[i]
		for at := int64(0); at < e.Size; {
			x := extents[i][at]
			e.Extents = append(e.Extents, x)
			at += x.Length
		}
		if e.Kind == basebackup.KindFile || e.Kind == basebackup.KindConfig {
			f.manifest.Files++
			f.manifest.Bytes += e.Size
		}
	}
	f.writeTables(o.shardSize)
}

func (f *fixture) finishPack(w *repository.ObjectWriter, number int) {
	f.t.Helper()
	raw := w.Offset()
	footer, err := w.Commit()
	if err != nil {
		f.t.Fatal(err)
	}
	f.manifest.Packs = append(f.manifest.Packs, basebackup.PackRef{
		Backup: testID, Number: number, Digest: hex.EncodeToString(footer.StoredDigest[:]), Size: footer.StoredSize(), Raw: raw,
	})
}

// writeTables writes shards and the manifest, replacing those that are there.
func (f *fixture) writeTables(shardSize int) {
	f.t.Helper()
	if shardSize == 0 {
		shardSize = len(f.entries)
	}
	f.manifest.Shards = nil
	for n := 0; n*shardSize < len(f.entries); n++ {
		part := f.entries[n*shardSize : min((n+1)*shardSize, len(f.entries))]
		var text bytes.Buffer
		for _, e := range part {
			line, err := json.Marshal(e)
			if err != nil {
				f.t.Fatal(err)
			}
			text.Write(append(line, '\n'))
		}
		footer := f.put(basebackup.ShardKey(f.inc, testID, n), frame.KindExtents, text.Bytes())
		f.manifest.Shards = append(f.manifest.Shards, basebackup.ShardRef{
			Backup: testID, Number: n, Digest: hex.EncodeToString(footer.StoredDigest[:]), Size: footer.StoredSize(), Entries: len(part),
		})
	}
	b, err := json.Marshal(f.manifest)
	if err != nil {
		f.t.Fatal(err)
	}
	f.put(basebackup.ManifestKey(f.inc, testID), frame.KindManifest, b)
}

func (f *fixture) put(key string, kind frame.Kind, raw []byte) frame.Footer {
	f.t.Helper()
	if err := f.store.Delete(f.t.Context(), key); err != nil {
		f.t.Fatal(err)
	}
	footer, err := f.repo.Put(f.t.Context(), key, raw, repository.ObjectOptions{Kind: kind})
	if err != nil {
		f.t.Fatal(err)
	}
	return footer
}

func (f *fixture) plan() *plan.Plan {
	return &plan.Plan{
		Cluster: "main", Incarnation: f.inc.Number, SystemID: testSystem, Target: "time 2026-11-22 22:00:00+00", TargetKind: plan.Time,
		Backup: catalog.Backup{ID: testID}, Timeline: 1,
		Settings: []plan.Setting{
			{Name: "recovery_target_time", Value: "2026-11-22 22:00:00+00"}, {Name: "recovery_target_timeline", Value: "1"},
			{Name: "recovery_target_inclusive", Value: "on"},
		},
	}
}

// options restore below a new directory.
func (f *fixture) options(t testing.TB) Options {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		To: filepath.Join(base, "data"), Tablespaces: map[string]string{"/srv/ts": filepath.Join(base, "ts")},
		RestoreCommand: `walden wal-get %f "%p"`, Owner: testOwner(),
	}
}

// testOwner is a user that root can give files to.
func testOwner() string {
	if os.Geteuid() == 0 {
		return "65534"
	}
	return ""
}

// tempDisk does everything but waiting for the disk.
type tempDisk struct{ osDisk }

func (d tempDisk) Create(path string, mode os.FileMode) (handle, error) {
	h, err := d.osDisk.Create(path, mode)
	return quick{h}, err
}

func (d tempDisk) Open(path string) (handle, error) {
	h, err := d.osDisk.Open(path)
	return quick{h}, err
}

func (tempDisk) SyncDir(path string) error {
	_, err := os.Stat(path)
	return err
}

type quick struct{ handle }

func (quick) Sync() error { return nil }

func (f *fixture) restore(t *testing.T, o Options) (*Result, error) {
	t.Helper()
	return run(t.Context(), f.repo, f.plan(), o, tempDisk{})
}

// check compares a restored directory with what was backed up.
func (f *fixture) check(t *testing.T, o Options) {
	t.Helper()
	expected := map[string]bool{}
	for _, e := range f.entries {
		if e.Kind != basebackup.KindFile {
			continue
		}
		at := filepath.Join(o.To, filepath.FromSlash(e.Path))
		expected[at] = true
		switch e.Path {
		case "standby.signal", "recovery.signal":
			expected[at] = false
			continue
		case "postgresql.auto.conf":
			continue
		}
		info, err := os.Stat(at)
		if err != nil {
			t.Error(err)
			continue
		}
		want := f.content[e.Path]
		if o.Databases.IsHollow(e.Path) {
			want = make([]byte, e.Size)
		}
		if got, err := os.ReadFile(at); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other content than was backed up (%v)", e.Path, err)
		}
		if uint32(info.Mode().Perm()) != e.Mode || !info.ModTime().Equal(e.ModTime) {
			t.Errorf("%s: mode %v, time %v", e.Path, info.Mode(), info.ModTime())
		}
	}
	expected[filepath.Join(o.To, "recovery.signal")] = true
	err := filepath.WalkDir(o.To, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !expected[path] {
			t.Errorf("%s should not be there", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for old, to := range o.Tablespaces {
		if names := namesIn(t, to); len(names) != 1 {
			t.Errorf("tablespace %s holds %v", old, names)
		}
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// unstartable makes sure that no server can start on what a failed restore left.
func unstartable(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, "global", "pg_control")); err == nil {
		t.Error("there is a pg_control")
	}
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		if _, err := os.Stat(filepath.Join(dir, MarkerName)); err != nil && !strings.HasPrefix(names[0].Name(), MarkerName) {
			t.Errorf("files without a mark: %v", names)
		}
	}
}
