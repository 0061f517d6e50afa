package pgtest

import "syscall"

// dieWithParent makes the kernel shut the server down when the test process
// dies without its clean-ups, as at a timeout of go test.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
