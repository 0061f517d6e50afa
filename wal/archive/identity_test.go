package archive_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

func TestCheckClusterName(t *testing.T) {
	for _, name := range []string{"main", "0", "a-b_c", strings.Repeat("x", 63)} {
		if err := archive.CheckClusterName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "Main", "-a", "_a", "a/b", "a.b", "ä", "a b", strings.Repeat("x", 64)} {
		if err := archive.CheckClusterName(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

func TestKeys(t *testing.T) {
	inc := archive.Incarnation{Cluster: "main", Number: 2, SystemID: 7345, SegmentSize: 16 << 20}
	for name, want := range map[string]string{
		"000000010000000A000000FF":                 "main/2-7345/wal/00000001/0000000A/000000010000000A000000FF",
		"000000010000000A000000FF.partial":         "main/2-7345/wal/00000001/0000000A/000000010000000A000000FF.partial",
		"000000010000000A000000FF.00000028.backup": "main/2-7345/wal/00000001/0000000A/000000010000000A000000FF.00000028.backup",
		"0000000B.history":                         "main/2-7345/wal/0000000B.history",
	} {
		f, err := wal.ParseFile(name, inc.SegmentSize)
		if err != nil {
			t.Fatal(err)
		}
		key := archive.FileKey(inc, f)
		if key != want {
			t.Errorf("key of %s is %s, want %s", name, key, want)
		}
		if err := storage.CheckKey(key); err != nil {
			t.Error(err)
		}
	}
	if got, want := inc.IdentityKey(), "main/2-7345/identity.json"; got != want {
		t.Errorf("identity is %s, want %s", got, want)
	}
}

func TestIncarnations(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		repo := newRepository(t, s)
		list := func() []archive.Incarnation {
			t.Helper()
			l, err := archive.Incarnations(t.Context(), repo, "main")
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if l := list(); len(l) != 0 {
			t.Errorf("a new repository has %v", l)
		}
		ensure := func(id uint64, size wal.SegmentSize, number int, created bool) archive.Incarnation {
			t.Helper()
			inc, c, err := archive.CreateIncarnation(t.Context(), repo, "main", id, size, major)
			if err != nil || c != created || inc.Number != number || inc.SystemID != id || inc.SegmentSize != size {
				t.Fatalf("got %v, created %v, %v; want number %d, created %v", inc, c, err, number, created)
			}
			return inc
		}
		first := ensure(1111, size, 1, true)
		if again := ensure(1111, size, 1, false); again != first {
			t.Errorf("again: %v, first: %v", again, first)
		}
		ensure(2222, size, 2, true)   // initialised anew
		ensure(2222, 2*size, 3, true) // pg_resetwal --wal-segsize
		ensure(2222, 2*size, 3, false)
		for n := 4; n <= 11; n++ { // numbers sort as numbers
			ensure(uint64(4000+n), size, n, true)
		}
		all := list()
		for i, inc := range all {
			if inc.Number != i+1 {
				t.Errorf("place %d has %v", i, inc)
			}
		}
		if inc, ok := archive.FindIncarnation(all, 1111, size); !ok || inc != first {
			t.Errorf("found %v, %v", inc, ok)
		}
		if inc, ok := archive.FindIncarnation(all, 1111, 2*size); ok {
			t.Errorf("found %v", inc)
		}
		// The first again: it becomes current under a new number, and the newest match.
		back := ensure(1111, size, 12, true)
		if inc, ok := archive.FindIncarnation(list(), 1111, size); !ok || inc != back {
			t.Errorf("found %v, %v", inc, ok)
		}
		if inc, ok := archive.Current(list()); !ok || inc != back {
			t.Errorf("current is %v, %v", inc, ok)
		}
		if other, err := archive.Incarnations(t.Context(), repo, "mai"); err != nil || len(other) != 0 {
			t.Errorf("another cluster has %v, %v", other, err)
		}
	})
}

func TestCreateIncarnationAtTheSameTime(t *testing.T) {
	onAllStores(t, func(t *testing.T, s storage.Store) {
		repo := newRepository(t, s)
		var (
			wg      sync.WaitGroup
			got     [8]archive.Incarnation
			created [8]bool
			errs    [8]error
		)
		for i := range got {
			wg.Go(func() {
				got[i], created[i], errs[i] = archive.CreateIncarnation(background, repo, "main", systemID, size, major)
			})
		}
		wg.Wait()
		n := 0
		for i := range got {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			if got[i] != got[0] {
				t.Errorf("%v and %v", got[i], got[0])
			}
			if created[i] {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d say that they created it", n)
		}
	})
}

func TestIncarnationsAreListedWithoutTheirContent(t *testing.T) {
	s := mem.New()
	a := newArchive(t, s)
	pushAll(t, a, newWAL(3))
	counted := &countingStore{Store: s}
	list, err := archive.Incarnations(t.Context(), openRepository(t, counted), "main")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if d := cmp.Diff(a.Incarnation(), list[0]); d != "" {
		t.Error(d)
	}
	if n := counted.listed.Load(); n > 2 {
		t.Errorf("%d objects were listed for one incarnation", n)
	}
}

func TestDamagedIdentityIsNamed(t *testing.T) {
	const key = "main/1-7345001122334455667/identity.json"
	for name, damage := range map[string]func(t *testing.T, s storage.Store){
		"deleted": func(t *testing.T, s storage.Store) {
			if err := s.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		},
		"emptied": func(t *testing.T, s storage.Store) { replace(t, s, key, nil) },
		"flipped": func(t *testing.T, s storage.Store) {
			b := stored(t, s, key)
			b[len(b)/3] ^= 4
			replace(t, s, key, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mem.New()
			a := newArchive(t, s)
			pushAll(t, a, newWAL(1))
			damage(t, s)
			repo := openRepository(t, s)
			if list, err := archive.Incarnations(t.Context(), repo, "main"); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("listed %v, %v", list, err)
			}
			if inc, _, err := archive.CreateIncarnation(t.Context(), repo, "main", systemID, size, major); err == nil {
				t.Errorf("created %v", inc)
			}
		})
	}
}
