//go:build unix

package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// supported lists the majors the test suite must run on, oldest first.
var supported = [...]int{15, 17, 18}

// sharedTools is where scripts/install-postgres.sh installs when the checkout
// lies in a directory that the user postgres cannot enter.
const sharedTools = "/opt/walden-test"

// Majors returns the PostgreSQL majors to test, oldest first. It is the same
// list on every machine: a major that is not installed is found out by [New],
// which skips or fails the subtest by name. WALDEN_TEST_MAJORS narrows the
// list for work at the desk and is ignored in CI.
func Majors() []int {
	all := slices.Clone(supported[:])
	want := os.Getenv("WALDEN_TEST_MAJORS")
	if want == "" || InCI() {
		return all
	}
	fields := strings.FieldsFunc(want, func(r rune) bool { return r == ',' || r == ' ' })
	var majors []int
	for _, f := range fields {
		// A word that is no number must not silently mean "test nothing".
		m, err := strconv.Atoi(f)
		if err != nil {
			panic(fmt.Sprintf("WALDEN_TEST_MAJORS=%q: %q is not a PostgreSQL major", want, f))
		}
		majors = append(majors, m)
	}
	slices.Sort(majors)
	return slices.Compact(majors)
}

// Newest returns the highest of [Majors]: for tests that need a server but do
// not depend on its version.
func Newest() int {
	m := Majors()
	return m[len(m)-1]
}

// InCI reports whether the tests run in continuous integration, where nothing
// may be skipped for want of a tool.
func InCI() bool { return os.Getenv("CI") == "true" }

// Missing ends the test because something it needs is not on this machine:
// as skipped at the desk, as failed in CI.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if InCI() {
		t.Fatalf("missing in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}

// BinDir returns the directory of the major's programs; the test is skipped
// (in CI: fails) when that major is not installed.
func BinDir(t testing.TB, major int) string {
	t.Helper()
	dir, err := findBinDir(major)
	if err != nil {
		Missing(t, "%v", err)
	}
	return dir
}

func findBinDir(major int) (string, error) {
	name := fmt.Sprintf("WALDEN_PG%d_BINDIR", major)
	if dir := os.Getenv(name); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("%s=%s holds no PostgreSQL server", name, dir)
		}
		return dir, nil
	}
	for _, dir := range candidates(major) {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("PostgreSQL %d is not installed: run scripts/install-postgres.sh %d, or set %s", major, major, name)
}

// candidates lists the places a major may be in, best first.
func candidates(major int) []string {
	m := strconv.Itoa(major)
	var dirs []string
	for _, tools := range toolRoots() {
		root := filepath.Join(tools, "postgresql", m)
		// The stamp is written last: without it an installation was interrupted
		// and may lack anything. It begins with the directory's own name, since
		// a directory that was moved does not work any more.
		stamp, err := os.ReadFile(filepath.Join(root, ".complete"))
		if first, _, _ := strings.Cut(string(stamp), "\n"); err == nil && first == root {
			dirs = append(dirs, filepath.Join(root, "usr/lib/postgresql", m, "bin"))
		}
	}
	return append(dirs,
		filepath.Join("/usr/lib/postgresql", m, "bin"),
		filepath.Join("/opt/homebrew/opt", "postgresql@"+m, "bin"),
		filepath.Join("/usr/local/opt", "postgresql@"+m, "bin"),
	)
}

func toolRoots() []string {
	if dir := os.Getenv("WALDEN_TOOLS"); dir != "" {
		return []string{dir}
	}
	var roots []string
	if root, err := moduleRoot(); err == nil {
		roots = append(roots, filepath.Join(root, ".tools"))
	}
	return append(roots, sharedTools)
}

// moduleRoot finds the directory of go.mod. Tests run in their package's
// directory; a test binary that was moved falls back to where it was compiled.
func moduleRoot() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module root: %w", err)
	}
	starts := []string{wd}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("find module root: no go.mod above %s", wd)
}

// ModuleRoot returns the directory of the module's go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func hasServer(dir string) bool {
	for _, p := range []string{"postgres", "initdb"} {
		st, err := os.Stat(filepath.Join(dir, p))
		if err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
