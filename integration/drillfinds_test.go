//go:build unix

package integration

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/storage/file"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// TestDrillFinds damages what a drill rests on, in the repository and in production, and
// expects that it is found and said.
func TestDrillFinds(t *testing.T) {
	d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
	id := d.backup()
	d.pg.Exec("INSERT INTO orders VALUES (10000, 'later')")
	d.archiveAll()
	middle := d.lastSegment()
	d.pg.Exec("INSERT INTO orders VALUES (10001, 'later')")
	d.archiveAll()
	d.pg.Exec("INSERT INTO orders VALUES (10002, 'last')")
	d.archiveAll()

	t.Run("assertion", func(t *testing.T) {
		d := d.on(t)
		d.finds("assertion", []string{"an assertion failed", "count(*) > 6000", "it is false"}, "--assert", "SELECT count(*) > 6000 FROM orders")
		d.finds("assertion", []string{"an assertion failed", "order lines", "relation \"lines\" does not exist"}, "--assert-file", d.file("assertions.sql", "-- there are orders\nSELECT count(*) > 0\n  FROM orders;\n-- order lines\nSELECT count(*) > 0 FROM lines;\n"))
		d.finds("assertion", []string{"is no boolean"}, "--assert", "SELECT 1")
		d.finds("assertion", []string{"read-only transaction"}, "--assert", "DELETE FROM orders RETURNING true")
	})
	t.Run("objective", func(t *testing.T) {
		d := d.on(t)
		d.finds("rto", []string{"the objective was missed: the cluster was back after"}, "--rto", "1ms")
		d.pg.Exec("INSERT INTO orders VALUES (10003, 'not archived')")
		d.finds("rpo", []string{"the objective was missed:", "may be lost"}, "--rpo", "1us")
	})
	t.Run("flipped bit in a pack", func(t *testing.T) {
		d := d.on(t)
		packs, err := filepath.Glob(filepath.Join(d.objects, "main", "*", "packs", id, "*"))
		check(t, err)
		defer keep(t, packs[0])()
		wounds["one bit flipped"](t, packs[0])
		d.finds("restore", []string{"the backup cannot be restored", "packs/" + id})
	})
	t.Run("missing segment", func(t *testing.T) {
		d := d.on(t)
		found, err := filepath.Glob(filepath.Join(d.objects, "main", "*", "wal", "*", "*", middle))
		check(t, err)
		defer keep(t, found[0])()
		check(t, os.Remove(found[0]))
		d.finds("plan", []string{"cannot be restored", middle})
	})
	t.Run("wrong extent", func(t *testing.T) {
		d := d.on(t)
		defer d.swapExtents(id)()
		d.finds("restore", []string{"the backup cannot be restored", "file base/"})
	})
	d.proven()
}

// TestDrillFindsCorruption damages production, and takes a backup of it.
func TestDrillFindsCorruption(t *testing.T) {
	t.Run("pages", func(t *testing.T) {
		d := newDrillSite(t, siteOptions{major: pgtest.Newest(), noChecksums: true})
		// Line pointers of the third page lead beyond it.
		d.wound("orders", 2*8192+24, bytes.Repeat([]byte{0x00, 0xD0, 0x40, 0x00}, 16))
		d.backup()
		d.archiveAll()
		r := d.finds("amcheck", []string{"tables or indexes are corrupt", "orders"})
		if r.state("checksums") != "skipped" {
			t.Errorf("%+v", r.Checks)
		}
	})
	t.Run("pages with checksums", func(t *testing.T) {
		d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
		// What the server takes for younger than the backup it does not verify.
		page := append([]byte{0, 0, 1, 0, 0, 0, 0, 0}, 0xEE, 0xEE)
		d.wound("orders", 2*8192, page)
		d.backup()
		d.archiveAll()
		r := d.finds("checksums", []string{"corrupt", "orders"})
		if r.state("amcheck") != "failed" {
			t.Errorf("%+v", r.Checks)
		}
		d.finds("checksums", []string{"pages do not have their checksums", "checksum verification failed"}, "--skip", "amcheck")
	})
	t.Run("index", func(t *testing.T) {
		d := newDrillSite(t, siteOptions{major: pgtest.Newest()})
		d.pg.Exec("CREATE INDEX by_note ON orders (note)")
		d.pg.Exec("UPDATE pg_index SET indisready = false WHERE indexrelid = 'by_note'::regclass")
		d.pg.Exec("INSERT INTO orders VALUES (10000, 'not in the index')")
		d.pg.Exec("UPDATE pg_index SET indisready = true WHERE indexrelid = 'by_note'::regclass")
		d.backup()
		d.archiveAll()
		d.finds("amcheck", []string{"tables or indexes are corrupt", "by_note", "lacks matching index tuple"})
	})
}

func (d *drillSite) on(t *testing.T) *drillSite {
	return &drillSite{site: d.site.on(t), scratch: d.scratch}
}

// file makes a file that walden can read.
func (d *drillSite) file(name, content string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	check(d.t, os.WriteFile(path, []byte(content), 0o644))
	pgtest.Chown(d.t, path)
	return path
}

// wound writes into a table's file while the server is down.
func (d *drillSite) wound(table string, at int64, b []byte) {
	d.t.Helper()
	d.pg.Exec("CHECKPOINT")
	path := filepath.Join(d.pg.DataDir(), d.pg.QueryValue("SELECT pg_relation_filepath('"+table+"')"))
	d.pg.Stop(pgtest.Fast)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(d.t, err)
	_, err = f.WriteAt(b, at)
	check(d.t, err)
	check(d.t, f.Close())
	d.pg.Start()
}

// swapExtents exchanges where two files of a backup lie, with checksums that are right, and
// returns what undoes it.
func (d *drillSite) swapExtents(id string) func() {
	t := d.t
	t.Helper()
	store, err := file.New(d.objects, file.Options{})
	check(t, err)
	repo, err := repository.Open(t.Context(), store, repository.Options{})
	check(t, err)
	incs, err := archive.Incarnations(t.Context(), repo, "main")
	check(t, err)
	inc := incs[0]
	m, err := basebackup.Load(t.Context(), repo, inc, id)
	check(t, err)
	ref := &m.Shards[0]
	var entries []basebackup.FileEntry
	for e, err := range basebackup.ReadShard(t.Context(), repo, inc, *ref) {
		check(t, err)
		entries = append(entries, e)
	}
	swap(t, entries)
	var text bytes.Buffer
	for _, e := range entries {
		check(t, json.NewEncoder(&text).Encode(e))
	}
	shard, manifest := basebackup.ShardKey(inc, ref.Backup, ref.Number), basebackup.ManifestKey(inc, id)
	undo := []func(){keep(t, filepath.Join(d.objects, shard)), keep(t, filepath.Join(d.objects, manifest))}
	replace := func(key string, raw []byte, kind frame.Kind) frame.Footer {
		check(t, os.Remove(filepath.Join(d.objects, key)))
		f, err := repo.Put(t.Context(), key, raw, repository.ObjectOptions{Kind: kind})
		check(t, err)
		pgtest.Chown(t, filepath.Join(d.objects, key))
		return f
	}
	footer := replace(shard, text.Bytes(), frame.KindExtents)
	ref.Digest, ref.Size = hex.EncodeToString(footer.StoredDigest[:]), footer.StoredSize()
	b, err := json.Marshal(m)
	check(t, err)
	replace(manifest, b, frame.KindManifest)
	return func() {
		for _, f := range undo {
			f()
		}
	}
}

// swap exchanges the extents of two files of one size below base/ whose contents differ.
func swap(t *testing.T, entries []basebackup.FileEntry) {
	t.Helper()
	seen := map[int64]int{}
	for i, e := range entries {
		if e.Kind != basebackup.KindFile || e.Size == 0 || filepath.Dir(filepath.Dir(e.Path)) != "base" {
			continue
		}
		j, ok := seen[e.Size]
		if ok && entries[j].CRC != e.CRC {
			entries[i].Extents, entries[j].Extents = entries[j].Extents, entries[i].Extents
			return
		}
		seen[e.Size] = i
	}
	t.Fatal("no two files of one size")
}
