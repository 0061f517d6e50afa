//go:build !unix

package demo

import (
	"errors"
	"os/exec"
)

type account struct{}

func serverAccount() (*account, error) {
	return nil, errors.New("demo: it needs a Unix system: PostgreSQL's archive_command runs through /bin/sh there")
}

func (*account) own(string) error { return nil }

func (*account) run(*exec.Cmd) {}
