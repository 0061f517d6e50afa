package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

func TestPushAndFetchEveryKind(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		b := newWAL(2)
		seg := b.Complete()[0]
		open := b.Segments()[2]
		child := b.Fork(2, "no recovery target specified")
		files := map[string][]byte{
			seg.Name():                      b.Bytes(seg),
			open.Name() + ".partial":        b.WithStalePages(open),
			seg.Name() + ".00000028.backup": backupHistory(seg, 0x28),
			"00000002.history":              child.History().Encode(),
		}
		for name, content := range files {
			mustPush(t, a, name, content)
		}
		before := keys(t, s)
		for name, content := range files {
			got, err := fetch(t, a, name)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("fetch %s: %d bytes of %d, %v", name, len(got), len(content), err)
			}
			if res, err := push(t, a, name, content); err != nil || res != archive.Identical {
				t.Errorf("push %s again: %v, %v", name, res, err)
			}
		}
		if after := keys(t, s); len(after) != len(before) {
			t.Errorf("pushing again made of %v %v", before, after)
		}
	})
}

func TestPushOfOtherContentIsAConflict(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		one, two := newWAL(2), waltest.NewBuilder(major, systemID, 1, size)
		two.RestorePoint("the other one", noon)
		fill(two, 2)
		seg := one.Complete()[0]
		h := wal.History{Timeline: 2, Entries: []wal.HistoryEntry{{Timeline: 1, End: 0x300000, Reason: "x"}}}
		other := h
		other.Entries = []wal.HistoryEntry{{Timeline: 1, End: 0x300008, Reason: "x"}}
		for name, content := range map[string][2][]byte{
			seg.Name():                      {one.Bytes(seg), two.Bytes(seg)},
			seg.Name() + ".partial":         {one.Bytes(seg), two.Bytes(seg)},
			"00000002.history":              {h.Encode(), other.Encode()},
			seg.Name() + ".00000028.backup": {backupHistory(seg, 0x28), append(backupHistory(seg, 0x28), "STOP TIMELINE: 1\n"...)},
		} {
			mustPush(t, a, name, content[0])
			res, err := push(t, a, name, content[1])
			var conflict *archive.ConflictError
			if !errors.As(err, &conflict) {
				t.Fatalf("%s: %v, %v", name, res, err)
			}
			if conflict.Name != name || !strings.HasSuffix(conflict.Key, name) || conflict.Stored == conflict.Offered || conflict.Hint() == "" {
				t.Errorf("%s: %+v", name, conflict)
			}
			if got, err := fetch(t, a, name); err != nil || !bytes.Equal(got, content[0]) {
				t.Errorf("%s is not what it was: %v", name, err)
			}
		}
	})
}

func TestPushRefuses(t *testing.T) {
	b := newWAL(3)
	seg, open := b.Complete()[1], b.Segments()[3]
	good := b.Bytes(seg)
	change := func(off int, p ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[off:], p)
		return c
	}
	zeroed := bytes.Clone(good)
	clear(zeroed[len(zeroed)-3*wal.PageSize:])
	foreign := bytes.Clone(good)
	binary.LittleEndian.PutUint64(foreign[24:], 4242)
	for name, c := range map[string]struct {
		file    string
		content []byte
		reason  string
	}{
		"foreign":         {seg.Name(), foreign, "system identifier 4242, cluster main has 7345001122334455667"},
		"segment size":    {seg.Name(), change(32, 0, 0, 0, 1), "segments of 16MB"},
		"short":           {seg.Name(), good[:len(good)-1], "1048575 bytes"},
		"long":            {seg.Name(), append(bytes.Clone(good), 0), "1048577 bytes"},
		"empty":           {seg.Name(), nil, "0 bytes"},
		"zeros":           {seg.Name(), make([]byte, len(good)), "zeros"},
		"no WAL":          {seg.Name(), change(0, 'P', 'K'), "50 4B"},
		"renamed":         {b.Complete()[0].Name(), good, "begins at 0/200000, not at 0/100000"},
		"earlier tli":     {"000000010000000000000002", change(4, 2), "later than 1"},
		"zero padded":     {seg.Name(), zeroed, "zero-padded"},
		"recycled":        {open.Name(), b.WithStalePages(open), "recycled"},
		"flipped":         {seg.Name(), change(len(good)/2, good[len(good)/2]^1), "corrupt"},
		"unfinished":      {open.Name(), b.Bytes(open), "zero-padded"},
		"name":            {"000000010000000000000002.tmp", good, "parse"},
		"lower case":      {"00000001000000000000000a", good, "parse"},
		"partial zeros":   {seg.Name() + ".partial", make([]byte, len(good)), "zeros"},
		"partial short":   {seg.Name() + ".partial", good[:8192], "8192 bytes"},
		"empty history":   {"00000002.history", nil, "no parent"},
		"own parent":      {"00000002.history", []byte("2\t0/3000000\tx\n"), "not below 2"},
		"garbled history": {"00000002.history", []byte("1\t0/30000G0\tx\n"), "30000G0"},
		"long history":    {"00000002.history", bytes.Repeat([]byte("# comment\n"), 1<<19), "more than"},
		"other backup":    {seg.Name() + ".00000060.backup", backupHistory(seg, 0x28), "starts at 0/200028, its name says 0/200060"},
		"no backup":       {seg.Name() + ".00000028.backup", []byte("LABEL: x\n"), "START WAL LOCATION"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mem.New()
			a := newArchive(t, s)
			before := len(keys(t, s))
			res, err := push(t, a, c.file, c.content)
			var refused *archive.RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("%v, %v", res, err)
			}
			if refused.Name != c.file || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), c.file) {
				t.Errorf("refused as %q, want %q", err, c.reason)
			}
			if after := keys(t, s); len(after) != before {
				t.Errorf("left %v", after)
			}
		})
	}
}

func TestPushOfWhatIsNoFile(t *testing.T) {
	a := newArchive(t, mem.New())
	d := newDirectory(t)
	const name = "000000010000000000000001"
	if res, err := a.Push(t.Context(), d.path(name), archive.PushOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v, %v", res, err)
	}
	if err := os.Mkdir(d.path(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if res, err := a.Push(t.Context(), d.path(name), archive.PushOptions{}); err == nil {
		t.Errorf("directory: %v", res)
	}
}

func TestPushChecksTheTimelinesBeginning(t *testing.T) {
	b := newWAL(2)
	b.Message(5000)
	child := b.Fork(2, "no recovery target specified")
	child.EndOfRecovery(1, noon)
	fill(child, 2)
	fill(b, 2)
	forked, later := child.Complete()[0], child.Complete()[1]
	history := child.History()
	moved := history
	moved.Entries = []wal.HistoryEntry{{Timeline: 1, End: history.Entries[0].End + wal.LSN(size), Reason: "x"}}
	parents := b.Bytes(wal.Segment{Timeline: 1, Number: later.Number, Size: size})
	for name, c := range map[string]struct {
		history *wal.History
		seg     wal.Segment
		content []byte
		refused string
	}{
		"fork":                  {&history, forked, child.Bytes(forked), ""},
		"after the fork":        {&history, later, child.Bytes(later), ""},
		"parent's WAL":          {&history, later, parents, "none of its pages"},
		"before the timeline":   {&moved, forked, child.Bytes(forked), "after its end"},
		"fork at another place": {&moved, later, child.Bytes(later), "first page is of timeline 2 already"},
		"unknown history":       {nil, later, child.Bytes(later), ""},
		"its own name":          {&history, wal.Segment{Timeline: 1, Number: forked.Number, Size: size}, child.Bytes(forked), "of timeline 2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t, mem.New())
			if c.history != nil {
				mustPush(t, a, "00000002.history", c.history.Encode())
			}
			res, err := push(t, a, c.seg.Name(), c.content)
			if c.refused == "" {
				if err != nil || res != archive.Stored {
					t.Errorf("%v, %v", res, err)
				}
				return
			}
			var refused *archive.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.refused) {
				t.Errorf("%v, %v; want %q", res, err, c.refused)
			}
		})
	}
}

func TestTwoPushesAtTheSameTime(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		one, two := newWAL(2), waltest.NewBuilder(major, systemID, 1, size)
		two.RestorePoint("the other one", noon)
		fill(two, 2)
		seg := one.Complete()[0]
		race := func(contents ...[]byte) (stored, identical, conflicts int) {
			var wg sync.WaitGroup
			results, errs := make([]archive.PushResult, len(contents)), make([]error, len(contents))
			for i, c := range contents {
				wg.Go(func() { results[i], errs[i] = a.PutSegment(context.Background(), seg, bytes.NewReader(c)) })
			}
			wg.Wait()
			for i, err := range errs {
				var conflict *archive.ConflictError
				switch {
				case errors.As(err, &conflict):
					conflicts++
				case err != nil:
					t.Error(err)
				case results[i] == archive.Stored:
					stored++
				case results[i] == archive.Identical:
					identical++
				}
			}
			return stored, identical, conflicts
		}
		x := one.Bytes(seg)
		if st, id, co := race(x, x, x, x); st != 1 || id != 3 || co != 0 {
			t.Errorf("same content: %d stored, %d identical, %d conflicts", st, id, co)
		}
		seg = one.Complete()[1]
		x, y := one.Bytes(seg), two.Bytes(seg)
		if st, id, co := race(x, y, x, y); st != 1 || id != 1 || co != 2 {
			t.Errorf("different content: %d stored, %d identical, %d conflicts", st, id, co)
		}
	})
}

// changing is a file that another process writes to after so many reads.
type changing struct {
	io.ReaderAt
	reads, after int
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	if c.reads++; c.reads > c.after && n == len(p) && n > 100 {
		p[n/2] ^= 1
	}
	return n, err
}

func TestPushNeverStoresWhatItDidNotCheck(t *testing.T) {
	b := waltest.NewBuilder(major, systemID, 1, 4*size)
	b.FillSegment()
	seg := b.Complete()[0]
	s := mem.New()
	repo := newRepository(t, s)
	a := archive.New(repo, create(t, repo, systemID, 4*size))
	for after := 0; ; after++ {
		res, err := a.PutSegment(t.Context(), seg, &changing{ReaderAt: bytes.NewReader(b.Bytes(seg)), after: after})
		if err == nil {
			if got, err := fetch(t, a, seg.Name()); err != nil || !bytes.Equal(got, b.Bytes(seg)) {
				t.Fatalf("after %d reads: %v, and what is stored is not what was checked (%v)", after, res, err)
			}
			if after < 5 {
				t.Errorf("it was read only %d times", after)
			}
			return
		}
		if found, err := a.Contains(t.Context(), seg); err != nil || found {
			t.Fatalf("after %d reads something was stored (%v)", after, err)
		}
	}
}

func TestPushFileFindsTheIncarnation(t *testing.T) {
	s := mem.New()
	repo := newRepository(t, s)
	old := create(t, repo, 1111, size)
	list := func() []archive.Incarnation {
		l, err := archive.Incarnations(t.Context(), repo, "main")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	d := newDirectory(t)
	history := d.write(t, "00000002.history", wal.History{Timeline: 2, Entries: []wal.HistoryEntry{{Timeline: 1, End: 0x300000}}}.Encode())

	// One incarnation: a history file that tells nothing can only be of that one.
	if res, err := archive.PushFile(t.Context(), repo, list(), history); err != nil || res != archive.Stored {
		t.Fatalf("%v, %v", res, err)
	}
	current := create(t, repo, 2222, size)
	var refused *archive.RefusedError
	if res, err := archive.PushFile(t.Context(), repo, list(), history); !errors.As(err, &refused) || refused.Name != "00000002.history" {
		t.Errorf("history without a control file: %v, %v", res, err)
	}
	d.writeControl(t, old.SystemID, size)
	if res, err := archive.PushFile(t.Context(), repo, list(), history); err != nil || res != archive.Identical {
		t.Errorf("history of the first incarnation: %v, %v", res, err)
	}
	d.writeControl(t, current.SystemID, size)
	if res, err := archive.PushFile(t.Context(), repo, list(), history); err != nil || res != archive.Stored {
		t.Errorf("history of the second incarnation: %v, %v", res, err)
	}
	d.writeControl(t, 3333, size)
	if res, err := archive.PushFile(t.Context(), repo, list(), history); !errors.As(err, &refused) || !strings.Contains(err.Error(), "3333") {
		t.Errorf("history of a foreign cluster: %v, %v", res, err)
	}
	for _, inc := range []archive.Incarnation{old, current} {
		b := waltest.NewBuilder(major, inc.SystemID, 1, size)
		fill(b, 1)
		seg := b.Complete()[0]
		if res, err := archive.PushFile(t.Context(), repo, list(), d.write(t, seg.Name(), b.Bytes(seg))); err != nil || res != archive.Stored {
			t.Fatalf("%v: %v, %v", inc, res, err)
		}
		if got, err := fetch(t, archive.New(repo, inc), seg.Name()); err != nil || !bytes.Equal(got, b.Bytes(seg)) {
			t.Errorf("%v: %v", inc, err)
		}
	}
	b := waltest.NewBuilder(major, 3333, 1, size)
	fill(b, 1)
	seg := b.Complete()[0]
	_, err := archive.PushFile(t.Context(), repo, list(), d.write(t, seg.Name(), b.Bytes(seg)))
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "3333") || !strings.Contains(err.Error(), "2222") || !strings.Contains(refused.Hint(), "walden init") {
		t.Errorf("a foreign segment: %v", err)
	}
	var none *archive.NoIncarnationError
	if _, err := archive.PushFile(t.Context(), repo, nil, history); !errors.As(err, &none) {
		t.Errorf("no incarnation: %v", err)
	}
	if _, err := archive.PushFile(t.Context(), repo, list(), filepath.Join(t.TempDir(), "postgresql.conf")); !errors.As(err, &refused) {
		t.Errorf("another file: %v", err)
	}
}

// After pg_resetwal --wal-segsize the names may be none of the size there was:
// what is wrong is the size, and not the name.
func TestPushOfAnotherSegmentSize(t *testing.T) {
	repo := newRepository(t, mem.New())
	inc := create(t, repo, systemID, wal.DefaultSegmentSize)
	b := newWALAt(4095)
	fill(b, 1)
	seg := b.Complete()[0]
	_, err := archive.PushFile(t.Context(), repo, []archive.Incarnation{inc}, newDirectory(t).write(t, seg.Name(), b.Bytes(seg)))
	var refused *archive.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "segments of 1MB") || !strings.Contains(refused.Hint(), "walden init") {
		t.Errorf("%s: %v", seg.Name(), err)
	}
}

func TestPutSegmentFrom(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	s := mem.New()
	repo := newRepository(t, s)
	for n, size := range []wal.SegmentSize{1 << 20, 128 << 20} { // in memory, in a temporary file
		t.Setenv("TMPDIR", t.TempDir())
		a := archive.New(repo, create(t, repo, uint64(n+1), size))
		b := waltest.NewBuilder(major, uint64(n+1), 1, size)
		b.Message(5000)
		b.Switch()
		seg := b.Complete()[0]
		content := b.Bytes(seg)
		for _, bad := range [][]byte{content[:len(content)-1], append(bytes.Clone(content), 0), nil} {
			if res, err := a.PutSegmentFrom(t.Context(), seg, bytes.NewReader(bad)); err == nil {
				t.Errorf("%d bytes are %v", len(bad), res)
			}
		}
		if res, err := a.PutSegmentFrom(t.Context(), seg, bytes.NewReader(content)); err != nil || res != archive.Stored {
			t.Errorf("%v, %v", res, err)
		}
		if got, err := fetch(t, a, seg.Name()); err != nil || !bytes.Equal(got, content) {
			t.Errorf("fetched %d bytes, %v", len(got), err)
		}
		if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
	}
}
