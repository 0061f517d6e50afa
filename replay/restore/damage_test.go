package restore

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
)

func itoa(n int) string { return strconv.Itoa(n) }

// raw reads a stored object.
func (f *fixture) raw(t *testing.T, key string) []byte {
	t.Helper()
	r, err := f.store.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// replace stores other bytes under a key; nil: none.
func (f *fixture) replace(t *testing.T, key string, b []byte) {
	t.Helper()
	if err := f.store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if b == nil {
		return
	}
	if err := f.store.Put(t.Context(), key, bytes.NewReader(b), int64(len(b)), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to any object of a backup: the restore fails, names the
// object, and no server can start on what it leaves.
func TestDamage(t *testing.T) {
	fo := fixtureOptions{codec: frame.CodecLZ4, packSize: 16 << 10, shardSize: 8}
	f := newFixture(t, fo)
	f.publish(fo)
	keys := []string{basebackup.ManifestKey(f.inc, testID)}
	for i := range f.manifest.Packs {
		keys = append(keys, basebackup.PackKey(f.inc, testID, i))
	}
	for i := range f.manifest.Shards {
		keys = append(keys, basebackup.ShardKey(f.inc, testID, i))
	}
	if len(f.manifest.Packs) < 3 || len(f.manifest.Shards) < 3 {
		t.Fatalf("%d packs, %d shards: not what this test is for", len(f.manifest.Packs), len(f.manifest.Shards))
	}
	for _, key := range keys {
		whole := f.raw(t, key)
		damages := map[string][]byte{"deleted": nil, "emptied": {}, "without the last byte": whole[:len(whole)-1], "half": whole[:len(whole)/2]}
		for i := 0; i < len(whole); i += max(1, len(whole)/40) {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << (i % 8)
			damages["flipped at "+itoa(i)] = flipped
		}
		for name, b := range damages {
			f.replace(t, key, b)
			f.expectFailure(t, key, name)
		}
		f.replace(t, key, whole)
	}
	// Two whole packs in each other's place.
	first, second := f.raw(t, keys[1]), f.raw(t, keys[2])
	f.replace(t, keys[1], second)
	f.replace(t, keys[2], first)
	f.expectFailure(t, keys[1], "exchanged")
	f.replace(t, keys[1], first)
	f.replace(t, keys[2], second)
	o := f.options(t)
	if _, err := f.restore(t, o); err != nil {
		t.Fatalf("with everything in order: %v", err)
	}
	f.check(t, o)
}

func (f *fixture) expectFailure(t *testing.T, key, name string) {
	t.Helper()
	o := f.options(t)
	o.Jobs = 1 // the exchanged packs are met in order
	_, err := f.restore(t, o)
	if err == nil {
		t.Errorf("%s %s: restored", key, name)
		return
	}
	if id := strings.TrimSuffix(key, "/manifest"); !strings.Contains(err.Error(), key) && (id == key || !strings.Contains(err.Error(), testID)) {
		t.Errorf("%s %s: the error does not name it: %v", key, name, err)
	}
	unstartable(t, o.To)
}

// Tables that do not fit to the packs, although every object is whole.
func TestLyingTables(t *testing.T) {
	cases := map[string]struct {
		change func(f *fixture, e *basebackup.FileEntry)
		says   string
	}{
		"checksum":       {func(f *fixture, e *basebackup.FileEntry) { e.CRC++ }, "CRC-32C"},
		"other bytes":    {func(f *fixture, e *basebackup.FileEntry) { e.Extents[0].Offset += 8192 }, "CRC-32C"},
		"beyond the end": {func(f *fixture, e *basebackup.FileEntry) { e.Extents[0].Offset += 1 << 40 }, "beyond the end"},
		"unknown pack":   {func(f *fixture, e *basebackup.FileEntry) { e.Extents[0].Pack = 77 }, "does not name pack 77"},
		"twice":          {func(f *fixture, e *basebackup.FileEntry) { f.entries = append(f.entries, *e) }, "twice"},
		"a parent that is a file": {func(f *fixture, e *basebackup.FileEntry) {
			e.Path = "PG_VERSION/x"
			f.entries = append(f.entries[:0:0], append([]basebackup.FileEntry{*find(f, "PG_VERSION")}, f.entries...)...)
		}, "PG_VERSION"},
		"our own name": {func(f *fixture, e *basebackup.FileEntry) { e.Path = MarkerName }, "itself"},
		"link elsewhere": {func(f *fixture, e *basebackup.FileEntry) {
			f.entries = append(f.entries, basebackup.FileEntry{Path: "base/9", Kind: basebackup.KindSymlink, Target: "/etc"})
		}, "symbolic link"},
		"unknown tablespace": {func(f *fixture, e *basebackup.FileEntry) {
			f.entries = append(f.entries, basebackup.FileEntry{Path: "pg_tblspc/99", Kind: basebackup.KindSymlink, Target: "/etc"})
		}, "tablespace"},
		"missing file":      {func(f *fixture, e *basebackup.FileEntry) { remove(f, "base/1/2601") }, "its manifest says"},
		"missing label":     {func(f *fixture, e *basebackup.FileEntry) { rename(f, "backup_label", "label") }, "backup_label"},
		"other cluster":     {func(f *fixture, e *basebackup.FileEntry) { f.content["global/pg_control"][0]++ }, "pg_control"},
		"missing control":   {func(f *fixture, e *basebackup.FileEntry) { rename(f, "global/pg_control", "global/pg_other") }, "global/pg_control"},
		"control's own tmp": {func(f *fixture, e *basebackup.FileEntry) { e.Path = controlTemp }, "itself"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			fo := fixtureOptions{}
			f := newFixture(t, fo)
			if name == "other cluster" {
				c.change(f, nil)
				find(f, "global/pg_control").CRC = 0
				f.add(*find(f, "global/pg_control"), f.content["global/pg_control"])
				remove(f, "global/pg_control")
			}
			f.publish(fo)
			if name != "other cluster" {
				c.change(f, find(f, "base/1/2601"))
				f.writeTables(0)
			}
			o := f.options(t)
			_, err := f.restore(t, o)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v", err)
			}
			if name == "checksum" {
				var bad *FileError
				if !errors.As(err, &bad) || bad.Path != "base/1/2601" || len(bad.Packs) != 1 || bad.Packs[0] != basebackup.PackKey(f.inc, testID, 0) {
					t.Errorf("%+v", bad)
				}
			}
			unstartable(t, o.To)
		})
	}
}

func find(f *fixture, path string) *basebackup.FileEntry {
	for i := range f.entries {
		if f.entries[i].Path == path {
			return &f.entries[i]
		}
	}
	f.t.Fatalf("no entry %s", path)
	return nil
}

// remove takes away the first entry of that path.
func remove(f *fixture, path string) {
	for i := range f.entries {
		if f.entries[i].Path == path {
			f.entries = append(f.entries[:i:i], f.entries[i+1:]...)
			return
		}
	}
}

func rename(f *fixture, from, to string) { find(f, from).Path = to }
