//go:build !unix

package extract

import (
	"context"

	"github.com/walden-pg/walden/replay/recovery"
)

func run(context.Context, Options) (*Result, error) { return nil, recovery.ErrUnsupported }
