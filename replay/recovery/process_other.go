//go:build !unix

package recovery

import "os"

// processAlive tells whether a process exists. Where that cannot be found out
// the answer is yes: a server may run.
func processAlive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}
