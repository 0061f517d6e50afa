package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/crc32c"
	"github.com/walden-pg/walden/replay/rate"
	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/names"
	"github.com/walden-pg/walden/wal/rollup"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	systemID = 7000000000000000001
	size     = wal.SegmentSize(1 << 20)
	// firstID and secondID are the backups' ids.
	firstID, secondID = "20261122T120100Z-aaaa", "20261122T130000Z-bbbb"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is a repository with objects of every kind, in order:
//
//	timeline 1   segments 1 to 5, backup "aaaa" in 2, a partial segment 6
//	timeline 2   splits off inside segment 6: segments 6 to 9, backup "bbbb" in 7,
//	             segment 10 in fragments
type world struct {
	t     testing.TB
	store *mem.Store
	repo  *repository.Repository
	inc   archive.Incarnation
	arch  *archive.Archive
	xid   uint32
	clock time.Time
	// files are what backups hold, by path.
	files map[string][]byte
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), xid: 700, clock: noon, files: map[string][]byte{}}
	var err error
	w.repo, _, err = repository.Init(t.Context(), w.store, repository.Options{Workers: 1})
	w.ok(err)
	w.inc, _, err = archive.CreateIncarnation(t.Context(), w.repo, "main", systemID, size, 17)
	w.ok(err)
	w.arch = archive.New(w.repo, w.inc)
	w.files["base/5/16384"] = filler(1, 100_000)
	w.files["base/5/16385"] = filler(2, 300_000)
	w.files["PG_VERSION"] = []byte("17\n")
	w.files["base/5/empty"] = nil

	one := waltest.NewBuilder(17, systemID, 1, size)
	w.commits(one, 3)
	one.FillSegment()
	w.backup(one, firstID)
	for range 3 {
		w.commits(one, 3)
		one.FillSegment()
	}
	w.seal(one)
	w.commits(one, 2)
	two := one.Fork(2, "no recovery target specified")
	w.commits(one, 1)
	w.partial(one)
	_, err = w.arch.PutHistory(t.Context(), 2, two.History().Encode())
	w.ok(err)
	two.EndOfRecovery(1, w.clock)
	w.commits(two, 3)
	two.FillSegment()
	w.backup(two, secondID)
	w.commits(two, 3)
	two.FillSegment()
	w.commits(two, 3)
	two.FillSegment()
	w.seal(two)
	w.commits(two, 4)
	w.fragments(two)
	w.namesSnapshots()
	for range 2 {
		w.ok(rate.Record(t.Context(), w.repo, w.inc, rate.Measurement{DownloadBytes: 1 << 30, DownloadSeconds: 10}))
	}
	_, err = rollup.Update(t.Context(), w.arch, rollup.NewStore(w.repo, w.inc), rollup.UpdateOptions{})
	w.ok(err)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// filler is content that does not get small when it is compressed.
func filler(seed byte, n int) []byte {
	b := make([]byte, 0, n+32)
	for sum := sha256.Sum256([]byte{seed}); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// commits writes some transactions, a minute apart, with so much between them that a
// segment's object is larger than what is read at once.
func (w *world) commits(b *waltest.Builder, n int) {
	for range n {
		w.clock = w.clock.Add(time.Minute)
		w.xid++
		b.Message(40_000)
		b.Commit(w.xid, w.clock)
	}
}

// seal archives all complete segments of a timeline.
func (w *world) seal(b *waltest.Builder) {
	w.t.Helper()
	for _, seg := range b.Complete() {
		_, err := w.arch.PutSegment(w.t.Context(), seg, bytes.NewReader(b.Bytes(seg)))
		w.ok(err)
	}
}

// partial archives the unfinished segment of a timeline that is left.
func (w *world) partial(b *waltest.Builder) {
	w.t.Helper()
	list := b.Segments()
	seg := list[len(list)-1]
	file := filepath.Join(w.t.TempDir(), seg.Name()+".partial")
	w.ok(os.WriteFile(file, b.Bytes(seg), 0o600))
	_, err := w.arch.Push(w.t.Context(), file, archive.PushOptions{})
	w.ok(err)
}

// fragments archives the unfinished segment in three pieces.
func (w *world) fragments(b *waltest.Builder) {
	w.t.Helper()
	seg := wal.SegmentAt(b.Timeline(), b.Position(), size)
	end := int64(b.Position() - seg.Start())
	at := []int64{0, end / 3, end * 2 / 3, end}
	for i := range 3 {
		_, err := w.arch.PutFragment(w.t.Context(), archive.Fragment{Segment: seg, From: at[i], To: at[i+1]}, bytes.NewReader(b.Bytes(seg)))
		w.ok(err)
	}
}

// backup takes a backup of w.files in a segment of its own.
func (w *world) backup(b *waltest.Builder, id string) {
	w.t.Helper()
	start, _ := b.CheckpointRedo()
	checkpoint, _ := b.OnlineCheckpoint(start, w.clock)
	w.commits(b, 1)
	_, stop := b.BackupEnd(start)
	w.clock = w.clock.Add(time.Second)
	m := &basebackup.Manifest{
		Format: basebackup.FormatVersion, ID: id, Cluster: "main", SystemID: systemID, Major: 17, ServerVersion: 170010, SegmentSize: size,
		Timeline: b.Timeline(), StartLSN: start, CheckpointLSN: checkpoint, StopLSN: stop, StopTimeline: b.Timeline(), Label: "walden " + id,
		StartTime: w.clock.Add(-2 * time.Second), StopTime: w.clock, BackupLabel: "START WAL LOCATION: " + start.String() + "\n",
	}
	w.claim(id)
	w.publish(m, nil)
	seg := wal.SegmentAt(b.Timeline(), start, size)
	text := fmt.Sprintf("START WAL LOCATION: %s (file %s)\nSTOP WAL LOCATION: %s (file %s)\nCHECKPOINT LOCATION: %s\nSTOP TIME: %s\nLABEL: %s\n",
		start, seg.Name(), stop, seg.Name(), checkpoint, w.clock.Format("2006-01-02 15:04:05 UTC"), m.Label)
	_, err := w.arch.PutBackupHistory(w.t.Context(), wal.File{
		Kind: wal.FileBackup, Segment: seg, Timeline: seg.Timeline, Offset: uint32(start - seg.Start()),
	}, []byte(text))
	w.ok(err)
	b.FillSegment()
}

func (w *world) segment(tli wal.TimelineID, number uint64) wal.Segment {
	return wal.Segment{Timeline: tli, Number: number, Size: size}
}

func (w *world) claim(id string) {
	w.t.Helper()
	b, err := json.Marshal(basebackup.Claim{Format: 1, ID: id, Cluster: "main", Host: "db1", PID: 4711, Start: w.clock, Walden: "test"})
	w.ok(err)
	w.put(basebackup.ClaimKey(w.inc, id), frame.KindClaim, b)
}

func (w *world) put(key string, kind frame.Kind, raw []byte, sections ...frame.Section) frame.Footer {
	w.t.Helper()
	f, err := w.repo.Put(w.t.Context(), key, raw, repository.ObjectOptions{Kind: kind, PageHash: kind == frame.KindPack}, sections...)
	w.ok(err)
	return f
}

// publish writes packs, tables and manifest. change, if not nil, may falsify entries.
func (w *world) publish(m *basebackup.Manifest, change func([]basebackup.FileEntry)) {
	w.t.Helper()
	w.files[basebackup.ManifestPath] = w.serverManifest(m)
	paths := []string{"PG_VERSION", "base/5/16384", "base/5/16385", "base/5/empty", basebackup.ManifestPath}
	entries := []basebackup.FileEntry{{Path: "base/5", Kind: basebackup.KindDir, Mode: 0o700}}
	var packs [2]bytes.Buffer
	for i, path := range paths {
		content := w.files[path]
		e := basebackup.FileEntry{Path: path, Kind: basebackup.KindFile, Mode: 0o600, Size: int64(len(content)), CRC: crc32c.Checksum(content)}
		if pack := &packs[i%2]; len(content) > 0 {
			pack.Write(make([]byte, -pack.Len()&(frame.PageSize-1)))
			e.Extents = []basebackup.Extent{{Pack: i % 2, Offset: int64(pack.Len()), Length: e.Size}}
			pack.Write(content)
		}
		m.Files++
		m.Bytes += e.Size
		entries = append(entries, e)
	}
	if change != nil {
		change(entries)
	}
	for n := range packs {
		f := w.put(basebackup.PackKey(w.inc, m.ID, n), frame.KindPack, packs[n].Bytes())
		m.Packs = append(m.Packs, basebackup.PackRef{Backup: m.ID, Number: n, Digest: hex.EncodeToString(f.StoredDigest[:]), Size: f.StoredSize(), Raw: f.RawLength})
	}
	for n, part := range [][]basebackup.FileEntry{entries[:3], entries[3:]} {
		var text bytes.Buffer
		for _, e := range part {
			line, err := json.Marshal(e)
			w.ok(err)
			text.Write(append(line, '\n'))
		}
		f := w.put(basebackup.ShardKey(w.inc, m.ID, n), frame.KindExtents, text.Bytes())
		m.Shards = append(m.Shards, basebackup.ShardRef{Backup: m.ID, Number: n, Digest: hex.EncodeToString(f.StoredDigest[:]), Size: f.StoredSize(), Entries: len(part)})
	}
	b, err := json.Marshal(m)
	w.ok(err)
	w.put(basebackup.ManifestKey(w.inc, m.ID), frame.KindManifest, b)
}

// serverManifest is PostgreSQL's backup_manifest of w.files.
func (w *world) serverManifest(m *basebackup.Manifest) []byte {
	var lines []string
	for _, path := range []string{"PG_VERSION", "base/5/16384", "base/5/16385", "base/5/empty"} {
		content := w.files[path]
		lines = append(lines, fmt.Sprintf(`{ "Path": %q, "Size": %d, "Last-Modified": "2026-11-22 12:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "%08x" }`,
			path, len(content), bits.ReverseBytes32(crc32c.Checksum(content))))
	}
	body := fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [\n%s\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": %q, \"End-LSN\": %q }\n],\n",
		uint64(systemID), strings.Join(lines, ",\n"), m.Timeline, m.StartLSN, m.StopLSN)
	return fmt.Appendf(nil, "%s\"Manifest-Checksum\": \"%x\"}\n", body, sha256.Sum256([]byte(body)))
}

// namesSnapshots stores two, of which the second refers to the first's chunk. They are
// written as docs/format-names.md says.
func (w *world) namesSnapshots() {
	w.t.Helper()
	var ids []names.ID
	for i := range 2 {
		id := names.ID{Time: noon.Add(time.Duration(i) * time.Hour), Timeline: wal.TimelineID(i + 1), LSN: wal.LSN(0x300000 * (i + 1))}
		ids = append(ids, id)
		var chunk []byte
		if i == 0 {
			chunk = uints([]byte{1}, 4, 0, 1, 0)
			chunk = append(chunk, 'r')
			chunk = uints(chunk, 2200, 1, 0, 0, 6)
			chunk = append(chunk, "orders"...)
		}
		d := identify([]byte{1}, id)
		d = uints(d, 0x100, 170010, uint64(i))
		if i == 1 {
			d = identify(d, ids[0])
		}
		d = uints(d, 1, 4)
		d = append(d, "0123456789abcdef"...)
		length := uint64(18)
		d = uints(d, uint64(i), 0, length)
		d = uints(d, 0, 1, 5, 3)
		d = append(d, "app"...)
		d = append(uints(d, 1663), 0)
		d = uints(d, 1, 0)
		if i == 0 && uint64(len(chunk)) != length {
			w.t.Fatalf("the chunk has %d bytes, not %d", len(chunk), length)
		}
		w.put(id.Key(w.inc), frame.KindNames, chunk, frame.Section{Type: names.SectionDirectory, Data: d})
	}
}

func uints(b []byte, list ...uint64) []byte {
	for _, v := range list {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func identify(b []byte, id names.ID) []byte {
	b = binary.AppendVarint(b, id.Time.UnixMilli())
	return uints(b, uint64(id.Timeline), uint64(id.LSN))
}

// options for a run; nothing is waited for.
func options() verify.Options {
	return verify.Options{Cluster: "main", Patience: -1, Repository: repository.Options{Workers: 1}}
}

func run(t testing.TB, s storage.Store, o verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Run(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clean fails the test unless a run finds nothing.
func clean(t testing.TB, s storage.Store, o verify.Options) *verify.Report {
	t.Helper()
	r := run(t, s, o)
	for _, f := range r.Findings {
		t.Errorf("%s: %s; %s", f.Object, f.Problem, f.Consequence)
	}
	if !r.Complete {
		t.Errorf("incomplete: %s", r.Error)
	}
	return r
}

// read returns a stored object's bytes.
func read(t testing.TB, s storage.Store, key string) []byte {
	t.Helper()
	b, err := storage.ReadAll(t.Context(), s, key, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keysOf lists the keys that begin with a prefix.
func keysOf(t testing.TB, s storage.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(context.Background(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}
