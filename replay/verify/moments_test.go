package verify_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/wal/archive"
)

// A finding says which moments cannot be restored any more.
func TestConsequences(t *testing.T) {
	w := newWorld(t)
	run(t, w.store, options())
	segment := func(tli, number string) string {
		return "wal/" + tli + "/00000000/" + tli + "00000000" + number
	}
	const one, two = "00000001", "00000002"
	lostFromFirst := "moments after 2026-11-22 12:04:01Z (0/209DF0) up to 2026-11-22 12:16:01Z (0/61D770) on timeline 1 can no longer be restored; " +
		"moments after 0/613A50 up to 2026-11-22 12:20:02Z (0/709DF0) on timeline 2 can no longer be restored; backup " + firstID + " cannot be restored"
	second := "backup " + secondID + " cannot be restored; as far as is known no moment is lost, for others serve in its place"
	for _, c := range []struct {
		key, problem, consequence string
		backups                   []string
		harmless                  bool
	}{
		{key: segment(one, "00000001"), problem: "and has gone", consequence: "no moment is lost: no backup needs this WAL", harmless: true},
		{key: segment(one, "00000002"), problem: "is missing from the archive", consequence: lostFromFirst, backups: []string{firstID}},
		{
			key: segment(one, "00000004"), problem: "is missing from the archive",
			consequence: "moments after 2026-11-22 12:07:01Z (0/400000) up to 2026-11-22 12:16:01Z (0/61D770) on timeline 1 can no longer be restored; " +
				"moments after 0/613A50 up to 2026-11-22 12:20:02Z (0/709DF0) on timeline 2 can no longer be restored",
		},
		{
			key: segment(two, "00000007"), problem: "is missing from the archive", backups: []string{secondID},
			consequence: "moments after 2026-11-22 12:19:01Z (0/700000) up to 2026-11-22 12:30:02Z (0/A27490) on timeline 2 can no longer be restored; " +
				"backup " + secondID + " cannot be restored",
		},
		{
			key: segment(two, "00000009"), problem: "is missing from the archive",
			consequence: "moments after 2026-11-22 12:23:02Z (0/900000) up to 2026-11-22 12:30:02Z (0/A27490) on timeline 2 can no longer be restored",
		},
		{
			key: "live/00000002/00000002000000000000000A/0001A30A-00027490", problem: "and has gone",
			consequence: "moments after 2026-11-22 12:28:02Z (0/A13A50) up to 0/A27490 on timeline 2 can no longer be restored",
		},
		{
			key: segment(one, "00000006") + ".partial", problem: "and has gone",
			consequence: "moments after 0/613A50 up to 0/61D770 on timeline 1 can no longer be restored",
		},
		{
			key: "wal/00000002.history", problem: "it does not exist, and timeline 2 is archived", backups: []string{secondID},
			consequence: "moments after 0/613A50 up to 2026-11-22 12:30:02Z (0/A27490) on timeline 2 can no longer be restored; " +
				"backup " + secondID + " cannot be restored",
		},
		{key: "backups/" + firstID + "/manifest", problem: "and has gone", consequence: lostFromFirst, backups: []string{firstID}},
		{key: "backups/" + secondID + "/manifest", problem: "and has gone", consequence: second, backups: []string{secondID}},
		{key: "packs/" + firstID + "/000001", problem: "it does not exist, and the manifest of backup " + firstID + " names it", consequence: lostFromFirst, backups: []string{firstID}},
		{key: "extents/" + secondID + "/000000", problem: "names it", consequence: second, backups: []string{secondID}},
		{key: "backups/" + firstID + "/started", problem: "it does not exist, and the backup's manifest does", consequence: "complete by its manifest", harmless: true},
		{key: "index/00000002/00000000/00000001", problem: "and has gone", consequence: "`walden index` makes it again", harmless: true},
		{key: "identity.json", problem: "it does not exist", consequence: "nothing of it can be restored, until a copy"},
	} {
		t.Run(c.key, func(t *testing.T) {
			s := over(w.store)
			s.hidden[w.inc.Prefix()+c.key] = true
			o := options()
			o.NoRecord = true
			r := run(t, s, o)
			i := slices.IndexFunc(r.Findings, func(f verify.Finding) bool { return f.Object == w.inc.Prefix()+c.key })
			if i < 0 {
				t.Fatalf("not found: %+v", r.Findings)
			}
			f := r.Findings[i]
			if !strings.Contains(f.Problem, c.problem) || !strings.Contains(f.Consequence, c.consequence) || f.Harmless != c.harmless || !slices.Equal(f.Backups, c.backups) {
				t.Errorf("problem %q\nconsequence %q\nbackups %v, harmless %v", f.Problem, f.Consequence, f.Backups, f.Harmless)
			}
			for _, b := range r.Backups {
				if damaged := slices.Contains(c.backups, b.Backup); damaged != (b.State == verify.Damaged) || damaged != (b.Problem != "") {
					t.Errorf("validation %+v", b)
				}
			}
		})
	}
}

// Two holes: each is told as if it were the only one.
func TestTwoFindings(t *testing.T) {
	w := newWorld(t)
	for _, n := range []uint64{4, 5} {
		seg := w.segment(1, n)
		if n == 5 {
			w.store.Replace(archive.SegmentKey(w.inc, seg), nil)
			continue
		}
		w.ok(w.store.Delete(t.Context(), archive.SegmentKey(w.inc, seg)))
	}
	r := run(t, w.store, options())
	if len(r.Findings) != 2 {
		t.Fatalf("findings %+v", r.Findings)
	}
	for _, f := range r.Findings {
		from := map[string]string{"04": "0/400000", "05": "0/500000"}[f.Object[len(f.Object)-2:]]
		if len(f.Lost) == 0 || f.Lost[0].From.LSN.String() != from || f.Lost[0].To.LSN.String() != "0/61D770" {
			t.Errorf("%s: lost %+v", f.Object, f.Lost)
		}
	}
}

// What only takes room is told of, and harmless.
func TestUnneeded(t *testing.T) {
	w := newWorld(t)
	const cutOff = "20261122T140000Z-cccc"
	w.claim(cutOff)
	w.put(w.inc.Prefix()+"packs/"+cutOff+"/000000", 6, filler(9, 1000))
	w.put(w.inc.Prefix()+"packs/"+firstID+"/000007", 6, filler(9, 1000))
	w.put(w.inc.Prefix()+"extents/20261122T150000Z-dddd/000000", 7, filler(9, 10))
	w.store.Replace(w.inc.Prefix()+"README", []byte("hello"))
	o := options()
	o.NoRecord = true
	problems := func(s *late) map[string]string {
		found := map[string]string{}
		for _, f := range run(t, s, o).Findings {
			if !f.Harmless {
				t.Errorf("%+v", f)
			}
			found[strings.TrimPrefix(f.Object, w.inc.Prefix())] = f.Problem + "; " + f.Consequence
		}
		return found
	}
	// What was stored a moment ago may be at work.
	now := problems(&late{w.store, time.Now()})
	for key, words := range map[string]string{
		"packs/" + firstID + "/000007": "no manifest names it; no backup needs its",
		"README":                       "it is nothing that this version of Walden stores; no restore needs it",
	} {
		if !strings.Contains(now[key], words) {
			t.Errorf("%s: %q", key, now[key])
		}
	}
	if len(now) != 2 {
		t.Errorf("found %v", now)
	}
	old := problems(&late{w.store, noon})
	for key, words := range map[string]string{
		"backups/" + cutOff + "/started":       "on db1 (process 4711) and has no manifest: it was cut off, or its manifest has gone; no moment is lost",
		"extents/20261122T150000Z-dddd/000000": "of which there is neither a claim nor a manifest; no moment is lost",
	} {
		if !strings.Contains(old[key], words) {
			t.Errorf("%s: %q", key, old[key])
		}
	}
	if len(old) != 4 {
		t.Errorf("found %v", old)
	}
}

// A manifest that was damaged before anything was verified: its backup history file tells
// which moments are lost, and without that nothing does.
func TestManifestNeverSeen(t *testing.T) {
	w := newWorld(t)
	key := w.inc.Prefix() + "backups/" + firstID + "/manifest"
	w.store.Replace(key, []byte("rubbish"))
	o := options()
	o.NoRecord = true
	const lost = "moments after 2026-11-22 12:04:01Z (0/209DF0) up to 2026-11-22 12:16:01Z (0/61D770) on timeline 1 can no longer be restored"
	if r := run(t, w.store, o); len(r.Findings) != 1 || r.Findings[0].Object != key || !strings.HasPrefix(r.Findings[0].Consequence, lost) {
		t.Errorf("findings %+v", r.Findings)
	}
	for _, k := range keysOf(t, w.store, w.inc.Prefix()+"wal/") {
		if strings.HasSuffix(k, ".backup") {
			w.ok(w.store.Delete(t.Context(), k))
		}
	}
	r := run(t, w.store, o)
	if len(r.Findings) != 1 || r.Findings[0].Harmless || !strings.Contains(r.Findings[0].Consequence, "nothing tells any more which moments") {
		t.Errorf("findings %+v", r.Findings)
	}
}
