package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// RetryOptions say how long WithRetry goes on trying.
type RetryOptions struct {
	// MaxElapsed bounds the time spent on one operation that makes no
	// progress, first attempt and pauses included. 0: two minutes; negative:
	// no bound but the context's.
	MaxElapsed time.Duration
	// MaxInterval bounds the pause between two attempts. 0: ten seconds.
	MaxInterval time.Duration
	// Notify, if not nil, is told of every failure that will be tried again after wait.
	// It may be called by several goroutines at once.
	Notify func(err error, op, key string, wait time.Duration)
}

// firstInterval bounds the first pause; each further one may be twice as long.
const firstInterval = 200 * time.Millisecond

// WithRetry returns a Store that tries the operations of s again while their
// errors are Retryable, after pauses that grow exponentially, with full jitter.
//
// Put reads its source again from the start; a retry after a lost reply can
// get ErrExist from the object that the first attempt wrote. Create is
// retried, the Writer it returns is that of s: its driver retries the parts.
// A reader of Open and a listing resume where they broke off, and every byte
// or key that arrives starts the time anew. A resumed reader fails if the
// object was replaced meanwhile, as far as the driver's readers tell (Versioned).
func WithRetry(s Store, o RetryOptions) Store {
	if o.MaxElapsed == 0 {
		o.MaxElapsed = 2 * time.Minute
	}
	if o.MaxInterval <= 0 {
		o.MaxInterval = 10 * time.Second
	}
	return &retrier{store: s, o: o}
}

// Versioned is implemented by readers of Store.Open that know which version
// (see Info.Version) of the object they read.
type Versioned interface{ Version() string }

type retrier struct {
	store Store
	o     RetryOptions
}

// Unwrap returns the store that is decorated.
func (r *retrier) Unwrap() Store { return r.store }

// fullJitter draws each pause between nothing and the exponential bound.
type fullJitter struct{ backoff.BackOff }

func (j fullJitter) NextBackOff() time.Duration {
	d := j.BackOff.NextBackOff()
	if d <= 0 {
		return d
	}
	return rand.N(d) + time.Millisecond
}

func (r *retrier) backOff() backoff.BackOff {
	return fullJitter{&backoff.ExponentialBackOff{
		InitialInterval: min(firstInterval, r.o.MaxInterval), Multiplier: 2, MaxInterval: r.o.MaxInterval,
	}}
}

// retry calls f until it succeeds, fails for good, or the time is up. The
// error is f's last one, or the context's if that ended first.
func (r *retrier) retry(ctx context.Context, op, key string, f func() error) error {
	elapsed := max(0, r.o.MaxElapsed) // backoff takes 0 for unbounded
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = f()
		if last != nil && !Retryable(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(r.backOff()), backoff.WithMaxElapsedTime(elapsed),
		backoff.WithNotify(func(err error, wait time.Duration) {
			if r.o.Notify != nil {
				r.o.Notify(err, op, key, wait)
			}
		}))
	if err != nil && ctx.Err() != nil && Retryable(last) {
		return &Error{Op: op, Key: key, Err: fmt.Errorf("%w (last failure: %w)", ctx.Err(), last), Hint: Hint(last)}
	}
	return err
}

func (r *retrier) Put(ctx context.Context, key string, src io.ReaderAt, size int64, o PutOptions) error {
	return r.retry(ctx, "put", key, func() error { return r.store.Put(ctx, key, src, size, o) })
}

func (r *retrier) Create(ctx context.Context, key string, o PutOptions) (w Writer, err error) {
	err = r.retry(ctx, "create", key, func() error {
		w, err = r.store.Create(ctx, key, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (r *retrier) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.retry(ctx, "stat", key, func() error {
		info, err = r.store.Stat(ctx, key)
		return err
	})
	return info, err
}

func (r *retrier) Delete(ctx context.Context, key string) error {
	return r.retry(ctx, "delete", key, func() error { return r.store.Delete(ctx, key) })
}

func (r *retrier) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for broke := true; broke; {
			broke = false
			err := r.retry(ctx, "list", prefix, func() error {
				progress := false
				for info, err := range r.store.List(ctx, prefix, after) {
					if err != nil && progress && Retryable(err) {
						broke = true // a new series of attempts, with its own time
						r.notify(err, "list", prefix)
						return nil
					}
					if err != nil {
						return err
					}
					after, progress = info.Key, true
					if !yield(info, nil) {
						return nil
					}
				}
				return nil
			})
			if err != nil {
				yield(Info{}, err)
				return
			}
		}
	}
}

// notify reports a failure that is followed by another attempt at once.
func (r *retrier) notify(err error, op, key string) {
	if r.o.Notify != nil {
		r.o.Notify(err, op, key, 0)
	}
}
