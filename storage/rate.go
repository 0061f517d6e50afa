package storage

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// WithReadRate returns a Store that reads from objects of s no more than
// bytesPerSecond (above 0) on average, all readers together. Listings, and what is written, are
// not counted. A reader's Read waits; it honours the context that Open was given.
func WithReadRate(s Store, bytesPerSecond int64) Store {
	burst := int(min(max(bytesPerSecond/4, minBurst), maxBurst))
	return &rated{Store: s, limit: rate.NewLimiter(rate.Limit(bytesPerSecond), burst), burst: burst}
}

// Bounds of what may be read at once before the rate is felt, in bytes.
const (
	minBurst = 4 << 10
	maxBurst = 1 << 20
)

type rated struct {
	Store
	limit *rate.Limiter
	burst int
}

// Unwrap returns the store that is decorated.
func (s *rated) Unwrap() Store { return s.Store }

// Open implements Store.
func (s *rated) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := s.Store.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &ratedReader{ReadCloser: r, ctx: ctx, store: s, key: key}, nil
}

type ratedReader struct {
	io.ReadCloser
	ctx   context.Context
	store *rated
	key   string
}

// Read reads at most a burst, and then waits until as much may be read.
func (r *ratedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p[:min(len(p), r.store.burst)])
	if n == 0 || err != nil {
		return n, err
	}
	if r.store.limit.WaitN(r.ctx, n) == nil {
		return n, nil
	}
	err = r.ctx.Err()
	if err == nil {
		err = context.DeadlineExceeded // the limiter foresees it
	}
	return n, &Error{Op: "read", Key: r.key, Err: err}
}
