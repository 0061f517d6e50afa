//go:build !unix

package recovery

import "context"

func run(context.Context, Options) (*Outcome, error) {
	return nil, ErrUnsupported
}

func stopLeftBehind(context.Context, Options) error { return ErrUnsupported }
