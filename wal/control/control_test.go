package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/wal"
)

// image is a control file with a different value at each place that Parse
// reads, written from the table of offsets of the version.
func image(t *testing.T, version uint32) []byte {
	t.Helper()
	b := make([]byte, FileSize)
	u32 := func(off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
	u64 := func(off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }
	catalog := map[uint32]uint32{1300: 202209061, 1700: 202406281, 1800: 202506291, 1902: 202606281, 1905: 202610061}[version]
	shift, crc := 0, 288
	switch version {
	case 1800:
		crc = 292
	case 1902:
		shift, crc = 8, 304
	case 1905:
		shift, crc = 8, 308
	}
	u64(0, 7345001122334455667)
	u32(8, version)
	u32(12, catalog)
	u32(16, uint32(InArchiveRecovery))
	u64(24, 1_700_000_001)
	u64(32, 0x1_0000_0028)
	u64(40, 0x1_0000_0010)
	u32(48, 3)
	u32(52, 2)
	b[56] = 1
	u64(64+shift, 1<<32|777)
	u64(104+shift, 1_700_000_002)
	u64(136+shift, 0x1_0000_0100)
	u32(144+shift, 3)
	u64(152+shift, 0x1_0000_0200)
	u64(160+shift, 0x1_0000_0300)
	b[168+shift] = 1
	u32(172+shift, uint32(LevelLogical))
	b[176+shift] = 1
	for i := range 5 {
		u32(180+shift+4*i, uint32(100+i))
	}
	b[200+shift] = 1
	u32(216+shift, 8192)
	u32(220+shift, 131072)
	if version >= 1902 {
		u32(232, 32) // slru_pages_per_segment
		u32(236, 8192)
		u32(240, 16<<20)
		u32(crc-40, 1)
	} else {
		u32(224, 8192)
		u32(228, 16<<20)
		u32(252, 1)
	}
	u32(crc, crc32.Checksum(b[:crc], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func want(version uint32, major int, catalog uint32) File {
	return File{
		SystemIdentifier: 7345001122334455667, ControlVersion: version, CatalogVersion: catalog, Major: major,
		State: InArchiveRecovery, Time: time.Unix(1_700_000_001, 0).UTC(), CheckPoint: 0x1_0000_0028,
		LastCheckPoint: CheckPoint{
			Redo: 0x1_0000_0010, Timeline: 3, PreviousTimeline: 2, FullPageWrites: true,
			NextXID: 1<<32 | 777, Time: time.Unix(1_700_000_002, 0).UTC(),
		},
		MinRecoveryPoint: 0x1_0000_0100, MinRecoveryTimeline: 3,
		BackupStartPoint: 0x1_0000_0200, BackupEndPoint: 0x1_0000_0300, BackupEndRequired: true,
		Settings: Settings{
			WALLevel: LevelLogical, WALLogHints: true, MaxConnections: 100, MaxWorkerProcesses: 101,
			MaxWALSenders: 102, MaxPreparedXacts: 103, MaxLocksPerXact: 104, TrackCommitTimestamps: true,
		},
		BlockSize: 8192, WALBlockSize: 8192, RelationBlocks: 131072, SegmentSize: 16 << 20, DataChecksumVersion: 1,
	}
}

var versions = []struct {
	control uint32
	major   int
	catalog uint32
}{{1300, 15, 202209061}, {1700, 17, 202406281}, {1800, 18, 202506291}, {1902, 19, 202606281}, {1905, 19, 202610061}}

func TestParse(t *testing.T) {
	for _, v := range versions {
		got, err := Parse(image(t, v.control))
		if err != nil {
			t.Fatalf("version %d: %v", v.control, err)
		}
		if d := cmp.Diff(want(v.control, v.major, v.catalog), got); d != "" {
			t.Errorf("version %d (-want +got):\n%s", v.control, d)
		}
	}
}

func TestParseFindsEveryFlippedBit(t *testing.T) {
	for _, v := range versions {
		b := image(t, v.control)
		l, _ := layoutOf(v.control)
		for bit := range 8 * (l.crc + 4) {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := Parse(b); err == nil {
				t.Fatalf("version %d: bit %d flipped, and Parse takes it", v.control, bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestParseOfShortFiles(t *testing.T) {
	for _, v := range versions {
		b := image(t, v.control)
		l, _ := layoutOf(v.control)
		for n := range l.crc + 4 {
			if _, err := Parse(b[:n]); err == nil {
				t.Fatalf("version %d: %d bytes are taken", v.control, n)
			}
		}
		if _, err := Parse(b[:l.crc+4]); err != nil {
			t.Errorf("version %d: exactly long enough: %v", v.control, err)
		}
	}
}

func TestParseRefusesOtherVersions(t *testing.T) {
	b := image(t, 1700)
	binary.LittleEndian.PutUint32(b[8:], 1201)
	if _, err := Parse(b); !errors.Is(err, ErrVersion) {
		t.Errorf("version 1201: %v", err)
	}
	binary.BigEndian.PutUint32(b[8:], 1700)
	if _, err := Parse(b); !errors.Is(err, ErrVersion) || !bytes.Contains([]byte(err.Error()), []byte("big-endian")) {
		t.Errorf("swapped bytes: %v", err)
	}
}

func TestReadTriesAgainWhileTheServerWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pg_control")
	whole := image(t, 1700)
	torn := bytes.Clone(whole)
	torn[40] ^= 0xff
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); !errors.Is(err, ErrChecksum) {
		t.Errorf("a damaged file: %v", err)
	}

	// Different damage at each read, then the whole file: as beside a server.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 3 {
			torn[41] = byte(i)
			replace(path, torn)
			time.Sleep(pause)
		}
		replace(path, whole)
	}()
	for {
		f, err := Read(path)
		if err == nil {
			if f.LastCheckPoint.Redo != wal.LSN(0x1_0000_0010) {
				t.Errorf("redo is %s", f.LastCheckPoint.Redo)
			}
			break
		}
		if !errors.Is(err, ErrChecksum) {
			t.Fatal(err)
		}
	}
	<-done
	if _, err := Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// replace is a write that no reader sees half of, so that the test decides
// what is torn.
func replace(path string, b []byte) {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range versions {
		b := make([]byte, 308)
		binary.LittleEndian.PutUint32(b[8:], v.control)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would keep the fuzzer out: make it right.
		if len(b) >= 16 {
			if l, ok := layoutOf(binary.LittleEndian.Uint32(b[8:])); ok && len(b) >= l.crc+4 {
				binary.LittleEndian.PutUint32(b[l.crc:], crc32.Checksum(b[:l.crc], crc32.MakeTable(crc32.Castagnoli)))
			}
		}
		if c, err := Parse(b); err == nil && c.SegmentSize.Valid() != nil {
			t.Errorf("segment size %d is taken", c.SegmentSize)
		}
	})
}
