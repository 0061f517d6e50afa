//go:build unix && !(linux && (amd64 || arm64))

package recovery

import (
	"context"
	"net"
)

// dial connects to a socket as the user we are.
func (o *owner) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
