package stream

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage/faulty"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/waltest"
)

// TestSweeper: who may not delete tries it once; what cannot be deleted for
// another reason stays alone.
func TestSweeper(t *testing.T) {
	for name, c := range map[string]struct {
		fault faulty.Fault
		left  int
	}{
		"a fault of one object": {faulty.Fault{Err: errors.New("the object is bewitched"), Times: -1, Key: func(key string) bool { return strings.HasSuffix(key, "/00000000-00000064") }}, 1},
		"may not delete":        {faulty.Fault{Err: fs.ErrPermission, Times: -1}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			b := waltest.NewBuilder(17, 1, 1, testSize)
			b.Message(50_000)
			store := faulty.New(mem.New())
			repo, _, err := repository.Init(t.Context(), store, repository.Options{})
			if err != nil {
				t.Fatal(err)
			}
			inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", 1, testSize, 17)
			if err != nil {
				t.Fatal(err)
			}
			a := archive.New(repo, inc)
			seg := wal.Segment{Timeline: 1, Number: 1, Size: testSize}
			var log bytes.Buffer
			s := newSweeper(a, &Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			var list []archive.Fragment
			for i := range int64(4) {
				f := archive.Fragment{Segment: seg, From: i * 100, To: i*100 + 100}
				if _, err := a.PutFragment(t.Context(), f, bytes.NewReader(b.Bytes(seg))); err != nil {
					t.Fatal(err)
				}
				list = append(list, f)
			}
			c.fault.Op, c.fault.Permanent = faulty.Delete, true
			store.Inject(c.fault)
			s.sweep(t.Context(), list)
			live, err := a.LiveSegment(t.Context(), seg)
			if err != nil || len(live.Fragments) != c.left {
				t.Errorf("%d fragments are left, want %d: %v", len(live.Fragments), c.left, err)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("it is told %d times:\n%s", n, log.String())
			}
		})
	}
}
