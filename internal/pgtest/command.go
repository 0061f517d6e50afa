//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// serverUser is the system user that servers run as when the tests run as root.
const serverUser = "postgres"

// account looks the server user up once; nil when the tests do not run as
// root and so need nobody else.
var account = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(serverUser)
	if err != nil {
		return nil, fmt.Errorf("tests run as root, but PostgreSQL cannot: %w (run scripts/install-postgres.sh)", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of %s: %w", serverUser, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of %s: %w", serverUser, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
})

// Command returns a command that runs as the server user: the user postgres
// when the tests run as root, otherwise whoever runs them. It starts in the
// root directory, since that user may not be allowed into the test's own, and
// sees none of the caller's PG* variables and nothing of its WALDEN_*
// configuration.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = cleanEnv()
	cred, err := account()
	if err != nil {
		cmd.Err = err
		return cmd
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	return cmd
}

// cleanEnv is the environment without what would steer clients or Walden from
// outside, with messages in English and the home of the server user.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "WALDEN_"),
			strings.HasPrefix(name, "LC_"), name == "LANG", name == "LANGUAGE",
			name == "HOME" && os.Geteuid() == 0:
			continue
		}
		env = append(env, kv)
	}
	env = append(env, "LC_ALL=C", "TZ=UTC")
	if os.Geteuid() == 0 {
		env = append(env, "HOME=/nonexistent", "USER="+serverUser, "LOGNAME="+serverUser)
	}
	return env
}

// TempDir makes a directory that belongs to the server user and is removed
// when the test ends. Its path is short, so that a socket fits below it (the
// limit is 107 bytes on Linux, 103 on macOS).
func TempDir(t testing.TB) string {
	t.Helper()
	base := os.Getenv("WALDEN_TEST_TMP")
	if base == "" {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "wt")
	if err != nil {
		t.Fatalf("temporary directory: %v", err)
	}
	t.Cleanup(func() {
		if os.Getenv("WALDEN_TEST_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove temporary directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("temporary directory: %v", err)
	}
	Chown(t, dir)
	return dir
}

// MkdirAll makes a directory below one of [TempDir] that belongs to the server
// user, and its missing parents.
func MkdirAll(t testing.TB, dir string) {
	t.Helper()
	var missing []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		_, err := os.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("make directory: %v", err)
		}
		missing = append(missing, d)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatalf("make directory: %v", err)
	}
	for _, d := range missing {
		chown(t, d)
	}
}

// Chown gives a file, or a directory with all that is in it, to the server
// user. Symbolic links are not followed. It does nothing unless the tests run
// as root.
func Chown(t testing.TB, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	err := filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			chown(t, p)
		}
		return err
	})
	if err != nil {
		t.Fatalf("chown: %v", err)
	}
}

func chown(t testing.TB, path string) {
	t.Helper()
	cred, err := account()
	if err != nil {
		Missing(t, "%v", err)
	}
	if cred == nil {
		return
	}
	if err := os.Lchown(path, int(cred.Uid), int(cred.Gid)); err != nil {
		t.Fatalf("chown: %v", err)
	}
}

// Share returns a path under which the server user can execute or read the
// file: the path itself where every directory above it may be entered by all,
// otherwise a copy that lives as long as the test. Use it for a binary that
// archive_command names, since a checkout may lie below /root.
func Share(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatalf("share %s: %v", path, err)
	}
	if os.Geteuid() != 0 || openToAll(abs) {
		return abs
	}
	dst := filepath.Join(TempDir(t), filepath.Base(abs))
	st, err := os.Stat(abs)
	if err != nil {
		t.Fatalf("share: %v", err)
	}
	// A link rather than a copy where it can be: a program that was just
	// written may be held open by a concurrent fork and then cannot be started.
	if st.Mode()&0o004 != 0 && os.Link(abs, dst) == nil {
		return dst
	}
	if err := copyFile(dst, abs); err != nil {
		t.Fatalf("share %s: %v", path, err)
	}
	Chown(t, dst)
	return dst
}

// openToAll reports whether anybody may read the file and enter the
// directories above it.
func openToAll(path string) bool {
	st, err := os.Stat(path)
	if err != nil || st.Mode()&0o004 == 0 {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil || st.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func copyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
