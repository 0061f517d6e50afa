//go:build unix

package restore

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is who shall own the files; nil: whoever makes them.
type owner struct{ uid, gid int }

// writable tells whether entries can be made in a directory.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// findOwner decides who owns what is restored to directory, see Options.Owner.
func findOwner(name, directory string) (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, checkOwn(name)
	}
	if name != "" {
		return lookupOwner(name)
	}
	if info, err := os.Stat(directory); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			return &owner{int(stat.Uid), int(stat.Gid)}, nil
		}
	}
	o, err := lookupOwner("postgres")
	if err != nil {
		return nil, fmt.Errorf("restore: run as root there must be a user to own the files, since PostgreSQL refuses to run as root: "+
			"name one, or make the directory and give it to that user (%w)", err)
	}
	return o, nil
}

// checkOwn makes sure that the owner asked for is ourselves.
func checkOwn(name string) error {
	if name == "" {
		return nil
	}
	o, err := lookupOwner(name)
	if err == nil && o.uid != os.Geteuid() {
		err = fmt.Errorf("only root can give files to another user: run as root, or as %s", name)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// lookupOwner knows names and numbers of users, and user:group.
func lookupOwner(name string) (*owner, error) {
	userName, groupName, hasGroup := strings.Cut(name, ":")
	u, err := user.Lookup(userName)
	if err != nil {
		var byID error
		if u, byID = user.LookupId(userName); byID != nil {
			return nil, fmt.Errorf("restore: owner %q: %w", name, err)
		}
	}
	if hasGroup {
		g, err := user.LookupGroup(groupName)
		if err != nil {
			var byID error
			if g, byID = user.LookupGroupId(groupName); byID != nil {
				return nil, fmt.Errorf("restore: owner %q: %w", name, err)
			}
		}
		u.Gid = g.Gid
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("restore: owner %q: %w", name, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("restore: owner %q: PostgreSQL refuses to run as root", name)
	}
	return &owner{uid, gid}, nil
}

// filesystem is a file system: which one, and how many bytes are free on it.
type filesystem struct {
	id    uint64
	free  int64
	known bool
}

// filesystemOf tells the file system that holds an existing directory. free is
// what users other than root may fill: the server will be one of them.
func filesystemOf(dir string) (filesystem, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return filesystem{}, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return filesystem{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	free := s.Bavail * uint64(s.Bsize)
	if !ok || free > 1<<62 {
		return filesystem{}, nil
	}
	id := uint64(stat.Dev) //nolint:unconvert // another type on macOS
	return filesystem{id: id, free: int64(free), known: true}, nil
}
