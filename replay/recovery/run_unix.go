//go:build unix

package recovery

import "context"

func run(ctx context.Context, o Options) (*Outcome, error) {
	return nil, ErrUnsupported
}
