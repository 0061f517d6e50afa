//go:build !unix

package recovery

import "context"

func run(context.Context, Options) (*Outcome, error) {
	return nil, ErrUnsupported
}

func stopRun(context.Context, Options, string) error { return ErrUnsupported }
