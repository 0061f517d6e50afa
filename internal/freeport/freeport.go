// Package freeport reserves ports for the servers of tests.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports stay below those that kernels hand out for outgoing connections, so
// that none of those takes one before the server does, or while the server is
// being restarted.
const first, last = 20000, 32000

// guardOffset is how far below a port its guard listens.
const guardOffset = 12000

// Reserve returns a port of 127.0.0.1 that nobody listens on and that no other
// caller of Reserve gets, in this process or another, until release is called
// or the process ends. The port itself stays free for the server: what is held
// is a guard, another port that goes with it. Without one, test processes that
// run side by side could be given the same port while their servers are still
// being prepared.
func Reserve() (port int, release func(), err error) {
	for range 400 {
		port := first + rand.IntN(last-first)
		guard, err := listen(port - guardOffset)
		if err != nil {
			continue
		}
		// The guard is held, so whoever listens here is none of ours.
		if l, err := listen(port); err == nil && l.Close() == nil {
			return port, func() { _ = guard.Close() }, nil
		}
		_ = guard.Close()
	}
	return 0, nil, errors.New("no free port on 127.0.0.1")
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
