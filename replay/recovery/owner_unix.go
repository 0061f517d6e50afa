//go:build unix

package recovery

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner is the user that a server must run as; nil: the one we are.
type owner struct {
	uid, gid uint32
	name     string
	home     string
	groups   []uint32
	// wrapped: programs are started as the caller, see Options.Wrapped.
	wrapped bool
}

// ownerOf finds out who owns the data directory. Only root can run a server
// for another user; the server refuses a directory that is not its own.
func ownerOf(directory string) (*owner, error) {
	info, err := os.Stat(directory)
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("recovery: the owner of %s cannot be found out", directory)
	}
	if os.Geteuid() != 0 {
		if int(stat.Uid) != os.Geteuid() {
			return nil, fmt.Errorf("recovery: %s belongs to user %d, this is user %d: PostgreSQL refuses a directory of another user",
				directory, stat.Uid, os.Geteuid())
		}
		return nil, nil
	}
	if stat.Uid == 0 {
		return nil, fmt.Errorf("recovery: %s belongs to root, and PostgreSQL refuses to run as root: "+
			"give it to the server's user (chown -R postgres: %s)", directory, directory)
	}
	o := &owner{uid: stat.Uid, gid: stat.Gid, home: "/"}
	if u, err := user.LookupId(strconv.Itoa(int(stat.Uid))); err == nil {
		o.describe(u)
	}
	return o, nil
}

func (o *owner) describe(u *user.User) {
	o.name, o.home = u.Username, u.HomeDir
	if gid, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
		o.gid = uint32(gid)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return
	}
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			o.groups = append(o.groups, uint32(gid))
		}
	}
}

// give makes path belong to the owner.
func (o *owner) give(path string) error {
	if o == nil {
		return nil
	}
	if err := os.Lchown(path, int(o.uid), int(o.gid)); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	return nil
}

// attributes make a process run as the owner; detached: in a session of its own,
// so that it survives us and our terminal.
func (o *owner) attributes(detached bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: detached}
	if o != nil && !o.wrapped {
		a.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid, Groups: o.groups}
	}
	return a
}

// environment adds what a login of the owner would set.
func (o *owner) environment(env []string) []string {
	if o == nil || o.wrapped {
		return env
	}
	return append(env, "HOME="+o.home, "USER="+o.name, "LOGNAME="+o.name)
}

// userName is the name to connect with.
func (o *owner) userName() string {
	if o != nil && o.name != "" {
		return o.name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "postgres"
}
