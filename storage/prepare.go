package storage

import "context"

// Preparer is an optional ability of a driver whose place must be made before
// it can be used for the first time, such as a directory. Every other
// operation takes a place that is missing for one that is not mounted, which
// must not look like an empty store.
type Preparer interface {
	// Prepare makes the place, durably. It is there already: nil.
	Prepare(ctx context.Context) error
}

// Prepare makes the place of a store whose driver has the notion of one.
func Prepare(ctx context.Context, s Store) error {
	if p, ok := Unwrap(s).(Preparer); ok {
		return p.Prepare(ctx)
	}
	return nil
}
