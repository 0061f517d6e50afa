package verify_test

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/mem"
)

// overlay shows another store with changes, which it keeps to itself.
type overlay struct {
	base, own *mem.Store
	hidden    map[string]bool
}

func over(base *mem.Store) *overlay {
	return &overlay{base: base, own: mem.New(), hidden: map[string]bool{}}
}

// at is the store that holds the key.
func (o *overlay) at(key string) storage.Store {
	if _, ok := o.own.Options(key); ok || o.hidden[key] {
		return o.own
	}
	return o.base
}

func (o *overlay) replace(key string, data []byte) {
	o.hidden[key] = true
	o.own.Replace(key, data)
}

func (o *overlay) Put(ctx context.Context, key string, r io.ReaderAt, size int64, po storage.PutOptions) error {
	if _, err := o.at(key).Stat(ctx, key); err == nil {
		return &storage.Error{Op: "put", Key: key, Err: storage.ErrExist}
	}
	return o.own.Put(ctx, key, r, size, po)
}

func (o *overlay) Create(ctx context.Context, key string, po storage.PutOptions) (storage.Writer, error) {
	return o.own.Create(ctx, key, po)
}

func (o *overlay) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return o.at(key).Open(ctx, key, off, n)
}

func (o *overlay) Stat(ctx context.Context, key string) (storage.Info, error) {
	return o.at(key).Stat(ctx, key)
}

func (o *overlay) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var all []storage.Info
		for _, s := range []*mem.Store{o.base, o.own} {
			for info, err := range s.List(ctx, prefix, after) {
				if err != nil {
					yield(info, err)
					return
				}
				if s == o.own || !o.hidden[info.Key] {
					all = append(all, info)
				}
			}
		}
		slices.SortFunc(all, func(a, b storage.Info) int { return strings.Compare(a.Key, b.Key) })
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (o *overlay) Delete(ctx context.Context, key string) error {
	o.hidden[key] = true
	return o.own.Delete(ctx, key)
}

// late shows objects as if they had been stored at a time.
type late struct {
	storage.Store
	at time.Time
}

func (l late) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range l.Store.List(ctx, prefix, after) {
			info.ModTime = l.at
			if !yield(info, err) {
				return
			}
		}
	}
}
