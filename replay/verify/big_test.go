package verify_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walden-pg/walden/internal/bigarchive"
	"github.com/walden-pg/walden/replay/verify"
	"github.com/walden-pg/walden/storage"
)

// sized shows objects with the sizes that they have.
type sized struct{ *bigarchive.Store }

func (s sized) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix, after) {
			if strings.HasSuffix(info.Key, "/started") {
				continue
			}
			if err == nil {
				var b []byte
				if b, _, err = s.Object(ctx, info.Key); err == nil {
					info.Size = int64(len(b))
				}
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// What looking at very many segments costs without roll-ups: a request each, and a few for
// each log and for the whole.
func TestManySegments(t *testing.T) {
	const n = 2000
	a, err := bigarchive.New(t.Context(), bigarchive.Spec{Segments: n, Size: 1 << 20, BackupEvery: 1 << 40, Packs: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := &bigarchive.Store{Archive: a}
	o := options()
	o.NoRecord = true
	r := run(t, sized{s}, o)
	for _, f := range r.Findings {
		if f.Kind != verify.KindPack && f.Kind != verify.KindTable && f.Kind != verify.KindClaim { // there are none, only keys
			t.Errorf("%s: %s", f.Object, f.Problem)
		}
	}
	if got, c := r.Incarnations[0].Objects[verify.KindSegment].Objects, s.Count(); got != n || c.Gets > n+n/20 || c.Lists > 40 {
		t.Errorf("%d segments, %s", got, c)
	}
}

// Where a roll-up holds for a segment its footer is read, and nothing else of it.
func TestRollupsSpareIndexes(t *testing.T) {
	w := newWorld(t)
	bytes := func(s storage.Store) int64 {
		c := &counting{Store: s}
		o := options()
		o.NoRecord = true
		clean(t, c, o)
		return c.bytes.Load()
	}
	with := bytes(w.store)
	s := over(w.store)
	for _, key := range keysOf(t, w.store, w.inc.Prefix()+"index/") {
		s.hidden[key] = true
	}
	if without := bytes(s); with*4 > without || with > 9*1024+64<<10 { // one is joined across a timeline switch
		t.Errorf("%d bytes of segments are read with roll-ups, %d without", with, without)
	}
}

// counting counts what is read of sealed segments.
type counting struct {
	storage.Store
	bytes atomic.Int64
}

func (c *counting) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := c.Store.Open(ctx, key, off, n)
	if err != nil || !strings.Contains(key, "/wal/0") || strings.Contains(key, ".") {
		return r, err
	}
	return &countedReader{r, c}, nil
}

type countedReader struct {
	io.ReadCloser
	c *counting
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.bytes.Add(int64(n))
	return n, err
}
