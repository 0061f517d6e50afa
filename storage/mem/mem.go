// Package mem is a storage.Store in memory: for tests, and as the plainest
// reading of the contract. What it holds lasts as long as the process.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
)

// Store is a storage.Store in memory. It honours retention; storage class and
// tags are kept, and told by Options.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
	keys    []string // sorted
	serial  uint64
}

type object struct {
	data    []byte // never changed
	mod     time.Time
	version string
	options storage.PutOptions
}

// New returns an empty store.
func New() *Store { return &Store{objects: map[string]object{}} }

var (
	errNested   = errors.New("the key is a directory of another object's key, or the other way round")
	errRetained = fmt.Errorf("the object is under retention: %w", fs.ErrPermission)
)

func fail(op, key string, err error) error { return &storage.Error{Op: op, Key: key, Err: err} }

// check is what every operation on one key begins with.
func check(ctx context.Context, op, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return fail(op, key, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(op, key, err)
	}
	return nil
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	if err := check(ctx, "put", key); err != nil {
		return err
	}
	if size < 0 {
		return fail("put", key, fmt.Errorf("negative size %d", size))
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	if err != nil {
		return fail("put", key, err)
	}
	if int64(len(data)) != size {
		return fail("put", key, fmt.Errorf("source ends after %d of %d bytes: %w", len(data), size, io.ErrUnexpectedEOF))
	}
	return s.insert(ctx, "put", key, data, o)
}

func (s *Store) insert(ctx context.Context, op, key string, data []byte, o storage.PutOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fail(op, key, err)
	}
	if _, ok := s.objects[key]; ok {
		return fail(op, key, storage.ErrExist)
	}
	if s.nested(key) {
		return fail(op, key, errNested)
	}
	s.serial++
	o.Tags = maps.Clone(o.Tags)
	s.objects[key] = object{data: data, mod: time.Now(), version: strconv.FormatUint(s.serial, 10), options: o}
	i, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Insert(s.keys, i, key)
	return nil
}

func (s *Store) nested(key string) bool {
	for i := range len(key) {
		if _, ok := s.objects[key[:i]]; ok && key[i] == '/' {
			return true
		}
	}
	i, _ := slices.BinarySearch(s.keys, key+"/")
	return i < len(s.keys) && strings.HasPrefix(s.keys[i], key+"/")
}

// Create implements storage.Store.
func (s *Store) Create(ctx context.Context, key string, o storage.PutOptions) (storage.Writer, error) {
	if err := check(ctx, "create", key); err != nil {
		return nil, err
	}
	return &writer{s: s, ctx: ctx, key: key, o: o}, nil
}

type writer struct {
	s    *Store
	ctx  context.Context
	key  string
	o    storage.PutOptions
	buf  bytes.Buffer
	done bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, fail("write", w.key, fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return 0, fail("write", w.key, err)
	}
	return w.buf.Write(p)
}

func (w *writer) Commit() error {
	if w.done {
		return fail("commit", w.key, fs.ErrClosed)
	}
	w.done = true
	return w.s.insert(w.ctx, "commit", w.key, w.buf.Bytes(), w.o)
}

func (w *writer) Abort() error {
	w.done = true
	return nil
}

func (s *Store) get(key string) (object, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	return o, ok
}

// Open implements storage.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := check(ctx, "open", key); err != nil {
		return nil, err
	}
	o, ok := s.get(key)
	if !ok {
		return nil, fail("open", key, storage.ErrNotExist)
	}
	start, length, err := storage.Range(int64(len(o.data)), off, n)
	if err != nil {
		return nil, fail("open", key, err)
	}
	return &reader{ctx: ctx, key: key, version: o.version, rest: o.data[start : start+length]}, nil
}

type reader struct {
	ctx          context.Context
	key, version string
	rest         []byte
	closed       bool
}

// Version implements storage.Versioned.
func (r *reader) Version() string { return r.version }

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, fail("read", r.key, fs.ErrClosed)
	}
	if err := r.ctx.Err(); err != nil {
		return 0, fail("read", r.key, err)
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) Close() error {
	r.closed = true
	return nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := check(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	o, ok := s.get(key)
	if !ok {
		return storage.Info{}, fail("stat", key, storage.ErrNotExist)
	}
	return o.info(key), nil
}

func (o object) info(key string) storage.Info {
	return storage.Info{Key: key, Size: int64(len(o.data)), ModTime: o.mod, Version: o.version}
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		after := after
		for {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, fail("list", prefix, err))
				return
			}
			page := s.page(prefix, after)
			if len(page) == 0 {
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			after = page[len(page)-1].Key
		}
	}
}

// page returns the next few objects of a listing: the lock is not held while
// the caller looks at them.
func (s *Store) page(prefix, after string) []storage.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, _ := slices.BinarySearch(s.keys, max(prefix, after))
	var page []storage.Info
	for ; i < len(s.keys) && len(page) < 256 && strings.HasPrefix(s.keys[i], prefix); i++ {
		if key := s.keys[i]; key > after {
			page = append(page, s.objects[key].info(key))
		}
	}
	return page
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return nil
	}
	if time.Now().Before(o.options.RetainUntil) {
		return fail("delete", key, errRetained)
	}
	delete(s.objects, key)
	i, _ := slices.BinarySearch(s.keys, key)
	s.keys = slices.Delete(s.keys, i, i+1)
	return nil
}

// Options returns the options the object was created with, and whether it exists.
func (s *Store) Options(key string) (storage.PutOptions, bool) {
	o, ok := s.get(key)
	return o.options, ok
}

// Replace puts data in the place of the object key, or creates it: damage for
// tests, which no Store method can do.
func (s *Store) Replace(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(s.keys, key)
	if !found {
		s.keys = slices.Insert(s.keys, i, key)
	}
	s.serial++
	s.objects[key] = object{data: bytes.Clone(data), mod: time.Now(), version: strconv.FormatUint(s.serial, 10)}
}
