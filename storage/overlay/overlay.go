// Package overlay shows a store other than it is, for rehearsals: objects are missing,
// damaged, or cannot be reached, and nothing can be written. The store underneath is only read.
package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/walden-pg/walden/storage"
)

// Damage says in what the store is shown other than it is. The zero value: in nothing, but
// that it cannot be written to.
type Damage struct {
	// Hide are prefixes of keys that are not there.
	Hide []string `json:"hide,omitempty"`
	// Fail are prefixes of keys that cannot be reached: what touches them fails as it does
	// when the store does not answer. So does a listing that comes to one of them.
	Fail []string `json:"fail,omitempty"`
	// Flips are bits that are turned over.
	Flips []Flip `json:"flips,omitempty"`
}

// Flip is the lowest bit of the byte at an offset of an object.
type Flip struct {
	Key    string `json:"key"`
	Offset int64  `json:"offset"`
}

// ErrReadOnly is the cause of the error of everything that would change the store.
var ErrReadOnly = errors.New("this is a rehearsal, in which nothing is written")

// ErrDown is the cause of the error of what cannot be reached.
var ErrDown = errors.New("the store does not answer (it is a rehearsal)")

// Write writes a Damage to a file that Read reads. Others may read it.
func Write(path string, d Damage) error {
	b, err := json.Marshal(d)
	if err == nil {
		err = os.WriteFile(path+".tmp", b, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// Read reads what Write wrote.
func Read(path string) (Damage, error) {
	var d Damage
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		return d, fmt.Errorf("overlay: %w", err)
	}
	return d, nil
}

// New returns the store with the damage. Sizes and times are those of the store.
func New(s storage.Store, d Damage) storage.Store { return &overlay{s, d} }

type overlay struct {
	store storage.Store
	d     Damage
}

func matches(prefixes []string, key string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// touch is the error of an operation that reads an object.
func (o *overlay) touch(op, key string) error {
	switch {
	case matches(o.d.Fail, key):
		return &storage.Error{Op: op, Key: key, Err: ErrDown, Temporary: true}
	case matches(o.d.Hide, key):
		return &storage.Error{Op: op, Key: key, Err: storage.ErrNotExist}
	}
	return nil
}

func (o *overlay) Put(_ context.Context, key string, _ io.ReaderAt, _ int64, _ storage.PutOptions) error {
	return &storage.Error{Op: "put", Key: key, Err: ErrReadOnly}
}

func (o *overlay) Create(_ context.Context, key string, _ storage.PutOptions) (storage.Writer, error) {
	return nil, &storage.Error{Op: "create", Key: key, Err: ErrReadOnly}
}

func (o *overlay) Delete(_ context.Context, key string) error {
	return &storage.Error{Op: "delete", Key: key, Err: ErrReadOnly}
}

func (o *overlay) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := o.touch("stat", key); err != nil {
		return storage.Info{}, err
	}
	return o.store.Stat(ctx, key)
}

func (o *overlay) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range o.store.List(ctx, prefix, after) {
			if err == nil {
				err = o.touch("list", info.Key)
				if errors.Is(err, storage.ErrNotExist) {
					continue
				}
			}
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (o *overlay) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := o.touch("open", key); err != nil {
		return nil, err
	}
	var flips []int64
	for _, f := range o.d.Flips {
		if f.Key == key {
			flips = append(flips, f.Offset)
		}
	}
	r, err := o.store.Open(ctx, key, off, n)
	if err != nil || len(flips) == 0 {
		return r, err
	}
	if off < 0 {
		info, err := o.store.Stat(ctx, key)
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
		off = max(0, info.Size+off)
	}
	return &flipped{ReadCloser: r, at: off, flips: flips}, nil
}

// flipped turns bits over in what is read.
type flipped struct {
	io.ReadCloser
	at    int64
	flips []int64
}

func (f *flipped) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	for _, at := range f.flips {
		if at >= f.at && at < f.at+int64(n) {
			b[at-f.at] ^= 1
		}
	}
	f.at += int64(n)
	return n, err
}
