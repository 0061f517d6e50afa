//go:build unix

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// storeFragments stores the server's current segment, as far as it is flushed, in
// three fragments of which two overlap, and returns where they end.
func (s *site) storeFragments() (seg wal.Segment, cuts [3]archive.Fragment, end wal.LSN) {
	t := s.t
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := file.New(s.objects, file.Options{})
	ok(err)
	repo, err := repository.Open(t.Context(), store, repository.Options{})
	ok(err)
	incs, err := archive.Incarnations(t.Context(), repo, "main")
	ok(err)
	a := archive.New(repo, incs[0])
	end, err = wal.ParseLSN(s.pg.QueryValue("SELECT pg_current_wal_flush_lsn()"))
	ok(err)
	seg = wal.SegmentAt(wal.TimelineID(s.pg.Timeline()), end-1, incs[0].SegmentSize)
	f, err := os.Open(filepath.Join(s.pg.DataDir(), "pg_wal", seg.Name()))
	ok(err)
	defer f.Close()
	n := int64(end - seg.Start())
	for i, b := range [3][2]int64{{0, n / 3}, {n / 3, n / 2}, {n/2 - 100, n}} {
		cuts[i] = archive.Fragment{Segment: seg, From: b[0], To: b[1]}
		if _, err := a.PutFragment(t.Context(), cuts[i], f); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Chown(t, s.objects)
	return seg, cuts, end
}

// TestRestoreFromFragments loses a server of which the segment it was writing is
// archived in fragments, and restores to moments in that segment.
func TestRestoreFromFragments(t *testing.T) {
	for _, major := range pgtest.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := newSite(t, siteOptions{major: major})
			s.pg.Exec("CREATE TABLE marker (id int PRIMARY KEY, note text)")
			s.mark(1)
			s.backup()
			s.mark(2)
			s.archiveAll()
			var m []marker // from 3 on
			for id := 3; id <= 7; id++ {
				m = append(m, s.mark(id))
				if id == 5 {
					s.pg.Exec("SELECT pg_create_restore_point('five')")
				}
			}
			seg, cuts, end := s.storeFragments()
			s.mark(8) // not archived
			s.pg.Kill()

			s.checkList(seg, end)
			for _, c := range []struct {
				name string
				args []string
				last int
			}{
				{"latest", []string{"--latest"}, 7},
				{"xid", []string{"--xid", m[4].xid}, 7},
				{"xid-exclusive", []string{"--xid", m[4].xid, "--exclusive"}, 6},
				{"lsn", []string{"--lsn", m[3].after}, 6}, // the record there begins marker 7
				{"time", []string{"--time", m[1].time}, 4},
				{"name", []string{"--name", "five"}, 5},
			} {
				dir := s.restore(c.name, append(c.args, "--action", "promote")...)
				restored := s.open(dir)
				got := restored.QueryValue("SELECT count(*) || ' up to ' || max(id) FROM marker")
				if want := fmt.Sprintf("%d up to %d", c.last, c.last); got != want {
					t.Errorf("%s: markers %s, want %s", c.name, got, want)
				}
				restored.Stop(pgtest.Immediate)
			}
			s.run("plan", "--lsn", end.String()).exits(t, 3).says(t, end.String())
			s.loseFragment(cuts[1])
		})
	}
}

// checkList: the fragments are told of, and the archived WAL ends with them.
func (s *site) checkList(seg wal.Segment, end wal.LSN) {
	s.t.Helper()
	var list struct {
		Timelines []struct {
			Live []struct {
				Segment   string
				EndLSN    string `json:"end_lsn"`
				Fragments int
			}
		}
		Windows []struct{ To struct{ LSN string } }
	}
	s.run("list", "--json").ok(s.t).json(s.t, &list)
	live := list.Timelines[0].Live
	if len(live) != 1 || live[0].Segment != seg.Name() || live[0].EndLSN != end.String() || live[0].Fragments != 3 {
		s.t.Errorf("list tells of the fragments %+v, want of %s until %s", live, seg.Name(), end)
	}
	if len(list.Windows) != 1 || list.Windows[0].To.LSN != end.String() {
		s.t.Errorf("windows %+v, want one until %s", list.Windows, end)
	}
	if text := s.run("list").ok(s.t).stdout; !strings.Contains(text, "FRAGMENTS") {
		s.t.Errorf("the table shows no fragments:\n%s", text)
	}
}

// removeFragment deletes a fragment's object.
func (s *site) removeFragment(f archive.Fragment) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.objects, "main", "*", "live", "*", f.Segment.Name(), fmt.Sprintf("%08X-%08X", f.From, f.To)))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("object of %s: %v %v", f, found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		s.t.Fatal(err)
	}
}

// loseFragment: without one of the fragments, what they hold is refused loudly.
func (s *site) loseFragment(f archive.Fragment) {
	s.t.Helper()
	s.removeFragment(f)
	missing := (f.Segment.Start() + wal.LSN(f.From)).String()
	s.run("plan", "--latest").exits(s.t, 3).says(s.t, f.Segment.Name(), missing)
	s.run("wal-get", f.Segment.Name(), filepath.Join(s.dir, "RECOVERYXLOG")).exits(s.t, 126)
	if text := s.run("list").exits(s.t, 1).stdout; !strings.Contains(text, "GAP") || !strings.Contains(text, "broken") {
		s.t.Errorf("list shows no gap:\n%s", text)
	}
}
