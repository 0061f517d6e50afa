// Package faulty is a storage.Store that fails on demand: the operation that a
// test names, always or now and then, before or after it was done, late, or by
// delivering damaged bytes.
package faulty

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/walden-pg/walden/storage"
)

// ErrInjected is the cause of every failure for which the Fault names no other.
var ErrInjected = errors.New("injected fault")

// Op names an operation. Writes and commits of a Writer and reads of what was
// opened are operations of their own; a listing is one List, and one Next for
// every object.
type Op string

// The operations; Any is all of them.
const (
	Any    Op = ""
	Put    Op = "put"
	Create Op = "create"
	Write  Op = "write"
	Commit Op = "commit"
	Open   Op = "open"
	Read   Op = "read"
	Stat   Op = "stat"
	List   Op = "list"
	Next   Op = "next"
	Delete Op = "delete"
)

// A Fault is one rule of what goes wrong. The zero Fault makes the next
// operation fail, once, with a temporary error, before it does anything.
type Fault struct {
	// Op and Key choose operations: those called Op whose key, or prefix of a
	// listing, is accepted by Key (nil: every key).
	Op  Op
	Key func(key string) bool
	// Skip is how many chosen operations pass first. So Fault{Skip: n} fails operation number n.
	Skip int
	// Every, if it is more than one, lets only each Every-th of those that follow fail.
	Every int
	// Times is how many operations fail; 0: one; negative: no end.
	Times int

	// Err is the error; nil: ErrInjected. It is made a *storage.Error, which is
	// Temporary unless Permanent is set; one that is a *storage.Error stays as it is.
	Err       error
	Permanent bool
	// LostReply does the operation, and returns the error nevertheless.
	LostReply bool
	// Delay waits before the operation, as long as its context allows. A Fault
	// with a Delay and neither Err, LostReply nor Damage does nothing else.
	Delay time.Duration
	// Damage, for Open and Stat, shows another object instead of failing.
	Damage *Damage
}

// Damage is how an object that went bad looks.
type Damage struct {
	flip     int64 // -1: none
	truncate int64 // -1: none
}

// FlipBit inverts bit number bit%8 (0 is the lowest) of byte number bit/8.
func FlipBit(bit int64) *Damage { return &Damage{flip: bit, truncate: -1} }

// Truncate cuts the object after size bytes.
func Truncate(size int64) *Damage { return &Damage{flip: -1, truncate: size} }

// Store decorates a store with faults. It is safe for concurrent use.
type Store struct {
	inner  storage.Store
	mu     sync.Mutex
	faults []*armed
	counts map[Op]int
}

type armed struct {
	Fault
	seen, fired int
}

// New returns s, without any fault so far.
func New(s storage.Store) *Store { return &Store{inner: s, counts: map[Op]int{}} }

// Unwrap returns the store that is decorated.
func (s *Store) Unwrap() storage.Store { return s.inner }

// Inject adds a fault. Of several that apply to an operation the first one wins.
func (s *Store) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &armed{Fault: f})
}

// Clear removes all faults and sets the counters to zero.
func (s *Store) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	clear(s.counts)
}

// Count returns how many operations called op there were (Any: all of them).
func (s *Store) Count(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// match counts an operation and returns the fault that applies to it, or nil.
func (s *Store) match(op Op, key string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[op]++
	if op != Any {
		s.counts[Any]++
	}
	for _, f := range s.faults {
		if f.applies(op, key) {
			f.fired++
			return &f.Fault
		}
	}
	return nil
}

func (f *armed) applies(op Op, key string) bool {
	if f.Op != Any && f.Op != op || f.Key != nil && !f.Key(key) {
		return false
	}
	if f.Damage != nil && op != Open && op != Stat {
		return false
	}
	n := f.seen - f.Skip
	f.seen++
	if n < 0 || f.Every > 1 && (n+1)%f.Every != 0 {
		return false
	}
	return f.Times < 0 || f.fired < max(1, f.Times)
}

func (f *Fault) error(op Op, key string) error {
	err := f.Err
	if err == nil {
		err = ErrInjected
	}
	var e *storage.Error
	if errors.As(err, &e) {
		return err
	}
	return &storage.Error{Op: string(op), Key: key, Err: err, Temporary: !f.Permanent}
}

// do runs one operation under the fault that applies to it.
func (s *Store) do(ctx context.Context, op Op, key string, run func(*Damage) error) error {
	f := s.match(op, key)
	if f == nil {
		return run(nil)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return &storage.Error{Op: string(op), Key: key, Err: ctx.Err()}
		}
	}
	switch {
	case f.Damage != nil:
		return run(f.Damage)
	case f.Delay > 0 && f.Err == nil && !f.LostReply:
		return run(nil)
	case f.LostReply:
		if err := run(nil); err != nil {
			return err
		}
	}
	return f.error(op, key)
}

// Put implements storage.Store.
func (s *Store) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	return s.do(ctx, Put, key, func(*Damage) error { return s.inner.Put(ctx, key, r, size, o) })
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, Delete, key, func(*Damage) error { return s.inner.Delete(ctx, key) })
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	var info storage.Info
	err := s.do(ctx, Stat, key, func(d *Damage) (err error) {
		info, err = s.inner.Stat(ctx, key)
		if d != nil && d.truncate >= 0 {
			info.Size = min(info.Size, d.truncate)
		}
		return err
	})
	if err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.do(ctx, List, prefix, func(*Damage) error { return nil }); err != nil {
			yield(storage.Info{}, err)
			return
		}
		for info, err := range s.inner.List(ctx, prefix, after) {
			if err == nil {
				err = s.do(ctx, Next, info.Key, func(*Damage) error { return nil })
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

// Create implements storage.Store.
func (s *Store) Create(ctx context.Context, key string, o storage.PutOptions) (storage.Writer, error) {
	var w storage.Writer
	err := s.do(ctx, Create, key, func(*Damage) (err error) {
		w, err = s.inner.Create(ctx, key, o)
		return err
	})
	if err != nil {
		if w != nil {
			_ = w.Abort() // the reply was lost, and with it the writer
		}
		return nil, err
	}
	fw := &writer{Writer: w, s: s, ctx: ctx, key: key}
	if st, ok := w.(storage.Stager); ok {
		return stagedWriter{fw, st}, nil
	}
	return fw, nil
}

type writer struct {
	storage.Writer
	s   *Store
	ctx context.Context
	key string
}

type stagedWriter struct {
	*writer
	storage.Stager
}

func (w *writer) Write(p []byte) (n int, err error) {
	err = w.s.do(w.ctx, Write, w.key, func(*Damage) (err error) {
		n, err = w.Writer.Write(p)
		return err
	})
	return n, err
}

func (w *writer) Commit() error {
	return w.s.do(w.ctx, Commit, w.key, func(*Damage) error { return w.Writer.Commit() })
}

// Open implements storage.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := s.do(ctx, Open, key, func(d *Damage) (err error) {
		r, err = s.open(ctx, key, off, n, d)
		return err
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	return r, nil
}

func (s *Store) open(ctx context.Context, key string, off, n int64, d *Damage) (io.ReadCloser, error) {
	r := &reader{s: s, ctx: ctx, key: key, flip: -1}
	if d != nil {
		info, err := s.inner.Stat(ctx, key)
		if err != nil {
			return nil, err
		}
		size := info.Size
		if d.truncate >= 0 {
			size = min(size, d.truncate)
		}
		if off, n, err = storage.Range(size, off, n); err != nil {
			return nil, &storage.Error{Op: string(Open), Key: key, Err: err}
		}
		r.pos, r.flip = off, d.flip
	}
	inner, err := s.inner.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	r.inner = inner
	return r, nil
}

// readSize bounds what one Read delivers, in bytes, so that reads can be counted.
const readSize = 32 << 10

type reader struct {
	inner     io.ReadCloser
	s         *Store
	ctx       context.Context
	key       string
	pos, flip int64 // flip is -1, or the bit to invert; then pos is known
}

// Version implements storage.Versioned.
func (r *reader) Version() string {
	if v, ok := r.inner.(storage.Versioned); ok {
		return v.Version()
	}
	return ""
}

func (r *reader) Read(p []byte) (n int, err error) {
	p = p[:min(len(p), readSize)]
	err = r.s.do(r.ctx, Read, r.key, func(*Damage) (err error) {
		n, err = r.inner.Read(p)
		return err
	})
	if at := r.flip/8 - r.pos; r.flip >= 0 && at >= 0 && at < int64(n) {
		p[at] ^= 1 << (r.flip % 8)
	}
	r.pos += int64(n)
	return n, err
}

func (r *reader) Close() error { return r.inner.Close() }
