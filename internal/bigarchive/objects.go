package bigarchive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
	"github.com/walden-pg/walden/storage/mem"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
	"github.com/walden-pg/walden/wal/rollup"
)

// Archive makes the objects of a Spec. It is safe for concurrent use.
type Archive struct {
	Spec
	Incarnation archive.Incarnation

	base     *mem.Store // walden.json and identity.json
	repo     *repository.Repository
	families []family // in the order of their keys
	mu       sync.Mutex
	made     map[string][]byte // some of what was asked for
}

// family is a run of keys that sort like their numbers.
type family struct {
	prefix string
	count  int
	key    func(i int) string
	info   func(i int) storage.Info // without the key
	make   func(ctx context.Context, key string, i int) ([]byte, error)
}

// New makes an archive of the cluster "main".
func New(ctx context.Context, spec Spec) (*Archive, error) {
	a := &Archive{Spec: spec, base: mem.New(), made: map[string][]byte{}}
	repo, _, err := repository.Init(ctx, a.base, repository.Options{})
	if err != nil {
		return nil, err
	}
	a.repo = repo
	if a.Incarnation, _, err = archive.CreateIncarnation(ctx, repo, "main", SystemID, spec.Size, 17); err != nil {
		return nil, err
	}
	a.families = a.allFamilies()
	return a, nil
}

// allFamilies are the keys there are, in order.
func (a *Archive) allFamilies() []family {
	inc, backups := a.Incarnation, a.Backups()
	stored := func(int) storage.Info { return storage.Info{Size: 1 << 20, ModTime: Began} }
	return []family{
		{
			prefix: inc.Prefix() + "backups/", count: 2 * len(backups), info: stored, make: a.makeBackup,
			key: func(i int) string {
				id := BackupID(backups[i/2])
				if i%2 == 0 {
					return basebackup.ManifestKey(inc, id)
				}
				return basebackup.ClaimKey(inc, id)
			},
		},
		{prefix: inc.Prefix() + "extents/", count: len(backups), info: stored, make: nothing, key: func(i int) string {
			return basebackup.ShardKey(inc, BackupID(backups[i]), 0)
		}},
		{prefix: inc.IdentityKey(), count: 1, info: stored, make: a.fromBase, key: func(int) string { return inc.IdentityKey() }},
		{prefix: inc.Prefix() + "index/", count: a.Rollups, info: stored, make: a.makeRollup, key: func(i int) string {
			return rollup.NewStore(a.repo, inc).Key(rollup.Log{Timeline: 1, Number: uint32(i)}, 1)
		}},
		{prefix: inc.Prefix() + "packs/", count: a.Packs * len(backups), info: stored, make: nothing, key: func(i int) string {
			return basebackup.PackKey(inc, BackupID(backups[i/a.Packs]), i%a.Packs)
		}},
		{
			prefix: inc.Prefix() + "wal/", count: int(a.Segments), make: a.makeSegment,
			key: func(i int) string { return archive.SegmentKey(inc, a.segment(uint64(i+1))) },
			info: func(i int) storage.Info {
				e := a.entry(uint64(i + 1))
				return storage.Info{Size: e.Size, ModTime: e.ModTime, Version: e.Version}
			},
		},
		{prefix: "walden.json", count: 1, info: stored, make: a.fromBase, key: func(int) string { return "walden.json" }},
	}
}

func nothing(context.Context, string, int) ([]byte, error) { return []byte("x"), nil }

func (a *Archive) fromBase(ctx context.Context, key string, _ int) ([]byte, error) {
	return storage.ReadAll(ctx, a.base, key, 1<<20)
}

// Page is what a listing answers at once: at most limit keys that begin with prefix and
// come after a key, and whether more follow.
func (a *Archive) Page(prefix, after string, limit int) (page []storage.Info, more bool) {
	for _, f := range a.families {
		i := sort.Search(f.count, func(i int) bool { k := f.key(i); return k > after && k >= prefix })
		for ; i < f.count; i++ {
			key := f.key(i)
			if !strings.HasPrefix(key, prefix) {
				break
			}
			if strings.HasPrefix(f.prefix, a.Incarnation.Prefix()+"wal/") && a.Missing[uint64(i+1)] {
				continue
			}
			if len(page) == limit {
				return page, true
			}
			info := f.info(i)
			info.Key = key
			page = append(page, info)
		}
	}
	return page, false
}

// Object makes an object; ok is false if there is none of that key.
func (a *Archive) Object(ctx context.Context, key string) (b []byte, ok bool, err error) {
	a.mu.Lock()
	b, ok = a.made[key]
	a.mu.Unlock()
	if ok {
		return b, true, nil
	}
	for _, f := range a.families {
		i := sort.Search(f.count, func(i int) bool { return f.key(i) >= key })
		if i == f.count || f.key(i) != key || f.prefix == a.Incarnation.Prefix()+"wal/" && a.Missing[uint64(i+1)] {
			continue
		}
		b, err = f.make(ctx, key, i)
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.made) > 20000 {
			clear(a.made)
		}
		a.made[key] = b
		return b, true, err
	}
	return nil, false, nil
}

// encode makes a container.
func (a *Archive) encode(ctx context.Context, key string, raw io.ReaderAt, size int64, kind frame.Kind, sections ...frame.Section) ([]byte, error) {
	into := mem.New()
	walden, err := a.fromBase(ctx, "walden.json", 0)
	if err != nil {
		return nil, err
	}
	if err := storage.PutBytes(ctx, into, "walden.json", walden, storage.PutOptions{}); err != nil {
		return nil, err
	}
	repo, err := repository.Open(ctx, into, repository.Options{Codec: frame.CodecLZ4, Workers: 1})
	if err != nil {
		return nil, err
	}
	if _, err := repo.PutReaderAt(ctx, key, raw, size, repository.ObjectOptions{Kind: kind}, sections...); err != nil {
		return nil, err
	}
	return storage.ReadAll(ctx, into, key, 1<<30)
}

// zeros is a reader of any number of them.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

func (a *Archive) makeSegment(ctx context.Context, key string, i int) ([]byte, error) {
	var sections []frame.Section
	for _, s := range a.Index(uint64(i + 1)).Sections() {
		sections = append(sections, frame.Section{Type: s.Type, Data: s.Data})
	}
	return a.encode(ctx, key, zeros{}, a.Size.Bytes(), frame.KindSegment, sections...)
}

func (a *Archive) makeRollup(ctx context.Context, key string, i int) ([]byte, error) {
	raw := a.rollup(uint32(i)).Encode()
	return a.encode(ctx, key, strings.NewReader(string(raw)), int64(len(raw)), frame.KindRollup)
}

// makeBackup makes a manifest. Claims are not read where there is one.
func (a *Archive) makeBackup(ctx context.Context, key string, i int) ([]byte, error) {
	n := a.Backups()[i/2]
	id, first, next := BackupID(n), a.segment(n), a.segment(n+1)
	if i%2 == 1 {
		return nil, fmt.Errorf("object %s: nobody reads it", key)
	}
	m := &basebackup.Manifest{
		Format: basebackup.FormatVersion, ID: id, Cluster: "main", SystemID: SystemID, Major: 17, ServerVersion: 170006, SegmentSize: a.Size,
		Settings: map[string]string{"max_prepared_transactions": "0"},
		Timeline: 1, StartLSN: first.Start() + redoOffset, CheckpointLSN: first.Start() + checkpointOffset,
		StopLSN: next.Start() + endOffset + 40, StopTimeline: 1, StartTime: TimeOf(n), StopTime: TimeOf(n + 2),
		WALRanges: []basebackup.WALRange{{Timeline: 1, Start: first.Start() + redoOffset, End: next.Start() + endOffset + wal.LSN(40)}},
		Shards:    []basebackup.ShardRef{{Backup: id, Size: 1 << 20, Entries: 1}},
		Files:     1000, Bytes: 10 << 30, StoredBytes: 4 << 30,
	}
	for p := range a.Packs {
		m.Packs = append(m.Packs, basebackup.PackRef{Backup: id, Number: p, Digest: strings.Repeat("ab", 32), Size: 1 << 20, Raw: 2 << 20, Live: 2 << 20})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return a.encode(ctx, key, strings.NewReader(string(raw)), int64(len(raw)), frame.KindManifest)
}
