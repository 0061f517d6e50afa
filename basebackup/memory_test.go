//go:build unix

package basebackup

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage/file"
)

// maxMemory is what a backup may use, however large the cluster.
const maxMemory = 256 << 20

// TestMemory backs up one large file in a process of its own, and looks at how
// much memory that had. WALDEN_MEMORY_GIB sets the file's size in GiB.
func TestMemory(t *testing.T) {
	if size := os.Getenv("WALDEN_MEMORY_CHILD"); size != "" {
		backUpLargeFile(t, size)
		return
	}
	if testing.Short() {
		t.Skip("a gigabyte takes some seconds")
	}
	size := int64(1 << 30)
	if gib := os.Getenv("WALDEN_MEMORY_GIB"); gib != "" {
		n, err := strconv.ParseInt(gib, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		size = n << 30
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$", "-test.v")
	cmd.Env = append(os.Environ(), "WALDEN_MEMORY_CHILD="+strconv.FormatInt(size, 10))
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	used := int64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) //nolint:unconvert // narrower on 32-bit systems
	if runtime.GOOS != "darwin" {                                       // there in bytes, elsewhere in KiB
		used <<= 10
	}
	// On Linux that is at least what this process had when it made the other.
	if m := highWater.FindSubmatch(out); m != nil {
		kib, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		used = kib << 10
	}
	seconds := time.Since(begin).Seconds()
	t.Logf("%d MiB in %.1f s (%.0f MiB/s), %d MiB of memory", size>>20, seconds, float64(size>>20)/seconds, used>>20)
	if used > maxMemory {
		t.Errorf("the backup of a file of %d MiB took %d MiB of memory", size>>20, used>>20)
	}
}

// highWater is the line of /proc/self/status that tells the most memory a
// process has had.
var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// largeSource is a cluster with one more file, which is made as it is read.
type largeSource struct {
	*cluster
	size int64
}

func (l largeSource) Run(ctx context.Context, o SourceOptions, sink Sink) error {
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.LimitReader(&pages{}, l.size)); err != nil {
		return err
	}
	l.editManifest = func(text string) string {
		return addFile(text, "base/5/99999", l.size, sum.Sum32())
	}
	return l.cluster.Run(ctx, o, largeSink{sink, l.size})
}

// largeSink puts the large file before the manifest.
type largeSink struct {
	Sink
	size int64
}

func (l largeSink) Manifest(r io.Reader) error {
	h := Header{Path: "base/5/99999", Size: l.size, Mode: 0o600, ModTime: time.Unix(1_700_000_000, 0)}
	if err := l.File(h, io.LimitReader(&pages{}, l.size)); err != nil {
		return err
	}
	return l.Sink.Manifest(r)
}

// pages is an endless file, a quarter of which does not compress.
type pages struct {
	n    uint64
	page [8192]byte
	buf  []byte // what is left of the page
}

func (p *pages) Read(b []byte) (int, error) {
	if len(p.buf) == 0 {
		if p.n == 0 {
			p.n = 1
		}
		page := p.page[:]
		for i := 0; i < 2048; i += 8 {
			p.n ^= p.n << 13
			p.n ^= p.n >> 7
			p.n ^= p.n << 17
			binary.LittleEndian.PutUint64(page[i:], p.n)
		}
		p.buf = page
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	return n, nil
}

func backUpLargeFile(t *testing.T, size string) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	store, err := file.New(filepath.Join(t.TempDir(), "repository"), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := openPlace(t, store)
	l := largeSource{newCluster(10), n}
	o := p.options(l.cluster)
	o.Source, o.packSize, o.WALTimeout = l, 0, time.Minute
	m, err := Take(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		t.Logf("%s", highWater.Find(status))
	}
	if want := int(n/maxPackRaw) + 1; len(m.Packs) != want {
		t.Errorf("%d packs, want %d", len(m.Packs), want)
	}
	for _, ref := range m.Packs {
		if ref.Size > 256<<20 {
			t.Errorf("pack %d has %d bytes", ref.Number, ref.Size)
		}
	}
}
