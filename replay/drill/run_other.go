//go:build !unix

package drill

import (
	"context"

	"github.com/walden-pg/walden/replay/recovery"
)

func run(context.Context, Options) (*Record, error) { return nil, recovery.ErrUnsupported }
