package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// damages are the ways in which an object goes bad. A function returns what the object is
// afterwards, nil if it is gone.
var damages = []struct {
	name string
	do   func(w *world, key string, b []byte) [][]byte
}{
	{"deleted", func(*world, string, []byte) [][]byte { return [][]byte{nil} }},
	{"emptied", func(*world, string, []byte) [][]byte { return [][]byte{{}} }},
	{"truncated", func(_ *world, _ string, b []byte) [][]byte {
		return [][]byte{b[:len(b)-1], b[:max(0, len(b)-frame.FooterSize)], b[:len(b)/2], b[1:], b[:1]}
	}},
	{"a bit flipped", func(_ *world, _ string, b []byte) [][]byte {
		var list [][]byte
		for _, at := range []int{len(b) / 3, 0, len(b) / 2, len(b) - frame.FooterSize - 20, len(b) - frame.FooterSize + 40, len(b) - 1} {
			c := bytes.Clone(b)
			c[min(max(at, 0), len(c)-1)] ^= 1 << (at & 7)
			list = append(list, c)
		}
		return list
	}},
	{"replaced", func(w *world, key string, b []byte) [][]byte { return [][]byte{w.other(key)} }},
}

// other is another object of the same kind, from the same repository where there is one.
func (w *world) other(key string) []byte {
	w.t.Helper()
	pick := func(keys []string) []byte {
		i := slices.Index(keys, key)
		return read(w.t, w.store, keys[(i+1)%len(keys)])
	}
	for _, list := range w.objects() {
		if slices.Contains(list, key) && len(list) > 1 {
			return pick(list)
		}
	}
	// Of what there is one alone, another repository's.
	s := mem.New()
	repo, _, err := repository.Init(w.t.Context(), s, repository.Options{})
	w.ok(err)
	inc, _, err := archive.CreateIncarnation(w.t.Context(), repo, "main", systemID, size, 17)
	w.ok(err)
	_, err = archive.New(repo, inc).PutHistory(w.t.Context(), 2, []byte("1\t0/600000\tanother promotion\n"))
	w.ok(err)
	if b, err := storage.ReadAll(w.t.Context(), s, key, 1<<20); err == nil {
		return b
	}
	// A partial segment: the sealed one that follows.
	return read(w.t, w.store, strings.TrimSuffix(key, ".partial")[:len(key)-len(".partial")-1]+"5")
}

// objects are the keys of the world's objects by kind.
func (w *world) objects() map[verify.Kind][]string {
	w.t.Helper()
	by := map[verify.Kind][]string{verify.KindRepository: {"walden.json"}}
	for _, key := range keysOf(w.t, w.store, w.inc.Prefix()) {
		rest := strings.TrimPrefix(key, w.inc.Prefix())
		kind := verify.Kind("")
		switch dir, _, _ := strings.Cut(rest, "/"); {
		case rest == "identity.json":
			kind = verify.KindIdentity
		case strings.HasSuffix(rest, ".history"):
			kind = verify.KindHistory
		case strings.HasSuffix(rest, ".partial"):
			kind = verify.KindPartial
		case strings.HasSuffix(rest, ".backup"):
			kind = verify.KindBackupHistory
		case strings.HasSuffix(rest, "/started"):
			kind = verify.KindClaim
		case strings.HasSuffix(rest, "/manifest"):
			kind = verify.KindManifest
		default:
			kind = map[string]verify.Kind{
				"wal": verify.KindSegment, "live": verify.KindFragment, "index": verify.KindRollup, "names": verify.KindNames,
				"extents": verify.KindTable, "packs": verify.KindPack, "verified": verify.KindRecord, "rates": verify.KindRate,
			}[dir]
		}
		by[kind] = append(by[kind], key)
	}
	return by
}

// verdict says in how many of the cases a run found the damage.
type verdict struct{ found, cases int }

func (v *verdict) add(found bool) {
	v.cases++
	if found {
		v.found++
	}
}

func (v verdict) String() string {
	switch v.found {
	case v.cases:
		return "yes"
	case 0:
		return "no"
	}
	return "some"
}

// TestEveryDamageOfEveryKind damages each object in each way. The deep form finds all of it,
// once an earlier verification has seen the object. What the quick form finds, and
// what is found without an earlier one, is the table of docs/guide.md.
func TestEveryDamageOfEveryKind(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of verifications take minutes under the race detector; the tests beside it run the same code")
	}
	w := newWorld(t)
	for range 4 {
		run(t, w.store, options())
	}
	var table []string
	for _, kind := range verify.Kinds() {
		keys := w.objects()[kind]
		if kind == verify.KindUnknown {
			continue
		}
		if len(keys) == 0 {
			t.Errorf("there is no %s to damage", kind)
		}
		row := "| " + string(kind)
		for _, d := range damages {
			var quick, first verdict
			for _, key := range keys {
				for i, b := range d.do(w, key, read(t, w.store, key)) {
					name := fmt.Sprintf("%s, %s (%d)", key, d.name, i)
					seen := detects(t, name, w.store, key, b, false)
					quick.add(seen)
					if d.name == "deleted" {
						first.add(detects(t, name, w.store, key, b, true, w.inc.Prefix()+"verified/"))
					}
					// What the quick form sees the deep one sees in the same way: that is tried once.
					if (!seen || key == keys[0] && i == 0) && !detects(t, name, w.store, key, b, true) {
						t.Errorf("%s: not found by the deep form", name)
					}
				}
			}
			row += " | " + quick.String()
			if d.name == "deleted" {
				row += " | " + first.String()
			}
		}
		table = append(table, row+" |")
	}
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range table {
		if !strings.Contains(string(guide), "\n"+row+"\n") {
			t.Errorf("docs/guide.md does not say what is so:\n%s", strings.Join(table, "\n"))
			break
		}
	}
}

// detects damages one object, or removes it if b is nil, and reports whether a run names it.
func detects(t *testing.T, name string, base *mem.Store, key string, b []byte, deep bool, without ...string) bool {
	t.Helper()
	s := over(base)
	for _, prefix := range without {
		for _, key := range keysOf(t, base, prefix) {
			s.hidden[key] = true
		}
	}
	s.hidden[key] = true
	if b != nil {
		s.replace(key, b)
	}
	o := options()
	o.Deep, o.NoRecord = deep, true
	// Whatever has no end by now has none.
	o.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	r, err := verify.Run(t.Context(), s, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return false
	}
	found := false
	for _, f := range r.Findings {
		// What has gone may be missed in another's name: a gap, a backup without an end.
		if f.Object == key || b == nil {
			found = true
		}
		if f.Problem == "" || f.Consequence == "" || f.Kind == "" {
			t.Errorf("%s: %+v says too little", name, f)
		}
	}
	return found
}

// A whole object with the right name, and another one's content.
func TestForgedContent(t *testing.T) {
	w := newWorld(t)
	for kind, keys := range w.objects() {
		if len(keys) < 2 || kind == verify.KindRecord || kind == verify.KindRate { // of the same second
			continue
		}
		for i, key := range keys {
			from := keys[(i+1)%len(keys)]
			source, err := w.repo.Open(t.Context(), from, 0)
			w.ok(err)
			raw, err := source.ReadAll(t.Context())
			w.ok(err)
			f := source.Footer()
			var sections []frame.Section
			for n := range uint16(0x20) {
				if b, ok := source.Section(n); ok {
					sections = append(sections, frame.Section{Type: n, Data: b})
				}
			}
			s := over(w.store)
			s.hidden[key] = true
			repo, err := repository.Open(t.Context(), s, repository.Options{Workers: 1})
			w.ok(err)
			_, err = repo.Put(t.Context(), key, raw, repository.ObjectOptions{Kind: f.Kind, RawDigest: f.HasRawDigest, PageHash: f.Kind == frame.KindPack}, sections...)
			w.ok(err)
			o := options()
			o.Deep, o.NoRecord = true, true
			r := run(t, s, o)
			if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Object == key }) {
				t.Errorf("%s with the content of %s is not found: %+v", key, from, r.Findings)
			}
		}
	}
}

// A wrong extent, in tables whose checksums are right, is found.
func TestWrongExtent(t *testing.T) {
	for name, change := range map[string]func([]basebackup.FileEntry){
		"another place": func(e []basebackup.FileEntry) { e[3].Extents[0].Offset += frame.PageSize },
		"beyond its pack": func(e []basebackup.FileEntry) {
			e[2].Extents[0].Offset = 1 << 30
		},
		"another pack":  func(e []basebackup.FileEntry) { e[3].Extents[0].Pack = 1 },
		"no such pack":  func(e []basebackup.FileEntry) { e[3].Extents[0].Pack = 7 },
		"a checksum":    func(e []basebackup.FileEntry) { e[2].CRC ^= 1 },
		"pieces":        func(e []basebackup.FileEntry) { e[2].Extents = pieces(e[2].Extents[0], 8192) },
		"uneven pieces": func(e []basebackup.FileEntry) { e[3].Extents[0].Length, e[3].Size = 5000, 5000 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := w.manifest(secondID)
			for _, key := range keysOf(t, w.store, w.inc.Prefix()) {
				if strings.Contains(key, secondID) && !strings.HasSuffix(key, "started") {
					w.ok(w.store.Delete(t.Context(), key))
				}
			}
			m.Packs, m.Shards, m.Files, m.Bytes = nil, nil, 0, 0
			w.publish(m, change)
			o := options()
			o.NoRecord = true
			clean(t, w.store, o) // the quick form cannot know
			o.Deep = true
			r := run(t, w.store, o)
			if name == "pieces" { // they are in order
				clean(t, w.store, o)
				return
			}
			key := basebackup.ManifestKey(w.inc, secondID)
			if len(r.Findings) != 1 || r.Findings[0].Object != key || !slices.Contains(r.Findings[0].Backups, secondID) {
				t.Errorf("findings %+v", r.Findings)
			}
			t.Log(r.Findings)
		})
	}
}

// pieces cuts an extent in two, the first of n bytes.
func pieces(x basebackup.Extent, n int64) []basebackup.Extent {
	a, b := x, x
	a.Length, b.Offset, b.Length = n, x.Offset+n, x.Length-n
	return []basebackup.Extent{a, b}
}

func (w *world) manifest(id string) *basebackup.Manifest {
	w.t.Helper()
	m, err := basebackup.Load(w.t.Context(), w.repo, w.inc, id)
	w.ok(err)
	return m
}
