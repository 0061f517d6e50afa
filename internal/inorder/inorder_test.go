package inorder_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/inorder"
)

func TestInOrderAndBounded(t *testing.T) {
	for _, parallel := range []int{1, 2, 7} {
		var held, most atomic.Int64
		next := 0
		err := inorder.Do(t.Context(), 100, parallel, func(_ context.Context, i int) (int, error) {
			n := held.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Duration(i*7%5) * 100 * time.Microsecond)
			return i, nil
		}, func(i, got int) error {
			if i != got || i != next {
				t.Errorf("got %d as %d, want %d", got, i, next)
			}
			next++
			held.Add(-1)
			return nil
		})
		if err != nil || next != 100 {
			t.Errorf("%d used, error %v", next, err)
		}
		if most.Load() > int64(parallel) || (parallel > 1 && most.Load() < 2) {
			t.Errorf("%d were held with parallel %d", most.Load(), parallel)
		}
	}
}

func TestFirstErrorEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, fail := range map[string][2]int{"get": {5, -1}, "use": {-1, 5}} {
		err := inorder.Do(t.Context(), 1000, 4, func(_ context.Context, i int) (int, error) {
			if i == fail[0] {
				return 0, broken
			}
			return i, nil
		}, func(i, _ int) error {
			if i == fail[1] {
				return broken
			}
			if i > 5 {
				t.Errorf("%s: %d was used after the error", name, i)
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := inorder.Do(ctx, 10, 2, func(context.Context, int) (int, error) { return 0, nil }, func(int, int) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
