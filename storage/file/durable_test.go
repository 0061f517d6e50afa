package file

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walden-pg/walden/storage"
)

func put(t *testing.T, s *Store, key string) {
	t.Helper()
	if err := storage.PutBytes(t.Context(), s, key, []byte(key), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestKnownDirectoriesAreNotSynced: what is durable already costs nothing.
func TestKnownDirectoriesAreNotSynced(t *testing.T) {
	fs := newStrictFS()
	s := storeOn(fs)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/b/c/one")
	fs.trace = nil
	put(t, s, "a/b/c/two")
	synced := 0
	for _, step := range fs.trace {
		if strings.HasPrefix(step, "syncdir ") {
			synced++
		}
	}
	if synced != 1 {
		t.Errorf("%d directories were synced for the second object of a directory:\n%s", synced, strings.Join(fs.trace, "\n"))
	}
}

// TestDirectoriesMadeAnew: directories come and go, by this process and by
// another that shares the disk and may die at any step; what was acknowledged
// survives a loss of power.
func TestDirectoriesMadeAnew(t *testing.T) {
	keys := []string{"a/b/c/one", "a/b/c/two", "a/b/d/one", "a/e"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		fs := newStrictFS()
		stores := []*Store{storeOn(fs), storeOn(fs)}
		if err := stores[0].Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{} // acknowledged, and not deleted
		for range 30 {
			s, key := stores[r.IntN(2)], keys[r.IntN(len(keys))]
			switch r.IntN(4) {
			case 0:
				if err := s.Delete(context.Background(), key); err != nil {
					t.Fatal(err)
				}
				delete(there, key)
			case 1: // the other one dies while it makes the directories
				parts := strings.Split(key, "/")
				for i := 1; i < len(parts); i++ {
					_ = fs.Mkdir(filepath.Join(filepath.FromSlash(crashRoot), filepath.Join(parts[:i]...)))
				}
			default:
				err := storage.PutBytes(t.Context(), s, key, []byte(key), storage.PutOptions{})
				if err != nil && !errors.Is(err, storage.ErrExist) {
					t.Fatal(err)
				}
				there[key] = true
			}
			lost := storeOn(fs.powerLoss(nil))
			for key := range there {
				if b, err := storage.ReadAll(t.Context(), lost, key, 100); err != nil || string(b) != key {
					t.Fatalf("seed %d: %s was acknowledged and is lost: %q, %v", seed, key, b, err)
				}
			}
		}
	}
}
