package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

func wantAbsent(t *testing.T, a *archive.Archive, name string) {
	t.Helper()
	_, err := fetch(t, a, name)
	var absent *archive.AbsentError
	if !errors.As(err, &absent) || absent.Name != name {
		t.Errorf("%s: %v, want proven absence", name, err)
	}
}

func wantHole(t *testing.T, a *archive.Archive, name, next string) {
	t.Helper()
	_, err := fetch(t, a, name)
	var hole *archive.HoleError
	if !errors.As(err, &hole) || hole.Name != name || hole.Next != next {
		t.Errorf("%s: %v, want a hole before %s", name, err, next)
		return
	}
	if msg := err.Error(); !strings.Contains(msg, hole.Key) || !strings.Contains(msg, next) || hole.Hint() == "" {
		t.Errorf("the message does not tell: %s", msg)
	}
}

func TestAbsenceAndHoles(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		a := newArchive(t, s)
		wantAbsent(t, a, "000000010000000000000001")
		wantAbsent(t, a, "00000001.history")
		b := newWAL(6)
		segs := pushAll(t, a, b)
		last := segs[len(segs)-1]
		wantAbsent(t, a, last.Next().Name())
		wantAbsent(t, a, "000000010000000100000000")
		wantAbsent(t, a, "000000020000000000000002")
		wantAbsent(t, a, "00000002.history")
		wantAbsent(t, a, segs[0].Name()+".partial")
		wantAbsent(t, a, segs[0].Name()+".00000028.backup")

		// What lies beside the next segment is no evidence.
		open := b.Segments()[len(segs)]
		mustPush(t, a, open.Name()+".partial", b.Bytes(open))
		mustPush(t, a, open.Name()+".00000028.backup", backupHistory(open, 0x28))
		wantAbsent(t, a, open.Name())

		if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), segs[2])); err != nil {
			t.Fatal(err)
		}
		wantHole(t, a, segs[2].Name(), segs[3].Name())
		for _, seg := range segs[3:] {
			if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), seg)); err != nil {
				t.Fatal(err)
			}
		}
		wantHole(t, a, segs[2].Name(), open.Name()+".00000028.backup")
	})
}

func TestHoleBeforeALaterLog(t *testing.T) {
	// The last segment of one log is missing and the next log begins.
	s := mem.New()
	a := newArchive(t, s)
	b := newWALAt(4095)
	segs := pushAll(t, a, b)
	if segs[0].Log() == segs[1].Log() {
		t.Fatal("the segments are of one log")
	}
	if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), segs[0])); err != nil {
		t.Fatal(err)
	}
	wantHole(t, a, segs[0].Name(), segs[1].Name())
}

func TestTimelinesHaveABeginning(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	b := newWAL(3)
	segs := pushAll(t, a, b)
	b.Message(5000)
	child := b.Fork(2, "no recovery target specified")
	child.EndOfRecovery(1, noon)
	fill(child, 2)
	mustPush(t, a, "00000002.history", child.History().Encode())
	forked := pushAll(t, a, child)

	// PostgreSQL never wrote timeline 2's segments before the fork.
	wantAbsent(t, a, wal.Segment{Timeline: 2, Number: segs[1].Number, Size: size}.Name())
	if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), forked[0])); err != nil {
		t.Fatal(err)
	}
	wantHole(t, a, forked[0].Name(), forked[1].Name())
}

func TestMissingHistoryOfATimelineThatBeganHere(t *testing.T) {
	for name, fork := range map[string]func(b interface {
		Message(int) (wal.LSN, wal.LSN)
		FillSegment()
	}){
		"inside a segment": func(b interface {
			Message(int) (wal.LSN, wal.LSN)
			FillSegment()
		}) {
			b.Message(5000)
		},
		"between segments": func(b interface {
			Message(int) (wal.LSN, wal.LSN)
			FillSegment()
		}) {
			b.FillSegment()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mem.New()
			a := newArchive(t, s)
			b := newWAL(2)
			fork(b)
			child := b.Fork(2, "no recovery target specified")
			child.EndOfRecovery(1, noon)
			fill(child, 2)
			segs := pushAll(t, a, child)
			// A recovery that is told that there is no timeline 2 ends on timeline 1.
			wantHole(t, a, "00000002.history", segs[0].Name())
			// Where archiving began later, PostgreSQL never offers the file.
			if err := s.Delete(t.Context(), archive.SegmentKey(a.Incarnation(), segs[0])); err != nil {
				t.Fatal(err)
			}
			wantAbsent(t, a, "00000002.history")
		})
	}
}

// arriving is a store in which an object appears once it has been looked for.
type arriving struct {
	storage.Store
	key  string
	hide int // so many lookups do not find it
}

func (s *arriving) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key == s.key && s.hide > 0 {
		s.hide--
		return nil, &storage.Error{Op: "open", Key: key, Err: storage.ErrNotExist}
	}
	return s.Store.Open(ctx, key, off, n)
}

func TestFetchOfAFileThatArrivesMeanwhile(t *testing.T) {
	s := &arriving{Store: mem.New()}
	a := newArchive(t, s)
	b := newWAL(2)
	seg := pushAll(t, a, b)[0]
	s.key = archive.SegmentKey(a.Incarnation(), seg)
	for hide, fails := range map[int]bool{1: false, 2: false, 1000: true} {
		s.hide = hide
		got, err := fetch(t, a, seg.Name())
		if fails {
			var absent *archive.AbsentError
			if err == nil || errors.As(err, &absent) {
				t.Errorf("hidden %d times: %v", hide, err)
			}
		} else if err != nil || !bytes.Equal(got, b.Bytes(seg)) {
			t.Errorf("hidden %d times: %v", hide, err)
		}
	}
}

// TestFetchOfDamagedObjects damages every kind of object in every way: it
// must be an error that names the object, and nothing may be delivered.
func TestFetchOfDamagedObjects(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	b := newWAL(2)
	child := b.Fork(2, "x")
	seg := b.Complete()[0]
	pushAll(t, a, b)
	mustPush(t, a, seg.Name()+".partial", b.Bytes(seg))
	mustPush(t, a, "00000002.history", child.History().Encode())
	mustPush(t, a, seg.Name()+".00000028.backup", backupHistory(seg, 0x28))

	for _, name := range []string{seg.Name(), seg.Name() + ".partial", "00000002.history", seg.Name() + ".00000028.backup"} {
		f, err := wal.ParseFile(name, size)
		if err != nil {
			t.Fatal(err)
		}
		key := archive.FileKey(a.Incarnation(), f)
		whole := stored(t, s, key)
		damaged := map[string][]byte{
			"emptied":   nil,
			"zeros":     make([]byte, len(whole)),
			"cut by 1":  whole[:len(whole)-1],
			"halved":    whole[:len(whole)/2],
			"lengthend": append(bytes.Clone(whole), 0),
		}
		for i := range 40 {
			at := i * (len(whole) - 1) / 39
			c := bytes.Clone(whole)
			c[at] ^= 1 << (i % 8)
			damaged[fmt.Sprintf("bit flipped at %d", at)] = c
		}
		other := archive.SegmentKey(a.Incarnation(), b.Complete()[1])
		damaged["another object"] = stored(t, s, other)
		for what, content := range damaged {
			replace(t, s, key, content)
			if _, err := fetch(t, a, name); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
		replace(t, s, key, whole)
		if _, err := fetch(t, a, name); err != nil {
			t.Errorf("%s, whole again: %v", name, err)
		}
	}
}

// TestPushOverDamagedObjects: what is archived is damaged, so pushing the file
// again must not say that it is archived unless its digest can be trusted.
func TestPushOverDamagedObjects(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	b := newWAL(1)
	seg := pushAll(t, a, b)[0]
	key := archive.SegmentKey(a.Incarnation(), seg)
	whole := stored(t, s, key)
	for what, content := range map[string][]byte{"emptied": nil, "cut by 1": whole[:len(whole)-1], "halved": whole[:len(whole)/2]} {
		replace(t, s, key, content)
		if res, err := push(t, a, seg.Name(), b.Bytes(seg)); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, %v", what, res, err)
		}
	}
}

func TestFetchWhereItCannotWrite(t *testing.T) {
	a := newArchive(t, mem.New())
	b := newWAL(1)
	seg := pushAll(t, a, b)[0]
	d := newDirectory(t)
	occupied := d.path("RECOVERYXLOG")
	if err := os.MkdirAll(filepath.Join(occupied, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{d.path("none/RECOVERYXLOG"), occupied} {
		err := a.Fetch(t.Context(), seg.Name(), path)
		var delivery *archive.DeliveryError
		if !errors.As(err, &delivery) || delivery.Path != path || delivery.Name != seg.Name() {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left := d.names(t); len(left) != 1 {
		t.Errorf("left %v", left)
	}
	// What is there is replaced.
	path := d.write(t, "RECOVERYHISTORY", []byte("old"))
	if err := a.Fetch(t.Context(), seg.Name(), path); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b.Bytes(seg)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestFetchOfOtherNames(t *testing.T) {
	a := newArchive(t, mem.New())
	for _, name := range []string{"", "x", "../../etc/passwd", "00000001000000000000000g", "000000010000000000001000", "00000000.history"} {
		_, err := fetch(t, a, name)
		var absent *archive.AbsentError
		if err == nil || errors.As(err, &absent) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestIncarnationOf(t *testing.T) {
	repo := newRepository(t, mem.New())
	old, current := create(t, repo, 1111, size), create(t, repo, 2222, size)
	incs, err := archive.Incarnations(t.Context(), repo, "main")
	if err != nil {
		t.Fatal(err)
	}
	d := newDirectory(t)
	target := d.path("RECOVERYXLOG")
	if inc, err := archive.IncarnationOf(incs, target); err != nil || inc != current {
		t.Errorf("without a control file: %v, %v", inc, err)
	}
	for _, want := range []archive.Incarnation{old, current} {
		d.writeControl(t, want.SystemID, want.SegmentSize)
		if inc, err := archive.IncarnationOf(incs, target); err != nil || inc != want {
			t.Errorf("with the control file of %v: %v, %v", want, inc, err)
		}
	}
	// As PostgreSQL runs the hooks: in the data directory, which is the whole
	// point of a relative path, and with pg_wal on another disk.
	d.writeControl(t, old.SystemID, old.SegmentSize)
	elsewhere := filepath.Join(t.TempDir(), "wal")
	if err := os.Rename(d.path(""), elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(string(d), "pg_wal")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(string(d))
	if inc, err := archive.IncarnationOf(incs, "pg_wal/RECOVERYXLOG"); err != nil || inc != old {
		t.Errorf("in the data directory: %v, %v", inc, err)
	}
	for what, c := range map[string]struct {
		id   uint64
		size wal.SegmentSize
		want string
	}{
		"another cluster":      {3333, size, "3333"},
		"another segment size": {2222, 2 * size, "segments of 2MB"},
	} {
		d.writeControl(t, c.id, c.size)
		inc, err := archive.IncarnationOf(incs, target)
		var refused *archive.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with the control file of %s: %v, %v", what, inc, err)
		}
	}
	if err := os.WriteFile(filepath.Join(string(d), "global", "pg_control"), make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	if inc, err := archive.IncarnationOf(incs, target); err == nil {
		t.Errorf("with a damaged control file: %v", inc)
	}
	var none *archive.NoIncarnationError
	if _, err := archive.IncarnationOf(nil, target); !errors.As(err, &none) {
		t.Errorf("without incarnations: %v", err)
	}
}

func TestForStandby(t *testing.T) {
	const seg, history = "000000010000000000000002", "00000002.history"
	broken := fmt.Errorf("open: %w", &storage.Error{Op: "open", Key: "k", Err: errors.New("connection refused"), Temporary: true})
	var absent *archive.AbsentError
	if err := archive.ForStandby(seg, broken); !errors.As(err, &absent) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a broken store: %v", err)
	}
	for _, c := range []struct {
		name string
		err  error
	}{
		{history, broken},
		{seg, nil},
		{seg, &archive.HoleError{Name: seg}},
		{seg, &archive.DeliveryError{Err: os.ErrPermission}},
		{seg, fmt.Errorf("no walden.json: %w", &storage.Error{Op: "open", Key: "walden.json", Err: storage.ErrNotExist})},
		{seg, fmt.Errorf("x: %w", &storage.Error{Op: "open", Key: "k", Err: context.Canceled})},
	} {
		if err := archive.ForStandby(c.name, c.err); err != c.err { //nolint:errorlint // it must be the very error
			t.Errorf("%s: %v became %v", c.name, c.err, err)
		}
	}
}

func TestFetchFromAStoreThatIsGone(t *testing.T) {
	root := t.TempDir()
	s, err := file.New(root, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := newArchive(t, s)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	var absent *archive.AbsentError
	if _, err := fetch(t, a, "000000010000000000000001"); errors.As(err, &absent) {
		t.Errorf("absence is proven by a directory that is not there: %v", err)
	}
}
