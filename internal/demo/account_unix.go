//go:build unix

package demo

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom the server runs as: PostgreSQL refuses to run as root.
type account struct {
	uid, gid int
	switches bool
}

// serverAccount is the user postgres for root, else whoever calls.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return &account{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("demo: PostgreSQL refuses to run as root, and there is no user postgres to run it as: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("demo: uid of postgres: %w", err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("demo: gid of postgres: %w", err)
	}
	return &account{uid: uid, gid: gid, switches: true}, nil
}

func (a *account) own(path string) error {
	if !a.switches {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

func (a *account) run(cmd *exec.Cmd) {
	if a.switches {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
	}
}
