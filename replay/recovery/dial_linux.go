//go:build linux && (amd64 || arm64)

package recovery

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// dial connects to a socket as the owner. The server's "peer" authentication
// sees the user of the thread that connects: root would be refused. The raw
// system call changes the calling thread alone, which is locked to this
// goroutine and, should it not get its old user back, ends with it.
func (o *owner) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if o == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(o.uid), same); errno != 0 {
			runtime.UnlockOSThread()
			done <- result{nil, fmt.Errorf("become user %d to connect: %w", o.uid, errno)}
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); errno == 0 {
			runtime.UnlockOSThread()
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
