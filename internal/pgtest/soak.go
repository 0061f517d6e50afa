//go:build unix

package pgtest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Soak is how a long randomised test begins. It returns the source of its
// chances and when to end; the test is skipped unless make soak runs it. The
// seed is logged: WALDEN_SEED repeats a run, as far as the test draws all its
// chances from here. Tests that call it are named TestSoak….
func Soak(t testing.TB) (*rand.Rand, time.Time) {
	t.Helper()
	length := os.Getenv("WALDEN_SOAK")
	if length == "" {
		t.Skip("a long randomised run: make soak")
	}
	d, err := time.ParseDuration(length)
	if err != nil {
		t.Fatalf("WALDEN_SOAK: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WALDEN_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("WALDEN_SEED: %v", err)
		}
	}
	t.Logf("soak: for %v, SEED=%d", d, seed)
	return rand.New(rand.NewPCG(seed, 0)), time.Now().Add(d)
}

// Bench is how a test begins that measures whole runs of the program, too long
// for every day: it is skipped unless make bench runs it. Tests that call it
// are named TestBench….
func Bench(t testing.TB) {
	t.Helper()
	if os.Getenv("WALDEN_BENCH") == "" {
		t.Skip("a measurement: make bench")
	}
}

// Tool returns the path of a program that the Makefile builds for the tests,
// such as versitygw; without it the test is skipped, in CI failed.
func Tool(t testing.TB, name string) string {
	t.Helper()
	for _, root := range toolRoots() {
		path := filepath.Join(root, "bin", name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path
		}
	}
	Missing(t, "%s is not built: run make test", name)
	return ""
}

// Walden returns a path under which the server user can run bin/walden, which
// make test builds; without it the test is skipped, in CI failed.
func Walden(t testing.TB) string {
	t.Helper()
	path := filepath.Join(ModuleRoot(t), "bin", "walden")
	if _, err := os.Stat(path); err != nil {
		Missing(t, "bin/walden is not built: run make test, or make build")
	}
	return Share(t, path)
}
