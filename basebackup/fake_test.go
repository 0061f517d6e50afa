package basebackup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

const (
	testSystem  = 7345678901234567890
	testSegment = wal.SegmentSize(1 << 20)
	testVersion = 170010
)

// testFile is a file of the invented cluster.
type testFile struct {
	path    string
	content []byte
}

// cluster is an invented server: Source, Server and Reservation in one. Its
// WAL is real, down to the CRCs.
type cluster struct {
	files       []testFile
	start, stop wal.LSN
	wal         *waltest.Builder
	archives    bool
	configs     []ConfigFile

	breakSource  error                       // Run returns it after half of the files
	editManifest func(text string) string    // what the server says differs from what it sends
	editFile     func(path string, b []byte) // what it sends differs from what it says
	noSlot       error
	refuseFetch  error
	systemID     uint64 // what the source says; 0: testSystem
	released     bool
	labelled     string
	whileCopying func()
}

// newCluster invents files of many sizes and WAL around a backup.
func newCluster(seed uint64) *cluster {
	random := rand.NewChaCha8([32]byte{byte(seed)})
	number := rand.New(random)
	c := &cluster{wal: waltest.NewBuilder(testVersion/10000, testSystem, 1, testSegment)}
	at := time.Unix(1_790_000_000, 0)
	c.wal.Commit(700, at)
	c.wal.Switch()
	c.start, _ = c.wal.CheckpointRedo()
	c.wal.OnlineCheckpoint(c.start, at)
	for i := range 60 {
		c.wal.Message(50_000)
		c.wal.Commit(uint32(701+i), at.Add(time.Duration(i)*time.Second))
	}
	_, c.stop = c.wal.BackupEnd(c.start)
	c.wal.Switch()
	for i := range 40 {
		b := make([]byte, []int{0, 1, 8191, 8192, 8193, 50_000, 300_000}[number.IntN(7)])
		_, _ = random.Read(b)
		c.files = append(c.files, testFile{fmt.Sprintf("base/5/%d", 16384+i), b})
	}
	big := make([]byte, 3_000_000)
	_, _ = random.Read(big[:1_000_000])
	c.files = append(c.files, testFile{"base/5/20000", big}, testFile{"base/5/b\xffd", []byte("x")},
		testFile{"pg_tblspc/16400/PG_17_202406281/5/1", []byte("in a tablespace")}, testFile{"global/pg_control", make([]byte, 8192)})
	return c
}

// newSmallCluster is one whose backup still takes every kind of step.
func newSmallCluster() *cluster {
	c := newCluster(3)
	c.files = c.files[len(c.files)-6:]
	c.files[2].content = c.files[2].content[:1_100_000]
	return c
}

func (c *cluster) label() string {
	seg := wal.SegmentAt(1, c.start, testSegment)
	return fmt.Sprintf("START WAL LOCATION: %s (file %s)\nCHECKPOINT LOCATION: %s\nBACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-22 21:30:00 UTC\nLABEL: %s\nSTART TIMELINE: 1\n",
		c.start, seg.Name(), c.start+64, c.labelled)
}

// serverManifest is the backup_manifest that PostgreSQL would write.
func serverManifestText(files []testFile, start, stop wal.LSN) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [", uint64(testSystem))
	for i, f := range files {
		b.WriteString(map[bool]string{true: "\n", false: ",\n"}[i == 0])
		name := fmt.Sprintf("\"Path\": %q", f.path)
		if strings.Contains(f.path, "\xff") {
			name = fmt.Sprintf("\"Encoded-Path\": \"%x\"", f.path)
		}
		fmt.Fprintf(&b, "{ %s, \"Size\": %d, \"Last-Modified\": \"2026-11-22 21:30:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%08x\" }",
			name, len(f.content), bits.ReverseBytes32(crc32.Checksum(f.content, castagnoli)))
	}
	fmt.Fprintf(&b, "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": %q, \"End-LSN\": %q }\n],\n", start, stop)
	return withChecksum(b.String())
}

func withChecksum(body string) string {
	return fmt.Sprintf("%s\"Manifest-Checksum\": \"%x\"}\n", body, sha256.Sum256([]byte(body)))
}

// Run implements Source.
func (c *cluster) Run(ctx context.Context, o SourceOptions, sink Sink) error {
	c.labelled = o.Label
	id := c.systemID
	if id == 0 {
		id = testSystem
	}
	var total int64
	for _, f := range c.files {
		total += int64(len(f.content))
	}
	if err := sink.Begin(StartInfo{
		SystemID: id, Timeline: 1, StartLSN: c.start, ServerVersion: testVersion, Estimate: total,
		Tablespaces: []Tablespace{{OID: 16400, Location: "/mnt/fast", Size: 8192}},
	}); err != nil {
		return err
	}
	files := append([]testFile{{"backup_label", []byte(c.label())}}, c.files...)
	mtime := time.Unix(1_700_000_000, 0)
	for _, dir := range []string{"base", "base/5", "pg_wal"} {
		if err := sink.Directory(Header{Path: dir, Mode: 0o700, ModTime: mtime}); err != nil {
			return err
		}
	}
	if err := sink.Symlink(Header{Path: "pg_tblspc/16400", Mode: 0o777, Target: "/mnt/fast"}); err != nil {
		return err
	}
	for i, f := range files {
		if c.breakSource != nil && i == len(files)/2 {
			return c.breakSource
		}
		if c.whileCopying != nil {
			c.whileCopying()
		}
		sent := bytes.Clone(f.content)
		if c.editFile != nil {
			c.editFile(f.path, sent)
		}
		h := Header{Path: f.path, Size: int64(len(sent)), Mode: 0o600, ModTime: mtime}
		if err := sink.File(h, bytes.NewReader(sent)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	text := serverManifestText(files, c.start, c.stop)
	if c.editManifest != nil {
		text = c.editManifest(text)
	}
	if err := sink.Manifest(strings.NewReader(text)); err != nil {
		return err
	}
	return sink.End(EndInfo{StopLSN: c.stop, Timeline: 1})
}

// Identify implements Server.
func (c *cluster) Identify(context.Context) (Identity, error) {
	mode := map[bool]string{true: "on", false: "off"}[c.archives]
	return Identity{SystemID: testSystem, Timeline: 1, SegmentSize: testSegment, ServerVersion: testVersion, ArchiveMode: mode}, nil
}

// Facts implements Server.
func (c *cluster) Facts(ctx context.Context) (Facts, error) {
	return Facts{Settings: map[string]string{"max_connections": "100"}, ConfigFiles: c.configs, Warnings: []string{"a warning"}}, ctx.Err()
}

// Reserve implements Server.
func (c *cluster) Reserve(context.Context) (Reservation, error) {
	if c.noSlot != nil {
		return nil, c.noSlot
	}
	c.released = false
	return c, nil
}

// Fetch implements Reservation.
func (c *cluster) Fetch(ctx context.Context, tli wal.TimelineID, from, to wal.LSN, put PutSegment) error {
	if c.refuseFetch != nil {
		return c.refuseFetch
	}
	for n := testSegment.Number(from); n <= testSegment.PrevNumber(to); n++ {
		seg := wal.Segment{Timeline: tli, Number: n, Size: testSegment}
		if err := put(ctx, seg, bytes.NewReader(c.wal.Bytes(seg))); err != nil {
			return err
		}
	}
	return nil
}

// History implements Reservation.
func (c *cluster) History(context.Context, wal.TimelineID) ([]byte, error) {
	return nil, errors.New("timeline 1 has no history")
}

// Close implements Reservation.
func (c *cluster) Close(context.Context) error { c.released = true; return nil }

// place is a repository with one incarnation.
type place struct {
	store storage.Store
	repo  *repository.Repository
	inc   archive.Incarnation
	wal   *archive.Archive
}

func newPlace(t testing.TB) *place {
	t.Helper()
	return openPlace(t, mem.New())
}

func openPlace(t testing.TB, store storage.Store) *place {
	t.Helper()
	ctx := context.Background()
	repo, _, err := repository.Init(ctx, store, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inc, _, err := archive.CreateIncarnation(ctx, repo, "main", testSystem, testSegment, testVersion/10000)
	if err != nil {
		t.Fatal(err)
	}
	return &place{store: store, repo: repo, inc: inc, wal: archive.New(repo, inc)}
}

// over is the same repository seen through another store.
func (p *place) over(t testing.TB, store storage.Store) *place {
	t.Helper()
	repo, err := repository.Open(context.Background(), store, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &place{store: store, repo: repo, inc: p.inc, wal: archive.New(repo, p.inc)}
}

func (p *place) options(c *cluster) Options {
	return Options{
		Repo: p.repo, Archive: p.wal, Incarnation: p.inc, Source: c, Server: c, Version: "test",
		WALTimeout: 100 * time.Millisecond, packSize: 1 << 20,
	}
}

// archiveAll does what archive_command would.
func (p *place) archiveAll(t testing.TB, c *cluster) {
	t.Helper()
	for _, seg := range c.wal.Complete() {
		if _, err := p.wal.PutSegment(context.Background(), seg, bytes.NewReader(c.wal.Bytes(seg))); err != nil {
			t.Fatal(err)
		}
	}
}

// keys lists all keys below a prefix of the incarnation.
func (p *place) keys(t testing.TB, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range p.store.List(context.Background(), p.inc.Prefix()+prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// checkBackup reads a backup back, every byte.
func (p *place) checkBackup(t testing.TB, c *cluster, m *Manifest) {
	t.Helper()
	ctx := context.Background()
	want := map[string][]byte{"backup_label": []byte(m.BackupLabel)}
	for _, f := range c.files {
		want[f.path] = f.content
	}
	for _, f := range c.configs {
		want[f.Path] = f.Content
	}
	live := map[int]int64{}
	var files, bytesTotal int64
	for e, err := range ReadFiles(ctx, p.repo, p.inc, m) {
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range e.Extents {
			live[x.Pack] += x.Length
		}
		if e.Kind == KindDir || e.Kind == KindSymlink {
			continue
		}
		files++
		bytesTotal += e.Size
		r := OpenFile(ctx, p.repo, p.inc, m, e)
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", e.Path, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if content, ok := want[e.Path]; ok && !bytes.Equal(got, content) {
			t.Errorf("%s differs", e.Path)
		} else if !ok && e.Path != ManifestPath {
			t.Errorf("unexpected entry %s", e.Path)
		}
		delete(want, e.Path)
	}
	for path := range want {
		t.Errorf("%s is missing", path)
	}
	if files != m.Files || bytesTotal != m.Bytes {
		t.Errorf("%d files, %d bytes; the manifest says %d, %d", files, bytesTotal, m.Files, m.Bytes)
	}
	for _, ref := range m.Packs {
		if ref.Live != live[ref.Number] || ref.Raw < ref.Live {
			t.Errorf("pack %+v holds %d live bytes", ref, live[ref.Number])
		}
	}
}

// addFile lists one more file in a server's manifest.
func addFile(text, path string, size int64, crc uint32) string {
	line := fmt.Sprintf("{ \"Path\": %q, \"Size\": %d, \"Last-Modified\": \"2026-11-22 21:30:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%08x\" }",
		path, size, bits.ReverseBytes32(crc))
	text = strings.Replace(text, "\n],\n\"WAL-Ranges\"", ",\n"+line+"\n],\n\"WAL-Ranges\"", 1)
	return resign(text)
}
