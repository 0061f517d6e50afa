package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Major reads PG_VERSION in a data directory.
func Major(directory string) (int, error) {
	b, err := os.ReadFile(filepath.Join(directory, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("recovery: %s is no data directory: it has no PG_VERSION", directory)
	}
	if err != nil {
		return 0, fmt.Errorf("recovery: %w", err)
	}
	text := strings.TrimSpace(string(b))
	major, err := strconv.Atoi(text)
	if err != nil || major < 10 || major > 999 {
		return 0, fmt.Errorf("recovery: %s holds %.20q: not a version this program knows",
			filepath.Join(directory, "PG_VERSION"), text)
	}
	return major, nil
}

// FindBinaries returns the directory that holds the server's programs of the
// major version. If binDir is not empty only it is looked at; else the places
// where packages install them, PATH, and what pg_config says. The error is a
// *BinariesError if none has the right version.
func FindBinaries(ctx context.Context, major int, binDir string) (string, error) {
	candidates := []string{binDir}
	if binDir == "" {
		candidates = usualPlaces(ctx, major)
	}
	missing := &BinariesError{Major: major}
	seen := map[string]bool{}
	for _, dir := range candidates {
		if seen[dir] {
			continue
		}
		seen[dir] = true
		path := filepath.Join(dir, "postgres")
		found, err := binaryMajor(ctx, path)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(err, os.ErrNotExist):
			missing.Attempts = append(missing.Attempts, Attempt{path, "not found"})
		case err != nil:
			missing.Attempts = append(missing.Attempts, Attempt{path, err.Error()})
		case found != major:
			missing.Attempts = append(missing.Attempts, Attempt{path, fmt.Sprintf("PostgreSQL %d", found)})
		default:
			return dir, nil
		}
	}
	return "", missing
}

// usualPlaces are where packages of Debian, Red Hat, Homebrew and Postgres.app
// put a major, then PATH.
func usualPlaces(ctx context.Context, major int) []string {
	n := strconv.Itoa(major)
	places := []string{
		"/usr/lib/postgresql/" + n + "/bin",
		"/usr/pgsql-" + n + "/bin",
		"/opt/homebrew/opt/postgresql@" + n + "/bin",
		"/usr/local/opt/postgresql@" + n + "/bin",
		"/Applications/Postgres.app/Contents/Versions/" + n + "/bin",
	}
	for _, program := range []string{"postgres", "pg_ctl"} {
		if path, err := exec.LookPath(program); err == nil {
			// A link in PATH leads to where the other programs are.
			if real, err := filepath.EvalSymlinks(path); err == nil {
				path = real
			}
			places = append(places, filepath.Dir(path))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		places = append(places, strings.TrimSpace(string(out)))
	}
	return places
}

var versionForm = lazily(`^postgres \(PostgreSQL\) (\d+)`)

// binaryMajor asks a server program for its major version.
func binaryMajor(ctx context.Context, path string) (int, error) {
	if _, err := os.Stat(path); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("it does not run: %w", err)
	}
	m := versionForm().FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("it says %.60q", strings.TrimSpace(string(out)))
	}
	return strconv.Atoi(string(m[1]))
}
