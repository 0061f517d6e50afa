package repository

import (
	"context"
	"errors"
	"io"

	"github.com/walden-pg/walden/storage"
	"github.com/walden-pg/walden/storage/frame"
)

// ObjectWriter writes one object whose size is not known yet, such as a pack.
// Nothing is visible until Commit returns nil; then it is durable. It is used
// by one goroutine, and ended by Commit or Abort: defer Abort.
type ObjectWriter struct {
	repo  *Repository
	ctx   context.Context
	key   string
	kind  frame.Kind
	store storage.Writer
	frame *frame.Writer
	ended bool
}

var errEnded = errors.New("the object was committed or aborted already")

// Create begins an object. ctx governs its whole life. The error may be a
// storage.ErrExist, but only Commit decides.
func (r *Repository) Create(ctx context.Context, key string, o ObjectOptions) (*ObjectWriter, error) {
	sw, err := r.store.Create(ctx, key, storage.PutOptions{StorageClass: o.StorageClass})
	if err != nil {
		return nil, err
	}
	fw, err := frame.NewWriter(sw, r.writerOptions(key, o))
	if err != nil {
		return nil, errors.Join(err, sw.Abort())
	}
	return &ObjectWriter{repo: r, ctx: ctx, key: key, kind: o.Kind, store: sw, frame: fw}, nil
}

// Write adds raw bytes. Errors of the store may be reported by a later call.
func (w *ObjectWriter) Write(p []byte) (int, error) { return w.frame.Write(p) }

// ReadFrom adds everything src has.
func (w *ObjectWriter) ReadFrom(src io.Reader) (int64, error) { return w.frame.ReadFrom(src) }

// Offset returns the number of raw bytes written so far.
func (w *ObjectWriter) Offset() int64 { return w.frame.Offset() }

// Align pads the raw bytes with zeros to the next multiple of frame.PageSize.
func (w *ObjectWriter) Align() error { return w.frame.Align() }

// AddSection adds a section to the index.
func (w *ObjectWriter) AddSection(s frame.Section) { w.frame.AddSection(s) }

// Commit makes the object durable and returns its footer. If the key exists by
// then with other bytes it returns a storage.ErrExist; if it exists with the
// very same stored bytes, because the reply to an earlier attempt was lost,
// that is success.
func (w *ObjectWriter) Commit() (frame.Footer, error) {
	if w.ended {
		return frame.Footer{}, errEnded
	}
	f, err := w.frame.Close()
	if err != nil {
		w.Abort()
		return frame.Footer{}, err
	}
	w.ended = true
	err = w.store.Commit()
	if errors.Is(err, storage.ErrExist) || storage.Retryable(err) {
		// Equal footers have equal digests of the stored bytes.
		if there, look := w.repo.Footer(w.ctx, w.key, w.kind); look == nil && there == f {
			err = nil
		}
	}
	if err != nil {
		return frame.Footer{}, err
	}
	return f, nil
}

// Abort discards the object and frees what the store keeps for it. After
// Commit, successful or not, it is a no-op.
func (w *ObjectWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.frame.Abort()
	// What a store cannot discard now it discards by itself: nothing is
	// visible under the key.
	_ = w.store.Abort()
}
