package mem_test

import (
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storage.Store { return mem.New() })
}

func TestReplace(t *testing.T) {
	s := mem.New()
	s.Replace("b", []byte("1"))
	s.Replace("b", []byte("2"))
	s.Replace("a", []byte("3"))
	var got string
	for info, err := range s.List(t.Context(), "", "") {
		b, readErr := storage.ReadAll(t.Context(), s, info.Key, 10)
		if err != nil || readErr != nil {
			t.Fatal(err, readErr)
		}
		got += info.Key + "=" + string(b) + " "
	}
	if got != "a=3 b=2 " {
		t.Fatalf("got %q", got)
	}
}
