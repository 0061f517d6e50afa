package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
)

// errReplaced ends a resumed read of an object that is no longer the one it began with.
var errReplaced = errors.New("the object was replaced while it was read")

func (r *retrier) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	o := &resumer{r: r, ctx: ctx, key: key, off: off, n: n}
	if err := r.retry(ctx, "open", key, func() error { return o.open(off, n) }); err != nil {
		return nil, err
	}
	return o, nil
}

// resumer is a reader that opens its object again, where it got to, when the
// connection breaks.
type resumer struct {
	r       *retrier
	ctx     context.Context
	key     string
	off, n  int64 // as in Open; off becomes absolute when the first resumption needs it
	got     int64 // bytes delivered
	version string
	body    io.ReadCloser // nil: broken
	err     error         // sticky
}

// Version returns the version of the object that is read, if the driver knows it.
func (o *resumer) Version() string { return o.version }

func (o *resumer) open(off, n int64) error {
	body, err := o.r.store.Open(o.ctx, o.key, off, n)
	if err != nil {
		return err
	}
	var version string
	if v, ok := body.(Versioned); ok {
		version = v.Version()
	}
	if o.version != "" && version != "" && version != o.version {
		body.Close()
		return &Error{Op: "read", Key: o.key, Err: errReplaced}
	}
	o.body = body
	if version != "" {
		o.version = version
	}
	return nil
}

// Read reads on, over any number of broken connections.
func (o *resumer) Read(p []byte) (int, error) {
	if o.err != nil || len(p) == 0 {
		return 0, o.err
	}
	var n int
	if o.body != nil {
		if n, o.err = o.body.Read(p); o.err == nil || !Retryable(o.err) {
			o.got += int64(n)
			return n, o.err
		}
		o.r.notify(o.err, "read", o.key)
		o.drop()
		if o.got += int64(n); n > 0 {
			o.err = nil // the next Read resumes
			return n, nil
		}
	}
	n, o.err = o.resume(p)
	o.got += int64(n)
	return n, o.err
}

// resume opens the object again at the position that was reached and reads
// the first bytes: an attempt that brings none has failed.
func (o *resumer) resume(p []byte) (n int, err error) {
	end := error(nil)
	err = o.r.retry(o.ctx, "read", o.key, func() error {
		if err := o.reopen(); err != nil {
			return err
		}
		var err error
		n, err = o.body.Read(p)
		if err == nil || !Retryable(err) {
			end = err // io.EOF, or an error that another attempt cannot mend
			return nil
		}
		o.drop()
		if n > 0 {
			return nil
		}
		return err
	})
	if err == nil {
		err = end
	}
	return n, err
}

func (o *resumer) reopen() error {
	if o.off < 0 {
		info, err := o.r.store.Stat(o.ctx, o.key)
		if err != nil {
			return err
		}
		o.off, o.n = max(0, info.Size+o.off), -1
	}
	n := o.n
	if n >= 0 {
		n = max(0, n-o.got)
	}
	return o.open(o.off+o.got, n)
}

func (o *resumer) drop() {
	if o.body != nil {
		o.body.Close()
		o.body = nil
	}
}

// Close ends the reading.
func (o *resumer) Close() error {
	o.err = &Error{Op: "read", Key: o.key, Err: fs.ErrClosed}
	if o.body == nil {
		return nil
	}
	err := o.body.Close()
	o.body = nil
	return err
}
