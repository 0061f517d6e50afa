// Package inorder gets many things in parallel and uses them one by one, in order.
package inorder

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Do calls get for 0 to n-1, at most parallel of them at a time, and use with each
// result, in order and one at a time. No more than parallel results are ever
// held. The first error of get or use ends it and is returned.
func Do[T any](ctx context.Context, n, parallel int, get func(ctx context.Context, i int) (T, error), use func(i int, got T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	// A slot is taken before a get begins and given back when its result has been used.
	pending := make(chan chan T, max(parallel-1, 0))
	g.Go(func() error {
		defer close(pending)
		for i := range n {
			slot := make(chan T, 1)
			select {
			case pending <- slot:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				got, err := get(ctx, i)
				if err != nil {
					return err
				}
				slot <- got
				return nil
			})
		}
		return nil
	})
	g.Go(func() error {
		for i := range n {
			select {
			case slot := <-pending:
				select {
				case got := <-slot:
					if err := use(i, got); err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}
