package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// findPostgres returns the directory of the newest PostgreSQL server on this
// machine: Debian's places, then the PATH.
func findPostgres() (string, error) {
	best, dir := 0, ""
	places, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	for _, p := range places {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil || major <= best {
			continue
		}
		if _, err := os.Stat(filepath.Join(p, "initdb")); err == nil {
			best, dir = major, p
		}
	}
	if dir != "" {
		return dir, nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	return "", errors.New("demo: no PostgreSQL server found (looked in /usr/lib/postgresql/*/bin and the PATH): install one, or name its directory with --pg-bin")
}

// cleanEnvironment leaves out what would lead psql or walden elsewhere.
func cleanEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "WALDEN_") || strings.HasPrefix(kv, "HOME=") {
			continue
		}
		env = append(env, kv)
	}
	return env
}

func copyExecutable(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("demo: copy %s: %w", from, err)
	}
	return nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}
