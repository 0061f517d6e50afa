package catalog_test

import (
	"context"
	"iter"
	"strings"

	"github.com/walden-pg/walden/storage"
)

// healing is a store in which what was missing appears after the first listing of fragments.
type healing struct {
	storage.Store
	heal func()
}

func (h *healing) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range h.Store.List(ctx, prefix, after) {
			if !yield(info, err) {
				return
			}
		}
		if strings.HasSuffix(prefix, "/live/00000001/") && h.heal != nil {
			heal := h.heal
			h.heal = nil
			heal()
		}
	}
}
