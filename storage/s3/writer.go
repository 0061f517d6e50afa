package s3

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"sync"

	"github.com/walden-pg/walden/storage"
)

// firstBuffer is what a Writer begins with, in bytes: most objects are small.
const firstBuffer = 64 << 10

// Create implements storage.Store. An object that stays below the part size is
// sent by Commit in one request; a larger one goes in parts while it is written.
func (s *Store) Create(ctx context.Context, key string, o storage.PutOptions) (storage.Writer, error) {
	if _, err := s.begin(ctx, "create", key); err != nil {
		return nil, err
	}
	token, err := newToken()
	if err != nil {
		return nil, &storage.Error{Op: "create", Key: key, Err: err}
	}
	w := &writer{s: s, key: key, o: o, token: token, slots: make(chan struct{}, s.o.Concurrency)}
	w.caller = ctx
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w, nil
}

// writer gathers parts and sends them, some at a time.
type writer struct {
	s      *Store
	caller context.Context
	ctx    context.Context // ends with the caller's, or with Abort
	cancel context.CancelFunc
	key    string
	o      storage.PutOptions
	token  string

	buf    []byte // the part that is being filled
	up     *upload
	number int32
	slots  chan struct{} // taken by parts on their way
	wg     sync.WaitGroup
	staged bool
	done   bool

	mu  sync.Mutex
	err error // the first failure; sticky
}

func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.caller.Err() != nil {
		w.err = &storage.Error{Op: "write", Key: w.key, Err: w.caller.Err()}
	}
	return w.err
}

func (w *writer) fails(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *writer) Write(p []byte) (int, error) {
	if w.done || w.staged {
		return 0, &storage.Error{Op: "write", Key: w.key, Err: fs.ErrClosed}
	}
	written := 0
	for len(p) > 0 {
		if err := w.failure(); err != nil {
			return written, err
		}
		if int64(len(w.buf)) == w.s.o.PartSize {
			if err := w.flush(); err != nil {
				return written, err
			}
		}
		n := w.fill(p)
		p = p[n:]
		written += n
	}
	return written, nil
}

// fill copies into the buffer, and makes it larger if need be.
func (w *writer) fill(p []byte) int {
	room := int(w.s.o.PartSize) - len(w.buf)
	n := min(room, len(p))
	if need := len(w.buf) + n; need > cap(w.buf) {
		w.grow(need)
	}
	w.buf = append(w.buf, p[:n]...)
	return n
}

// grow makes room for need bytes: small first; from an eighth of a part on, a
// buffer of the store's.
func (w *writer) grow(need int) {
	partSize := int(w.s.o.PartSize)
	if w.number == 0 && need <= partSize/8 {
		b := make([]byte, len(w.buf), min(partSize/8, max(firstBuffer, 2*cap(w.buf), need)))
		copy(b, w.buf)
		w.buf = b
		return
	}
	var b []byte
	select {
	case b = <-w.s.buffers:
	default:
		b = make([]byte, partSize)
	}
	b = b[:len(w.buf)]
	copy(b, w.buf)
	w.buf = b
}

// release gives a buffer of the store's back.
func (w *writer) release(b []byte) {
	if int64(cap(b)) == w.s.o.PartSize {
		select {
		case w.s.buffers <- b[:0]:
		default:
		}
	}
}

// flush sends the buffer as the next part, as soon as there is a slot.
func (w *writer) flush() error {
	if w.up == nil {
		up, err := w.s.startUpload(w.ctx, w.key, w.o)
		if err != nil {
			w.fails(w.s.fail(w.caller, "write", w.key, err))
			return w.failure()
		}
		w.up = up
	}
	if w.number == maxParts {
		w.fails(&storage.Error{
			Op: "write", Key: w.key, Err: fmt.Errorf("object is larger than %d parts of %d bytes", maxParts, w.s.o.PartSize),
			Hint: "make the part size larger",
		})
		return w.failure()
	}
	select {
	case w.slots <- struct{}{}:
	case <-w.ctx.Done():
		return w.failure()
	}
	w.number++
	number, b := w.number, w.buf
	w.buf = nil
	w.wg.Go(func() {
		defer func() { <-w.slots }()
		if err := w.up.send(w.ctx, number, bytes.NewReader(b), int64(len(b))); err != nil {
			w.fails(w.s.fail(w.caller, "write", w.key, err))
			w.cancel() // the other parts are not needed any more
		}
		w.release(b)
	})
	return nil
}

// Stage implements storage.Stager. Only the last part may be small.
func (w *writer) Stage() error {
	if w.done || w.staged {
		return &storage.Error{Op: "write", Key: w.key, Err: fs.ErrClosed}
	}
	if err := w.failure(); err != nil {
		return err
	}
	w.staged = true
	if len(w.buf) == 0 && w.number > 0 {
		return nil
	}
	return w.flush()
}

func (w *writer) Commit() error {
	if w.done {
		return &storage.Error{Op: "commit", Key: w.key, Err: fs.ErrClosed}
	}
	defer w.Abort()
	err := w.failure()
	switch {
	case err != nil:
	case w.up == nil:
		err = w.s.settle(w.ctx, w.key, w.token, func() error {
			return w.s.putObject(w.ctx, w.key, bytes.NewReader(w.buf), int64(len(w.buf)), w.o, w.token)
		})
	default:
		err = w.assemble()
	}
	if err == nil {
		w.done = true
		w.cancel()
		w.release(w.buf)
		w.buf = nil
	}
	return w.s.fail(w.caller, "commit", w.key, err)
}

// assemble sends what is left and makes the object.
func (w *writer) assemble() error {
	if len(w.buf) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.wg.Wait()
	if err := w.failure(); err != nil {
		return err
	}
	return w.up.complete(w.ctx)
}

func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.cancel()
	w.wg.Wait()
	w.release(w.buf)
	w.buf = nil
	if w.up == nil {
		return nil
	}
	return w.s.fail(context.WithoutCancel(w.caller), "abort", w.key, w.up.abort(w.caller))
}
