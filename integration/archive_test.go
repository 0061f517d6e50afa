//go:build unix

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

// segmentObject is the path of an archived segment's object (file repository).
func (s *site) segmentObject(name string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.objects, "main", "*", "wal", name[:8], name[8:16], name))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("object of segment %s: %v %v", name, found, err)
	}
	return found[0]
}

// fill writes about n segments of 1 MiB and archives them; it returns the
// names of those that were ended.
func (s *site) fill(n int) []string {
	s.t.Helper()
	var names []string
	for range n {
		s.pg.Exec("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 100000))")
		names = append(names, s.pg.SwitchWAL())
	}
	s.pg.WaitArchived(names[len(names)-1])
	return names
}

// TestWalGetTellsHoleFromEnd: a missing segment with later ones present must
// stop recovery; past the end recovery ends.
func TestWalGetTellsHoleFromEnd(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	names := s.fill(4)
	out := filepath.Join(s.dir, "RECOVERYXLOG")

	s.run("wal-get", names[1], out).ok(t)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(s.pg.DataDir(), "pg_wal", names[1]))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("wal-get delivered other bytes than were archived")
	}
	if err := os.Remove(s.segmentObject(names[1])); err != nil {
		t.Fatal(err)
	}
	s.run("wal-get", names[1], out+"2").exits(t, 126).says(t, names[1], names[2])
	s.run("wal-get", "00000001000000FF000000FF", out+"2").exits(t, 1)
	s.run("wal-get", "00000002.history", out+"2").exits(t, 1)
	if _, err := os.Stat(out + "2"); err == nil {
		t.Fatal("wal-get left a file that it did not deliver")
	}
}

// TestPushIsIdempotentAndConflictsAreLoud: same bytes succeed, other bytes do
// not, and nothing changes.
func TestPushIsIdempotentAndConflictsAreLoud(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	names := s.fill(3)
	seg := filepath.Join(s.pg.DataDir(), "pg_wal", names[1])
	object := s.segmentObject(names[1])
	before, err := os.Stat(object)
	if err != nil {
		t.Fatal(err)
	}
	s.run("wal-push", seg).ok(t)
	after, err := os.Stat(object)
	if err != nil || !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		t.Fatalf("pushing the same bytes again touched the object: %v", err)
	}

	// Other bytes under the same name: another segment's records would not
	// even pass the check, so flip a bit within a record's payload.
	other := s.copyOf(seg, names[1])
	flip(t, other, 0x8100)
	s.run("wal-push", other).exits(t, 1).says(t, names[1])
	b, err := os.ReadFile(object)
	if err != nil || int64(len(b)) != before.Size() {
		t.Fatalf("the conflict changed the object: %v", err)
	}
}

// TestPushRefusesWhatIsNoSegment: each with its reason, nothing stored.
func TestPushRefusesWhatIsNoSegment(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	names := s.fill(3)
	src := filepath.Join(s.pg.DataDir(), "pg_wal", names[2])
	next := "0000000100000000000000F0"
	cases := []struct {
		name, as string
		spoil    func(path string)
		want     []string
	}{
		{"wrong address", next, func(string) {}, []string{next}},
		{"truncated", names[2], func(p string) { check(t, os.Truncate(p, 1<<19)) }, []string{"524288"}},
		{"oversized", names[2], func(p string) { check(t, os.Truncate(p, 1<<20+8192)) }, []string{"1056768"}},
		{"empty", names[2], func(p string) { check(t, os.Truncate(p, 0)) }, []string{names[2]}},
		{"no name of a WAL file", "readme.txt", func(string) {}, []string{"readme.txt"}},
		{"damaged record", names[2], func(p string) { flip(t, p, 0x6000+900) }, []string{names[2]}},
	}
	check(t, os.Remove(s.segmentObject(names[2])))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := s.copyOf(src, c.as)
			c.spoil(p)
			s.run("wal-push", p).exits(t, 1).says(t, c.want...)
		})
	}
	if found, _ := filepath.Glob(filepath.Join(s.objects, "main", "*", "wal", "*", "*", "*")); strings.Contains(strings.Join(found, " "), names[2]) {
		t.Error("a refused file was stored")
	}
	// The clean file still goes in.
	s.run("wal-push", src).ok(t)
}

// TestZeroPaddedSegmentIsRefused: a segment that is still being written looks
// whole to a copy: right size, right header, zeros at the end.
func TestZeroPaddedSegmentIsRefused(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 50000))")
	current := s.pg.QueryValue("SELECT pg_walfile_name(pg_current_wal_lsn())")
	p := s.copyOf(filepath.Join(s.pg.DataDir(), "pg_wal", current), current)
	s.run("wal-push", p).exits(t, 1).says(t, current)
}

// TestReinitialisedCluster: a new system identifier under the old name starts a
// new incarnation; both stay restorable.
func TestReinitialisedCluster(t *testing.T) {
	s := newSite(t, siteOptions{major: pgtest.Newest()})
	s.pg.Exec("CREATE TABLE first (i int); INSERT INTO first VALUES (1)")
	s.backup()
	s.archiveAll()
	old := s.pg
	oldID := old.SystemID()
	old.Stop(pgtest.Fast)

	s.pg = pgtest.New(t, pgtest.Options{Major: old.Major(), SegmentSizeMB: 1, Settings: map[string]string{
		"archive_mode": "on", "archive_command": "/bin/false"}})
	s.pointTo(s.pg)
	// Before init knows the new cluster nothing of it goes in.
	name := s.pg.SwitchWAL()
	s.run("wal-push", filepath.Join(s.pg.DataDir(), "pg_wal", name)).exits(t, 1).says(t, "walden init")
	s.run("backup", "--checkpoint", "fast").exits(t, 1).says(t, "walden init")

	var rep struct {
		Previous struct {
			Number int `json:"number"`
		} `json:"previous_incarnation"`
	}
	s.run("init", "--json").ok(t).json(t, &rep)
	if rep.Previous.Number != 1 {
		t.Fatalf("init did not tell of the incarnation before: %+v", rep)
	}
	s.pg.Exec("ALTER SYSTEM SET archive_command = '" + s.walden + " --config " + s.config + ` wal-push "%p"'`)
	s.pg.Reload()
	s.pg.Exec("CREATE TABLE second (i int); INSERT INTO second VALUES (2), (3)")
	s.backup()
	s.archiveAll()

	second := s.open(s.restore("second", "--latest", "--action", "promote"))
	if n := second.QueryValue("SELECT count(*) FROM second"); n != "2" {
		t.Errorf("the new incarnation restores %s rows, want 2", n)
	}
	first := s.open(s.restore("first", "--latest", "--incarnation", "1", "--action", "promote"))
	if n := first.QueryValue("SELECT count(*) FROM first"); n != "1" {
		t.Errorf("the old incarnation restores %s rows, want 1", n)
	}
	if first.SystemID() != oldID {
		t.Error("the old incarnation is another cluster")
	}
}

// pointTo rewrites the connection in the site's configuration.
func (s *site) pointTo(c *pgtest.Cluster) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	check(s.t, err)
	var lines []string
	for line := range strings.Lines(string(b)) {
		if i := strings.Index(line, "connection:"); i >= 0 {
			line = line[:i] + "connection: \"" + c.Conninfo("postgres") + "\"\n"
		}
		lines = append(lines, line)
	}
	check(s.t, os.WriteFile(s.config, []byte(strings.Join(lines, "")), 0o644))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copyOf copies a file into a directory of its own, under another name.
func (s *site) copyOf(path, name string) string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	check(s.t, err)
	dir, err := os.MkdirTemp(s.dir, "copy")
	check(s.t, err)
	p := filepath.Join(dir, name)
	check(s.t, os.WriteFile(p, b, 0o644))
	pgtest.Chown(s.t, dir)
	return p
}

// flip inverts one bit of a file.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	check(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], offset)
	check(t, err)
}
