package file_test

import (
	"testing"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/storetest"
)

func open(t *testing.T, root string) *file.Store {
	t.Helper()
	s, err := file.New(root, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storage.Store { return open(t, t.TempDir()) })
}
